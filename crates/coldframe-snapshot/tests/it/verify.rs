//! Damage anywhere is found, told with its place, and never where there is none.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use coldframe_snapshot::verify::{Depth, Verified, Verifier};
use coldframe_snapshot::{MANIFEST, MEMORY, STATE};
use coldframe_testkit::rng::Rng;

use crate::support::{Home, Vm, assert_sound, verify};

/// Flips one bit of a published file.
pub fn flip(path: &Path, at: u64, bit: u8) {
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

/// A full snapshot with holes, and two diffs: 16 MiB.
fn family(home: &Home) {
    let mut vm = Vm::new(4096);
    let mut rng = Rng::new(4);
    for _ in 0..300 {
        vm.fill(rng.below(4096), 0x5a);
    }
    let full = vm.full(&home.at("full"));
    for page in 0..100 {
        vm.fill(page * 40, (page % 3) as u8);
    }
    let diff = vm.diff(&home.at("diff-1"), &full);
    vm.fill(9, 9);
    vm.diff(&home.at("diff-2"), &diff);
}

fn verify_all(home: &Home, depth: Depth) -> Verified {
    let mut verifier = Verifier::new(depth, Vec::new());
    for name in home.names() {
        verifier.check(&home.at(&name), &mut |_| ()).unwrap();
    }
    verifier.finish()
}

#[test]
fn a_thousand_flipped_bits_are_all_found() {
    let home = Home::new();
    family(&home);
    assert_eq!(verify_all(&home, Depth::Deep).damages, []);
    let mut rng = Rng::new(1000);
    for round in 0..1000 {
        let dir = home.at(["full", "diff-1", "diff-2"][round % 3]);
        // The memory files hold nearly all bytes: they get half of the flips.
        let name = [MEMORY, MANIFEST, MEMORY, STATE][round % 4];
        let path = dir.join(name);
        let at = rng.below(fs::metadata(&path).unwrap().len());
        let bit = rng.below(8) as u8;
        flip(&path, at, bit);
        let damages = verify_all(&home, Depth::Deep).damages;
        let told = damages
            .iter()
            .find(|damage| damage.file == path && damage.offset.is_some());
        assert!(
            told.is_some(),
            "bit {bit} at {at:#x} of {}: {damages:#?}",
            path.display()
        );
        flip(&path, at, bit);
    }
    assert_eq!(verify_all(&home, Depth::Deep).damages, []);
}

#[test]
fn padding_between_header_and_pages_is_checked() {
    let home = Home::new();
    family(&home);
    let path = home.at("full").join(MEMORY);
    // The header ends at 160, the pages begin at 2 MiB: a hole.
    flip(&path, 1 << 20, 3);
    let damages = verify(&home.at("full")).damages;
    assert_eq!(damages.len(), 1, "{damages:#?}");
    assert_eq!(damages[0].kind, "padding");
    assert_eq!(damages[0].offset.unwrap() / 65536, (1 << 20) / 65536);
}

#[test]
fn tables_are_checked_without_reading_the_pages() {
    let home = Home::new();
    family(&home);
    assert_eq!(verify_all(&home, Depth::Tables).damages, []);
    let path = home.at("full").join(MEMORY);
    let len = fs::metadata(&path).unwrap().len();
    flip(&path, len - 10, 3);
    let damages = verify_all(&home, Depth::Tables).damages;
    assert!(damages.iter().all(|damage| damage.file == path));
    assert!(!damages.is_empty());
}

#[test]
fn each_of_many_damages_is_told() {
    let home = Home::new();
    family(&home);
    let [full, diff] = ["full", "diff-1"].map(|name| home.at(name).join(MEMORY));
    flip(&full, 160, 0);
    flip(&diff, 4096, 0);
    fs::remove_file(home.at("diff-2").join(STATE)).unwrap();
    let verified = verify(&home.at("diff-2"));
    let told = |path: &Path| verified.damages.iter().any(|damage| damage.file == path);
    assert!(told(&full) && told(&diff), "{verified:#?}");
    assert!(told(&home.at("diff-2").join(STATE)), "{verified:#?}");
    assert_eq!((verified.snapshots, verified.files), (3, 9));
}

// Parity: F2
#[test]
fn a_file_cut_short_or_grown_is_found() {
    let home = Home::new();
    family(&home);
    for name in [MANIFEST, STATE, MEMORY] {
        let path = home.at("diff-1").join(name);
        let whole = fs::read(&path).unwrap();
        let half = whole.len() / 2;
        let mut grown = whole.clone();
        grown.push(0);
        for bytes in [&whole[..whole.len() - 1], &whole[..half], &[], &grown] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
            let damages = verify(&home.at("diff-1")).damages;
            assert!(
                damages.iter().any(|damage| damage.file == path),
                "{name} of {} bytes: {damages:#?}",
                bytes.len()
            );
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    }
    assert_sound(&home.at("diff-2"));
}

#[test]
fn a_snapshot_that_is_named_twice_is_looked_at_once() {
    let home = Home::new();
    family(&home);
    let mut verifier = Verifier::new(Depth::Deep, Vec::new());
    for name in ["diff-2", "full", "diff-2", "../full"] {
        let path = home
            .at("diff-1")
            .join("..")
            .join(name.trim_start_matches("../"));
        verifier.check(&path, &mut |_| ()).unwrap();
    }
    assert_eq!(verifier.finish().snapshots, 3);
}

#[test]
fn a_single_file_is_checked_by_itself() {
    let home = Home::new();
    family(&home);
    for name in [MANIFEST, STATE, MEMORY] {
        let path = home.at("full").join(name);
        assert_sound(&path);
        flip(&path, 170, 1);
        assert_ne!(verify(&path).damages, []);
    }
    let foreign = home.at("foreign");
    fs::write(&foreign, "hello").unwrap();
    assert_eq!(verify(&foreign).damages[0].kind, "foreign");
}
