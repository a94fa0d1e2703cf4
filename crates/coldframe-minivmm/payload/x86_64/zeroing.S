# zeroing: each round fills a window of 8 pages picked by the hash, and zeroes the window it filled
# four rounds ago: a page that becomes zero again must be zero in a diff, not absent. A word in
# every 512 bytes is all that is ever written there.
.globl coldframe_payload_zeroing
coldframe_payload_zeroing:
    call .Lbegin
2:
    mov rax, r13
    shr rax, 29
    mov rsi, [r12 + .Lpages]
    shr rsi, 3
    xor edx, edx
    div rsi
    shl rdx, 15
    lea rbx, [r15 + rdx]                    # the window
    lea rax, [rbx + 0x200]
    call .Lstep
    mov rdi, rbx
    mov rax, r13
    call .Lfill
    mov eax, r14d                           # the ring of the last four windows
    and eax, 3
    lea rsi, [r12 + rax * 8 + .Lscratch]
    mov rdi, [rsi]
    mov [rsi], rbx
    test rdi, rdi
    jz 3f
    lea rax, [rdi + 0x400]
    call .Lstep
    xor eax, eax
    call .Lfill
3:
    call .Lend_round
    jne 2b
    jmp .Lfinish

# rax into a word of every 512 bytes of the window at rdi.
.Lfill:
    mov ecx, 64
4:
    mov [rdi], rax
    add rdi, 512
    dec ecx
    jnz 4b
    ret
