# stride: each round touches every nth page of the working set, from another first page.
.globl coldframe_payload_stride
coldframe_payload_stride:
    call .Lbegin
2:
    mov rax, r14
    xor edx, edx
    div qword ptr [r12 + .Lstride]
    mov rdi, rdx
3:
    cmp rdi, [r12 + .Lpages]
    jae 4f
    mov rax, rdi
    shl rax, 12
    mov ecx, r14d
    shl ecx, 3
    and ecx, 4088
    add rax, rcx
    add rax, r15
    call .Lstep
    add rdi, [r12 + .Lstride]
    jmp 3b
4:
    call .Lend_round
    jne 2b
    jmp .Lfinish
