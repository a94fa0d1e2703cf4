//! The machine on real KVM.

mod load;
mod pause;
mod ports;
mod thaw;
mod workloads;

use coldframe_minivmm::{Config, EndReason, EndState, Event, Guest, MiniVm, Stops, Workload};
use coldframe_units::ByteLen;

/// Prints that there is no KVM, and says whether to return.
pub(crate) fn no_kvm() -> bool {
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => false,
        Err(error) => {
            coldframe_testkit::require::skipped("kvm", &format!("/dev/kvm: {error}"));
            true
        }
    }
}

/// A short run of `workload` on 16 MiB.
pub(crate) fn short(workload: Workload) -> Config {
    let mut config = Config::for_workload(workload, ByteLen::new(16 << 20), 7);
    if let coldframe_minivmm::Program::Workload(_, parameters) = &mut config.program {
        parameters.rounds /= 4;
        parameters.mark_every = (parameters.mark_every / 2).max(1);
        parameters.pages = parameters.pages.min(1024);
    }
    config
}

/// Runs to the end without a stop: the end's digest, and the console.
#[track_caller]
pub(crate) fn run(config: &Config) -> (EndState, Vec<u8>) {
    let mut vm = MiniVm::boot(config).unwrap();
    let event = vm.run_until_event(Stops::NONE).unwrap();
    assert_eq!(event, Event::Ended(EndReason::Code(0)));
    (vm.end_state().unwrap(), vm.console())
}
