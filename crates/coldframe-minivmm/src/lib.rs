//! A small VMM built from the coldframe crates: the worked example of how a VMM adopts them, and
//! the test bed of `coldframe demo`.
//!
//! For authors of VMMs who want to see every step in one place, and for tests that need a real
//! guest. RAM is a `GuestMemoryMmap` of `vm-memory`; each vCPU has a thread; the guest sees a
//! serial console, a few ports, and nothing else. Its payloads are assembly of the host's
//! architecture in `payload/`, assembled by the Rust compiler, and each ends in the same RAM,
//! registers and console whenever it is run, paused, or thawed.
//!
//! ```
//! use coldframe_minivmm::{Config, EndReason, Event, Guest, SimVm, Stops, Workload};
//! use coldframe_units::ByteLen;
//!
//! let config = Config::for_workload(Workload::Hash, ByteLen::new(16 << 20), 42);
//! let mut vm = SimVm::boot(&config)?; // on a host with KVM: MiniVm
//! let mark = vm.run_until_event(Stops::MARKS)?; // paused now: a place for a snapshot
//! assert_eq!(mark, Event::Mark(0));
//! assert_eq!(vm.run_until_event(Stops::NONE)?, Event::Ended(EndReason::Code(0)));
//! # Ok::<(), coldframe_minivmm::MiniVmError>(())
//! ```
//!
//! | port | the guest | meets |
//! |---|---|---|
//! | 0x3f8 | writes, reads a byte | the console; 0xff where nothing was typed |
//! | 0x3fd | reads | 0x60: the console is ready; bit 0: a byte was typed |
//! | 0xf8 | reads 32 bits | the host's clock, if it was given one: nanoseconds, the low 32 bits |
//! | 0xf0 | writes 32 bits | a progress mark: a place for a snapshot |
//! | 0xf4 | writes a byte | its end, with that code |
//! | 0x64 | writes 0xfe | its end, by reset |
//! | others | reads, writes | all ones, nothing; so do addresses outside RAM |
//!
//! On aarch64 a port is an address: 0xc0000000 and its number.
//!
//! What a guest cannot compute itself ([`Inputs`]) may go to a journal ([`Recorder`]); a snapshot
//! and that journal ([`Recording`]) lead to every later moment of the recorded guest.
//!
//! It is no VMM for production: no devices, no jail, no limit on a hostile guest's time. The little
//! that it saves of itself: [`Guest::device_state`]. Spec: `specs/minivmm.md`.

#![deny(missing_docs)]
// Where there is no KVM only the simulated machine is left, and what loads real programs is unused.
#![cfg_attr(
    not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    allow(dead_code)
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe-minivmm supports 64-bit targets only");

mod boot;
mod config;
mod digest;
mod elf;
mod error;
mod event;
mod guest;
mod load;
mod memory;
mod payload;
mod ports;
mod presence;
mod recording;
mod sim;

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod kvm;

pub use config::{
    Backing, Config, Entry, Parameters, Program, Shape, Tracking, UnknownName, Workload,
};
pub use digest::EndState;
pub use elf::ElfError;
pub use error::MiniVmError;
pub use event::{EndReason, Event, Stops};
pub use guest::Guest;
pub use load::LoadError;
pub use memory::{Ram, RamSource, allocate_ram, ram_layout};
pub use ports::{DeviceStateError, Ports};
pub use recording::{
    Begin, Cut, GuestEnd, GuestMark, Inputs, Recorder, Recording, RecordingEntries, RecordingError,
    RecordingId, Replayer,
};
pub use sim::{SimVm, SimWritten};

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub use kvm::{KvmWritten, MiniVm, check_kvm, probe_host};
