//! Real files, and what a power cut leaves of them and of their names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use coldframe_testkit::crash::{Cuts, Recording, Trace, World, find, planted};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;

/// Mode and content of each file.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

fn files_in(dir: &Path) -> Files {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let name = entry.file_name().into_string().unwrap();
        (name, (mode, fs::read(entry.path()).unwrap()))
    };
    fs::read_dir(dir).unwrap().map(file).collect()
}

/// A directory with the durable file `a` of 1500 times `1`, something that is done to it, and all
/// that a power cut behind that may leave.
struct Once {
    work: fn(&Path),
    seen: RefCell<BTreeSet<Files>>,
}

impl World for Once {
    type Step = ();

    fn draw(&self, _: &mut Rng) -> Vec<()> {
        Vec::new()
    }

    fn run(&self, _: &[()], cuts: &mut Cuts) {
        let dir = scratch::dir();
        fs::write(dir.path().join("a"), [1; 1500]).unwrap();
        fs::set_permissions(dir.path().join("a"), Permissions::from_mode(0o600)).unwrap();
        let recording = Recording::start(dir.path());
        (self.work)(dir.path());
        let trace = recording.trace();
        drop(recording);
        cuts.tree(&trace, trace.operations(), &mut |dir| {
            self.seen.borrow_mut().insert(files_in(dir));
        });
    }
}

/// The states that are left; sampled ones too.
fn left_by(work: fn(&Path)) -> BTreeSet<Files> {
    let seen = RefCell::default();
    let world = Once { work, seen };
    find(&world, 1, 400).unwrap();
    world.seen.into_inner()
}

fn open(dir: &Path, name: &str) -> File {
    let opened = File::options().read(true).write(true).open(dir.join(name));
    opened.unwrap()
}

fn names(files: &Files) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

// Spec: CRASH-1
#[test]
fn what_was_synced_is_in_every_state() {
    let states = left_by(|dir| {
        open(dir, "a").write_all_at(&[2; 600], 0).unwrap();
        open(dir, "a").sync_data().unwrap();
        open(dir, "a").write_all_at(&[3; 4], 1400).unwrap();
    });
    assert!(states.len() > 2);
    for files in &states {
        let bytes = &files["a"].1;
        assert_eq!(bytes[..600], [2; 600]);
        assert_eq!(bytes[600..1400], [1; 800]);
    }
}

// Spec: CRASH-2, CRASH-3
#[test]
fn sectors_are_old_new_zero_rubbish_or_cut_short_in_any_combination() {
    let states = left_by(|dir| open(dir, "a").write_all_at(&[2; 1500], 0).unwrap());
    let any = |wanted: &dyn Fn(&[u8]) -> bool| states.iter().any(|files| wanted(&files["a"].1));
    assert!(any(&|a| a == [2; 1500]) && any(&|a| a == [1; 1500]));
    // The second without the others, and the others without it.
    assert!(any(&|a| a
        == [[1; 512], [2; 512], [1; 512]].as_flattened()[..1500]
            .to_vec()));
    assert!(any(&|a| a
        == [[2; 512], [1; 512], [2; 512]].as_flattened()[..1500]
            .to_vec()));
    assert!(any(&|a| a[..512] == [0; 512]));
    assert!(any(&|a| a[..512].iter().any(|byte| *byte > 2)));
    let is_short = |a: &[u8]| a[0] == 2 && a[511] == 1;
    assert!(any(&|a| is_short(a)));
}

// Spec: CRASH-4
#[test]
fn lengths_are_lost_or_not() {
    let states = left_by(|dir| open(dir, "a").set_len(10).unwrap());
    let lens: BTreeSet<_> = states.iter().map(|files| files["a"].1.len()).collect();
    assert_eq!(lens, BTreeSet::from([10, 1500]));
    let states = left_by(|dir| open(dir, "a").write_all_at(&[5; 8], 4096).unwrap());
    let lens: BTreeSet<_> = states.iter().map(|files| files["a"].1.len()).collect();
    // Cut short in the middle, too; but a write that is not there leaves the length alone.
    assert!(lens.contains(&1500) && lens.contains(&4104), "{lens:?}");
    assert!(
        lens.iter().all(|len| *len == 1500 || *len > 4096),
        "{lens:?}"
    );
}

// Spec: CRASH-5
#[test]
fn a_name_lasts_from_the_sync_of_its_directory_on() {
    let made: fn(&Path) = |dir| {
        let file = File::create(dir.join("b")).unwrap();
        file.sync_all().unwrap();
    };
    let states = left_by(made);
    let found: BTreeSet<_> = states.iter().map(names).collect();
    assert_eq!(found, BTreeSet::from([vec!["a"], vec!["a", "b"]]));

    let states = left_by(|dir| {
        fs::rename(dir.join("a"), dir.join("b")).unwrap();
        open(dir, "b").sync_all().unwrap();
    });
    let found: BTreeSet<_> = states.iter().map(names).collect();
    assert_eq!(found, BTreeSet::from([vec!["a"], vec!["b"]]));

    let states = left_by(|dir| {
        fs::rename(dir.join("a"), dir.join("b")).unwrap();
        File::open(dir).unwrap().sync_all().unwrap();
        fs::remove_file(dir.join("b")).unwrap();
    });
    let found: BTreeSet<_> = states.iter().map(names).collect();
    assert_eq!(found, BTreeSet::from([vec![], vec!["b"]]));
}

// Spec: CRASH-6
#[test]
fn a_mode_lasts_from_a_sync_of_more_than_the_data_on() {
    let modes = |states: BTreeSet<Files>| -> BTreeSet<u32> {
        states.iter().map(|files| files["a"].0).collect()
    };
    let states = left_by(|dir| {
        let file = open(dir, "a");
        file.set_permissions(Permissions::from_mode(0o400)).unwrap();
        file.sync_data().unwrap();
    });
    assert_eq!(modes(states), BTreeSet::from([0o400, 0o600]));
    let states = left_by(|dir| {
        let file = open(dir, "a");
        file.set_permissions(Permissions::from_mode(0o400)).unwrap();
        file.sync_all().unwrap();
    });
    assert_eq!(modes(states), BTreeSet::from([0o400]));
}

/// Files that are created and never synced; wrong as soon as the one called 7 may be lost.
struct Careless;

impl World for Careless {
    type Step = u64;

    fn draw(&self, rng: &mut Rng) -> Vec<u64> {
        (0..30).map(|_| rng.below(10)).collect()
    }

    fn run(&self, steps: &[u64], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let recording = Recording::start(dir.path());
        for step in steps {
            fs::write(dir.path().join(step.to_string()), "x").unwrap();
        }
        let trace: Trace = recording.trace();
        drop(recording);
        let is_written = steps.contains(&7);
        cuts.tree(&trace, trace.operations(), &mut |dir| {
            assert!(!is_written || dir.join("7").exists(), "7 is gone");
        });
    }
}

// Spec: CRASH-8
#[test]
fn of_a_violation_the_smallest_list_of_operations_and_losses_is_told() {
    let violation = planted("a file that is never synced", 5000, &Careless);
    assert_eq!(violation.steps, (vec!["7".to_owned()], 30));
    let cut = violation.cut.as_ref().unwrap();
    assert_eq!(cut.losses, ["operation 0: create /7"]);
    let text = violation.to_string();
    for part in ["seed 1", "1 of 30", "create /7", "7 is gone"] {
        assert!(text.contains(part), "{text}");
    }
    // The same seed finds the same.
    let again = find(&Careless, violation.seed, 5000).unwrap_err();
    assert_eq!(again.to_string(), text);
}
