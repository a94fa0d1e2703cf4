//! Snapshots of Apple silicon on a host of whatever kind: tools there need no hypervisor and no
//! such processor.

use coldframe_chunks::LocalStore;
use coldframe_envelope::Producer;
use coldframe_hv::{Comparison, HostIdentity, Hypervisor, Verdict};
use coldframe_hvf::Watch;
use coldframe_snapshot::verify::{Depth, Verifier};
use coldframe_snapshot::{Chain, Snapshot, derive, store};
use coldframe_testkit::hvf::Host;
use coldframe_units::Arch;

use crate::freeze::{record, thaw};
use crate::support::{Start, Vmm};

fn chain(snapshot: &Snapshot) -> Chain {
    Chain::of(Snapshot::open(snapshot.path()).unwrap(), &[]).unwrap()
}

// Parity: H3
#[test]
fn a_chain_of_the_framework_is_verified_merged_pushed_and_pulled_and_ends_the_same() {
    let home = coldframe_testkit::scratch::on_disk();
    let at = |name: &str| home.path().join(name);
    let never_stopped = Vmm::new(1, Host::default());
    let stage2 = never_stopped.stage2(Watch::DEFAULT);
    let ((), ends) = never_stopped.run(&stage2, Start::Boot, || ());
    let memory = never_stopped.memory();
    let recorded = Vmm::new(1, Host::default());
    std::fs::create_dir(at("d")).unwrap();
    let (snapshots, _) = record(&recorded, &at("d"), 2);
    let youngest = snapshots.last().unwrap();

    let mut verifier = Verifier::new(Depth::Deep, Vec::new());
    verifier.check(youngest.path(), &mut |_| ()).unwrap();
    assert!(verifier.finish().damages.is_empty());

    let producer = Producer::new("tests", "1").unwrap();
    let flat = derive::merge(&chain(youngest), None, &at("flat"), producer).unwrap();

    let chunks = LocalStore::create(&at("store")).unwrap();
    let tag = "mac".parse().unwrap();
    let moving = store::Move::Forward;
    store::push(&chain(youngest), &chunks, &tag, moving, &mut |_| ()).unwrap();
    let root = store::find(&chunks, "mac").unwrap();
    let pulled = store::pull(&chunks, root, &at("pulled"), &[], &mut |_| ()).unwrap();
    assert_eq!(pulled.youngest().root(), youngest.root());

    for copy in [&flat, pulled.youngest()] {
        assert_eq!(copy.machine().unwrap(), youngest.machine().unwrap());
        let (thawed, thawed_memory) = thaw(copy, 1, 77);
        assert_eq!(thawed, ends, "{}", copy.path().display());
        assert!(thawed_memory == memory, "{}", copy.path().display());
    }
}

// Parity: H3
#[test]
fn a_host_of_another_kind_is_told_apart_item_by_item() {
    let home = coldframe_testkit::scratch::on_disk();
    let recorded = Vmm::new(1, Host::default());
    let (snapshots, _) = record(&recorded, home.path(), 0);
    let state = snapshots[0].machine().unwrap();
    let here = HostIdentity::bare(Arch::X86_64, Hypervisor::KVM);
    let report = Comparison::of(&state, (&here).into());
    let verdict = |item: &str| {
        let mut items = report.differences().iter();
        items.find(|one| one.item == item).map(|one| one.verdict)
    };
    for item in ["arch", "hypervisor", "gic.kind"] {
        assert_eq!(verdict(item), Some(Verdict::Impossible), "{item}");
    }
    for item in ["cpu.vendor", "counter.hz", "kernel"] {
        assert_eq!(verdict(item), Some(Verdict::MustBeWaived), "{item}");
    }
    assert_eq!(verdict("page.size"), Some(Verdict::Compatible));
    let all: Vec<&str> = report
        .differences()
        .iter()
        .map(|one| one.item.as_str())
        .collect();
    let refused = report.accept(&all).unwrap_err();
    let items = refused.items.iter();
    assert!(items.clone().count() >= 3);
    assert!(
        items
            .into_iter()
            .all(|one| one.verdict == Verdict::Impossible)
    );
}
