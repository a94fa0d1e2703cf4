//! CPUID and first registers: what must be set once before a machine runs.
//!
//! Invariant: a program enters with what its [`Entry`] promises; all else is as KVM resets it.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::boot;
use crate::config::Entry;
use crate::error::MiniVmError;
use crate::kvm::failed::{kvm_error, vcpu_error};
use crate::load::{LoadError, Start};

/// Creates vCPU `index`, with the CPUID that KVM supports.
pub(super) fn new_vcpu(kvm: &Kvm, vm: &VmFd, index: u8) -> Result<VcpuFd, MiniVmError> {
    let fd = vm
        .create_vcpu(u64::from(index))
        .map_err(|e| vcpu_error("KVM_CREATE_VCPU", index, e))?;
    set_cpuid(kvm, &fd, index)?;
    Ok(fd)
}

/// Sets the CPUID that KVM supports, with the vCPU's index as its APIC id.
fn set_cpuid(kvm: &Kvm, fd: &VcpuFd, index: u8) -> Result<(), MiniVmError> {
    let mut cpuid: CpuId = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|e| kvm_error("KVM_GET_SUPPORTED_CPUID", e))?;
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            0x1 => entry.ebx = entry.ebx & 0x00ff_ffff | u32::from(index) << 24,
            0xb | 0x1f => entry.edx = u32::from(index),
            _ => {}
        }
    }
    fd.set_cpuid2(&cpuid)
        .map_err(|e| vcpu_error("KVM_SET_CPUID2", index, e))
}

/// Sets the first vCPU's registers for `start`.
pub(super) fn set_start(fd: &VcpuFd, start: Start) -> Result<(), MiniVmError> {
    let mut sregs = fd
        .get_sregs()
        .map_err(|e| vcpu_error("KVM_GET_SREGS", 0, e))?;
    let mut regs = kvm_regs {
        rflags: 2,
        rip: start.addr,
        rsp: boot::STACK,
        ..kvm_regs::default()
    };
    match start.entry {
        Entry::Real => real_mode(&mut sregs, &mut regs),
        Entry::Protected => {
            flat_segments(&mut sregs, false);
            sregs.cr0 = 0x11;
        }
        Entry::Long => {
            flat_segments(&mut sregs, true);
            sregs.cr0 = 0x8000_0033; // PG, NE, ET, MP, PE
            sregs.cr3 = boot::PML4;
            sregs.cr4 = 0x620; // OSXMMEXCPT, OSFXSR, PAE
            sregs.efer = 0x500; // LMA, LME
            regs.rsi = boot::BOOT_PARAMS;
            regs.rbp = boot::STACK;
        }
        Entry::El1 => return Err(MiniVmError::Load(LoadError::NoSuchEntry)),
    }
    fd.set_sregs(&sregs)
        .map_err(|e| vcpu_error("KVM_SET_SREGS", 0, e))?;
    fd.set_regs(&regs)
        .map_err(|e| vcpu_error("KVM_SET_REGS", 0, e))
}

/// Real mode at `rip`, which is below 1 MiB: all segments but code begin at 0.
fn real_mode(sregs: &mut kvm_sregs, regs: &mut kvm_regs) {
    let base = regs.rip & 0xf_0000;
    sregs.cs.base = base;
    sregs.cs.selector = u16::try_from(base >> 4).expect("20 bits shifted by 4 are 16");
    regs.rip &= 0xffff;
    regs.rsp = boot::BOOT_PARAMS;
}

/// Segments that cover everything, and their tables.
fn flat_segments(sregs: &mut kvm_sregs, long: bool) {
    let segment = |selector: u16, type_: u8| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        db: 1,
        ..kvm_segment::default()
    };
    let data = segment(0x10, 3);
    sregs.cs = kvm_segment {
        l: u8::from(long),
        db: u8::from(!long),
        ..segment(0x8, 11)
    };
    (sregs.ds, sregs.es, sregs.fs) = (data, data, data);
    (sregs.gs, sregs.ss) = (data, data);
    sregs.tr = kvm_segment {
        limit: 0xfffff,
        selector: 0x18,
        type_: 11,
        present: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.gdt = kvm_dtable {
        base: boot::GDT,
        limit: 31,
        ..kvm_dtable::default()
    };
    sregs.idt = kvm_dtable {
        base: boot::IDT,
        limit: 7,
        ..kvm_dtable::default()
    };
}
