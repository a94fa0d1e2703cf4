//! Save and restore plans as data: which call, on what, after which others, and why.
//!
//! Invariant of a plan ([`check_order`]): no operation twice, and whatever a step needs stands
//! before it. An adapter walks the steps of [`Actor::Adapter`] in order and matches on the
//! operation; the steps of [`Actor::Vmm`] are there so that the whole order can be read and tested.
//!
//! [`Machine::restore`](crate::Machine::restore) does all steps of the adapter in one call. A step
//! of the VMM between two of the adapter is done before that call or after it: its `needs` must
//! have been met by then, and those of the adapter's steps that need it too. `needs` decide, not
//! the place in the list.

mod hvf;
mod kvm_aarch64;
mod kvm_x86_64;

use core::fmt;

/// A hypervisor and an architecture, for which one order holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// Linux KVM on x86_64.
    KvmX86_64,
    /// Linux KVM on aarch64.
    KvmAarch64,
    /// Hypervisor.framework on Apple silicon.
    Hvf,
}

impl Target {
    /// Every target.
    pub const ALL: &'static [Self] = &[Self::KvmX86_64, Self::KvmAarch64, Self::Hvf];
}

/// Which way the state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the hypervisor to the snapshot.
    Save,
    /// From the snapshot to the hypervisor.
    Restore,
}

/// Who does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The VMM itself: it owns the machine, its memory and its devices.
    Vmm,
    /// The hypervisor adapter.
    Adapter,
}

/// What a step is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The machine, once.
    Vm,
    /// Each vCPU. Neighbouring steps may be done vCPU by vCPU.
    EachVcpu,
    /// All vCPUs from one reference moment, before any later step on any of them.
    AllVcpusTogether,
}

/// One operation of a plan. When saving it reads, when restoring it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Make the machine.
    CreateVm,
    /// Make the in-kernel interrupt controllers (x86_64).
    CreateIrqchip,
    /// Make the in-kernel interval timer (x86_64).
    CreatePit,
    /// Set the registers that make KVM write the wall clock into guest memory, while there is none
    /// (x86_64). They are for [`Actor::Vmm`] since they come before `MapMemory`; a VMM may leave
    /// the step out: then the guest reads 0 in the registers and its memory is as it was saved.
    WallClock,
    /// Register guest memory, with its contents in place or served on demand.
    MapMemory,
    /// Make the vCPUs.
    CreateVcpus,
    /// Finish an I/O exit that the guest has not yet been answered.
    CompletePendingIo,
    /// The VMM's own devices.
    Devices,
    /// Hand the new generation id to the guest.
    NotifyGeneration,
    /// Let the guest run.
    Run,
    /// Rate of the guest's TSC (x86_64).
    TscKhz,
    /// What the guest sees of its CPU (x86_64).
    Cpuid,
    /// Registers that switch features on, before those that need them (x86_64).
    FeatureMsrs,
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// General registers (x86_64).
    Regs,
    /// Segments, control registers, APIC base (x86_64).
    Sregs,
    /// State of a nested guest (x86_64).
    NestedState,
    /// Extended state (x86_64).
    Xsave,
    /// Extended control registers (x86_64).
    Xcrs,
    /// Debug registers (x86_64).
    DebugRegs,
    /// Local interrupt controller (x86_64).
    Lapic,
    /// Switch on the synthetic interrupt controller (x86_64, guests that use Hyper-V's interface).
    SynicEnable,
    /// Model-specific registers but the TSC and its deadline (x86_64).
    Msrs,
    /// Registers that KVM lists one by one: the shadow-stack pointer (x86_64).
    ListedRegs,
    /// Read the model-specific registers back: each must hold what was saved (x86_64).
    CheckMsrs,
    /// The time-stamp counters (x86_64).
    Tsc,
    /// The deadline timer (x86_64).
    TscDeadline,
    /// Pending exceptions and interrupts (x86_64), a pending SError (aarch64).
    VcpuEvents,
    /// Interval timer (x86_64).
    Pit,
    /// Paravirtual clock (x86_64).
    Clock,
    /// First PIC (x86_64).
    PicMaster,
    /// Second PIC (x86_64).
    PicSlave,
    /// I/O APIC (x86_64).
    Ioapic,
    /// Tell the guest's watchdogs that it was stopped (x86_64).
    KvmclockCtrl,
    /// Target and features of a vCPU (aarch64).
    VcpuInit,
    /// Vector lengths of SVE (aarch64).
    SveLengths,
    /// Freeze the features of a vCPU (aarch64).
    VcpuFinalize,
    /// One offset of the counter for the whole machine (aarch64).
    CounterOffset,
    /// General, floating-point and vector registers (aarch64).
    CoreRegs,
    /// System registers but the timer's (aarch64).
    SystemRegs,
    /// Virtual timer: compare value and control (aarch64).
    TimerRegs,
    /// Address of the stolen-time record (aarch64).
    PvTime,
    /// Make the interrupt controller (aarch64).
    CreateGic,
    /// Have the kernel write pending tables into guest memory (aarch64).
    GicPendingTables,
    /// Distributor (aarch64).
    GicDistributor,
    /// Redistributors (aarch64).
    GicRedistributors,
    /// CPU interfaces (aarch64).
    GicCpuInterface,
    /// Registers of the translation service but its control (aarch64).
    ItsRegs,
    /// Tables of the translation service, from or to guest memory (aarch64).
    ItsTables,
    /// Control register of the translation service (aarch64).
    ItsControl,
    /// Read guest memory: after all that the kernel still writes into it.
    CopyMemory,
    /// Affinity of a vCPU, by which the interrupt controller finds it (Hypervisor.framework).
    Mpidr,
    /// The interrupt controller's opaque state (Hypervisor.framework).
    GicBlob,
    /// Offset of the virtual timer (Hypervisor.framework).
    VtimerOffset,
    /// Whether the virtual timer is masked (Hypervisor.framework).
    VtimerMask,
    /// Pending interrupt lines (Hypervisor.framework).
    PendingLines,
}

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub op: Op,
    /// Who does it.
    pub actor: Actor,
    /// What it is done to.
    pub scope: Scope,
    /// Operations that must stand before it.
    pub needs: &'static [Op],
    /// Why it stands here.
    pub why: &'static str,
    /// Where that is known from.
    pub source: &'static str,
}

/// The order in which the state of one target is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    target: Target,
    direction: Direction,
    steps: &'static [Step],
}

/// Steps that are in no order that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A step stands before one that it needs, or that one is missing.
    #[error("{op} needs {need} before it")]
    NeedNotBefore {
        /// The step.
        op: Op,
        /// What it needs.
        need: Op,
    },
    /// An operation stands there twice.
    #[error("{op} is there twice")]
    Twice {
        /// The operation.
        op: Op,
    },
}

impl Plan {
    /// The order of reading.
    #[must_use]
    pub const fn save(target: Target) -> Self {
        let steps = match target {
            Target::KvmX86_64 => kvm_x86_64::SAVE,
            Target::KvmAarch64 => kvm_aarch64::SAVE,
            Target::Hvf => hvf::SAVE,
        };
        Self {
            target,
            direction: Direction::Save,
            steps,
        }
    }

    /// The order of writing.
    #[must_use]
    pub const fn restore(target: Target) -> Self {
        let steps = match target {
            Target::KvmX86_64 => kvm_x86_64::RESTORE,
            Target::KvmAarch64 => kvm_aarch64::RESTORE,
            Target::Hvf => hvf::RESTORE,
        };
        Self {
            target,
            direction: Direction::Restore,
            steps,
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Which way it goes.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Every step, in order.
    #[must_use]
    pub const fn steps(&self) -> &'static [Step] {
        self.steps
    }

    /// The steps of the adapter alone, in order.
    pub fn adapter_steps(&self) -> impl Iterator<Item = &'static Step> {
        self.steps
            .iter()
            .filter(|step| step.actor == Actor::Adapter)
    }

    /// Checks the plan as [`check_order`] does.
    ///
    /// # Errors
    /// [`PlanError`] naming the first step that stands wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        check_order(self.steps)
    }
}

/// Checks that no operation is there twice and that what each step needs stands before it.
///
/// # Errors
/// [`PlanError`] naming the first step that stands wrong.
pub fn check_order(steps: &[Step]) -> Result<(), PlanError> {
    for (position, step) in steps.iter().enumerate() {
        let before = || steps.iter().take(position).map(|earlier| earlier.op);
        if before().any(|op| op == step.op) {
            return Err(PlanError::Twice { op: step.op });
        }
        if let Some(need) = step
            .needs
            .iter()
            .find(|need| !before().any(|op| op == **need))
        {
            return Err(PlanError::NeedNotBefore {
                op: step.op,
                need: *need,
            });
        }
    }
    Ok(())
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

const fn step(
    actor: Actor,
    op: Op,
    scope: Scope,
    needs: &'static [Op],
    why: &'static str,
    source: &'static str,
) -> Step {
    Step {
        op,
        actor,
        scope,
        needs,
        why,
        source,
    }
}

/// A step of the VMM.
const fn vmm(
    op: Op,
    scope: Scope,
    needs: &'static [Op],
    why: &'static str,
    source: &'static str,
) -> Step {
    step(Actor::Vmm, op, scope, needs, why, source)
}

/// A step of the adapter.
const fn adapter(
    op: Op,
    scope: Scope,
    needs: &'static [Op],
    why: &'static str,
    source: &'static str,
) -> Step {
    step(Actor::Adapter, op, scope, needs, why, source)
}
