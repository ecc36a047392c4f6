# The tiny guest of QEMU's machine `pseries` (ppc64), entered in real mode, big-endian, by the firmware SLOF with
# `-kernel tiny.elf`. What it does and says is written in tiny-guests.md.
#
# It also enters one entry into the hash table, which the hypervisor keeps and QEMU saves in a section of its own,
# `spapr/htab`; the entry is part of the checksum. QEMU writes the device tree to 2 MiB below the end of memory at each reset:
# into the noise if the machine has 256 MiB, and past it if it has more.
#
# r14 count, r15 stamps, r16 their end, r17 noise, r18 its end, r19 the address of `start`, r20 the number of the entry

.set H_ENTER, 0x08
.set H_READ, 0x0c
.set H_GET_TERM_CHAR, 0x54
.set H_PUT_TERM_CHAR, 0x58
.set TICK, 5120000          # timebase of 512 MHz / 100 Hz

.text
.global start
start:
        bcl 20, 31, .Lhere
.Lhere: mflr 19
        addi 19, 19, start - .Lhere
        li 3, 1
        sldi 3, 3, 63           # 64 bit, interrupts masked
        mtmsrd 3
        isync
        lis 15, 0x0200
        addis 16, 15, 4         # 64 pages
        lis 17, 0x0f00
        lis 18, 0x1000
        li 0, 0
        mr 3, 15
1:      std 0, 0(3)
        addi 3, 3, 8
        cmpld 3, 16
        blt 1b
        li 3, H_ENTER
        li 4, 0
        li 5, 8
        li 6, 1                 # valid, and any virtual address
        oris 6, 6, 0x1234
        lis 7, 0x0200
        ori 7, 7, 0x12          # coherent memory, read and write
        sc 1
        mr 20, 4
        bl fill_noise
        addi 29, 19, text_boot - start
        bl print_checksum
        li 14, 0

tick:   lis 3, TICK@h
        ori 3, 3, TICK@l
        mftb 4
        add 3, 3, 4
        # No H_CEDE: QEMU 7.2 does not set the decrementer of a loaded machine again.
2:      mftb 4
        cmpld 4, 3
        blt 2b
        addi 14, 14, 1
        bl stamp_pages
        addi 29, 19, text_counter - start
        bl print
        mr 28, 14
        bl print_hex
        bl newline
        li 3, H_GET_TERM_CHAR
        lis 4, 0x7100
        sc 1
        cmpdi 4, 0
        beq tick
        srdi 5, 5, 56
        cmpdi 5, 's'
        bne tick
        addi 29, 19, text_now - start
        bl print_checksum
        b tick

stamp_pages:
        mflr 27
        mr 26, 15
1:      addi 5, 14, -1
        lwz 3, 0(26)
        lwz 4, 4092(26)
        cmplw 3, 5
        bne 2f
        cmplw 4, 5
        beq 3f
2:      addi 29, 19, text_torn - start
        bl print
        mr 28, 26
        bl print_hex
        bl newline
3:      stw 14, 0(26)
        stw 14, 4092(26)
        addi 26, 26, 4096
        cmpld 26, 16
        blt 1b
        mtlr 27
        blr

fill_noise:
        mr 3, 17
        lis 4, 0x2545
        ori 4, 4, 0xf491
        lis 5, 1664525@h
        ori 5, 5, 1664525@l
        lis 6, 1013904223@h
        ori 6, 6, 1013904223@l
1:      andi. 7, 3, 0x3000
        li 8, 0
        cmpdi 7, 0x3000
        beq 2f
        mullw 4, 4, 5
        add 4, 4, 6
        mr 8, 4
2:      stw 8, 0(3)
        addi 3, 3, 4
        cmpld 3, 18
        blt 1b
        blr

# r29: the words that come before the number
print_checksum:
        mflr 27
        bl print
        li 3, H_READ
        li 4, 0
        mr 5, 20
        sc 1
        li 6, 0x40              # what QEMU marks changed entries with for itself
        andc 4, 4, 6
        rotlwi 28, 4, 5
        add 28, 28, 5
        mr 3, 17
1:      lwz 4, 0(3)
        rotlwi 28, 28, 5
        add 28, 28, 4
        addi 3, 3, 4
        cmpld 3, 18
        blt 1b
        bl print_hex
        mtlr 27
newline:
        li 6, '\n'
# r6: the character
put:    sldi 6, 6, 56
        li 3, H_PUT_TERM_CHAR
        lis 4, 0x7100           # the terminal that QEMU makes for the first -serial
        li 5, 1
        mr 30, 6
1:      mr 6, 30
        sc 1
        cmpdi 3, 0
        li 3, H_PUT_TERM_CHAR
        lis 4, 0x7100
        li 5, 1
        bne 1b
        blr

# r29: the text
print:  mflr 31
1:      lbz 6, 0(29)
        cmpdi 6, 0
        beq 2f
        bl put
        addi 29, 29, 1
        b 1b
2:      mtlr 31
        blr

# r28: the number
print_hex:
        mflr 31
        li 25, 8
1:      rotlwi 28, 28, 4
        andi. 6, 28, 15
        cmpdi 6, 10
        blt 2f
        addi 6, 6, 'a' - '0' - 10
2:      addi 6, 6, '0'
        bl put
        addi 25, 25, -1
        cmpdi 25, 0
        bne 1b
        mtlr 31
        blr

text_counter: .asciz "counter 0x"
text_boot:    .asciz "checksum BOOT "
text_now:     .asciz "checksum NOW "
text_torn:    .asciz "torn "
.balign 8
