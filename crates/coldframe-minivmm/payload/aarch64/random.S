// random: each round touches pages picked by the hash among all RAM.
.globl coldframe_payload_random
coldframe_payload_random:
    bl .Lbegin
    ldr x25, [x19, .Lpages]
2:
    mov x26, #32
    bl .Ltouch
    bl .Lend_round
    b.ne 2b
    b .Lfinish
