//! The neutral state of aarch64 machines, shared by KVM and Hypervisor.framework.
//!
//! A register has one name wherever it was saved: [`RegId`], KVM's register id with the
//! architectural encoding of system registers. Where a hypervisor counts otherwise (KVM swaps two
//! timer registers, Hypervisor.framework has stack pointers among the system registers), that is
//! undone where the register enters, by [`RegId::from_kvm`] and [`RegId::from_system`], and done
//! again where it leaves.
//!
//! Invariants: nothing here calls a hypervisor; all that can be decided without one is decided
//! here (which step restores a register, in which order the registers of an interrupt controller
//! are written, what a counter's offset must be), so that adapters only carry values.

mod check;
mod counter;
mod gic;
mod idreg;
mod mpidr;
mod power;
mod reg;

pub use check::{Aarch64Error, check};
pub use counter::{Counters, GuestTime};
pub use gic::{
    GicModel, GicRow, ITS_ATTRS, ITS_CONTROL_ATTR, decode_rows, distributor_attrs, encode_rows,
    interface_attrs, interface_order, redistributor_attrs, restore_writes, v2_distributor_attrs,
    v2_interface_attrs,
};
pub use idreg::{IdVerdict, compare_id, has_memory_tags};
pub use mpidr::Mpidr;
pub use power::PowerState;
pub use reg::{RegClass, RegId, RegStep, SysReg, register_item};
