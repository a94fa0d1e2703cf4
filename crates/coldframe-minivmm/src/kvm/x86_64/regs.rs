//! The registers of a vCPU as bytes for the end's digest.
//!
//! Invariant: nothing that a clock moves is among them, and nothing whose encoding may differ while
//! its meaning is the same: of the XSAVE area the register contents, not the header that says which
//! of them are in their first state.

use kvm_bindings::{Msrs, kvm_dtable, kvm_msr_entry, kvm_segment, kvm_sregs, kvm_xsave};
use kvm_ioctls::VcpuFd;

use crate::error::MiniVmError;
use crate::kvm::failed::vcpu_error;

/// The MSRs in the digest: system calls, SYSENTER, PAT, kernel GS. FS and GS base are segments'.
const MSRS: [u32; 9] = [
    0x174,
    0x175,
    0x176,
    0x277,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0102,
];

/// The registers of vCPU `index`.
pub(super) fn encode(fd: &VcpuFd, index: u8, out: &mut Vec<u8>) -> Result<(), MiniVmError> {
    let failed = |call| move |e| vcpu_error(call, index, e);
    let regs = fd.get_regs().map_err(failed("KVM_GET_REGS"))?;
    put(
        out,
        &[
            regs.rax,
            regs.rbx,
            regs.rcx,
            regs.rdx,
            regs.rsi,
            regs.rdi,
            regs.rsp,
            regs.rbp,
            regs.r8,
            regs.r9,
            regs.r10,
            regs.r11,
            regs.r12,
            regs.r13,
            regs.r14,
            regs.r15,
            regs.rip,
            regs.rflags,
        ],
    );
    put_sregs(out, &fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?);
    put_xsave(out, &fd.get_xsave().map_err(failed("KVM_GET_XSAVE"))?);
    let debug = fd.get_debug_regs().map_err(failed("KVM_GET_DEBUGREGS"))?;
    put(out, &debug.db);
    put(out, &[debug.dr6, debug.dr7]);
    let xcrs = fd.get_xcrs().map_err(failed("KVM_GET_XCRS"))?;
    let used = usize::try_from(xcrs.nr_xcrs).unwrap_or(usize::MAX);
    for xcr in xcrs.xcrs.iter().take(used) {
        put(out, &[u64::from(xcr.xcr), xcr.value]);
    }
    put_msrs(fd, index, out)
}

/// Each word little-endian.
fn put(out: &mut Vec<u8>, words: &[u64]) {
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// Segments, tables and control registers.
fn put_sregs(out: &mut Vec<u8>, s: &kvm_sregs) {
    for segment in [&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.tr, &s.ldt] {
        put_segment(out, segment);
    }
    for kvm_dtable { base, limit, .. } in [s.gdt, s.idt] {
        put(out, &[base, u64::from(limit)]);
    }
    put(
        out,
        &[s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer, s.apic_base],
    );
    put(out, &s.interrupt_bitmap);
}

/// One segment.
fn put_segment(out: &mut Vec<u8>, s: &kvm_segment) {
    put(out, &[s.base, u64::from(s.limit), u64::from(s.selector)]);
    let flags = [
        s.type_, s.present, s.dpl, s.db, s.s, s.l, s.g, s.avl, s.unusable,
    ];
    out.extend_from_slice(&flags);
}

/// The contents of the XSAVE area: words 116 to 127 are the host's, 128 to 143 the header.
fn put_xsave(out: &mut Vec<u8>, xsave: &kvm_xsave) {
    for (index, word) in xsave.region.iter().enumerate() {
        if !(116..144).contains(&index) {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// The MSRs that this host has, with their numbers.
fn put_msrs(fd: &VcpuFd, vcpu: u8, out: &mut Vec<u8>) -> Result<(), MiniVmError> {
    let entries = MSRS.map(|index| kvm_msr_entry {
        index,
        ..kvm_msr_entry::default()
    });
    let mut msrs = Msrs::from_entries(&entries).expect("nine entries are below the limit");
    let read = fd
        .get_msrs(&mut msrs)
        .map_err(|e| vcpu_error("KVM_GET_MSRS", vcpu, e))?;
    for msr in msrs.as_slice().iter().take(read) {
        put(out, &[u64::from(msr.index), msr.data]);
    }
    Ok(())
}
