# smp: the first vCPU starts the second with INIT and SIPI. Both work on their own half of the
# working set; once a round each hands its hash to the other and waits for the other's.
#
# The exchange, in the parameter page: sequence and value of each, a cache line apart. Neither
# writes its value again before the other has taken it: the sequences are equal in between.

.equ .Lboot_seq, 0x800
.equ .Lboot_value, 0x808
.equ .Lsecond_seq, 0x840
.equ .Lsecond_value, 0x848
.equ .Lsecond_done, 0x880
.equ .Lsecond_entry, 0x8c0
.equ .Ltrampoline_at, 0x3000
.equ .Lsecond_stack, 0x6ff0

.globl coldframe_payload_smp
coldframe_payload_smp:
    call .Lbegin
    lea rsi, [rip + .Ltrampoline]
    mov edi, .Ltrampoline_at
    lea rcx, [rip + .Ltrampoline_end]
    sub rcx, rsi
    rep movsb
    lea rax, [rip + .Lsecond]
    mov [r12 + .Lsecond_entry], rax
    mov edi, 0xfee00000                     # the local APIC
    mov dword ptr [rdi + 0xf0], 0x1ff       # spurious vector: software-enabled
    mov dword ptr [rdi + 0x310], 0x1000000  # ICR: to APIC id 1
    mov dword ptr [rdi + 0x300], 0x4500     # INIT
    mov dword ptr [rdi + 0x310], 0x1000000
    mov dword ptr [rdi + 0x300], 0x4603     # SIPI, page 3
2:
    mov rsi, [r12 + .Lpages]
    shr rsi, 1
    mov r10d, 8
    call .Ltouch
    mov [r12 + .Lboot_value], r13
    lea rax, [r14 + 1]
    mov [r12 + .Lboot_seq], rax
3:
    cmp [r12 + .Lsecond_seq], rax
    jne 3b
    xor r13, [r12 + .Lsecond_value]
    imul r13, rbp
    call .Lend_round
    jne 2b
4:
    cmp dword ptr [r12 + .Lsecond_done], 1
    jne 4b
    jmp .Lfinish

# The second vCPU, in long mode by now, on its own stack.
.Lsecond:
    call .Lbegin
    not r13
    mov rsi, [r12 + .Lpages]
    shr rsi, 1
    mov rax, rsi
    shl rax, 12
    add r15, rax
    movups xmm5, [r15]
2:
    mov r10d, 8
    call .Ltouch
    lea rax, [r14 + 1]
3:
    cmp [r12 + .Lboot_seq], rax
    jne 3b
    mov rbx, [r12 + .Lboot_value]
    mov [r12 + .Lsecond_value], r13
    mov [r12 + .Lsecond_seq], rax
    xor r13, rbx
    imul r13, rbp
    not r13                                 # or both would go on with one hash
    inc r14
    cmp r14, [r12 + .Lrounds]
    jne 2b
    mov dword ptr [r12 + .Lsecond_done], 1
4:
    cli
    hlt
    jmp 4b

# Copied to 0x3000, where a SIPI with vector 3 begins in real mode: straight to long mode, with the
# first vCPU's page tables (0x9000) and GDT (0x500).
.code16
.Ltrampoline:
    cli
    xor ax, ax
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16            # lgdt [disp16], 32-bit base
    .word .Ltrampoline_gdt - .Ltrampoline + .Ltrampoline_at
    mov eax, 0x620                          # CR4: PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, 0x9000
    mov cr3, eax
    mov ecx, 0xc0000080                     # EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, 0x80000033                     # CR0: PG, NE, ET, MP, PE
    mov cr0, eax
    .byte 0x66, 0xea                        # jmp far 0x08:.Ltrampoline64
    .long .Ltrampoline64 - .Ltrampoline + .Ltrampoline_at
    .word 0x08
.code64
.Ltrampoline64:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, .Lsecond_stack
    mov eax, .Lparams
    jmp qword ptr [rax + .Lsecond_entry]
.Ltrampoline_gdt:
    .word 31
    .long 0x500
.Ltrampoline_end:
