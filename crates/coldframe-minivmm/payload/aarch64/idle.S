// idle: each round touches four pages, and waits.
.globl coldframe_payload_idle
coldframe_payload_idle:
    bl .Lbegin
    mov x25, #4
2:
    mov x26, #4
    bl .Ltouch
    mov x0, #100
3:
    subs x0, x0, #1
    b.ne 3b
    bl .Lend_round
    b.ne 2b
    b .Lfinish
