// zeroing: each round fills a window of 8 pages picked by the hash, and zeroes the window it filled
// four rounds ago: a page that becomes zero again must be zero in a diff, not absent. A word in
// every 512 bytes is all that is ever written there.
.globl coldframe_payload_zeroing
coldframe_payload_zeroing:
    bl .Lbegin
2:
    lsr x0, x20, #29
    ldr x1, [x19, .Lpages]
    lsr x1, x1, #3
    udiv x2, x0, x1
    msub x2, x2, x1, x0
    add x9, x22, x2, lsl #15                // the window
    add x0, x9, #0x200
    bl .Lstep
    mov x2, x9
    mov x3, x20
    bl .Lfill
    and x0, x21, #3                         // the ring of the last four windows
    add x10, x19, x0, lsl #3
    ldr x2, [x10, .Lscratch]
    str x9, [x10, .Lscratch]
    cbz x2, 3f
    add x0, x2, #0x400
    bl .Lstep
    mov x3, #0
    bl .Lfill
3:
    bl .Lend_round
    b.ne 2b
    b .Lfinish

// x3 into a word of every 512 bytes of the window at x2.
.Lfill:
    mov x1, #64
4:
    str x3, [x2]
    add x2, x2, #512
    subs x1, x1, #1
    b.ne 4b
    ret
