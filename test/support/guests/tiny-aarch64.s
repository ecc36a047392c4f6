// The tiny guest of QEMU's machine `virt` (aarch64), entered at EL1 by `-kernel tiny.elf`. What it does and says is written
// in tiny-guests.md.
//
// x19 count, x20 UART, x21 stamps, x22 noise, x23 its end

.set UART, 0x09000000       // PL011
.set UART_FLAGS, 0x18
.set GIC_DISTRIBUTOR, 0x08000000
.set GIC_CPU, 0x08010000
.set VIRTUAL_TIMER, 27      // its interrupt

.text
.global start
start:
        ldr x0, =stack_top
        mov sp, x0
        ldr x20, =UART
        mov w0, #0x301          // on, both ways
        str w0, [x20, #0x30]
        // The interrupt stays masked in the processor; that it is pending ends `wfi`.
        ldr x0, =GIC_DISTRIBUTOR
        mov w1, #1
        str w1, [x0]
        mov w1, #1 << VIRTUAL_TIMER
        str w1, [x0, #0x100]
        ldr x0, =GIC_CPU
        mov w1, #0xff
        str w1, [x0, #4]
        mov w1, #1
        str w1, [x0]

        ldr x21, =0x42000000
        ldr x22, =0x47000000
        ldr x23, =0x48000000
        mov x0, x21
        add x1, x21, #64 * 4096
1:      str xzr, [x0], #8
        cmp x0, x1
        blo 1b
        bl fill_noise
        adr x0, text_boot
        bl print_checksum
        mov x19, #0

tick:   mrs x0, cntfrq_el0
        mov x1, #100
        udiv x0, x0, x1
        msr cntv_tval_el0, x0
        mov x0, #1
        msr cntv_ctl_el0, x0
2:      wfi
        mrs x0, cntv_ctl_el0
        tbz x0, #2, 2b
        add x19, x19, #1
        bl stamp_pages
        adr x0, text_counter
        bl print
        mov x0, x19
        bl print_hex
        bl newline
        ldr w0, [x20, #UART_FLAGS]
        tbnz w0, #4, tick
        ldr w0, [x20]
        cmp w0, #'s'
        bne tick
        adr x0, text_now
        bl print_checksum
        b tick

stamp_pages:
        mov x9, x30
        mov x10, x21
        add x11, x21, #64 * 4096
        sub w12, w19, #1
1:      ldr w0, [x10]
        ldr w1, [x10, #4092]
        cmp w0, w12
        ccmp w1, w12, #0, eq
        beq 2f
        adr x0, text_torn
        bl print
        mov x0, x10
        bl print_hex
        bl newline
2:      str w19, [x10]
        str w19, [x10, #4092]
        add x10, x10, #4096
        cmp x10, x11
        blo 1b
        ret x9

fill_noise:
        mov x0, x22
        ldr w1, =0x2545f491
        ldr w2, =1664525
        ldr w3, =1013904223
1:      and x4, x0, #0x3000
        cmp x4, #0x3000
        beq 2f
        madd w1, w1, w2, w3
        str w1, [x0], #4
        b 3f
2:      str wzr, [x0], #4
3:      cmp x0, x23
        blo 1b
        ret

// x0: the words that come before the number
print_checksum:
        mov x9, x30
        bl print
        mov x1, x22
        mov w0, #0
1:      ldr w2, [x1], #4
        ror w0, w0, #27
        add w0, w0, w2
        cmp x1, x23
        blo 1b
        bl print_hex
        bl newline
        ret x9

print:  ldrb w1, [x0], #1
        cbz w1, 1f
        str w1, [x20]
        b print
1:      ret

print_hex:
        mov w3, #8
1:      ror w0, w0, #28
        and w1, w0, #15
        add w2, w1, #'0'
        add w1, w1, #'a' - 10
        cmp w2, #'9'
        csel w1, w2, w1, ls
        str w1, [x20]
        subs w3, w3, #1
        bne 1b
        ret

newline:
        mov w1, #'\n'
        str w1, [x20]
        ret

.balign 8
text_counter: .asciz "counter 0x"
text_boot:    .asciz "checksum BOOT "
text_now:     .asciz "checksum NOW "
text_torn:    .asciz "torn "

.bss
.balign 16
        .skip 4096
stack_top:
