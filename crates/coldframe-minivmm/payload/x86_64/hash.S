# hash: a running hash over a working set, in which every kind of register has its part, so that a
# machine thawed with one of them wrong ends in another hash.
.equ .Lfpu, 0x200                           # an FXSAVE image in the parameter page

.globl coldframe_payload_hash
coldframe_payload_hash:
    call .Lbegin
    fninit
2:
    mov rsi, [r12 + .Lpages]
    mov r10d, 8
    call .Ltouch
    call .Lfloats
    test r14d, 7
    jnz 3f
    call .Lcontrol
3:
    call .Lend_round
    jne 2b
    jmp .Lfinish

# Takes one x87 and two XMM registers into the hash, and leaves the hash in them and in both
# control words. FXSAVE and FXRSTOR are what every host runs, one that emulates the guest too.
.Lfloats:
    lea rdi, [r12 + .Lfpu]
    fxsave [rdi]
    mov ecx, r14d
    and ecx, 7
    shl ecx, 4
    add rcx, rdi
    xor r13, [rcx + 32]                     # st(i), the significand
    imul r13, rbp
    add r13, [rcx + 160]                    # xmm(i)
    imul r13, rbp
    xor r13, [rcx + 296]                    # xmm(8 + i), the upper half
    mov [rcx + 32], r13
    mov [rcx + 168], r13
    mov [rcx + 288], r13
    mov eax, r13d
    and eax, 0xc00                          # x87 rounding
    or eax, 0x37f
    mov [rdi], ax
    mov byte ptr [rdi + 4], 0xff            # no x87 register is empty
    mov eax, r13d
    and eax, 0x6000                         # SSE rounding
    or eax, 0x1f80
    mov [rdi + 24], eax
    fxrstor [rdi]
    movaps xmm12, xmm3
    movups xmm5, [r15]
    ret

# Takes what the last round left in control, debug, segment and model-specific registers into the
# hash, and leaves the hash in them.
.Lcontrol:
    mov rax, cr2
    xor r13, rax
    mov rax, dr0
    add r13, rax
    mov rax, dr3
    xor r13, rax
    mov eax, es
    add r13, rax
    mov ecx, 0xc0000100                     # IA32_FS_BASE
    call .Lturn_msr
    mov ecx, 0xc0000101                     # IA32_GS_BASE
    call .Lturn_msr
    mov ecx, 0xc0000102                     # IA32_KERNEL_GS_BASE
    call .Lturn_msr
    mov ecx, 0xc0000082                     # IA32_LSTAR
    call .Lturn_msr
    mov cr2, r13
    mov rax, r13
    shr rax, 17
    mov dr0, rax
    shr rax, 3
    mov dr3, rax
    mov eax, r13d                           # es: the null selector or the data segment
    and eax, 0x10
    mov es, eax
    mov rax, cr4                            # CR4.TSD
    xor rax, 4
    mov cr4, rax
    mov rax, cr0                            # CR0.WP
    xor rax, 0x10000
    mov cr0, rax
    ret

# Takes MSR ecx, an address, into the hash, and leaves a new one there.
.Lturn_msr:
    rdmsr
    shl rdx, 32
    or rax, rdx
    xor r13, rax
    imul r13, rbp
    mov rax, r13
    shr rax, 17
    mov rdx, rax
    shr rdx, 32
    wrmsr
    ret
