# input: each round takes what was typed on the console and the host's clock into the hash, which a
# guest cannot compute itself, and then works on as hash does.
.globl coldframe_payload_input
coldframe_payload_input:
    call .Lbegin
2:
    mov edx, 0x3fd
    in al, dx
    test al, 1                              # a byte waits
    jz 3f
    mov edx, 0x3f8
    in al, dx
    movzx eax, al
    xor r13, rax
    imul r13, rbp
    jmp 2b
3:
    mov edx, 0xf8
    in eax, dx
    xor r13, rax
    imul r13, rbp
    mov rsi, [r12 + .Lpages]
    mov r10d, 8
    call .Ltouch
    call .Lend_round
    jne 2b
    jmp .Lfinish
