//! A real Firecracker's snapshots, in and out again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use coldframe_testkit::child;
use coldframe_testkit::require::skipped;

use crate::support::{
    Home, Outcome, assert_sound, coldframe, copy_dir, memory_of, names, no_kvm, tool,
};

/// A family that Firecracker made: `full`, `diff1`, `diff2`, each `.snap` and `.mem`.
struct Family {
    tools: PathBuf,
    dir: PathBuf,
}

impl Family {
    /// Made once for all tests of this run; `None` where there is no Firecracker.
    fn get() -> Option<Self> {
        static MADE: Mutex<bool> = Mutex::new(false);
        if no_kvm() {
            return None;
        }
        let tools = tool("firecracker", "COLDFRAME_FIRECRACKER")?;
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("firecracker-family");
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if !*made {
            let _ = fs::remove_dir_all(&dir);
            let output = child::group(tools.join("make-snapshots.sh"))
                .arg(&dir)
                .args(["64", "2"])
                .env("ROUNDS", "20000u")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            *made = true;
        }
        Some(Self { tools, dir })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Imports one of its pairs.
    #[track_caller]
    fn import(&self, name: &str, parent: Option<&Path>, dest: &Path) {
        let (state, mem) = (
            self.at(&format!("{name}.snap")),
            self.at(&format!("{name}.mem")),
        );
        let mut import = crate::support::command(&[
            &"import",
            &"firecracker",
            &"--state",
            &state,
            &"--mem",
            &mem,
            &"-o",
            &dest,
        ]);
        if let Some(parent) = parent {
            import.arg("--parent").arg(parent);
        }
        crate::support::Outcome::from(import.output().unwrap()).done();
    }

    /// Firecracker loads a pair, and the guest goes on as it did when it was never stopped.
    #[track_caller]
    fn thaw(&self, pair: &Path) {
        let output = child::group(self.tools.join("thaw.sh"))
            .arg(&self.dir)
            .arg(pair.join("state"))
            .arg(format!("file:{}", pair.join("mem").display()))
            .arg("20")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        assert!(lines.ends_with("END\n"), "{lines}");
    }
}

#[test]
fn a_family_goes_in_is_folded_and_goes_on_in_firecracker() {
    let Some(family) = Family::get() else {
        return;
    };
    let home = Home::new();
    let [full, one, two] = ["full", "diff1", "diff2"].map(|name| home.at(name));
    family.import("full", None, &full);
    family.import("diff1", Some(&full), &one);
    family.import("diff2", Some(&one), &two);
    assert_sound(&two);
    // A full snapshot of Firecracker is the whole memory, as it lies in the guest.
    assert!(memory_of(&full) == fs::read(family.at("full.mem")).unwrap());

    let flat = home.at("flat");
    coldframe(&[&"merge", &two, &"-o", &flat]).done();
    assert_sound(&flat);
    let memory = memory_of(&two);
    for (name, snapshot) in [
        ("from-chain", &two),
        ("from-flat", &flat),
        ("from-full", &full),
    ] {
        let pair = home.at(name);
        coldframe(&[&"export", &"firecracker", snapshot, &"-o", &pair]).done();
        assert_eq!(names(&pair), ["mem", "state"]);
        let state = if snapshot == &full {
            "full.snap"
        } else {
            "diff2.snap"
        };
        assert!(fs::read(pair.join("state")).unwrap() == fs::read(family.at(state)).unwrap());
        if snapshot != &full {
            assert!(fs::read(pair.join("mem")).unwrap() == memory);
        }
        family.thaw(&pair);
    }
}

#[test]
fn an_imported_state_is_shown_as_theirs() {
    let Some(family) = Family::get() else {
        return;
    };
    let home = Home::new();
    let full = home.at("full");
    family.import("full", None, &full);
    let report = coldframe(&[&"inspect", &full, &"--json"]).done().json();
    let state = &report["files"]["state"]["state"];
    assert_eq!(state["other_sections"], serde_json::json!(["fcst.0"]));
    // It is no machine of ours.
    coldframe(&[&"thaw", &full]).fails(3, &["no machine state"]);
}

#[test]
fn a_flipped_bit_of_the_state_is_refused_by_its_crc() {
    let Some(family) = Family::get() else {
        return;
    };
    let home = Home::new();
    let (state, out) = (home.at("state"), home.at("out"));
    let whole = fs::read(family.at("full.snap")).unwrap();
    let import = || {
        coldframe(&[
            &"import",
            &"firecracker",
            &"--state",
            &state,
            &"--mem",
            &family.at("full.mem"),
            &"-o",
            &out,
        ])
    };
    for at in [20, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&state, damaged).unwrap();
        import().fails(1, &["CRC"]);
    }
    fs::write(&state, &whole[..whole.len() - 9]).unwrap();
    import().fails(1, &["CRC"]);
    fs::write(&state, vec![0; 4096]).unwrap();
    import().fails(1, &["magic"]);
    fs::write(&state, b"1234").unwrap();
    import().fails(1, &["bytes"]);
    assert!(!out.exists());
}

#[test]
fn a_diff_on_another_parent_is_refused_by_root() {
    let Some(family) = Family::get() else {
        return;
    };
    let (home, elsewhere) = (Home::new(), Home::new());
    let (full, one) = (home.at("full"), home.at("diff1"));
    family.import("full", None, &full);
    family.import("diff1", Some(&full), &one);
    // The same dump once more is another snapshot: it is not found for the parent.
    copy_dir(&full, &elsewhere.at("full"));
    fs::remove_dir_all(&full).unwrap();
    family.import("full", None, &full);
    let verified = coldframe(&[&"verify", &one]);
    assert_eq!(verified.code, 1);
    assert!(verified.stdout.contains("missing parent"), "{verified:#?}");
    fs::remove_dir_all(&full).unwrap();

    // The right manifest over other memory.
    copy_dir(&elsewhere.at("full"), &full);
    fs::remove_file(full.join("memory")).unwrap();
    fs::copy(one.join("memory"), full.join("memory")).unwrap();
    let out = home.at("out");
    coldframe(&[&"export", &"raw", &one, &"-o", &out]).fails(1, &["memory"]);
    assert!(!out.exists());
}

/// Snapshots that Firecracker releases made, unpacked: a family, and the states of other machines.
struct Archive {
    name: String,
    dir: Home,
}

impl Archive {
    /// Every one; none where there are none.
    fn all() -> Vec<Self> {
        let variable = "COLDFRAME_FIRECRACKER_SNAPSHOTS";
        let Some(folder) = tool("firecracker-snapshots", variable) else {
            return Vec::new();
        };
        let mut archives = Vec::new();
        for name in names(&folder) {
            let Some(release) = name.strip_suffix(".tar.zst") else {
                continue;
            };
            let dir = Home::new();
            let unpacked = child::command("tar")
                .args(["--zstd", "-xSf"])
                .arg(folder.join(&name))
                .arg("-C")
                .arg(dir.path())
                .output();
            match unpacked {
                Ok(output) if output.status.success() => archives.push(Self {
                    name: release.to_owned(),
                    dir,
                }),
                failed => {
                    skipped("firecracker-snapshots", &format!("tar --zstd: {failed:?}"));
                    return Vec::new();
                }
            }
        }
        archives
    }

    fn import(&self, state: &str, mem: &Path, parent: Option<&Path>, dest: &Path) -> Outcome {
        let state = self.dir.at(state);
        let mut import = crate::support::command(&[
            &"import",
            &"firecracker",
            &"--state",
            &state,
            &"--mem",
            &mem,
            &"-o",
            &dest,
        ]);
        if let Some(parent) = parent {
            import.arg("--parent").arg(parent);
        }
        import.output().unwrap().into()
    }
}

/// The allocated parts of a file, over the bytes that are there.
fn overlay(bytes: &mut [u8], path: &Path) {
    use nix::unistd::{Whence, lseek};
    let file = fs::File::open(path).unwrap();
    let read = fs::read(path).unwrap();
    let mut next = 0;
    while let Ok(data) = lseek(&file, next, Whence::SeekData) {
        next = lseek(&file, data, Whence::SeekHole).unwrap();
        let range = usize::try_from(data).unwrap()..usize::try_from(next).unwrap();
        bytes[range.clone()].copy_from_slice(&read[range]);
    }
}

#[test]
fn families_of_every_release_are_imported_and_folded() {
    for archive in Archive::all() {
        let home = Home::new();
        let at = |name: &str| archive.dir.at(name);
        let mut parent = home.at("full");
        archive
            .import("full.snap", &at("full.mem"), None, &parent)
            .done();
        let mut memory = fs::read(at("full.mem")).unwrap();
        for diff in ["diff1", "diff2", "diff3"] {
            let (dest, mem) = (home.at(diff), at(&format!("{diff}.mem")));
            archive
                .import(&format!("{diff}.snap"), &mem, Some(&parent), &dest)
                .done();
            overlay(&mut memory, &mem);
            assert!(memory_of(&dest) == memory, "{} {diff}", archive.name);
            parent = dest;
        }
        let flat = home.at("flat");
        coldframe(&[&"merge", &parent, &"-o", &flat]).done();
        assert_sound(&flat);
        assert!(memory_of(&flat) == memory, "{}", archive.name);
    }
}

#[test]
fn the_ram_layout_of_every_release_is_that_of_its_state() {
    const GIB: u64 = 1 << 30;
    for archive in Archive::all() {
        let old = ["v1.7.0", "v1.10.1", "v1.12.0"].contains(&archive.name.as_str());
        let first = if old { 0xd000_0000 } else { 0xc000_0000 };
        let large = vec![(0, first), (4 * GIB, 4608 * (1 << 20) - first)];
        let hotplug = vec![(0, 32 << 20), (512 * GIB, GIB)];
        for (state, regions) in [("state-4608m.snap", large), ("state-hotplug.snap", hotplug)] {
            if !archive.dir.at(state).exists() {
                continue;
            }
            let home = Home::new();
            let (mem, dest) = (home.at("mem"), home.at("snapshot"));
            let len = regions.iter().map(|region| region.1).sum();
            fs::File::create(&mem).unwrap().set_len(len).unwrap();
            archive.import(state, &mem, None, &dest).done();
            let report = coldframe(&[&"inspect", &dest, &"--json"]).done().json();
            let found = &report["files"]["manifest"]["manifest"]["regions"];
            assert_eq!(
                *found,
                serde_json::json!(regions),
                "{} {state}",
                archive.name
            );
            // Memory of another machine.
            fs::File::create(&mem).unwrap().set_len(len + 4096).unwrap();
            let other = archive.import(state, &mem, None, &home.at("other"));
            other.fails(1, &["bytes of guest memory", "the memory file has"]);
        }
    }
}
