//! Save and restore plans as data: which operation, on what, after which others, and why.
//!
//! A plan belongs to an adapter and is made of the adapter's own operations: [`Op`] says in its
//! type who does a step and to what, so an adapter that walks its plan matches on enumerations
//! that have an arm for what it does and for nothing else. The steps of the VMM are there so that
//! the whole order can be read and tested.
//!
//! Invariant of a plan ([`check_order`]): no operation twice, and whatever a step needs stands
//! before it.
//!
//! [`Machine::restore`](crate::Machine::restore) does all steps of the adapter in one call. A step
//! of the VMM between two of the adapter is done before that call or after it: its `needs` must
//! have been met by then, and those of the adapter's steps that need it too. `needs` decide, not
//! the place in the list.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt::{self, Debug};

/// Which way the state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the hypervisor to the snapshot.
    Save,
    /// From the snapshot to the hypervisor.
    Restore,
}

impl Direction {
    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Restore => "restore",
        }
    }
}

/// Who does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The VMM itself: it owns the machine, its memory and its devices.
    Vmm,
    /// The hypervisor adapter.
    Adapter,
}

impl Actor {
    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmm => "VMM",
            Self::Adapter => "adapter",
        }
    }
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

impl Scope {
    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vm => "VM",
            Self::EachVcpu => "each vCPU",
            Self::AllVcpusTogether => "all vCPUs at once",
        }
    }
}

/// An operation of a plan: who does it, to what, and its name.
pub trait Operation: Copy + PartialEq + Debug + 'static {
    /// Who does it.
    fn actor(&self) -> Actor;
    /// What it is done to.
    fn scope(&self) -> Scope;
    /// Its name, as tables print it.
    fn name(&self) -> String;
}

/// One operation of a plan, by who does it and to what. When saving it reads, when restoring it
/// writes.
///
/// An adapter brings an enumeration for what it does to the machine (`M`), to each vCPU (`C`) and,
/// if there is any, to all vCPUs at once (`A`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op<M, C, A = Infallible, V = VmmOp> {
    /// Of the VMM.
    Vmm(V),
    /// Of the adapter, to the machine once.
    Vm(M),
    /// Of the adapter, to each vCPU.
    Vcpu(C),
    /// Of the adapter, to all vCPUs from one reference moment.
    AllVcpus(A),
}

/// A step that is the VMM's.
pub trait VmmOperation: Copy + PartialEq + Debug + 'static {
    /// What it is done to.
    fn scope(&self) -> Scope;
}

impl<M, C, A, V> Operation for Op<M, C, A, V>
where
    M: Copy + PartialEq + Debug + 'static,
    C: Copy + PartialEq + Debug + 'static,
    A: Copy + PartialEq + Debug + 'static,
    V: VmmOperation,
{
    fn actor(&self) -> Actor {
        match self {
            Self::Vmm(_) => Actor::Vmm,
            _ => Actor::Adapter,
        }
    }

    fn scope(&self) -> Scope {
        match self {
            Self::Vmm(op) => op.scope(),
            Self::Vm(_) => Scope::Vm,
            Self::Vcpu(_) => Scope::EachVcpu,
            Self::AllVcpus(_) => Scope::AllVcpusTogether,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Vmm(op) => format!("{op:?}"),
            Self::Vm(op) => format!("{op:?}"),
            Self::Vcpu(op) => format!("{op:?}"),
            Self::AllVcpus(op) => format!("{op:?}"),
        }
    }
}

/// What VMMs do in the plans of the adapters of this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VmmOp {
    /// Make the machine.
    CreateVm,
    /// Make the in-kernel interrupt controllers (x86_64).
    CreateIrqchip,
    /// Make the in-kernel interval timer (x86_64).
    CreatePit,
    /// Make the interrupt controller (aarch64).
    CreateGic,
    /// Set the registers that make KVM write the wall clock into guest memory, while there is none
    /// (x86_64). It is the VMM's since it comes before [`VmmOp::MapMemory`]; a VMM may leave it
    /// out: then the guest reads 0 in the registers and its memory is as it was saved.
    WallClock,
    /// Register guest memory, with its contents in place or served on demand.
    MapMemory,
    /// Make the vCPUs.
    CreateVcpus,
    /// Finish an I/O exit that the guest has not yet been answered.
    CompletePendingIo,
    /// Switch on the synthetic interrupt controller (x86_64, guests that use Hyper-V's interface).
    SynicEnable,
    /// The VMM's own devices.
    Devices,
    /// Read guest memory: after all that the kernel still writes into it.
    CopyMemory,
    /// Hand the new generation id to the guest.
    NotifyGeneration,
    /// Let the guest run.
    Run,
}

impl VmmOperation for VmmOp {
    fn scope(&self) -> Scope {
        match self {
            Self::CreateVcpus | Self::CompletePendingIo | Self::SynicEnable | Self::Run => {
                Scope::EachVcpu
            }
            _ => Scope::Vm,
        }
    }
}

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<O: 'static> {
    /// What is done.
    pub op: O,
    /// Operations that must stand before it.
    pub needs: &'static [O],
    /// Why it stands here.
    pub why: &'static str,
    /// Where that is known from.
    pub source: &'static str,
}

/// A step, in the order in which a table of them is read.
#[must_use]
pub const fn step<O>(
    op: O,
    needs: &'static [O],
    why: &'static str,
    source: &'static str,
) -> Step<O> {
    Step {
        op,
        needs,
        why,
        source,
    }
}

/// The order in which the state of one target is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<O: 'static> {
    target: &'static str,
    direction: Direction,
    steps: &'static [Step<O>],
}

/// Steps that are in no order that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A step stands before one that it needs, or that one is missing.
    #[error("{op} needs {need} before it")]
    NeedNotBefore {
        /// The step.
        op: String,
        /// What it needs.
        need: String,
    },
    /// An operation is there twice.
    #[error("{op} is there twice")]
    Twice {
        /// The operation.
        op: String,
    },
}

/// A step of a plan in words, whatever the adapter's operations are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    /// Name of the operation.
    pub op: String,
    /// Who does it.
    pub actor: Actor,
    /// What it is done to.
    pub scope: Scope,
    /// Names of the operations that must stand before it.
    pub needs: Vec<String>,
    /// Why it stands here.
    pub why: &'static str,
    /// Where that is known from.
    pub source: &'static str,
}

impl<O: Operation> Plan<O> {
    /// The plan of an adapter; `target` names hypervisor and architecture, such as `kvm-x86_64`.
    #[must_use]
    pub const fn new(
        target: &'static str,
        direction: Direction,
        steps: &'static [Step<O>],
    ) -> Self {
        Self {
            target,
            direction,
            steps,
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn target(&self) -> &'static str {
        self.target
    }

    /// Which way it goes.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Every step, in order.
    #[must_use]
    pub const fn steps(&self) -> &'static [Step<O>] {
        self.steps
    }

    /// Checks the plan as [`check_order`] does.
    ///
    /// # Errors
    /// [`PlanError`] naming the first step that is out of order.
    pub fn check(&self) -> Result<(), PlanError> {
        check_order(self.steps)
    }

    /// The steps in words, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<PlanRow> {
        let row = |step: &Step<O>| PlanRow {
            op: step.op.name(),
            actor: step.op.actor(),
            scope: step.op.scope(),
            needs: step.needs.iter().map(Operation::name).collect(),
            why: step.why,
            source: step.source,
        };
        self.steps.iter().map(row).collect()
    }
}

/// A table in Markdown, as the documentation of the adapters has it.
impl<O: Operation> fmt::Display for Plan<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| | step | by | on | after | why | source |\n")?;
        f.write_str("|---|---|---|---|---|---|---|\n")?;
        for (number, row) in (1..).zip(self.rows()) {
            let PlanRow {
                op,
                actor,
                scope,
                needs,
                why,
                source,
            } = row;
            let (actor, scope, needs) = (actor.name(), scope.name(), needs.join(", "));
            writeln!(
                f,
                "| {number} | {op} | {actor} | {scope} | {needs} | {why} | {source} |"
            )?;
        }
        Ok(())
    }
}

/// Checks that no operation is there twice and that what each step needs stands before it.
///
/// # Errors
/// [`PlanError`] naming the first step that is out of order.
pub fn check_order<O: Operation>(steps: &[Step<O>]) -> Result<(), PlanError> {
    for (position, step) in steps.iter().enumerate() {
        let before = || steps.iter().take(position).map(|earlier| earlier.op);
        let op = || step.op.name();
        if before().any(|earlier| earlier == step.op) {
            return Err(PlanError::Twice { op: op() });
        }
        let missing = |need: &&O| !before().any(|earlier| earlier == **need);
        if let Some(need) = step.needs.iter().find(missing) {
            let need = need.name();
            return Err(PlanError::NeedNotBefore { op: op(), need });
        }
    }
    Ok(())
}
