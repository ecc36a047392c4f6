# A guest that starts in a blink: 32-bit code entered through PVH (`-kernel tiny.elf`), on pc, q35 and microvm.
#
# It writes `counter N` to the first serial port a hundred times a second and sleeps in between. With every
# count it changes memory, and before each change it looks whether the old value is the expected one: a page
# that a save lost, tore or kept from an earlier round shows as a line `torn ADDRESS`.
#
#     4 MiB ..  8 MiB   stamps: the count, written into the first and the last word of every page, in order
#     8 MiB .. 12 MiB   toggles: an eighth of the pages turns from zero to non-zero or back with each count
#    16 MiB .. + fill   noise: three pages in four are pseudo-random and the fourth is zero, written once
#
# `-append fill=N` sets the size of the noise in MiB. Its checksum is written once at boot as `checksum BOOT X`
# and again as `checksum NOW X` whenever the byte `s` arrives on the serial port.
#
# The count lives in a register (ebp), so it travels with the device state and not with the memory.

.intel_syntax noprefix
.code32

.set UART, 0x3f8
.set STAMPS, 0x400000
.set TOGGLES, 0x800000
.set TOGGLES_END, 0xc00000
.set NOISE, 0x1000000
.set TICK, 11932            # PIT clock / 100 Hz

.section .note.pvh, "a", @note
        .long 4, 4, 18      # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long start

.text
.global start
start:
        cli
        cld
        mov esp, offset stack_top
        lgdt [gdt_pointer]
        push 0x08
        push offset in_own_segments
        retf
in_own_segments:
        mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax

        # hvm_start_info.cmdline_paddr, `fill=N` at its start
        mov esi, [ebx + 24]
        xor ecx, ecx
        test esi, esi
        jz 2f
        cmp dword ptr [esi], 0x6c6c6966
        jne 2f
        add esi, 5
1:      movzx eax, byte ptr [esi]
        sub eax, '0'
        cmp eax, 9
        ja 2f
        imul ecx, ecx, 10
        add ecx, eax
        inc esi
        jmp 1b
2:      shl ecx, 20
        add ecx, NOISE
        mov [noise_end], ecx

        mov edi, STAMPS
        mov ecx, (TOGGLES_END - STAMPS) / 4
        xor eax, eax
        rep stosd
        call fill_noise
        mov esi, offset text_boot
        call print_checksum
        call start_clock

        xor ebp, ebp
tick:   hlt
        inc ebp
        call stamp_pages
        call toggle_pages
        mov esi, offset text_counter
        call print
        mov eax, ebp
        call print_decimal
        call newline
        mov dx, UART + 5
        in al, dx
        test al, 1
        jz tick
        mov dx, UART
        in al, dx
        cmp al, 's'
        jne tick
        mov esi, offset text_now
        call print_checksum
        jmp tick

# Every page holds the previous count; it gets the present one.
stamp_pages:
        mov edi, STAMPS
1:      lea eax, [ebp - 1]
        cmp [edi], eax
        jne 2f
        cmp [edi + 4092], eax
        je 3f
2:      call print_torn
3:      mov [edi], ebp
        mov [edi + 4092], ebp
        add edi, 4096
        cmp edi, TOGGLES
        jb 1b
        ret

# Page p changes when (p + count) is a multiple of 8, and started as zero, which tells what it holds now.
toggle_pages:
        mov edi, ebp
        neg edi
        and edi, 7
        shl edi, 12
        add edi, TOGGLES
1:      mov eax, edi
        sub eax, TOGGLES
        shr eax, 12
        mov edx, eax
        shr edx, 3
        add eax, ebp
        shr eax, 3
        sub eax, edx
        xor edx, edx
        test eax, 1
        jnz 2f
        mov edx, edi
2:      cmp [edi], edx
        jne 3f
        cmp [edi + 4092], edx
        je 4f
3:      call print_torn
4:      xor eax, eax
        test edx, edx
        jnz 5f
        mov eax, edi
5:      mov ecx, 1024
        push edi
        rep stosd
        pop edi
        add edi, 8 * 4096
        cmp edi, TOGGLES_END
        jb 1b
        ret

fill_noise:
        mov edi, NOISE
        mov eax, 0x2545f491
1:      cmp edi, [noise_end]
        jae 4f
        mov edx, edi
        and edx, 0x3000
        cmp edx, 0x3000
        je 3f
        mov ecx, 1024
2:      imul eax, eax, 1664525
        add eax, 1013904223
        stosd
        loop 2b
        jmp 1b
3:      push eax                # the firmware may have left something here
        xor eax, eax
        mov ecx, 1024
        rep stosd
        pop eax
        jmp 1b
4:      ret

# esi: the words that come before the number
print_checksum:
        call print
        mov esi, NOISE
        xor edx, edx
1:      cmp esi, [noise_end]
        jae 2f
        rol edx, 5
        add edx, [esi]
        add esi, 4
        jmp 1b
2:      mov eax, edx
        call print_hex
        jmp newline

# edi: the address of the page
print_torn:
        push esi
        mov esi, offset text_torn
        call print
        mov eax, edi
        call print_hex
        call newline
        pop esi
        ret

print:  lodsb
        test al, al
        jz 1f
        call put
        jmp print
1:      ret

print_decimal:
        push ebx
        push edx
        mov ebx, 10
        xor ecx, ecx
1:      xor edx, edx
        div ebx
        push edx
        inc ecx
        test eax, eax
        jnz 1b
2:      pop eax
        add al, '0'
        call put
        loop 2b
        pop edx
        pop ebx
        ret

print_hex:
        push edx
        mov ecx, 8
1:      rol eax, 4
        push eax
        and al, 15
        cmp al, 10
        jb 2f
        add al, 'a' - '0' - 10
2:      add al, '0'
        call put
        pop eax
        loop 1b
        pop edx
        ret

newline:
        mov al, '\n'
put:    push edx
        push eax
        mov dx, UART + 5
1:      in al, dx
        test al, 0x20
        jz 1b
        pop eax
        mov dx, UART
        out dx, al
        pop edx
        ret

start_clock:
        mov eax, offset on_tick
        mov [idt + 0x20 * 8], ax
        mov word ptr [idt + 0x20 * 8 + 2], 0x08
        mov word ptr [idt + 0x20 * 8 + 4], 0x8e00
        shr eax, 16
        mov [idt + 0x20 * 8 + 6], ax
        lidt [idt_pointer]
        mov al, 0x11            # both interrupt controllers: start at vectors 0x20 and 0x28, all but the clock masked
        out 0x20, al
        out 0xa0, al
        mov al, 0x20
        out 0x21, al
        mov al, 0x28
        out 0xa1, al
        mov al, 4
        out 0x21, al
        mov al, 2
        out 0xa1, al
        mov al, 1
        out 0x21, al
        out 0xa1, al
        mov al, 0xfe
        out 0x21, al
        mov al, 0xff
        out 0xa1, al
        mov al, 0x34            # timer 0, rate generator
        out 0x43, al
        mov al, TICK & 0xff
        out 0x40, al
        mov al, TICK >> 8
        out 0x40, al
        sti
        ret

on_tick:
        push eax
        mov al, 0x20
        out 0x20, al
        pop eax
        iretd

.data
text_counter: .asciz "counter "
text_boot:    .asciz "checksum BOOT "
text_now:     .asciz "checksum NOW "
text_torn:    .asciz "torn "

.balign 8
gdt:    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
        .word 23
        .long gdt
idt_pointer:
        .word 0x21 * 8 - 1
        .long idt

.bss
.balign 16
idt:    .skip 0x21 * 8
noise_end: .skip 4
.balign 16
        .skip 4096
stack_top:
