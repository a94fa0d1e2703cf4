#![allow(unsafe_code)]
//! The payloads: assembly of the host's architecture, assembled by the Rust compiler into this
//! program's read-only data, and copied from there into guest memory. They do not depend on where
//! they are placed.
//!
//! # Safety
//! The image lies between two labels of one section, both defined here: it is read as a slice
//! between them. It is never run by the host.

use crate::config::Workload;

/// Where the working set begins in guest memory; below lie boot structures and the payload.
pub(crate) const WORKING_SET: u64 = 0x20_0000;
/// Where the parameter page lies.
pub(crate) const PARAMETERS: u64 = 0x2000;
/// Where the payloads' image goes.
pub(crate) const IMAGE: u64 = 0x10_0000;

/// The image of all payloads, and how far into it `workload` begins; `None` where they cannot be
/// assembled.
pub(crate) fn image(workload: Workload) -> Option<(&'static [u8], u64)> {
    sys::image(workload)
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod sys {
    //! The image, for hosts that can run it.

    use super::Workload;

    /// Assembles the payloads of one architecture.
    macro_rules! assemble {
        ($arch:literal) => {
            core::arch::global_asm!(
                ".pushsection .rodata.coldframe_payload, \"a\", @progbits",
                ".balign 8",
                ".globl coldframe_payload_start",
                "coldframe_payload_start:",
                include_str!(concat!("../payload/", $arch, "/common.S")),
                include_str!(concat!("../payload/", $arch, "/hash.S")),
                include_str!(concat!("../payload/", $arch, "/stride.S")),
                include_str!(concat!("../payload/", $arch, "/random.S")),
                include_str!(concat!("../payload/", $arch, "/zeroing.S")),
                include_str!(concat!("../payload/", $arch, "/idle.S")),
                include_str!(concat!("../payload/", $arch, "/smp.S")),
                include_str!(concat!("../payload/", $arch, "/input.S")),
                ".globl coldframe_payload_end",
                "coldframe_payload_end:",
                ".popsection",
                options(raw)
            );
        };
    }

    #[cfg(target_arch = "aarch64")]
    assemble!("aarch64");
    #[cfg(target_arch = "x86_64")]
    assemble!("x86_64");

    // SAFETY: each is a label in the section assembled above; only their addresses are used.
    unsafe extern "C" {
        safe static coldframe_payload_start: u8;
        safe static coldframe_payload_end: u8;
        safe static coldframe_payload_hash: u8;
        safe static coldframe_payload_stride: u8;
        safe static coldframe_payload_random: u8;
        safe static coldframe_payload_zeroing: u8;
        safe static coldframe_payload_idle: u8;
        safe static coldframe_payload_smp: u8;
        safe static coldframe_payload_input: u8;
    }

    pub(super) fn image(workload: Workload) -> Option<(&'static [u8], u64)> {
        let entry = match workload {
            Workload::Hash => &raw const coldframe_payload_hash,
            Workload::Stride => &raw const coldframe_payload_stride,
            Workload::Random => &raw const coldframe_payload_random,
            Workload::Zeroing => &raw const coldframe_payload_zeroing,
            Workload::Idle => &raw const coldframe_payload_idle,
            Workload::Smp => &raw const coldframe_payload_smp,
            Workload::Input => &raw const coldframe_payload_input,
        };
        let start = &raw const coldframe_payload_start;
        let end = &raw const coldframe_payload_end;
        let len = end.addr().checked_sub(start.addr())?;
        let offset = entry.addr().checked_sub(start.addr())?;
        // SAFETY: both labels bound one section of this program's read-only data, in this order
        // (the difference was checked), which is mapped and unchanged while the program runs.
        let bytes = unsafe { core::slice::from_raw_parts(start, len) };
        Some((bytes, u64::try_from(offset).ok()?))
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod sys {
    //! No image: this host runs the simulated machine only.

    use super::Workload;

    pub(super) fn image(_workload: Workload) -> Option<(&'static [u8], u64)> {
        None
    }
}
