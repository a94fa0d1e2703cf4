//! Damaged snapshots whose names were exchanged: of a family in two directories, renamed, damaged
//! and deleted at random, none goes that is pinned, leased or a parent of one that stays, and what
//! nothing needs can be deleted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use coldframe_snapshot::Snapshot;
use coldframe_snapshot::catalog::{Catalog, CatalogError};
use coldframe_testkit::cases::{explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_units::SnapshotId;

use crate::support::{Home, Vm};

/// What a snapshot really is, whatever it is called.
struct Truth {
    id: SnapshotId,
    parent: Option<SnapshotId>,
    path: PathBuf,
    is_kept: bool,
    has_manifest: bool,
    has_memory: bool,
}

struct Family {
    home: Home,
    all: Vec<Truth>,
    /// What the journal noted last.
    noted: BTreeMap<SnapshotId, OsString>,
    is_away: bool,
}

/// Deletes what has these names in a directory.
type Delete = fn(&Family, &[OsString]) -> Result<(), CatalogError>;

fn delete(family: &Family, names: &[OsString]) -> Result<(), CatalogError> {
    let names: Vec<&OsStr> = names.iter().map(OsString::as_os_str).collect();
    Catalog::open(&family.here())?.delete_damaged(&names)
}

/// The planted bug: a damaged snapshot is taken for the one that had its name.
fn delete_by_name(family: &Family, names: &[OsString]) -> Result<(), CatalogError> {
    for name in names {
        let path = family.here().join(name);
        let noted = family.noted.iter().find(|(_, noted)| *noted == name);
        let noted = noted.map(|(id, _)| *id);
        let truth = family.all.iter().find(|truth| truth.path == path).unwrap();
        let id = match truth.has_manifest {
            true => Some(truth.id),
            false => noted,
        };
        let meant = family.all.iter().filter(|truth| Some(truth.id) == id);
        let mut children = family.all.iter().filter(|truth| truth.parent == id);
        if meant.into_iter().any(|truth| truth.is_kept) || id.is_some() && children.next().is_some()
        {
            return Err(CatalogError::Pinned { path });
        }
    }
    for name in names {
        fs::remove_dir_all(family.here().join(name)).unwrap();
    }
    Ok(())
}

impl Family {
    fn here(&self) -> PathBuf {
        self.home.at("here")
    }

    /// Some full snapshots and diffs, a few of them in another directory than their parents.
    fn new(rng: &mut Rng) -> Self {
        let home = Home::new();
        for dir in ["here", "there"] {
            fs::create_dir(home.at(dir)).unwrap();
        }
        let mut family = Self {
            home,
            all: Vec::new(),
            noted: BTreeMap::new(),
            is_away: false,
        };
        let mut made: Vec<(Vm, Snapshot)> = Vec::new();
        for number in 0..4 + rng.below(3) {
            let parent = match rng.below(3) {
                0 => None,
                _ => made.pop(),
            };
            let dir = match parent.is_some() && rng.below(3) == 0 {
                true => "there",
                false => "here",
            };
            let path = family.home.at(dir).join(format!("n{number}"));
            let (mut vm, parent) = match parent {
                Some((vm, parent)) => (vm, Some(parent)),
                None => (Vm::new(8), None),
            };
            vm.fill(number, u8::try_from(number + 1).unwrap());
            let snapshot = match &parent {
                Some(parent) => vm.diff(&path, parent),
                None => vm.full(&path),
            };
            family.all.push(Truth {
                id: snapshot.id(),
                parent: parent.map(|parent| parent.id()),
                path,
                is_kept: false,
                has_manifest: true,
                has_memory: true,
            });
            made.push((vm, snapshot));
        }
        family.open();
        for at in 0..family.all.len() {
            let id = family.all[at].id;
            let mut catalog = Catalog::open(&family.here()).unwrap();
            if !catalog.items().contains_key(&id) {
                continue;
            }
            family.all[at].is_kept = match rng.below(6) {
                0 => catalog.pin(id, true).is_ok(),
                1 => catalog.lease(id, "a restore", u64::MAX).is_ok(),
                _ => false,
            };
        }
        family
    }

    /// Opens the catalog, which notes what it finds.
    fn open(&mut self) {
        drop(Catalog::open(&self.here()).unwrap());
        for truth in self.all.iter().filter(|truth| truth.has_manifest) {
            if truth.path.starts_with(self.here()) {
                let name = truth.path.file_name().unwrap().to_owned();
                self.noted.insert(truth.id, name);
            }
        }
    }

    /// A snapshot in the directory that is changed.
    fn pick(&self, rng: &mut Rng) -> usize {
        let here = self.here();
        let is_here = |at: &usize| self.all[*at].path.starts_with(&here);
        let all: Vec<usize> = (0..self.all.len()).filter(is_here).collect();
        all[usize::try_from(rng.below(all.len() as u64)).unwrap()]
    }

    /// Exchanges the names of two.
    fn exchange(&mut self, one: usize, other: usize) {
        if one == other {
            return;
        }
        let aside = self.here().join("aside");
        let (from, to) = (self.all[one].path.clone(), self.all[other].path.clone());
        fs::rename(&from, &aside).unwrap();
        fs::rename(&to, &from).unwrap();
        fs::rename(&aside, &to).unwrap();
        self.all[one].path = to;
        self.all[other].path = from;
    }

    fn step(&mut self, rng: &mut Rng, delete: Delete) {
        let (one, other) = (self.pick(rng), self.pick(rng));
        match rng.below(9) {
            0 | 1 => self.exchange(one, other),
            2 | 3 => {
                spoil(&self.all[one].path.join("manifest"), rng);
                self.all[one].has_manifest = false;
            }
            4 if rng.below(3) == 0 => {
                spoil(&self.all[one].path.join("memory"), rng);
                self.all[one].has_memory = false;
            }
            5 => {
                let (away, there) = (self.home.at("away"), self.home.at("there"));
                let (from, to) = match self.is_away {
                    true => (away, there),
                    false => (there, away),
                };
                fs::rename(from, to).unwrap();
                self.is_away = !self.is_away;
            }
            6 => self.open(),
            _ => {
                let both = [one, other];
                let few = 1 + usize::from(one != other && rng.below(2) == 0);
                self.delete(&both[..few], delete);
            }
        }
    }

    fn delete(&mut self, which: &[usize], delete: Delete) {
        let name = |at: &usize| self.all[*at].path.file_name().unwrap().to_owned();
        let names: Vec<OsString> = which.iter().map(name).collect();
        let stays = |at: &usize| !which.contains(at);
        let ids: Vec<SnapshotId> = which.iter().map(|at| self.all[*at].id).collect();
        let is_child = |truth: &Truth| truth.parent.is_some_and(|id| ids.contains(&id));
        let left = (0..self.all.len()).filter(stays);
        let needed = left.map(|at| &self.all[at]).find(|truth| is_child(truth));
        let kept = which.iter().map(|at| &self.all[*at]);
        let kept = kept.into_iter().find(|truth| truth.is_kept);
        // Whatever is not known may be what keeps it.
        let all_known = self.all.iter().all(|truth| truth.has_memory) && !self.is_away;
        let no_suspect = !self
            .all
            .iter()
            .any(|truth| truth.is_kept && !truth.has_manifest);
        match delete(self, &names) {
            Ok(()) => {
                assert!(which.iter().all(|at| !self.all[*at].path.exists()));
                if let Some(Truth { path, .. }) = kept {
                    panic!("{names:?}: it had to stay: {}", path.display());
                }
                if let Some(Truth { path, .. }) = needed {
                    panic!("{names:?}: {} is built on it", path.display());
                }
                let gone = |truth: &Truth| ids.contains(&truth.id);
                self.all.retain(|truth| !gone(truth));
            }
            Err(error) => {
                assert!(which.iter().all(|at| self.all[*at].path.exists()));
                let may_stay = kept.is_some() || needed.is_some() || !all_known || !no_suspect;
                assert!(may_stay, "{names:?}: nothing needs it: {error}");
            }
        }
    }
}

fn spoil(path: &Path, rng: &mut Rng) {
    let Ok(mut bytes) = fs::read(path) else {
        return;
    };
    fs::remove_file(path).unwrap();
    match rng.below(3) {
        0 => {}
        1 => fs::write(path, [0x5a; 512]).unwrap(),
        _ => {
            bytes[20] ^= 0xff;
            fs::write(path, bytes).unwrap();
        }
    }
}

fn play(seed: u64, delete: Delete) {
    let mut rng = Rng::new(seed);
    let mut family = Family::new(&mut rng);
    for _ in 0..24 {
        let here = family.here();
        if !family.all.iter().any(|truth| truth.path.starts_with(&here)) {
            break;
        }
        family.step(&mut rng, delete);
    }
}

#[test]
fn of_damaged_snapshots_with_exchanged_names_none_goes_that_must_stay() {
    let seeds: Vec<u64> = (0..600).collect();
    explore("catalog: exchanged names", 40, &seeds, &|seed| {
        play(*seed, delete);
    });
}

#[test]
fn a_damaged_snapshot_that_is_told_by_its_name_is_found() {
    let seeds: Vec<u64> = (0..600).collect();
    let text = planted("catalog: told by its name", &seeds, &|seed| {
        play(*seed, delete_by_name);
    });
    assert!(
        text.contains("had to stay") || text.contains("is built on it"),
        "{text}"
    );
}
