// input: each round takes what was typed on the console and the host's clock into the hash, which a
// guest cannot compute itself, and then works on as hash does.
.globl coldframe_payload_input
coldframe_payload_input:
    bl .Lbegin
    ldr x25, [x19, .Lpages]
2:
    add x4, x24, .Lconsole_status
    ldrb w0, [x4]
    tbz w0, #0, 3f                          // no byte waits
    add x4, x24, .Lconsole
    ldrb w0, [x4]
    eor x20, x20, x0
    mul x20, x20, x23
    b 2b
3:
    add x4, x24, .Lclock
    ldr w0, [x4]
    eor x20, x20, x0
    mul x20, x20, x23
    mov x26, #8
    bl .Ltouch
    bl .Lend_round
    b.ne 2b
    b .Lfinish
