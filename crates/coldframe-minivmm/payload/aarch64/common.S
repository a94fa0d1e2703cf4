// What the payloads share. EL1, low memory identity-mapped; no stack.
//
// x19  the parameter page          x20  the running hash
// x21  the round                   x22  the first page of the working set
// x23  the hash's multiplier       x24  the ports
// x25  pages to pick among         x26  steps to take
// x28  where a caller of others returns to
//
// The parameter page, written by the host (see payload.rs): seed, RAM bytes, rounds, rounds between
// two marks, pages of the working set, stride in pages; the payload's own scratch from 0x100.

.equ .Lseed, 0x00
.equ .Lrounds, 0x10
.equ .Lmark_every, 0x18
.equ .Lpages, 0x20
.equ .Lstride, 0x28
.equ .Lscratch, 0x100
.equ .Lclock, 0xf8
.equ .Lmark, 0xf0
.equ .Lexit, 0xf4
.equ .Lconsole, 0x3f8
.equ .Lconsole_status, 0x3fd

// Switches on paging, by the table that the host wrote to 0x9000, and vectors; then sets up the
// registers above.
.Lbegin:
    mov x0, #0xff                           // MAIR: 0 write-back memory, 1 device
    msr mair_el1, x0
    movz x0, #0x3519                        // TCR: 39 bits, write-back, inner shareable,
    movk x0, #0x80, lsl #16                 // no upper half,
    movk x0, #2, lsl #32                    // physical addresses of 40 bits
    msr tcr_el1, x0
    mov x0, #0x9000
    msr ttbr0_el1, x0
    mov x0, #0x330000                       // CPACR: floating point, SIMD and SVE
    msr cpacr_el1, x0
    dsb sy
    isb
    tlbi vmalle1
    dsb sy
    isb
    mrs x0, sctlr_el1
    mov x1, #0x1005                         // SCTLR: M, C, I
    orr x0, x0, x1
    msr sctlr_el1, x0
    isb
    mrs x0, id_aa64pfr0_el1
    ubfx x0, x0, #32, #4                    // SVE
    cbz x0, 2f
    mov x0, #15                             // ZCR_EL1: the longest vectors there are
    msr s3_0_c1_c2_0, x0
    isb
2:
    mov x19, #0x2000
    ldr x20, [x19, .Lseed]
    mov x21, #0
    mov x22, #0x200000
    movz x23, #0x7f2d
    movk x23, #0x4c95, lsl #16
    movk x23, #0xf42d, lsl #32
    movk x23, #0x5851, lsl #48              // 6364136223846793005
    mov x24, #0xc0000000
    ret

// Picks the word at x0's address into the hash, and puts the hash there.
.Lstep:
    ldr x1, [x0]
    ror x1, x1, #43                         // or the word just left would cancel the hash out
    eor x20, x20, x1
    mul x20, x20, x23
    add x20, x20, x21
    add x20, x20, #1
    str x20, [x0]
    ret

// x0 = a word in one of the x25 pages from x22 on, the page picked by the hash. RAM leaves out the
// last GiB below 4 GiB, which belongs to devices.
.Lpick:
    lsr x0, x20, #29
    udiv x1, x0, x25
    msub x1, x1, x25, x0
    add x0, x22, x1, lsl #12
    cmp x0, x24
    b.lo 2f
    mov x1, #0x40000000
    add x0, x0, x1
2:
    and x1, x21, #511
    add x0, x0, x1, lsl #3
    ret

// x26 steps, each at a word picked among the x25 pages from x22 on.
.Ltouch:
    mov x28, x30
2:
    bl .Lpick
    bl .Lstep
    subs x26, x26, #1
    b.ne 2b
    ret x28

// Ends a round: at every so many, a mark and "<round> <hash>" on the console. Leaves the zero flag
// set after the last round.
.Lend_round:
    mov x28, x30
    ldr x0, [x19, .Lmark_every]
    udiv x1, x21, x0
    msub x1, x1, x0, x21
    cbnz x1, 2f
    add x1, x24, .Lmark
    str w21, [x1]
    mov x2, x21
    mov x3, #6
    bl .Lhex
    mov w0, #' '
    strb w0, [x4]
    mov x2, x20
    mov x3, #16
    bl .Lhex
    mov w0, #'\n'
    strb w0, [x4]
2:
    add x21, x21, #1
    ldr x0, [x19, .Lrounds]
    cmp x21, x0
    ret x28

// Prints the low x3 hex digits of x2. Leaves x4 at the console's port.
.Lhex:
    add x4, x24, .Lconsole
2:
    sub x3, x3, #1
    lsl x1, x3, #2
    lsr x0, x2, x1
    and x0, x0, #15
    cmp x0, #10
    b.lo 3f
    add x0, x0, #('a' - '0' - 10)
3:
    add x0, x0, #'0'
    strb w0, [x4]
    cbnz x3, 2b
    ret

// Prints "END" and ends the guest with code 0.
.Lfinish:
    add x4, x24, .Lconsole
    mov w0, #'E'
    strb w0, [x4]
    mov w0, #'N'
    strb w0, [x4]
    mov w0, #'D'
    strb w0, [x4]
    mov w0, #'\n'
    strb w0, [x4]
    add x4, x24, .Lexit
    strb wzr, [x4]
2:
    wfi
    b 2b
