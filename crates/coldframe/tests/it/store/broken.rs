//! Killed in the middle: nothing half is believed, and the next run moves only what is missing.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{BLOCK, assert_equal, assert_sound_store, files, frozen, new_store, noise, pull};
use super::{pulled_path, push, store_verb};
use crate::support::{Home, command, names};

/// 96 MiB: three packs.
const BLOCKS: usize = 1536;

fn spawn(command: &mut Command) -> Child {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().unwrap()
}

/// Waits until `is_time`, and kills; whether it was killed before it was done.
fn kill_when(mut child: Child, is_time: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_time() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not get there");
        std::thread::sleep(Duration::from_millis(1));
    }
    // An error means that it has ended.
    let _ = child.kill();
    !child.wait().unwrap().success()
}

// Parity: D31, D34, F41
#[test]
fn a_killed_push_leaves_no_tag_and_goes_on_from_its_packs() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(21, BLOCKS));
    let mut in_the_middle = 0;
    for packs in 1..=2 {
        fs::remove_dir_all(&store).unwrap();
        new_store(&home);
        let child = spawn(&mut command(&[
            &"push", &one, &"--store", &store, &"--name", &"a",
        ]));
        if !kill_when(child, || files(&store, "packs").len() >= packs) {
            continue;
        }
        in_the_middle += 1;
        assert!(files(&store, "tags").is_empty());
        assert_sound_store(&store);
        let stat = store_verb("stat", &store, &[]).done().json();
        let there = stat["chunks"].as_u64().unwrap();
        assert!(there > 0, "{stat:#}");
        let report = push(&one, &store, &["--name", "a"]).done().json();
        assert_eq!(report["sent_blocks"], BLOCKS as u64 - there);
        assert_eq!(report["blocks"], BLOCKS);
        // What the dead one was writing goes with the next collection, and nothing else does.
        let swept = store_verb("gc", &store, &["--grace", "0"]).done().json();
        assert_eq!(swept["deleted_packs"], 0);
        let is_temporary = |name: &String| name.starts_with('.');
        assert!(!names(&store.join("packs")).iter().any(is_temporary));
        let report = pull("a", &store, &home.at(&format!("out-{packs}")), &[]);
        assert_equal(&one, &pulled_path(&report.done().json()));
    }
    assert!(in_the_middle > 0, "none was killed in the middle");
}

/// The temporary directory of a pull.
fn unfinished(out: &Path) -> Option<std::path::PathBuf> {
    let mut left = out.exists().then(|| names(out))?.into_iter();
    left.find(|name| name.starts_with('.'))
        .map(|name| out.join(name))
}

/// Blocks of RAM that a half-pulled memory file has.
fn filled(half: &Path, whole: &Path) -> usize {
    let (half, whole) = (File::open(half).unwrap(), File::open(whole).unwrap());
    let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
    let is_there = |block: &usize| {
        let at = (2 << 20) + (block * BLOCK) as u64;
        whole.read_exact_at(&mut other, at).unwrap();
        half.read_exact_at(&mut one, at).is_ok() && one == other
    };
    (0..BLOCKS).filter(is_there).count()
}

#[test]
fn a_killed_pull_leaves_no_snapshot_and_fetches_only_what_is_missing() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(22, BLOCKS));
    push(&one, &store, &["--name", "a"]).done();
    let mut in_the_middle = 0;
    for part in [1, 2, 3] {
        let out = home.at(&format!("out-{part}"));
        // Sectors of 512 bytes: a quarter, half, three quarters of the memory.
        let enough = (BLOCKS * BLOCK / 512 * part / 4) as u64;
        let half = || unfinished(&out).map(|dir| dir.join("memory"));
        let is_time = || {
            let found = half().and_then(|path| fs::metadata(path).ok());
            found.is_some_and(|found| found.blocks() > enough)
        };
        let child = spawn(&mut command(&[
            &"pull", &"a", &"--store", &store, &"-o", &out,
        ]));
        if !kill_when(child, is_time) {
            continue;
        }
        in_the_middle += 1;
        assert!(names(&out).iter().all(|name| name.starts_with('.')));
        let there = filled(&half().unwrap(), &one.join("memory"));
        assert!(there > 0);
        let report = pull("a", &store, &out, &[]).done().json();
        assert_eq!(report["fetched_blocks"], BLOCKS - there);
        assert_eq!(report["blocks"], BLOCKS);
        assert_equal(&one, &pulled_path(&report));
        assert_eq!(names(&out).len(), 1);
    }
    assert!(in_the_middle > 0, "none was killed in the middle");
}

// Parity: F41
#[test]
fn two_pushes_and_collections_at_once_lose_nothing_that_is_tagged() {
    let home = Home::new();
    let store = new_store(&home);
    // Garbage that the pushes may find, and half of what they push is the same.
    let shared = noise(23, 256);
    let memory = |seed| [shared.clone(), noise(seed, 256)].concat();
    let snapshots: Vec<_> = [("x", 24), ("y", 25)]
        .map(|(name, seed)| (name, frozen(&home, name, &memory(seed))))
        .into();
    let garbage = frozen(&home, "garbage", &shared);
    let mut moved = 0;
    for round in 0..4 {
        push(&garbage, &store, &["--name", "g"]).done();
        fs::remove_file(store.join("tags/g")).unwrap();
        let mut pushes: Vec<_> = snapshots
            .iter()
            .map(|(name, snapshot)| {
                let tag = format!("{name}-{round}");
                let push: [&dyn AsRef<std::ffi::OsStr>; 6] =
                    [&"push", snapshot, &"--store", &store, &"--name", &tag];
                spawn(&mut command(&push))
            })
            .collect();
        let mut collections = 0;
        while pushes
            .iter_mut()
            .any(|push| push.try_wait().unwrap().is_none())
        {
            let gc = store_verb("gc", &store, &["--grace", "0"]).done().json();
            moved += gc["condemned_packs"].as_u64().unwrap();
            collections += 1;
        }
        assert!(collections > 0);
        for push in &mut pushes {
            assert!(push.wait().unwrap().success());
        }
        store_verb("gc", &store, &["--grace", "0"]).done();
        assert_sound_store(&store);
        for (name, snapshot) in &snapshots {
            let out = home.at(&format!("out-{round}"));
            let report = pull(&format!("{name}-{round}"), &store, &out, &[]);
            assert_equal(snapshot, &pulled_path(&report.done().json()));
            fs::remove_file(store.join(format!("tags/{name}-{round}"))).unwrap();
        }
        store_verb("gc", &store, &["--grace", "0"]).done();
    }
    assert!(moved > 0, "there was never anything to collect");
}
