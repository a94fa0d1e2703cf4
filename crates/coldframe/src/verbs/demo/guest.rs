//! Which machine and which guest the command line asks for.

use coldframe_minivmm::{Backing, Tracking};
use coldframe_minivmm::{Config, Entry, MiniVmError, Program, Shape, Workload};
use coldframe_storage::read_small;
use coldframe_units::{ByteLen, GuestAddr};

use crate::cli::{Backend, Demo, EntryMode, Guest, WorkloadName};
use crate::exit::{Failure, line};

/// The machine under the guest, once it is known to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// KVM.
    Kvm,
    /// The simulated machine.
    Simulated,
}

impl Choice {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Simulated => "simulated",
        }
    }
}

/// Picks a machine; says so if it is not the one that one would expect.
pub fn choose(guest: &Guest) -> Result<Choice, Failure> {
    match (guest.backend, coldframe_minivmm::check_kvm()) {
        (Backend::Simulated, _) => Ok(Choice::Simulated),
        (Backend::Kvm | Backend::Auto, Ok(())) => Ok(Choice::Kvm),
        (Backend::Kvm, Err(error)) => Err(Failure::environment(
            "KVM cannot be used here; try --backend simulated",
            &error,
        )),
        (Backend::Auto, Err(error)) if guest.payload.is_some() => Err(Failure::environment(
            "KVM cannot be used here, and a payload cannot be simulated",
            &error,
        )),
        (Backend::Auto, Err(error)) => {
            let reason = line("KVM cannot be used here", &error);
            eprintln!("coldframe: {reason}: the guest is simulated");
            Ok(Choice::Simulated)
        }
    }
}

/// The longest payload: what a guest below 4 GiB can be given.
const PAYLOAD_MAX: ByteLen = ByteLen::new(4 << 30);

/// The guest's machine and program.
pub fn configure(args: &Demo) -> Result<Config, Failure> {
    let guest = &args.guest;
    let ram = ByteLen::new(guest.ram);
    let Some(path) = &guest.payload else {
        let workload = workload(args);
        let config = Config::for_workload(workload, ram, guest.seed);
        return Ok(Config {
            tracking: Tracking::Log,
            ..config
        });
    };
    let bytes = read_small(path, PAYLOAD_MAX)
        .map_err(|error| Failure::environment(format!("cannot read {}", path.display()), &error))?;
    let is_elf = bytes.starts_with(b"\x7fELF");
    let program = match (guest.load_at, guest.entry) {
        (Some(load_at), Some(entry)) => Program::Flat {
            bytes,
            load_at: GuestAddr::new(load_at),
            entry: mode(entry),
        },
        (None, None) if is_elf => Program::Elf { bytes },
        _ => {
            return Err(Failure::Usage(format!(
                "{} is not an ELF64 image: a flat binary needs both --load-at and --entry",
                path.display()
            )));
        }
    };
    let shape = Shape {
        vcpus: 1,
        irqchip: false,
    };
    Ok(Config {
        ram,
        backing: Backing::Anonymous,
        tracking: Tracking::Log,
        shape,
        program,
    })
}

/// What the report calls the program.
pub fn workload_name(args: &Demo) -> String {
    match &args.guest.payload {
        Some(path) => path.display().to_string(),
        None => workload(args).name().to_string(),
    }
}

/// Sizes and programs that cannot be are wrong usage, all else is the environment.
pub fn guest_failure(what: &str, error: &MiniVmError) -> Failure {
    match error {
        MiniVmError::RamSize { .. } | MiniVmError::Load(_) | MiniVmError::NotSimulated => {
            Failure::usage(what, error)
        }
        MiniVmError::RestoreRam(memory) if memory.is_corrupt() => Failure::wanting(what, error),
        MiniVmError::Diverged { .. } => Failure::wanting(what, error),
        _ => Failure::environment(what, error),
    }
}

fn workload(args: &Demo) -> Workload {
    let of_itself = if args.record {
        WorkloadName::Input
    } else {
        WorkloadName::Hash
    };
    match args.guest.workload.unwrap_or(of_itself) {
        WorkloadName::Hash => Workload::Hash,
        WorkloadName::Stride => Workload::Stride,
        WorkloadName::Random => Workload::Random,
        WorkloadName::Zeroing => Workload::Zeroing,
        WorkloadName::Idle => Workload::Idle,
        WorkloadName::Smp => Workload::Smp,
        WorkloadName::Input => Workload::Input,
    }
}

fn mode(entry: EntryMode) -> Entry {
    match entry {
        EntryMode::Real => Entry::Real,
        EntryMode::Protected => Entry::Protected,
        EntryMode::Long => Entry::Long,
        EntryMode::El1 => Entry::El1,
    }
}
