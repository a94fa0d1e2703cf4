//! What a hypervisor adapter offers: traits, neutral machine state, restore plans as data.
//!
//! For people who write a VMM or an adapter to a hypervisor. State is kept by the kernel's own
//! stable numbers, never by the layout of a Rust structure; the order in which it is read and
//! written is a table with a reason for each row; and a restore takes proof that the differences
//! between two hosts were looked at.
//!
//! ```
//! use coldframe_hv::{HostIdentity, Hypervisor, Op, Plan, PortabilityReport, Target};
//! use coldframe_units::Arch;
//!
//! let plan = Plan::restore(Target::KvmX86_64);
//! plan.check()?;
//! let position = |op| plan.steps().iter().position(|step| step.op == op);
//! assert!(position(Op::Sregs) < position(Op::Lapic));
//!
//! let saved = HostIdentity::bare(Arch::X86_64, Hypervisor::Kvm);
//! let mut here = saved.clone();
//! here.xsave_bytes = 2696; // more than was saved: serves as well
//! assert!(PortabilityReport::compare(&saved, &here).check(&[]).is_ok());
//! # Ok::<(), coldframe_hv::PlanError>(())
//! ```
//!
//! What it does not do: no system call, no file format (that is `coldframe-statefile`), and it does
//! not pause a machine (that is the VMM's own). Spec: `specs/architecture.md`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

extern crate alloc;

pub mod aarch64;
mod host;
mod item;
mod machine;
mod plan;
mod portability;
mod state;
pub mod x86_64;

pub use aarch64::GuestTime;
pub use host::{CpuIdentity, CpuidLeaf, HostIdentity, Hypervisor};
pub use item::ItemKind;
pub use machine::{DirtySource, Machine, Thawed};
pub use plan::{Actor, Direction, Op, Plan, PlanError, Scope, Step, Target, check_order};
pub use portability::{
    Accepted, Comparison, Difference, Offer, OtherHost, PortabilityReport, Refused, Verdict,
    msr_item,
};
pub use state::{
    DeviceState, MachineState, StateError, VCPU_COUNT_MAX, VcpuState, VmState, check_devices,
};
