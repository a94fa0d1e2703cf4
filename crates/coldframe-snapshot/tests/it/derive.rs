//! Snapshots made of snapshots.

use std::fs;

use coldframe_snapshot::{MEMORY, Snapshot, SnapshotError, derive};

use crate::support::{Home, Vm, assert_sound, open_chain, producer, thawed_memory};

/// A full snapshot and four diffs, with the memory of each.
fn chain(home: &Home) -> Vec<(Snapshot, Vec<u8>)> {
    let mut vm = Vm::new(96);
    let mut links: Vec<(Snapshot, Vec<u8>)> = Vec::new();
    for step in 0..5u8 {
        for page in 0..20 {
            // Every third step writes zeros over what was there.
            let byte = if step % 3 == 2 { 0 } else { step + 1 };
            vm.fill((page * 5 + u64::from(step) * 3) % 96, byte);
        }
        vm.cpu.machine = coldframe_testkit::hv::FakeMachine::new(
            coldframe_testkit::hv::sample_state(1 + u32::from(step)),
        );
        let dest = home.at(&format!("s{step}"));
        let snapshot = match links.last() {
            None => vm.full(&dest),
            Some((parent, _)) => vm.diff(&dest, parent),
        };
        links.push((snapshot, vm.read()));
    }
    links
}

#[test]
fn a_folded_chain_is_the_same_machine_alone() {
    let home = Home::new();
    let links = chain(&home);
    let (youngest, memory) = links.last().unwrap();
    let opened = open_chain(youngest.path()).unwrap();
    let flat = derive::merge(&opened, None, &home.at("flat"), producer()).unwrap();
    assert!(flat.manifest().parent().is_none());
    assert_ne!(flat.id(), youngest.id());
    assert_eq!(flat.machine().unwrap(), youngest.machine().unwrap());
    for (link, _) in &links {
        fs::remove_dir_all(link.path()).unwrap();
    }
    assert!(thawed_memory(flat.path()) == *memory);
    assert_sound(flat.path());
}

#[test]
fn folding_down_to_an_ancestor_makes_a_diff_of_it() {
    let home = Home::new();
    let links = chain(&home);
    let (youngest, memory) = links.last().unwrap();
    let opened = open_chain(youngest.path()).unwrap();
    for (depth, (ancestor, _)) in links[..4].iter().enumerate() {
        let dest = home.at(&format!("down-to-{depth}"));
        let folded = derive::merge(&opened, Some(ancestor.id()), &dest, producer()).unwrap();
        assert_eq!(folded.manifest().parent().unwrap().id, ancestor.id());
        assert_eq!(open_chain(folded.path()).unwrap().links().len(), depth + 2);
        assert!(thawed_memory(folded.path()) == *memory, "{depth}");
        assert_sound(folded.path());
    }
}

#[test]
fn what_is_no_ancestor_is_refused() {
    let home = Home::new();
    let links = chain(&home);
    let opened = open_chain(links[2].0.path()).unwrap();
    for stranger in [&links[2].0, &links[3].0] {
        let made = derive::merge(&opened, Some(stranger.id()), &home.at("x"), producer());
        let error = made.unwrap_err();
        assert!(matches!(error, SnapshotError::NotInChain { id, .. } if id == stranger.id()));
    }
    assert!(!home.names().contains(&"x".into()));
}

#[test]
fn a_diff_of_two_snapshots_leads_from_the_one_to_the_other() {
    let home = Home::new();
    let links = chain(&home);
    for (from, to) in [(0, 4), (4, 0), (1, 3), (2, 2)] {
        let (a, b) = (&links[from].0, &links[to].0);
        let dest = home.at(&format!("from-{from}-to-{to}"));
        let (a_chain, b_chain) = (open_chain(a.path()).unwrap(), open_chain(b.path()).unwrap());
        let made = derive::diff(&a_chain, &b_chain, &dest, producer()).unwrap();
        assert_eq!(made.manifest().parent().unwrap().id, a.id());
        assert_eq!(made.machine().unwrap(), b.machine().unwrap());
        assert!(thawed_memory(made.path()) == links[to].1, "{from} {to}");
        assert_sound(made.path());
    }
}

#[test]
fn snapshots_of_different_memory_have_no_diff() {
    let home = Home::new();
    let a = Vm::new(16).full(&home.at("a"));
    let b = Vm::new(17).full(&home.at("b"));
    let open = |snapshot: &Snapshot| open_chain(snapshot.path()).unwrap();
    let made = derive::diff(&open(&a), &open(&b), &home.at("x"), producer());
    assert!(matches!(made, Err(SnapshotError::Memory(_))));
    assert_eq!(home.names(), ["a", "b"]);
}

#[test]
fn damage_is_not_hashed_anew() {
    let home = Home::new();
    let links = chain(&home);
    let file = links[0].0.path().join(MEMORY);
    crate::verify::flip(&file, (2 << 20) + 7, 0);
    let opened = open_chain(links[1].0.path()).unwrap();
    let made = derive::merge(&opened, None, &home.at("x"), producer());
    let error = made.unwrap_err();
    assert!(matches!(&error, SnapshotError::Memory(memory) if memory.is_corrupt()));
    assert!(!home.names().contains(&"x".into()));
}

#[test]
fn a_taken_name_stays_what_it_was() {
    let home = Home::new();
    let links = chain(&home);
    let opened = open_chain(links[4].0.path()).unwrap();
    let made = derive::merge(&opened, None, links[0].0.path(), producer());
    assert!(matches!(made, Err(SnapshotError::Storage(error)) if error.is_exists()));
    assert!(thawed_memory(links[0].0.path()) == links[0].1);
}
