//! Snapshots whose saved host differs from this one: each difference is named, refused by a thaw,
//! and waived by its name where that can be.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use coldframe_envelope::Producer;
use coldframe_hv::aarch64::{GicModel, RegId, SysReg};
use coldframe_hv::{CpuidLeaf, Hypervisor, ItemKind, MachineState};
use coldframe_minivmm::{Guest, RamSource, Shape, SimVm};
use coldframe_snapshot::{DirtyTracker, Freezer, Kind, Snapshot};
use coldframe_testkit::hv::FakeMachine;
use coldframe_units::Arch;
use serde_json::Value;

use crate::support::{Home, Outcome, assert_sound, coldframe, memory_of, names, no_kvm, simulated};

const WAIVE: &str = "must be waived";
const NEVER: &str = "impossible";

/// An edit of a state, and the one item that it shows in.
struct Planted {
    item: &'static str,
    verdict: &'static str,
    edit: fn(&mut MachineState),
}

const fn planted(
    item: &'static str,
    verdict: &'static str,
    edit: fn(&mut MachineState),
) -> Planted {
    Planted {
        item,
        verdict,
        edit,
    }
}

/// What any machine of ours can be planted with.
const ANYWHERE: [Planted; 8] = [
    planted("cpu.vendor", WAIVE, |state| {
        state.host.cpu.vendor = "NoSuchVendor".to_owned();
    }),
    planted("cpu.model", WAIVE, |state| state.host.cpu.model += 100),
    planted("cpuid.7.2.ebx.bit31", WAIVE, |state| {
        see_reserved_bit(state)
    }),
    planted("msr.0x0000dead", WAIVE, |state| {
        state.host.msr_indexes.insert(0xdead);
    }),
    // More than any CPU has, and less than the state file's limit for all of a vCPU.
    planted("xsave.bytes", NEVER, |state| {
        state.host.xsave_bytes = 1 << 16;
        for vcpu in &mut state.vcpus {
            if let Some(area) = vcpu.items.get_mut(&ItemKind::XSAVE) {
                area.resize(1 << 16, 0xff);
            }
        }
    }),
    planted("capability.4242", WAIVE, |state| {
        state.host.capabilities.insert(4242, 1);
    }),
    planted("gic.kind", NEVER, |state| {
        GicModel::Apple.store(&mut state.vm)
    }),
    planted("counter.hz", WAIVE, |state| {
        state.host.counter_hz = Some(24_000_000);
    }),
];

/// A bit that no CPU has: one that the saved host could show, and that the guest was shown.
fn see_reserved_bit(state: &mut MachineState) {
    let (function, index, bit) = (7, 2, 1 << 31);
    let mut leaves = state.host.cpuid.iter_mut();
    match leaves.find(|leaf| (leaf.function, leaf.index) == (function, index)) {
        Some(leaf) => leaf.ebx |= bit,
        None => state.host.cpuid.push(CpuidLeaf {
            function,
            index,
            flags: 1,
            ebx: bit,
            ..CpuidLeaf::default()
        }),
    }
    for vcpu in &mut state.vcpus {
        let Some(bytes) = vcpu.items.get_mut(&ItemKind::CPUID2) else {
            continue;
        };
        let (entries, _) = bytes.as_chunks_mut::<40>();
        let key = [function, index].map(u32::to_le_bytes).concat();
        match entries.iter_mut().find(|entry| entry[..8] == key) {
            Some(entry) => entry[19] |= 0x80,
            None => {
                let words = [function, index, 1, 0, bit, 0, 0, 0, 0, 0];
                bytes.extend(words.map(u32::to_le_bytes).concat());
            }
        }
    }
}

/// What a machine can be planted with whose host says nothing of itself.
const SIMULATED: [Planted; 4] = [
    planted("tsc.khz", WAIVE, |state| {
        state.host.tsc_khz = Some(2_900_000);
    }),
    planted("arch", NEVER, |state| {
        state.arch = Arch::Aarch64;
        state.host.arch = Arch::Aarch64;
    }),
    planted("idreg.0x603000000013c030", WAIVE, |state| {
        let register = RegId::from_system(SysReg::new(3, 0, 0, 6, 0));
        state.host.id_registers.insert(register.code(), 0x11);
    }),
    planted("sve.lengths", NEVER, |state| {
        let mut lengths = vec![0; 64];
        lengths[0] = 0b1011;
        let registers = &mut state.vcpus[0].regs;
        registers.insert(RegId::SVE_LENGTHS.code(), lengths);
    }),
];

/// A demo's snapshots on `backend`.
fn demo(backend: &str, dir: &Path) {
    if backend == "simulated" {
        simulated(dir);
        return;
    }
    let args: [&dyn AsRef<OsStr>; 9] = [
        &"demo",
        &"--backend",
        &backend,
        &"--ram",
        &"8MiB",
        &"--diffs",
        &"0",
        &"--dir",
        &dir,
    ];
    coldframe(&args).done();
}

/// A full snapshot like the one at `from`, of an edited state.
fn edited(from: &Path, to: &Path, edit: impl FnOnce(&mut MachineState)) {
    let snapshot = Snapshot::open(from).unwrap();
    let (mut state, devices) = (snapshot.machine().unwrap(), snapshot.devices().unwrap());
    let thaw = snapshot.thaw(&[]).unwrap();
    let ram = thaw.memory(RamSource::Copy).unwrap();
    let guest = SimVm::with_memory(Shape::of(&state), ram).unwrap();
    edit(&mut state);
    let mut tracker = DirtyTracker::new(guest.dirty().clone(), guest.written(), None);
    let freezer = Freezer::new(to, Producer::new("tests", "1").unwrap());
    let capture = freezer.begin(Kind::Full).unwrap();
    let machine = FakeMachine::new(state);
    let frozen = capture
        .with_devices(devices)
        .copy(guest.memory(), &mut tracker, &machine);
    frozen.unwrap().publish().unwrap();
}

/// Runs a verb on a snapshot, with waivers.
fn run(verb: &[&str], snapshot: &Path, waivers: &[&str]) -> Outcome {
    let mut args: Vec<&dyn AsRef<OsStr>> = verb.iter().map(|arg| arg as _).collect();
    args.push(&snapshot);
    for name in waivers {
        args.extend([&"--waive" as &dyn AsRef<OsStr>, name]);
    }
    coldframe(&args)
}

fn against_host(snapshot: &Path, waivers: &[&str]) -> (i32, Value) {
    let outcome = run(&["inspect", "--against-host", "--json"], snapshot, waivers);
    (outcome.code, outcome.json())
}

/// The names of items that a restore would stumble over.
fn standing(report: &Value) -> Vec<(String, String)> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let items = report["items"].as_array().unwrap().iter();
    items
        .map(|item| (text(item, "name"), text(item, "verdict")))
        .filter(|(_, verdict)| [WAIVE, NEVER].contains(&verdict.as_str()))
        .collect()
}

#[track_caller]
fn check(original: &Path, home: &Home, planted: &Planted) {
    let Planted {
        item,
        verdict,
        edit,
    } = *planted;
    let snapshot = home.at(item);
    edited(original, &snapshot, edit);

    let (code, report) = against_host(&snapshot, &[]);
    assert_eq!(code, 1, "{item}");
    assert_eq!(standing(&report), [(item.to_owned(), verdict.to_owned())]);
    assert_eq!(report["verdict"], verdict);
    run(&["thaw"], &snapshot, &[]).fails(1, &["cannot thaw", item]);
    run(&["thaw"], &snapshot, &["tsc", "*"]).fails(1, &[item]);

    let (code, report) = against_host(&snapshot, &[item]);
    let waived = run(&["thaw"], &snapshot, &[item]);
    if verdict == NEVER {
        assert_eq!((code, &report["verdict"]), (1, &Value::from(NEVER)));
        waived.fails(1, &[item, NEVER]);
        return;
    }
    assert_eq!((code, &report["counts"]["waived"]), (0, &Value::from(1)));
    let whole = run(&["thaw"], original, &[]).done().json();
    assert_eq!(waived.done().json()["end"], whole["end"], "{item}");
}

// Parity: H2
#[test]
fn each_planted_difference_is_named_refused_and_waived_by_its_name() {
    let home = Home::new();
    demo("simulated", &home.at("d"));
    let original = home.at("d").join("full");
    for planted in ANYWHERE.iter().chain(&SIMULATED) {
        check(&original, &home, planted);
    }
}

// Parity: H2
#[test]
fn on_kvm_too_a_waived_difference_lets_the_guest_end_as_it_would_have() {
    if no_kvm() {
        return;
    }
    let home = Home::new();
    demo("kvm", &home.at("d"));
    let original = home.at("d").join("full");
    assert_eq!(against_host(&original, &[]).0, 0);
    for planted in &ANYWHERE {
        check(&original, &home, planted);
    }
}

// Parity: H2
#[test]
fn a_refusal_names_every_item_on_one_line() {
    let home = Home::new();
    demo("simulated", &home.at("d"));
    let snapshot = home.at("all");
    let all = || ANYWHERE.iter().chain(&SIMULATED);
    let can_be = || all().filter(|planted| planted.verdict == WAIVE);
    edited(&home.at("d").join("full"), &snapshot, |state| {
        can_be().for_each(|planted| (planted.edit)(state));
    });
    let items: Vec<&str> = can_be().map(|planted| planted.item).collect();
    assert!(items.len() >= 8);
    run(&["thaw"], &snapshot, &[]).fails(1, &items);
    let refused = run(&["thaw"], &snapshot, &items[1..]);
    refused.fails(1, &[items[0], "--waive"]);
    assert!(!refused.stderr.contains(items[1]), "{refused:#?}");
    run(&["thaw"], &snapshot, &items).done();
    let text = run(&["inspect", "--against-host"], &snapshot, &items[1..]);
    let advice = format!("restore with: --waive {}", items[0]);
    assert!(text.stdout.ends_with(&format!("{advice}\n")), "{text:#?}");
}

// Parity: H2
#[test]
fn a_guest_of_another_hypervisor_is_refused_with_its_system_named() {
    if no_kvm() {
        return;
    }
    let home = Home::new();
    demo("simulated", &home.at("d"));
    let snapshot = home.at("mac");
    edited(&home.at("d").join("full"), &snapshot, |state| {
        as_on_a_mac(state);
    });
    let (code, report) = against_host(&snapshot, &["kernel", "hypervisor", "arch"]);
    assert_eq!(code, 1);
    let items: Vec<_> = standing(&report);
    for (item, verdict) in [
        ("arch", NEVER),
        ("hypervisor", NEVER),
        ("gic.kind", NEVER),
        ("kernel", WAIVE),
        ("counter.hz", WAIVE),
    ] {
        assert!(
            items.contains(&(item.to_owned(), verdict.to_owned())),
            "{item}: {items:?}"
        );
    }
    run(&["thaw"], &snapshot, &["kernel"]).fails(1, &["arch", "hypervisor", "gic.kind"]);
}

/// One that nobody here has a name for, with or without KVM on this host.
#[test]
fn a_guest_of_an_unknown_hypervisor_is_shown_verified_and_refused_by_its_number() {
    let home = Home::new();
    demo("simulated", &home.at("d"));
    let snapshot = home.at("foreign");
    let kestrel = Hypervisor::from_code(200).unwrap();
    edited(&home.at("d").join("full"), &snapshot, |state| {
        (state.hypervisor, state.host.hypervisor) = (kestrel, kestrel);
    });
    assert_sound(&snapshot);
    let shown = coldframe(&[&"inspect", &snapshot, &"--json"]).done().json();
    assert_eq!(shown["files"]["state"]["state"]["hypervisor"], 200);
    let text = coldframe(&[&"inspect", &snapshot]).done().stdout;
    assert!(text.contains("hypervisor 200"), "{text}");

    let (code, report) = against_host(&snapshot, &["hypervisor"]);
    assert_eq!(
        (code, &report["saved"]["hypervisor"]),
        (1, &"hypervisor 200".into())
    );
    let item = ("hypervisor".to_owned(), NEVER.to_owned());
    assert!(standing(&report).contains(&item));
    let refused = run(&["thaw"], &snapshot, &["hypervisor"]);
    refused.fails(1, &["hypervisor (impossible: hypervisor 200, here "]);
}

#[test]
fn only_a_snapshot_is_held_against_a_host() {
    let home = Home::new();
    demo("simulated", &home.at("d"));
    let manifest = home.at("d").join("full").join("manifest");
    run(&["inspect", "--against-host"], &manifest, &[]).fails(2, &["no snapshot directory"]);
    run(&["inspect"], &manifest, &["kernel"]).fails(2, &["--against-host"]);
    let missing = home.at("missing");
    run(&["inspect", "--against-host"], &missing, &[]).fails(3, &["cannot open"]);
}

/// A state as Hypervisor.framework's adapter saves it, in what tools look at.
fn as_on_a_mac(state: &mut MachineState) {
    state.arch = Arch::Aarch64;
    state.hypervisor = Hypervisor::HVF;
    state.host.arch = Arch::Aarch64;
    state.host.hypervisor = Hypervisor::HVF;
    state.host.kernel = "24A335".to_owned();
    state.host.counter_hz = Some(24_000_000);
    GicModel::Apple.store(&mut state.vm);
    for vcpu in &mut state.vcpus {
        vcpu.regs.clear();
        assert!(vcpu.set_reg(RegId::MPIDR_EL1, u64::from(vcpu.index)));
        assert!(vcpu.set_reg(RegId::PC, 0x4000_0000));
    }
}

/// A chain from a Mac of one full snapshot and one diff, and their paths.
fn from_a_mac(home: &Home) -> [PathBuf; 2] {
    demo("simulated", &home.at("d"));
    let [full, other] = ["mac-full", "mac-other"].map(|name| home.at(name));
    edited(&home.at("d").join("full"), &full, as_on_a_mac);
    edited(&home.at("d").join("diff-2"), &other, as_on_a_mac);
    let diff = home.at("mac-diff");
    coldframe(&[&"diff", &full, &other, &"-o", &diff]).done();
    [full, diff]
}

// Parity: H3
#[test]
fn a_chain_from_another_architecture_is_inspected_verified_merged_pushed_and_pulled() {
    let home = Home::new();
    let [full, diff] = from_a_mac(&home);
    let shown = coldframe(&[&"inspect", &diff, &"--json"]).done().json();
    let state = &shown["files"]["state"];
    assert_eq!(state["arch"], "aarch64");
    assert_eq!(state["state"]["kernel"], "24A335");
    assert_sound(&diff);

    let flat = home.at("flat");
    coldframe(&[&"merge", &diff, &"-o", &flat]).done();
    assert_sound(&flat);
    let memory = memory_of(&diff);
    assert!(memory == memory_of(&flat));

    let (store, pulled) = (home.at("store"), home.at("pulled"));
    coldframe(&[&"store", &"init", &"--store", &store]).done();
    let push: [&dyn AsRef<OsStr>; 6] = [&"push", &diff, &"--store", &store, &"--name", &"mac"];
    assert_eq!(coldframe(&push).code, 0);
    let pull: [&dyn AsRef<OsStr>; 6] = [&"pull", &"mac", &"--store", &store, &"-o", &pulled];
    assert_eq!(coldframe(&pull).code, 0);
    let states = [&full, &diff].map(|path| Snapshot::open(path).unwrap());
    for original in &states {
        let inside = names(&pulled);
        let found = inside
            .iter()
            .filter_map(|name| Snapshot::open(pulled.join(name)).ok())
            .find(|copy| copy.root() == original.root());
        let copy = found.unwrap_or_else(|| panic!("{:?} was not pulled", original.path()));
        assert_eq!(copy.machine().unwrap(), original.machine().unwrap());
        assert_sound(copy.path());
    }
}
