//! What a hypervisor adapter offers: traits, neutral machine state, restore plans as data.
//!
//! For people who write a VMM or an adapter to a hypervisor. State is kept by the kernel's own
//! stable numbers, never by the layout of a Rust structure; the order in which it is read and
//! written is a table with a reason for each row; and a restore takes proof that the differences
//! between two hosts were looked at.
//!
//! ```
//! use coldframe_hv::Op::{self, Vcpu, Vm, Vmm};
//! use coldframe_hv::VmmOp::{Devices, Run};
//! use coldframe_hv::{Direction, HostIdentity, Hypervisor, Plan, PortabilityReport, Step, step};
//! use coldframe_units::Arch;
//!
//! // An adapter's own operations: on the machine, and on each vCPU.
//! #[derive(Clone, Copy, Debug, PartialEq)]
//! enum Chip { Timer }
//! #[derive(Clone, Copy, Debug, PartialEq)]
//! enum Cpu { Registers }
//! const STEPS: &[Step<Op<Chip, Cpu>>] = &[
//!     step(Vcpu(Cpu::Registers), &[], "nothing depends on another", "manual, 3.1"),
//!     step(Vm(Chip::Timer), &[Vcpu(Cpu::Registers)], "fires at once", "manual, 4.2"),
//!     step(Vmm(Devices), &[Vm(Chip::Timer)], "they use the timer", "manual, 4.3"),
//!     step(Vmm(Run), &[Vmm(Devices)], "all is in place", "manual, 1"),
//! ];
//! Plan::new("mine-x86_64", Direction::Restore, STEPS).check()?;
//!
//! let mine = Hypervisor::from_code(200).expect("only 0 is none");
//! let saved = HostIdentity::bare(Arch::X86_64, mine);
//! let mut here = saved.clone();
//! here.xsave_bytes = 2696; // more than was saved: serves as well
//! assert!(PortabilityReport::compare(&saved, &here).check(&[]).is_ok());
//! # Ok::<(), coldframe_hv::PlanError>(())
//! ```
//!
//! What it does not do: no system call, no file format (that is `coldframe-statefile`), and it does
//! not run a vCPU. Feature `park` has the protocol by which the threads of vCPUs come to rest, for
//! adapters to wrap; it needs the standard library. Spec: `specs/architecture.md`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

extern crate alloc;
#[cfg(feature = "park")]
extern crate std;

pub mod aarch64;
mod host;
mod item;
mod machine;
#[cfg(feature = "park")]
pub mod park;
mod plan;
mod portability;
mod state;
pub mod x86_64;

pub use aarch64::GuestTime;
pub use host::{CpuIdentity, CpuidLeaf, HostIdentity, Hypervisor};
pub use item::ItemKind;
pub use machine::{DirtySource, Machine, Thawed};
pub use plan::{
    Actor, Direction, Op, Operation, Plan, PlanError, PlanRow, Scope, Step, VmmOp, VmmOperation,
    check_order, step,
};
pub use portability::{
    Accepted, Comparison, Difference, Offer, OtherHost, PortabilityReport, Refused, Verdict,
    msr_item,
};
pub use state::{
    DeviceState, MachineState, StateError, VCPU_COUNT_MAX, VcpuState, VmState, check_devices,
};
