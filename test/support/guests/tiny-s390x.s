# The tiny guest of QEMU's machine `s390-ccw-virtio`, entered in 64-bit mode by `-kernel tiny.elf`. What it does and says is
# written in tiny-guests.md.
#
# Its serial port is the ASCII console of the service element, reached by SERVICE CALL with a block of parameters (SCCB).
#
# r6 count, r7 stamps, r8 their end, r9 noise, r10 its end

.set WRITE_EVENT_DATA, 0x760005
.set READ_EVENT_DATA, 0x770005
.set WRITE_EVENT_MASK, 0x780005
.set NEW_EXTERNAL_PSW, 0x1b0
.set TICK, 10000 * 4096     # 10 ms; bit 51 of the clock is a microsecond

.text
.global start
start:
        larl %r15, stack_top
        aghi %r15, -160
        larl %r1, psw_tick
        mvc NEW_EXTERNAL_PSW(16, %r0), 0(%r1)
        larl %r1, controls
        lctlg %c0, %c0, 0(%r1)
        lgfi %r1, WRITE_EVENT_MASK
        larl %r2, sccb_mask
        .insn rre, 0xb2200000, %r1, %r2
        llilh %r7, 0x0200
        llilh %r8, 0x0204       # 64 pages
        llilh %r9, 0x0700
        llilh %r10, 0x0800
        lgr %r1, %r7
        lghi %r0, 0
1:      stg %r0, 0(%r1)
        aghi %r1, 8
        clgr %r1, %r8
        jl 1b
        brasl %r14, fill_noise
        larl %r2, text_boot
        brasl %r14, print_checksum
        lghi %r6, 0

wait:   larl %r1, clock
        stck 0(%r1)
        lg %r2, 0(%r1)
        agfi %r2, TICK
        stg %r2, 0(%r1)
        sckc 0(%r1)
        larl %r1, psw_wait
        lpswe 0(%r1)

tick:   aghi %r6, 1
        brasl %r14, stamp_pages
        larl %r2, text_counter
        brasl %r14, print
        lgr %r2, %r6
        brasl %r14, print_hex
        brasl %r14, newline
        larl %r2, sccb_read
        mvhhi 0(%r2), 4096
        mvi 2(%r2), 0
        mvhhi 6(%r2), 0
        lgfi %r1, READ_EVENT_DATA
        .insn rre, 0xb2200000, %r1, %r2
        lhi %r1, 0x0020
        ch %r1, 6(%r2)
        jne wait
        # A byte of zero comes before the characters.
        cli 15(%r2), 's'
        jne wait
        larl %r2, text_now
        brasl %r14, print_checksum
        j wait

stamp_pages:
        lgr %r13, %r14
        lgr %r11, %r7
1:      lr %r1, %r6
        ahi %r1, -1
        cl %r1, 0(%r11)
        jne 2f
        cl %r1, 4092(%r11)
        je 3f
2:      larl %r2, text_torn
        brasl %r14, print
        lgr %r2, %r11
        brasl %r14, print_hex
        brasl %r14, newline
3:      st %r6, 0(%r11)
        st %r6, 4092(%r11)
        aghi %r11, 4096
        clgr %r11, %r8
        jl 1b
        br %r13

fill_noise:
        lgr %r1, %r9
        iilf %r2, 0x2545f491
        iilf %r3, 1664525
1:      lgr %r4, %r1
        nill %r4, 0x3000
        lhi %r5, 0
        tmll %r4, 0x3000
        jo 2f
        msr %r2, %r3
        alfi %r2, 1013904223
        lr %r5, %r2
2:      st %r5, 0(%r1)
        aghi %r1, 4
        clgr %r1, %r10
        jl 1b
        br %r14

# r2: the words that come before the number
print_checksum:
        lgr %r13, %r14
        brasl %r14, print
        lgr %r1, %r9
        lhi %r2, 0
1:      rll %r2, %r2, 5
        al %r2, 0(%r1)
        aghi %r1, 4
        clgr %r1, %r10
        jl 1b
        brasl %r14, print_hex
        lgr %r14, %r13
newline:
        lhi %r3, 10
# r3: the character
put:    larl %r4, sccb_write
        stc %r3, 14(%r4)
        mvi 2(%r4), 0
        mvhhi 6(%r4), 0
        mvi 11(%r4), 0
        lgfi %r1, WRITE_EVENT_DATA
        .insn rre, 0xb2200000, %r1, %r4
        br %r14

# r2: the text
print:  lgr %r12, %r14
1:      llgc %r3, 0(%r2)
        cghi %r3, 0
        ber %r12
        brasl %r14, put
        aghi %r2, 1
        j 1b

# r2: the number
print_hex:
        lgr %r12, %r14
        lhi %r5, 8
1:      rll %r2, %r2, 4
        lr %r3, %r2
        nilf %r3, 15
        ahi %r3, '0'
        chi %r3, '9'
        jnh 2f
        ahi %r3, 'a' - '0' - 10
2:      brasl %r14, put
        brct %r5, 1b
        br %r12

# LARL reaches even addresses only.
.balign 16
text_counter: .asciz "counter 0x"
.balign 16
text_boot:    .asciz "checksum BOOT "
.balign 16
text_now:     .asciz "checksum NOW "
.balign 16
text_torn:    .asciz "torn "

.data
.balign 4096
sccb_write:
        .short 15, 0, 0, 0      # length, function, response
        .short 7                # one event of 6 bytes and the character
        .byte 0x1a, 0           # for the ASCII console
        .short 0
        .byte 0
.balign 4096
sccb_mask:
        .short 28, 0, 0, 0
        .short 0, 4             # masks of 4 bytes: what is received here, and what is sent
        .long 0x40, 0x40, 0, 0
.balign 4096
sccb_read:
        .skip 4096
.balign 16
psw_tick:
        .quad 0x0000000180000000, tick
psw_wait:
        .quad 0x0102000180000000, 0
controls:
        .quad 0x800             # of external interrupts, that of the clock comparator
clock:  .quad 0

.bss
.balign 16
        .skip 4096
stack_top:
