//! Snapshot and journal together lead to every later moment of a recorded guest, on the simulated
//! machine and on the real one.

mod lab;
mod state;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use coldframe_minivmm::MiniVm;
use coldframe_minivmm::{
    EndReason, Event, Guest, MiniVmError, Recording, RecordingError, SimVm, Stops, Workload,
};
use coldframe_units::SnapshotId;
use vm_memory::{Bytes, GuestAddress};

use lab::{Film, Lab, film, replay};

/// Where the parameter page has the rounds between two marks.
const MARK_EVERY: GuestAddress = GuestAddress(0x2018);

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn no_kvm() -> bool {
    crate::kvm::no_kvm()
}

/// Each snapshot, replayed, ends as the recorded guest did; and stops at any mark as it was there.
fn check_time_travel<G: Lab>(marks: usize) {
    let film = film::<G>(Workload::Input);
    let recording = Recording::read(&film.path).unwrap();
    assert_eq!(recording.cut(), None);
    for shot in film.shots.iter().step_by(film.shots.len() / marks) {
        let mut vm = replay::<G>(&recording, shot, None).unwrap();
        let event = vm.run_until_event(Stops::NONE).unwrap();
        assert_eq!(event, Event::Ended(EndReason::Code(0)));
        assert!(vm.ports().is_replayed());
        assert_eq!((vm.end_state().unwrap(), vm.console()), film.end);
        for later in film.shots.iter().filter(|s| s.mark > shot.mark).step_by(5) {
            let mut vm = replay::<G>(&recording, shot, Some(later.mark)).unwrap();
            assert_eq!(vm.run_until_event(Stops::NONE).unwrap(), Event::Replayed);
            assert_eq!(vm.end_state().unwrap(), later.at_mark);
        }
    }
}

/// A journal cut at `offsets` is replayed to its last whole entry.
fn check_cuts<G: Lab>(offsets: usize) {
    let film = film::<G>(Workload::Input);
    let bytes = std::fs::read(&film.path).unwrap();
    let (_, console) = &film.end;
    let shot = &film.shots[1];
    let mut left_before = 0;
    for offset in (0..offsets).map(|i| i * bytes.len() / offsets + i % 7) {
        let cut = film.dir.path().join("cut");
        std::fs::write(&cut, &bytes[..offset]).unwrap();
        let recording = Recording::read(&cut).unwrap();
        let found = recording.cut().unwrap();
        let dropped = found.offset.get() + found.dropped.get();
        assert_eq!(dropped, offset as u64);
        let mut vm = replay::<G>(&recording, shot, None).unwrap();
        let of = vm.ports().recording();
        let left = recording.replay(shot.id, of, None).unwrap().left();
        assert!(left >= left_before, "{left} at {offset}");
        left_before = left;
        if !vm.ports().is_replayed() {
            let event = vm.run_until_event(Stops::NONE).unwrap();
            assert_eq!(event, Event::Replayed, "at {offset}");
        }
        assert!(vm.ports().is_replayed());
        assert!(console.starts_with(&vm.console()));
    }
    assert!(left_before > 100);
}

/// A guest that does not do what it did is stopped, and the place is told.
fn check_divergence<G: Lab>() {
    let film = film::<G>(Workload::Input);
    let recording = Recording::read(&film.path).unwrap();
    let mut vm = replay::<G>(&recording, &film.shots[1], None).unwrap();
    assert!(matches!(
        vm.ports().feed(b"x"),
        Err(MiniVmError::FeedReplayed)
    ));
    vm.memory().write_slice(&[7], MARK_EVERY).unwrap();
    let error = vm.run_until_event(Stops::NONE).unwrap_err();
    let MiniVmError::Diverged { offset, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(offset.get() > 0);
    assert!(error.to_string().contains("at exit"), "{error}");
}

// Spec: MINI-1, MINI-2, MINI-5, MINI-6
#[test]
fn a_simulated_recording_replays_from_each_snapshot_to_each_mark() {
    check_time_travel::<SimVm>(8);
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_real_recording_replays_from_each_snapshot_to_each_mark() {
    if !no_kvm() {
        check_time_travel::<MiniVm>(2);
    }
}

// Spec: MINI-7
#[test]
fn a_cut_journal_replays_to_its_last_whole_entry_on_the_simulated_machine() {
    check_cuts::<SimVm>(97);
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_cut_journal_replays_to_its_last_whole_entry_on_the_real_machine() {
    if !no_kvm() {
        check_cuts::<MiniVm>(6);
    }
}

// Spec: MINI-9
#[test]
fn a_simulated_guest_that_diverges_is_stopped_and_the_place_told() {
    check_divergence::<SimVm>();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_real_guest_that_diverges_is_stopped_and_the_place_told() {
    if !no_kvm() {
        check_divergence::<MiniVm>();
    }
}

#[test]
fn two_live_runs_end_differently() {
    let (one, two) = (
        film::<SimVm>(Workload::Input),
        film::<SimVm>(Workload::Input),
    );
    assert_ne!(one.end, two.end);
}

// Spec: MINI-8
#[test]
fn a_flipped_byte_anywhere_is_refused_with_its_offset() {
    let film = film::<SimVm>(Workload::Input);
    let mut bytes = std::fs::read(&film.path).unwrap();
    let flipped = film.dir.path().join("flipped");
    let (len, tail) = (bytes.len(), bytes.len() - 400);
    for at in (0..tail).step_by(tail / 300).chain(tail..len) {
        bytes[at] ^= 0x40;
        std::fs::write(&flipped, &bytes).unwrap();
        let error = Recording::read(&flipped).unwrap_err();
        let (RecordingError::Refused { .. } | RecordingError::Seal { .. }) = &error else {
            panic!("byte {at}: {error:?}");
        };
        assert!(error.to_string().contains(" at 0x"), "byte {at}: {error}");
        bytes[at] ^= 0x40;
    }
}

// Spec: MINI-6
#[test]
fn a_journal_is_replayed_from_its_own_snapshots_alone() {
    let one = film::<SimVm>(Workload::Input);
    let other = film::<SimVm>(Workload::Input);
    let recording = Recording::read(&one.path).unwrap();
    let ask = |film: &Film, id: SnapshotId, to| {
        let mut vm = lab::thaw::<SimVm>(&film.shots[1]);
        let of = vm.ports().recording();
        recording.replay(id, of, to).map(|_| ()).unwrap_err()
    };
    let mine = one.shots[1].id;
    let stranger = SnapshotId::from_bytes([9; 16]);
    assert!(matches!(
        ask(&other, other.shots[1].id, None),
        RecordingError::OtherRecording { .. }
    ));
    assert!(matches!(
        ask(&one, stranger, None),
        RecordingError::NoSnapshot { .. }
    ));
    assert!(matches!(
        recording.replay(mine, None, None),
        Err(RecordingError::NotRecorded { .. })
    ));
    let no_mark = ask(&one, mine, Some(12345));
    assert!(matches!(
        no_mark,
        RecordingError::NoMark {
            known: Some((first, last)),
            ..
        } if first == one.shots[2].mark && last > first
    ));
}
