// stride: each round touches every nth page of the working set, from another first page.
.globl coldframe_payload_stride
coldframe_payload_stride:
    bl .Lbegin
2:
    ldr x9, [x19, .Lstride]
    ldr x25, [x19, .Lpages]
    udiv x10, x21, x9
    msub x10, x10, x9, x21
3:
    cmp x10, x25
    b.hs 4f
    and x1, x21, #511
    add x0, x22, x10, lsl #12
    add x0, x0, x1, lsl #3
    bl .Lstep
    add x10, x10, x9
    b 3b
4:
    bl .Lend_round
    b.ne 2b
    b .Lfinish
