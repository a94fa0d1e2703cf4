//! What machine to build, and what to run on it.
//!
//! Invariant: a [`Parameters`] is what the payload reads from its parameter page, word by word.

use std::fmt;
use std::str::FromStr;

use coldframe_hv::{ItemKind, MachineState};
use coldframe_units::{ByteLen, GuestAddr};

/// A machine and its program.
#[derive(Clone, Debug)]
pub struct Config {
    /// Size of RAM: whole 4 KiB pages, at least [`Config::RAM_MIN`].
    pub ram: ByteLen,
    /// What lies behind RAM on the host.
    pub backing: Backing,
    /// vCPUs and interrupt controller.
    pub shape: Shape,
    /// How the pages that the guest writes are learnt.
    pub tracking: Tracking,
    /// What runs.
    pub program: Program,
}

impl Config {
    /// The least RAM: boot structures, payload, and a working set of 2 MiB.
    pub const RAM_MIN: ByteLen = ByteLen::new(4 << 20);

    /// A machine that fits `workload`, on anonymous RAM with a dirty log.
    #[must_use]
    pub const fn for_workload(workload: Workload, ram: ByteLen, seed: u64) -> Self {
        Self {
            ram,
            backing: Backing::Anonymous,
            shape: workload.shape(),
            tracking: Tracking::Log,
            program: Program::Workload(workload, Parameters::for_workload(workload, ram, seed)),
        }
    }
}

/// What lies behind RAM on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A private anonymous mapping.
    Anonymous,
    /// A shared mapping of a memfd (Linux only).
    Memfd,
}

/// How the pages that the guest writes are learnt. A simulated machine always knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Not at all: no diffs.
    Off,
    /// By KVM's dirty log.
    Log,
    /// By KVM's dirty ring, of so many bytes for each vCPU: a power of two.
    Ring {
        /// Size of each ring.
        bytes: u32,
    },
}

/// The part of a machine that is not memory: it must be the same when a snapshot is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of vCPUs, 1 to 32.
    pub vcpus: u8,
    /// Whether KVM models the interrupt controllers and the PIT; needed for more than one vCPU. On
    /// aarch64 it always models a GICv3.
    pub irqchip: bool,
}

/// What runs on the machine.
#[derive(Clone, Debug)]
pub enum Program {
    /// A payload of ours.
    Workload(Workload, Parameters),
    /// A flat binary, placed at `load_at` and entered at its first byte.
    Flat {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Where it goes.
        load_at: GuestAddr,
        /// The mode in which it is entered.
        entry: Entry,
    },
    /// An ELF64 image, placed by its program headers and entered as [`Entry::NATIVE`].
    Elf {
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// The mode in which a program is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// 16-bit real mode: below 1 MiB only, stack below 0x7000, interrupts off.
    Real,
    /// 32-bit protected mode, flat segments, no paging, stack below 0x8ff0.
    Protected,
    /// 64-bit long mode, the first GiB identity-mapped, stack below 0x8ff0, `rsi` the boot
    /// parameters of the Linux 64-bit boot protocol.
    Long,
    /// AArch64 at EL1, no paging, interrupts off, stack below 0x8ff0.
    El1,
}

impl Entry {
    /// How the payloads and ELF images of this host's architecture are entered.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::El1
    } else {
        Self::Long
    };
}

/// A name that is none of those known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of {known}")]
pub struct UnknownName {
    /// The names that are known, separated by commas.
    pub known: &'static str,
}

impl FromStr for Entry {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name {
            "real" => Ok(Self::Real),
            "protected" => Ok(Self::Protected),
            "long" => Ok(Self::Long),
            "el1" => Ok(Self::El1),
            _ => Err(UnknownName {
                known: "real, protected, long, el1",
            }),
        }
    }
}

/// The payloads in the tree, each with habits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A running hash over a working set, with floating point, XMM, segment and control registers.
    Hash,
    /// Touches every nth page.
    Stride,
    /// Touches pseudo-random pages of all RAM.
    Random,
    /// Writes windows of pages, and zeroes them again.
    Zeroing,
    /// Touches a handful of pages.
    Idle,
    /// Two vCPUs that exchange their hashes.
    Smp,
    /// A running hash over what is typed on the console, the host's clock, and a working set.
    Input,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Hash,
        Self::Stride,
        Self::Random,
        Self::Zeroing,
        Self::Idle,
        Self::Smp,
        Self::Input,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Stride => "stride",
            Self::Random => "random",
            Self::Zeroing => "zeroing",
            Self::Idle => "idle",
            Self::Smp => "smp",
            Self::Input => "input",
        }
    }

    /// The machine that it needs.
    #[must_use]
    pub const fn shape(self) -> Shape {
        let smp = matches!(self, Self::Smp);
        Shape {
            vcpus: if smp { 2 } else { 1 },
            irqchip: smp,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Workload {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|w| w.name() == name);
        found.ok_or(UnknownName {
            known: "hash, stride, random, zeroing, idle, smp, input",
        })
    }
}

/// What a payload is told on its parameter page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Where its hash begins.
    pub seed: u64,
    /// Size of RAM.
    pub ram: ByteLen,
    /// Rounds until its end, at least 1.
    pub rounds: u64,
    /// Rounds between two marks, at least 1.
    pub mark_every: u64,
    /// 4 KiB pages of its working set, which begins at 2 MiB: at least 16.
    pub pages: u64,
    /// Pages between two that `stride` touches, at least 1.
    pub stride: u64,
}

impl Parameters {
    /// What makes a run of `workload` last about a second, with some thirty marks.
    #[must_use]
    pub const fn for_workload(workload: Workload, ram: ByteLen, seed: u64) -> Self {
        let all = ram.get().saturating_sub(crate::payload::WORKING_SET) / 4096;
        let (rounds, mark_every, pages) = match workload {
            Workload::Hash => (1024, 32, 2048),
            Workload::Stride => (32, 1, 8192),
            Workload::Random => (256, 8, all),
            Workload::Zeroing => (512, 16, 4096),
            Workload::Idle => (1024, 32, 4),
            Workload::Smp => (256, 8, 2048),
            Workload::Input => (512, 16, 2048),
        };
        Self {
            seed,
            ram,
            rounds,
            mark_every,
            pages: if pages < all { pages } else { all },
            stride: 16,
        }
    }

    /// The parameter page's words, in their order.
    pub(crate) const fn words(&self) -> [u64; 6] {
        [
            self.seed,
            self.ram.get(),
            self.rounds,
            self.mark_every,
            self.pages,
            self.stride,
        ]
    }
}

impl Shape {
    /// The shape of the machine that a state was saved from.
    #[must_use]
    pub fn of(state: &MachineState) -> Self {
        Self {
            vcpus: u8::try_from(state.vcpus.len()).unwrap_or(u8::MAX),
            irqchip: state.vm.items.contains_key(&ItemKind::IOAPIC)
                || state.vm.items.contains_key(&ItemKind::GIC_MODEL)
                || state.vcpus.len() > 1,
        }
    }
}
