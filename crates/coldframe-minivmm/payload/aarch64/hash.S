// hash: a running hash over a working set, in which every kind of register has its part, so that a
// machine thawed with one of them wrong ends in another hash.
.arch_extension sve
.equ .Lvectors, 0x200                       // 32 vectors in the parameter page

.globl coldframe_payload_hash
coldframe_payload_hash:
    bl .Lbegin
    ldr x25, [x19, .Lpages]
2:
    mov x26, #8
    bl .Ltouch
    bl .Lfloats
    tst x21, #7
    b.ne 3f
    bl .Lcontrol
3:
    bl .Lend_round
    b.ne 2b
    b .Lfinish

// Takes three vector registers, both floating-point registers, and where there is SVE the upper
// end of a long vector and a predicate into the hash, and leaves the hash in them.
.Lfloats:
    mrs x3, id_aa64pfr0_el1
    ubfx x3, x3, #32, #4
    cbz x3, 2f
    ptrue p0.d
    lastb x0, p0, z10.d
    eor x20, x20, x0
    mul x20, x20, x23
    add x0, x19, #0x400
    str p3, [x0]
    ldrh w0, [x0]
    add x20, x20, x0
2:
    add x0, x19, .Lvectors
    stp q0, q1, [x0]
    stp q2, q3, [x0, #32]
    stp q4, q5, [x0, #64]
    stp q6, q7, [x0, #96]
    stp q8, q9, [x0, #128]
    stp q10, q11, [x0, #160]
    stp q12, q13, [x0, #192]
    stp q14, q15, [x0, #224]
    stp q16, q17, [x0, #256]
    stp q18, q19, [x0, #288]
    stp q20, q21, [x0, #320]
    stp q22, q23, [x0, #352]
    stp q24, q25, [x0, #384]
    stp q26, q27, [x0, #416]
    stp q28, q29, [x0, #448]
    stp q30, q31, [x0, #480]
    and x1, x21, #7
    add x1, x0, x1, lsl #4
    ldr x2, [x1]                            // v(i)
    eor x20, x20, x2
    mul x20, x20, x23
    ldr x2, [x1, #128]                      // v(8 + i)
    add x20, x20, x2
    mul x20, x20, x23
    ldr x2, [x1, #264]                      // v(16 + i), the upper half
    eor x20, x20, x2
    str x20, [x1]
    str x20, [x1, #136]
    str x20, [x1, #256]
    str x20, [x1, #392]
    ldp q0, q1, [x0]
    ldp q2, q3, [x0, #32]
    ldp q4, q5, [x0, #64]
    ldp q6, q7, [x0, #96]
    ldp q8, q9, [x0, #128]
    ldp q12, q13, [x0, #192]
    ldp q14, q15, [x0, #224]
    ldp q16, q17, [x0, #256]
    ldp q18, q19, [x0, #288]
    ldp q20, q21, [x0, #320]
    ldp q22, q23, [x0, #352]
    ldp q24, q25, [x0, #384]
    ldp q26, q27, [x0, #416]
    ldp q28, q29, [x0, #448]
    ldp q30, q31, [x0, #480]
    ldr q5, [x22]
    mrs x2, fpcr
    eor x20, x20, x2
    and x2, x20, #0xc00000                  // rounding
    msr fpcr, x2
    mrs x2, fpsr
    add x20, x20, x2
    and x2, x20, #0x1f                      // exceptions so far
    msr fpsr, x2
    cbz x3, 3f
    dup z10.d, x20
    index z11.d, x20, #3
    cmphi p3.d, p0/z, z11.d, z10.d
    ret
3:
    dup v10.2d, x20
    ret

.macro turn register
    mrs x0, \register
    eor x20, x20, x0
    mul x20, x20, x23
    lsr x0, x20, #17
    msr \register, x0
.endm

// Takes what the last round left in system registers into the hash, and leaves the hash in them.
.Lcontrol:
    turn tpidr_el0
    turn tpidrro_el0
    turn tpidr_el1
    turn far_el1
    turn elr_el1
    turn sp_el0
    mrs x0, contextidr_el1
    add x20, x20, x0
    lsr x0, x20, #40
    msr contextidr_el1, x0
    mrs x0, vbar_el1
    eor x20, x20, x0
    lsl x0, x20, #43
    lsr x0, x0, #32                         // a multiple of 2 KiB
    msr vbar_el1, x0
    mrs x0, dbgbvr0_el1
    eor x20, x20, x0
    ubfiz x0, x20, #2, #32
    msr dbgbvr0_el1, x0
    ret
