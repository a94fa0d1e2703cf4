// smp: the first vCPU switches the second on by PSCI. Both work on their own half of the working
// set; once a round each hands its hash to the other and waits for the other's.
//
// The exchange, in the parameter page: sequence and value of each, a cache line apart. Neither
// writes its value again before the other has taken it: the sequences are equal in between.

.equ .Lboot_seq, 0x800
.equ .Lboot_value, 0x808
.equ .Lsecond_seq, 0x840
.equ .Lsecond_value, 0x848
.equ .Lsecond_done, 0x880

.globl coldframe_payload_smp
coldframe_payload_smp:
    bl .Lbegin
    movz x0, #0x0003                        // CPU_ON
    movk x0, #0xc400, lsl #16
    mov x1, #1                              // affinity
    adr x2, .Lsecond
    mov x3, #0
    hvc #0
    ldr x25, [x19, .Lpages]
    lsr x25, x25, #1
2:
    mov x26, #8
    bl .Ltouch
    str x20, [x19, .Lboot_value]
    add x9, x21, #1
    add x10, x19, .Lboot_seq
    stlr x9, [x10]
    add x10, x19, .Lsecond_seq
3:
    ldar x0, [x10]
    cmp x0, x9
    b.ne 3b
    ldr x0, [x19, .Lsecond_value]
    eor x20, x20, x0
    mul x20, x20, x23
    bl .Lend_round
    b.ne 2b
    add x10, x19, .Lsecond_done
4:
    ldar w0, [x10]
    cbz w0, 4b
    b .Lfinish

// The second vCPU, with paging off.
.Lsecond:
    bl .Lbegin
    mvn x20, x20
    ldr x25, [x19, .Lpages]
    lsr x25, x25, #1
    add x22, x22, x25, lsl #12
    ldr q5, [x22]
2:
    mov x26, #8
    bl .Ltouch
    add x9, x21, #1
    add x10, x19, .Lboot_seq
3:
    ldar x0, [x10]
    cmp x0, x9
    b.ne 3b
    ldr x11, [x19, .Lboot_value]
    str x20, [x19, .Lsecond_value]
    add x10, x19, .Lsecond_seq
    stlr x9, [x10]
    eor x20, x20, x11
    mul x20, x20, x23
    mvn x20, x20                            // or both would go on with one hash
    add x21, x21, #1
    ldr x0, [x19, .Lrounds]
    cmp x21, x0
    b.ne 2b
    mov w0, #1
    add x10, x19, .Lsecond_done
    stlr w0, [x10]
    movz x0, #0x0002                        // CPU_OFF
    movk x0, #0x8400, lsl #16
    hvc #0
4:
    b 4b
