# random: each round touches pages picked by the hash among all RAM.
.globl coldframe_payload_random
coldframe_payload_random:
    call .Lbegin
2:
    mov rsi, [r12 + .Lpages]
    mov r10d, 32
    call .Ltouch
    call .Lend_round
    jne 2b
    jmp .Lfinish
