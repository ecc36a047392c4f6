# The tiny guest of QEMU's machine `virt` (riscv64), entered in supervisor mode by OpenSBI with `-kernel tiny.elf`. What it
# does and says is written in tiny-guests.md.
#
# s0 count, s1 UART, s2 stamps, s3 their end, s4 noise, s5 its end

.set UART, 0x10000000       # NS16550
.set TICK, 100000           # clock of 10 MHz / 100 Hz

.text
.global start
start:
        la sp, stack_top
        li s1, UART
        li s2, 0x82000000
        li s3, 0x82000000 + 64 * 4096
        li s4, 0x87000000
        li s5, 0x88000000
        mv t0, s2
1:      sd zero, 0(t0)
        addi t0, t0, 8
        bltu t0, s3, 1b
        call fill_noise
        la a0, text_boot
        call print_checksum
        li s0, 0

tick:   rdtime a0
        li t0, TICK
        add a0, a0, t0
        # No `wfi`: QEMU 10.0 does not set the timer of a loaded machine again.
2:      rdtime t0
        bltu t0, a0, 2b
        addi s0, s0, 1
        call stamp_pages
        la a0, text_counter
        call print
        mv a0, s0
        call print_hex
        call newline
        lbu t0, 5(s1)
        andi t0, t0, 1
        beqz t0, tick
        lbu t0, 0(s1)
        li t1, 's'
        bne t0, t1, tick
        la a0, text_now
        call print_checksum
        j tick

stamp_pages:
        mv s11, ra
        mv s10, s2
        li s9, 4092
1:      add s8, s10, s9
        addiw t2, s0, -1
        lw t0, 0(s10)
        lw t1, 0(s8)
        bne t0, t2, 2f
        beq t1, t2, 3f
2:      la a0, text_torn
        call print
        mv a0, s10
        call print_hex
        call newline
3:      sw s0, 0(s10)
        sw s0, 0(s8)
        addi s10, s8, 4
        bltu s10, s3, 1b
        jr s11

fill_noise:
        mv t0, s4
        li t1, 0x2545f491
        li t2, 1664525
        li t3, 1013904223
        li t4, 0x3000
1:      and t5, t0, t4
        li t6, 0
        beq t5, t4, 2f
        mulw t1, t1, t2
        addw t1, t1, t3
        mv t6, t1
2:      sw t6, 0(t0)
        addi t0, t0, 4
        bltu t0, s5, 1b
        ret

# a0: the words that come before the number
print_checksum:
        mv s11, ra
        call print
        mv t0, s4
        li a0, 0
1:      lw t1, 0(t0)
        slliw t2, a0, 5
        srliw a0, a0, 27
        or a0, a0, t2
        addw a0, a0, t1
        addi t0, t0, 4
        bltu t0, s5, 1b
        call print_hex
        mv ra, s11
newline:
        li a1, '\n'
put:    lbu t0, 5(s1)
        andi t0, t0, 0x20
        beqz t0, put
        sb a1, 0(s1)
        ret

print:  mv s7, ra
1:      lbu a1, 0(a0)
        beqz a1, 2f
        call put
        addi a0, a0, 1
        j 1b
2:      jr s7

print_hex:
        mv s7, ra
        li t2, 28
1:      srlw a1, a0, t2
        andi a1, a1, 15
        li t1, 10
        bltu a1, t1, 2f
        addi a1, a1, 'a' - '0' - 10
2:      addi a1, a1, '0'
        call put
        addi t2, t2, -4
        bgez t2, 1b
        jr s7

.data
text_counter: .asciz "counter 0x"
text_boot:    .asciz "checksum BOOT "
text_now:     .asciz "checksum NOW "
text_torn:    .asciz "torn "

.bss
.balign 16
        .skip 4096
stack_top:
