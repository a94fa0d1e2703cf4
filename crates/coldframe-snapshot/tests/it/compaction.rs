//! A catalog's journal compacts itself, and says what it said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use coldframe_journal::kinds::{CoreEntries, Deleted, Pinned, Published};
use coldframe_journal::{Batch, JournalError, JournalOptions, JournalReader, JournalWriter};
use coldframe_snapshot::Snapshot;
use coldframe_snapshot::catalog::{CATALOG, Catalog, CatalogError, read};
use coldframe_testkit::crash::{Work, fail_everywhere};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::SnapshotId;

use crate::support::{Vm, copy_dir, names};

/// Appends to a catalog that is closed, all at once.
fn append(dir: &Path, fill: impl FnOnce(&mut Batch<CoreEntries>)) {
    let options = JournalOptions::new().unwrap();
    let opened = JournalWriter::<CoreEntries>::open(&dir.join(CATALOG), options);
    let mut journal = opened.unwrap().0;
    let mut batch = Batch::new();
    fill(&mut batch);
    journal.commit(&batch).unwrap();
    journal.flush().unwrap();
}

/// Pins and unpins a snapshot so often, and then says what holds.
pub fn turn(dir: &Path, id: SnapshotId, pinned: bool, times: u64) {
    let snapshot = *id.as_bytes();
    append(dir, |batch| {
        for time in (0..times).rev() {
            let pinned = (time % 2 == 0) == pinned;
            batch.push(&Pinned { snapshot, pinned }).unwrap();
        }
    });
}

fn entries(dir: &Path) -> u64 {
    let mut journal = JournalReader::<CoreEntries>::open(&dir.join(CATALOG)).unwrap();
    let mut count = 0;
    let end = journal.read_all(|_| {
        count += 1;
        Ok::<(), JournalError>(())
    });
    assert!(end.unwrap().is_clean());
    count
}

fn len(dir: &Path) -> u64 {
    fs::metadata(dir.join(CATALOG)).unwrap().len()
}

// Spec: CAT-15
#[test]
fn ten_thousand_pins_leave_a_short_catalog() {
    let home = scratch::dir();
    let id = Vm::new(4).full(&home.path().join("full")).id();
    for _ in 0..100 {
        let mut catalog = Catalog::open(home.path()).unwrap();
        assert!(len(home.path()) < 8 << 10, "{}", len(home.path()));
        for turn in 0..100 {
            catalog.pin(id, turn % 2 == 0).unwrap();
        }
        catalog.pin(id, true).unwrap();
    }
    drop(Catalog::open(home.path()).unwrap());
    // `Published` and the last `Pinned`.
    assert_eq!(entries(home.path()), 2);
    assert!(read(home.path()).unwrap().items[&id].pinned);
    assert_eq!(names(home.path()), [CATALOG, "full"]);
}

/// Snapshots that come, go, and come back, while their catalog is kept.
struct Course {
    dir: PathBuf,
    aside: PathBuf,
    rng: Rng,
    /// Machines, and the last snapshot of each.
    vms: Vec<(Vm, SnapshotId)>,
    made: u64,
}

impl Course {
    fn any(&mut self, dir: &Path) -> Option<String> {
        let mut names = names(dir);
        names.retain(|name| name != CATALOG);
        let count = names.len() as u64;
        (count > 0).then(|| names.swap_remove(self.rng.below(count) as usize))
    }

    fn step(&mut self) {
        let (dir, aside) = (self.dir.clone(), self.aside.clone());
        let what = self.rng.below(16);
        let Some(name) = self.any(&dir).filter(|_| what > 0) else {
            let mut vm = Vm::new(4);
            let id = vm.full(&self.new_path("s")).id();
            self.vms.push((vm, id));
            return;
        };
        let path = dir.join(&name);
        match what {
            1..=4 | 10..=11 => self.diff(),
            5 => fs::rename(&path, self.new_path("r")).unwrap(),
            6 => fs::rename(&path, aside.join(&name)).unwrap(),
            7 => {
                if let Some(name) = self.any(&aside) {
                    fs::rename(aside.join(&name), dir.join(&name)).unwrap();
                }
            }
            8 | 9 => fs::remove_dir_all(&path).unwrap(),
            _ => self.note(&path),
        }
    }

    fn new_path(&mut self, kind: &str) -> PathBuf {
        self.made += 1;
        self.dir.join(format!("{kind}{}", self.made))
    }

    /// A diff of one of the machines, if its last snapshot is there.
    fn diff(&mut self) {
        let which = self.rng.below(self.vms.len() as u64) as usize;
        let all = read(&self.dir).unwrap().items;
        if let Some(item) = all.get(&self.vms[which].1) {
            let path = self.new_path("s");
            let (vm, last) = &mut self.vms[which];
            vm.fill(self.made % 4, 7);
            *last = vm.diff(&path, &item.snapshot).id();
        }
    }

    fn note(&mut self, path: &Path) {
        let id = Snapshot::open(path).unwrap().id();
        let mut catalog = Catalog::open(&self.dir).unwrap();
        let holder = ["a", "b"][self.rng.below(2) as usize];
        match self.rng.below(4) {
            0 => catalog.pin(id, true).unwrap(),
            1 => catalog.pin(id, false).unwrap(),
            2 => catalog.lease(id, holder, 1).unwrap(),
            _ => catalog.lease(id, holder, 0).unwrap(),
        }
    }
}

type Seen = BTreeMap<SnapshotId, (String, bool, BTreeMap<String, u64>, usize)>;

fn seen(dir: &Path) -> Seen {
    let contents = read(dir).unwrap();
    assert!(contents.journal.is_none());
    let items = contents.items.into_iter();
    let seen = items.map(|(id, item)| {
        let copies = item.copies.len();
        (id, (item.name, item.pinned, item.leases, copies))
    });
    seen.collect()
}

/// What becomes of deleting everything, one after the other, after some have lost their manifests.
fn verdicts(dir: &Path, ids: &BTreeSet<SnapshotId>, damaged: &[String]) -> Vec<String> {
    let mut catalog = Catalog::open(dir).unwrap();
    let mut verdicts = Vec::new();
    for name in damaged {
        fs::remove_file(dir.join(name).join("manifest")).unwrap();
    }
    let told = |result: Result<(), CatalogError>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string().replace(&dir.display().to_string(), "DIR"),
    };
    let all = names(dir).into_iter().filter(|name| name != CATALOG);
    for name in all.collect::<Vec<_>>() {
        verdicts.push(told(if damaged.contains(&name) {
            catalog.delete_damaged(&[name.as_ref()])
        } else {
            catalog.delete_named(name.as_ref())
        }));
    }
    for id in ids {
        verdicts.push(told(catalog.pin(*id, false)));
    }
    verdicts
}

fn copy_home(from: &Path, to: &Path) {
    for name in names(from) {
        if name == CATALOG {
            fs::copy(from.join(CATALOG), to.join(CATALOG)).unwrap();
        } else {
            copy_dir(&from.join(&name), &to.join(&name));
        }
    }
}

// Spec: CAT-15
#[test]
fn what_is_known_and_what_may_be_deleted_stays_when_any_history_is_compacted() {
    let (mut told, mut refused) = (BTreeSet::new(), 0);
    for seed in 0..60 {
        let (home, aside, long) = (scratch::dir(), scratch::dir(), scratch::dir());
        let mut course = Course {
            dir: home.path().to_path_buf(),
            aside: aside.path().to_path_buf(),
            rng: Rng::new(seed),
            vms: Vec::new(),
            made: 0,
        };
        let mut ids = BTreeSet::new();
        for _ in 0..25 {
            course.step();
            ids.extend(Catalog::open(home.path()).unwrap().items().keys());
        }
        let before = entries(home.path());
        assert!(before <= 64, "{before}");
        copy_home(home.path(), long.path());
        append(long.path(), |batch| {
            let snapshot = [0xee; 16];
            for _ in 0..200 {
                let published = Published {
                    snapshot,
                    parent: None,
                    root: [0; 32],
                    unix_ns: 0,
                    name: "stranger".to_owned(),
                };
                batch.push(&published).unwrap();
                batch.push(&Deleted { snapshot }).unwrap();
            }
        });
        drop(Catalog::open(long.path()).unwrap());
        let after = entries(long.path());
        assert!(after <= before, "{after}, {before} before");
        assert_eq!(seen(long.path()), seen(home.path()), "seed {seed}");
        let mut damaged = Vec::new();
        if seed % 3 == 0 {
            damaged.extend(course.any(home.path()));
        }
        let expected = verdicts(home.path(), &ids, &damaged);
        let found = verdicts(long.path(), &ids, &damaged);
        assert_eq!(found, expected, "seed {seed}");
        refused += expected.iter().filter(|told| *told != "done").count();
        told.extend(expected.into_iter().map(|told| told.len()));
    }
    assert!(refused > 60 && told.len() > 10, "{refused} {told:?}");
}

// Spec: CAT-15, CAT-6
#[test]
fn what_an_orphan_is_built_on_is_known_after_a_compaction() {
    let (home, aside) = (scratch::dir(), scratch::dir());
    let at = |name: &str| home.path().join(name);
    let mut vm = Vm::new(4);
    let full = vm.full(&at("full"));
    let mut last = Snapshot::open(full.path()).unwrap();
    for name in ["one", "two", "three"] {
        last = vm.diff(&at(name), &last);
    }
    drop(Catalog::open(home.path()).unwrap());
    for name in ["one", "two"] {
        fs::rename(at(name), aside.path().join(name)).unwrap();
    }
    drop(Catalog::open(home.path()).unwrap());
    turn(home.path(), full.id(), false, 200);
    let mut catalog = Catalog::open(home.path()).unwrap();
    assert!(entries(home.path()) < 10, "{}", entries(home.path()));
    let error = catalog.delete(full.id()).unwrap_err();
    assert!(matches!(error, CatalogError::HasOrphan { .. }), "{error}");
    assert_eq!(catalog.items().len(), 2, "what is not here is not known");
}

// Spec: CAT-15
#[test]
fn nothing_is_forgotten_while_something_is_not_seen() {
    let home = scratch::dir();
    let full = Vm::new(4).full(&home.path().join("full"));
    drop(Catalog::open(home.path()).unwrap());
    turn(home.path(), full.id(), true, 200);
    let other = home.path().join("other");
    symlink("/not/mounted/other", &other).unwrap();
    drop(Catalog::open(home.path()).unwrap());
    assert_eq!(entries(home.path()), 201);
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("manifest"), "no manifest").unwrap();
    drop(Catalog::open(home.path()).unwrap());
    assert_eq!(entries(home.path()), 201);
    fs::remove_dir_all(&other).unwrap();
    drop(Catalog::open(home.path()).unwrap());
    assert_eq!(entries(home.path()), 2);
}

// Spec: CAT-15
#[test]
fn a_compacted_catalog_keeps_its_mode_its_lock_and_its_link() {
    let (home, other) = (scratch::dir(), scratch::dir());
    let path = home.path().join(CATALOG);
    let full = Vm::new(4).full(&home.path().join("full"));
    drop(Catalog::open(home.path()).unwrap());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    turn(home.path(), full.id(), true, 200);
    let catalog = Catalog::open(home.path()).unwrap();
    assert_eq!(entries(home.path()), 2);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let error = Catalog::open(home.path()).err().unwrap();
    assert!(
        matches!(&error, CatalogError::Journal { source, .. } if source.is_locked()),
        "{error}"
    );
    drop(catalog);
    turn(home.path(), full.id(), true, 200);
    fs::rename(&path, other.path().join("there")).unwrap();
    symlink(other.path().join("there"), &path).unwrap();
    drop(Catalog::open(home.path()).unwrap());
    assert!(path.is_symlink());
    assert_eq!(entries(home.path()), 202);
}

/// Opening a catalog that is due.
struct Opening;

impl Work for Opening {
    type Input = SnapshotId;

    fn prepare(&mut self, dir: &Path) -> SnapshotId {
        let id = Vm::new(4).full(&dir.join("full")).id();
        drop(Catalog::open(dir).unwrap());
        turn(dir, id, true, 200);
        id
    }

    fn run(&mut self, dir: &Path, id: &mut SnapshotId) -> bool {
        // A compaction that fails is only warned of.
        let opened = Catalog::open(dir);
        len(dir) < 1 << 10 && opened.is_ok_and(|mut catalog| catalog.pin(*id, true).is_ok())
    }

    fn check(&mut self, dir: &Path, id: SnapshotId, _: bool) {
        assert_eq!(names(dir), [CATALOG, "full"], "something was left");
        assert!(read(dir).unwrap().items[&id].pinned);
        let mut catalog = Catalog::open(dir).unwrap();
        assert!(entries(dir) <= 3, "{}", entries(dir));
        catalog.pin(id, false).unwrap();
        assert!(!read(dir).unwrap().items[&id].pinned);
    }
}

// Spec: CAT-15
#[test]
fn a_catalog_that_cannot_be_compacted_is_as_it_was_wherever_that_fails() {
    let failed = fail_everywhere(&mut Opening);
    assert!(failed.writes >= 3 && failed.syncs >= 2, "{failed:?}");
}
