# What the payloads share. Long mode, low memory identity-mapped, SSE on.
#
# r12  the parameter page          r13  the running hash
# r14  the round                   r15  the first page of the working set
# rbp  the hash's multiplier
#
# The parameter page, written by the host (see payload.rs): seed, RAM bytes, rounds, rounds between
# two marks, pages of the working set, stride in pages; the payload's own scratch from 0x100.

.equ .Lparams, 0x2000
.equ .Lworking_set, 0x200000
.equ .Lseed, 0x00
.equ .Lrounds, 0x10
.equ .Lmark_every, 0x18
.equ .Lpages, 0x20
.equ .Lstride, 0x28
.equ .Lscratch, 0x100

# Sets up the registers above.
.Lbegin:
    cld
    mov r12d, .Lparams
    mov r13, [r12 + .Lseed]
    xor r14d, r14d
    mov r15d, .Lworking_set
    movabs rbp, 6364136223846793005
    ret

# Picks the word at rax's address into the hash, and puts the hash there.
.Lstep:
    mov rcx, [rax]
    rol rcx, 21                             # or the word just left would cancel the hash out
    xor r13, rcx
    imul r13, rbp
    lea r13, [r13 + r14 + 1]
    mov [rax], r13
    ret

# rax = a word in one of the rsi pages from r15 on, the page picked by the hash. RAM leaves out
# the last GiB below 4 GiB, which belongs to devices.
.Lpick:
    mov rax, r13
    shr rax, 29
    xor edx, edx
    div rsi
    shl rdx, 12
    lea rax, [r15 + rdx]
    mov ecx, 0xc0000000
    cmp rax, rcx
    jb 2f
    mov ecx, 0x40000000
    add rax, rcx
2:
    mov ecx, r14d
    shl ecx, 3
    and ecx, 4088
    add rax, rcx
    ret

# r10 steps, each at a word picked among the rsi pages from r15 on.
.Ltouch:
    call .Lpick
    call .Lstep
    dec r10
    jnz .Ltouch
    ret

# Ends a round: at every so many, a mark on port 0xf0 and "<round> <hash>" on the console.
# Leaves the zero flag set after the last round.
.Lend_round:
    mov rax, r14
    xor edx, edx
    div qword ptr [r12 + .Lmark_every]
    test rdx, rdx
    jnz 2f
    mov eax, r14d
    mov edx, 0xf0
    out dx, eax
    mov rbx, r14
    mov r8d, 6
    call .Lhex
    mov al, ' '
    out dx, al
    mov rbx, r13
    mov r8d, 16
    call .Lhex
    mov al, '\n'
    out dx, al
2:
    inc r14
    cmp r14, [r12 + .Lrounds]
    ret

# Prints the low r8 hex digits of rbx. Leaves dx at the console's port.
.Lhex:
    mov edx, 0x3f8
2:
    dec r8d
    lea ecx, [r8 * 4]
    mov rax, rbx
    shr rax, cl
    and eax, 15
    cmp al, 10
    jb 3f
    add al, 'a' - '0' - 10
3:
    add al, '0'
    out dx, al
    test r8d, r8d
    jnz 2b
    ret

# Prints "END" and ends the guest with code 0.
.Lfinish:
    mov edx, 0x3f8
    mov al, 'E'
    out dx, al
    mov al, 'N'
    out dx, al
    mov al, 'D'
    out dx, al
    mov al, '\n'
    out dx, al
    xor eax, eax
    mov edx, 0xf4
    out dx, al
2:
    cli
    hlt
    jmp 2b
