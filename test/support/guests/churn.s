# A Linux program that rewrites memory and would notice a page lost, torn or kept from an earlier round:
#
#     churn SIZE RATE       SIZE MiB of memory, RATE MiB of it rewritten a second, for ever
#
# Round r writes r into the first and the last word of every page, in order, after checking that both hold
# r - 1. Otherwise it writes a line `torn ADDRESS` to its output. The round and the position are in registers.

.intel_syntax noprefix
.text
.global _start
_start:
        mov rsi, [rsp + 16]
        call parse
        shl rax, 20
        mov r12, rax            # bytes
        mov rsi, [rsp + 24]
        call parse
        mov rcx, rax
        mov eax, 1000000000
        xor edx, edx
        div rcx
        mov [pause + 8], rax    # nanoseconds a MiB (RATE of 2 and more)

        mov eax, 9              # mmap
        xor edi, edi
        mov rsi, r12
        mov edx, 3              # PROT_READ | PROT_WRITE
        mov r10d, 0x22          # MAP_PRIVATE | MAP_ANONYMOUS
        mov r8, -1
        xor r9d, r9d
        syscall
        mov r13, rax

        xor r14d, r14d
round:  inc r14
        xor r15d, r15d
page:   lea rbx, [r13 + r15]
        lea rax, [r14 - 1]
        cmp [rbx], rax
        jne 1f
        cmp [rbx + 4088], rax
        je 2f
1:      call report
2:      mov [rbx], r14
        mov [rbx + 4088], r14
        add r15, 4096
        test r15, 0xfffff
        jnz 3f
        mov eax, 35             # nanosleep
        lea rdi, [rip + pause]
        xor esi, esi
        syscall
3:      cmp r15, r12
        jb page
        jmp round

parse:  xor eax, eax
1:      movzx ecx, byte ptr [rsi]
        sub ecx, '0'
        cmp ecx, 9
        ja 2f
        imul rax, rax, 10
        add rax, rcx
        inc rsi
        jmp 1b
2:      ret

# rbx: the address
report: lea rdi, [rip + digits]
        mov rax, rbx
        mov ecx, 16
1:      rol rax, 4
        mov edx, eax
        and edx, 15
        cmp edx, 10
        jb 2f
        add edx, 'a' - '0' - 10
2:      add edx, '0'
        mov [rdi], dl
        inc rdi
        dec ecx
        jnz 1b
        mov eax, 1              # write
        mov edi, 1
        lea rsi, [rip + line]
        mov edx, offset line_end - line
        syscall
        ret

.data
pause:  .quad 0, 0
line:   .ascii "torn "
digits: .ascii "0000000000000000\n"
line_end:
