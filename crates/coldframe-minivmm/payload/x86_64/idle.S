# idle: each round touches four pages, and waits.
.globl coldframe_payload_idle
coldframe_payload_idle:
    call .Lbegin
2:
    mov esi, 4
    mov r10d, 4
    call .Ltouch
    mov ecx, 100
3:
    dec ecx
    jnz 3b
    call .Lend_round
    jne 2b
    jmp .Lfinish
