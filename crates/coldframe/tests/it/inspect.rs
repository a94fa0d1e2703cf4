//! `inspect`: what a file is, or is not, however broken it is.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coldframe_testkit::rng::Rng;
use serde_json::Value;

use crate::support::{Home, Outcome, coldframe, keys, patch, simulated};

/// A demonstration and a look at something in it.
struct Look {
    home: Home,
}

impl Look {
    fn new() -> Self {
        let home = Home::new();
        simulated(&home.at("kept"));
        Self { home }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.at("kept").join(name)
    }

    fn at(&self, name: &str) -> Outcome {
        coldframe(&[&"inspect", &self.path(name)])
    }

    fn json(&self, name: &str) -> Value {
        coldframe(&[&"inspect", &self.path(name), &"--json"]).json()
    }
}

// Parity: F21
#[test]
fn a_snapshot_is_shown_with_all_its_files() {
    let look = Look::new();
    let shown = look.at("diff-1").done();
    for part in [
        "snapshot directory",
        "snapshot manifest",
        "machine state",
        "guest memory",
        "coldframe 0.",
        "parent",
        "x86_64",
        "DATA.0",
        "EXTN.0",
        "VCPU.0",
        "4 KiB",
        "8 MiB",
    ] {
        assert!(shown.stdout.contains(part), "no {part:?} in {shown:#?}");
    }
    let report = look.json("diff-1");
    assert_eq!(
        keys(&report),
        ["files", "path", "problem", "strangers", "what"]
    );
    let manifest = &report["files"]["manifest"]["manifest"];
    let parent = &look.json("full")["files"]["manifest"];
    assert_eq!(manifest["parent_id"], parent["manifest"]["id"]);
    assert_eq!(manifest["parent_root"], parent["root"]);
    assert_eq!(manifest["memory_root"], report["files"]["memory"]["root"]);
    assert_eq!(manifest["state_root"], report["files"]["state"]["root"]);
    let memory = &report["files"]["memory"]["memory"];
    assert_eq!(memory["kind"], "diff");
    assert_eq!(memory["ram_bytes"], 8 << 20);
    assert!(memory["zero_pages"].as_u64().unwrap() > 0, "{memory:#}");
    assert_eq!(report["problem"], Value::Null);
}

#[test]
fn each_file_is_known_by_itself_whatever_its_name() {
    let look = Look::new();
    for (name, what, format) in [
        ("manifest", "snapshot manifest", "MANI"),
        ("state", "machine state", "STAT"),
        ("memory", "guest memory", "MEMF"),
    ] {
        let elsewhere = look.path("renamed.bin");
        fs::copy(look.path("full").join(name), &elsewhere).unwrap();
        let shown = look.at("renamed.bin").done();
        assert!(shown.stdout.contains(what), "{shown:#?}");
        let report = look.json("renamed.bin");
        assert_eq!(report["format"], format);
        assert_eq!(report["version"], "1.0");
        assert_eq!(report["arch"], "x86_64");
        fs::remove_file(elsewhere).unwrap();
    }
}

#[test]
fn a_foreign_file_is_told_what_it_is_not() {
    let look = Look::new();
    let foreign = look.path("foreign");
    for bytes in [&b"\x7fELF and so on"[..], b"", &[0; 5000]] {
        fs::write(&foreign, bytes).unwrap();
        let shown = look.at("foreign");
        assert_eq!((shown.code, shown.stderr.as_str()), (1, ""));
        assert!(shown.stdout.contains("not a coldframe file"), "{shown:#?}");
    }
    let report = look.json("foreign");
    assert_eq!(report["format"], Value::Null);
    assert_eq!(report["file_len"], 5000);
}

// Parity: F21
#[test]
fn a_truncated_file_is_told_how_much_is_missing() {
    let look = Look::new();
    let cut = look.path("cut");
    let whole = fs::read(look.path("full/state")).unwrap();
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let shown = look.at("cut");
    assert_eq!(shown.code, 1);
    assert!(shown.stdout.contains("machine state"), "{shown:#?}");
    let lens = [whole.len(), whole.len() - 1].map(|len| len.to_string());
    assert!(
        lens.iter().all(|len| shown.stdout.contains(len)),
        "{shown:#?}"
    );

    fs::write(&cut, &whole[..100]).unwrap();
    let shown = look.at("cut");
    assert_eq!(shown.code, 1);
    assert!(shown.stdout.contains("truncated"), "{shown:#?}");
    assert!(!shown.stdout.contains("not a coldframe file"), "{shown:#?}");
}

// Parity: F4
#[test]
fn a_newer_major_is_refused_with_both_versions_and_a_newer_minor_read() {
    let look = Look::new();
    let reseal = |name: &str, at: usize, value: u8| {
        let path = look.path("full").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] = value;
        // The header's checksum: the first 8 bytes of the hash of what stands before it.
        let sum = blake3::hash(&bytes[..152]);
        bytes[152..160].copy_from_slice(&sum.as_bytes()[..8]);
        fs::write(look.path("newer"), bytes).unwrap();
    };
    for name in ["manifest", "state", "memory"] {
        reseal(name, 12, 9);
        let shown = look.at("newer");
        assert_eq!(shown.code, 1, "{shown:#?}");
        assert!(shown.stdout.contains("9.0"), "{shown:#?}");
        let problem = look.json("newer")["problem"].as_str().unwrap().to_string();
        assert!(problem.contains('9') && problem.contains('1'), "{problem}");
        reseal(name, 14, 7);
        let shown = look.at("newer").done();
        assert!(shown.stdout.contains("1.7"), "{shown:#?}");
    }
}

// Parity: F21
#[test]
fn what_is_whole_is_shown_beside_what_is_broken() {
    let look = Look::new();
    let state = look.path("full/state");
    let len = fs::metadata(&state).unwrap().len();
    // In a body: the header and the table can still be read.
    patch(&state, 170, |byte| *byte ^= 4);
    fs::remove_file(look.path("full/memory")).unwrap();
    fs::write(look.path("full/notes.txt"), "mine").unwrap();
    let report = coldframe(&[&"inspect", &look.path("full"), &"--json"]);
    assert_eq!(report.code, 1);
    let report = report.json();
    let state = &report["files"]["state"];
    assert_eq!(state["file_len"], len);
    assert!(
        state["problem"].as_str().unwrap().contains("hash"),
        "{state:#}"
    );
    assert!(
        !state["sections"].as_array().unwrap().is_empty(),
        "{state:#}"
    );
    let manifest = &report["files"]["manifest"];
    assert_eq!(manifest["problem"], Value::Null);
    assert_eq!(manifest["manifest"]["ram_bytes"], 8 << 20);
    assert_eq!(report["strangers"], serde_json::json!(["notes.txt"]));
    let problem = report["problem"].as_str().unwrap();
    assert!(problem.contains("memory"), "{problem}");

    let shown = look.at("full");
    assert_eq!(shown.code, 1);
    assert!(shown.stdout.contains("memory"), "{shown:#?}");
}

#[test]
fn a_directory_without_a_manifest_is_no_snapshot() {
    let look = Look::new();
    let shown = look.at("");
    assert_eq!(shown.code, 1);
    assert!(
        shown.stdout.contains("not a snapshot directory"),
        "{shown:#?}"
    );
    look.at("nowhere").fails(3, &["nowhere"]);
}

// Parity: D11, F21
#[test]
fn no_more_than_the_header_and_tables_of_a_large_file_are_read() {
    let look = Look::new();
    // 1 TiB of nothing behind a sound start: what is inspected is bounded.
    let large = look.path("large");
    for name in ["state", "memory"] {
        fs::copy(look.path("full").join(name), &large).unwrap();
        let mut permissions = fs::metadata(&large).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(&large, permissions).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&large).unwrap();
        file.set_len(1 << 40).unwrap();
        let shown = look.at("large");
        assert_eq!(shown.code, 1);
        assert!(shown.stdout.contains("1 TiB"), "{shown:#?}");
        fs::remove_file(&large).unwrap();
    }
}

#[test]
fn the_files_of_a_store_are_known() {
    let home = Home::new();
    let mut image = Rng::new(5).bytes(200_000);
    image[65_536..131_072].fill(0);
    fs::write(home.at("a.img"), &image).unwrap();
    let store = home.at("store");
    let import: &[&dyn AsRef<OsStr>] = &[&"disk", &"import", &"--name", &"a", &"--store"];
    coldframe(&[import, &[&store, &home.at("a.img")]].concat()).done();
    let one = |folder: &str| {
        let entries = fs::read_dir(store.join(folder)).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        (paths.next().unwrap(), paths.count())
    };
    let json = |path: &Path| coldframe(&[&"inspect", &path, &"--json"]).done().json();
    let shown = |path: &Path| coldframe(&[&"inspect", &path]).done().stdout;

    let (pack, others) = one("packs");
    assert_eq!(others, 0);
    let report = &json(&pack)["pack"];
    assert_eq!(
        (&report["chunks"], &report["raw_bytes"]),
        (&3.into(), &134_464.into())
    );
    assert_eq!(report["compression"]["none"], 3);
    assert!(shown(&pack).contains("pack of chunks"));

    let (index, _) = one("roots");
    let report = &json(&index)["index"];
    assert_eq!(
        (&report["size"], &report["blocks"]),
        (&200_000.into(), &4.into())
    );
    assert_eq!(
        (&report["chunk_blocks"], &report["zero_blocks"]),
        (&3.into(), &1.into())
    );
    assert_eq!(report["parent"], Value::Null);
    assert!(shown(&index).contains("3 chunks, 1 zero, of 4 blocks"));

    let tag = store.join("tags/a");
    let root = &json(&index)["root"];
    assert_eq!(
        (&json(&tag)["tag"]["kind"], &json(&tag)["tag"]["root"]),
        (&"disk".into(), root)
    );
    assert!(shown(&tag).contains("points to"));
    assert!(shown(&store.join("store")).contains("chunk store"));

    fs::set_permissions(&pack, Permissions::from_mode(0o600)).unwrap();
    patch(&pack, 170, |byte| *byte ^= 1);
    let verify: &[&dyn AsRef<OsStr>] = &[&"store", &"verify", &"--deep", &"--store", &store];
    assert_eq!(coldframe(verify).code, 1);
    assert_eq!(json(&store.join("ledger"))["ledger"]["damaged_chunks"], 1);
    assert!(shown(&store.join("ledger")).contains("1 chunks"));

    // A table that does not hold is a problem that is named.
    let end = fs::metadata(&pack).unwrap().len();
    patch(&pack, end - 9, |byte| *byte ^= 1);
    let broken = coldframe(&[&"inspect", &pack]);
    assert_eq!(broken.code, 1);
    assert!(broken.stdout.contains("problem"), "{broken:#?}");
}

#[test]
fn what_is_no_file_or_cannot_be_read_is_said_to_be_so() {
    let look = Look::new();
    let fifo = look.path("fifo");
    coldframe_testkit::scratch::make_fifo(&fifo);
    coldframe(&[&"inspect", &fifo]).fails(2, &["fifo", "neither a file nor a snapshot directory"]);
    // In a snapshot: the other files are shown.
    let memory = look.path("full").join("memory");
    fs::remove_file(&memory).unwrap();
    fs::rename(&fifo, &memory).unwrap();
    let shown = look.at("full");
    assert_eq!(shown.code, 1, "{shown:#?}");
    for part in [
        "snapshot manifest",
        "machine state",
        "memory: cannot be read",
    ] {
        assert!(shown.stdout.contains(part), "no {part:?} in {shown:#?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_a_foreign_one() {
    use coldframe_testkit::poor_host::{PoorHost, Trouble};
    use coldframe_testkit::unreadable::Ailment;

    let look = Look::new();
    let Some(host) = PoorHost::get() else { return };
    let troubled = |path: &str| {
        let mut inspect = crate::support::command(&[&"inspect", &look.path(path)]);
        let trouble = Trouble::Ails(Ailment::Errno(nix::errno::Errno::EIO as i32));
        host.troubled(trouble, "/manifest", &mut inspect);
        Outcome::from(inspect.output().unwrap())
    };
    troubled("diff-1/manifest").fails(3, &["cannot read", "manifest", "os error 5"]);
    let shown = troubled("diff-1");
    assert_eq!(shown.code, 3, "{shown:#?}");
    assert!(shown.stderr.contains("os error 5"), "{shown:#?}");
    assert!(!shown.stdout.contains("not a coldframe file"), "{shown:#?}");
    assert!(shown.stdout.contains("guest memory"), "{shown:#?}");
}

#[test]
fn parents_in_another_directory_are_found_by_search() {
    let look = Look::new();
    let (there, dir) = (look.home.at("there"), look.home.at("kept"));
    fs::create_dir(&there).unwrap();
    fs::rename(look.path("diff-2"), there.join("diff-2")).unwrap();
    let inspect = |search: &Path| {
        coldframe(&[
            &"inspect",
            &there.join("diff-2"),
            &"--search",
            &search,
            &"--json",
        ])
    };
    let chain = inspect(&dir).done().json()["chain"].clone();
    let expected = [dir.join("full"), dir.join("diff-1"), there.join("diff-2")];
    let expected = expected.map(|path| path.display().to_string());
    assert_eq!(chain, serde_json::json!(expected));
    let lost = inspect(&there);
    assert_eq!(lost.code, 1, "{lost:#?}");
    assert_eq!(lost.json()["chain"], Value::Null);
    assert!(
        lost.json()["problem"].as_str().unwrap().contains("parent"),
        "{lost:#?}"
    );
    inspect(&look.home.at("nowhere")).fails(3, &["nowhere"]);
    let manifest = look.path("full").join("manifest");
    coldframe(&[&"inspect", &manifest, &"--search", &dir]).fails(2, &["snapshot directory"]);
}

#[test]
fn what_a_host_does_not_say_of_itself_is_left_out() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    for name in ["full", "full/manifest", "full/state"] {
        let shown = coldframe(&[&"inspect", &dir.join(name)]).done().stdout;
        for line in shown.lines() {
            let is_whole = !line.contains(", ,") && !line.trim_end().ends_with(',');
            assert!(is_whole && line.trim() != "host", "{name}: {line:?}");
        }
    }
}

/// The plans are printed whole, for every target, from any host.
#[test]
fn plans_are_printed_with_their_reasons() {
    for target in ["kvm-x86_64", "kvm-aarch64", "hvf-aarch64"] {
        let text = coldframe(&[&"inspect", &"--plan", &target]).done();
        let shown = coldframe(&[&"inspect", &"--plan", &target, &"--json"])
            .done()
            .json();
        assert_eq!(shown["target"], target);
        for direction in ["save", "restore"] {
            assert!(text.stdout.contains(&format!("{target}: {direction}")));
            let steps = shown[direction].as_array().unwrap();
            for (number, step) in (1..).zip(steps) {
                assert_eq!(step["number"], number);
                let name = step["step"].as_str().unwrap();
                for key in ["why", "source"] {
                    let said = step[key].as_str().unwrap();
                    assert!(
                        !said.is_empty() && text.stdout.contains(said),
                        "{name} {key}"
                    );
                }
                let earlier =
                    |need: &Value| steps[..number - 1].iter().any(|row| row["step"] == *need);
                assert!(
                    step["after"].as_array().unwrap().iter().all(earlier),
                    "{name}"
                );
            }
            assert!(steps.iter().any(|row| row["by"] == "adapter"));
        }
    }
    coldframe(&[&"inspect", &"--plan", &"vax"]).fails(2, &["kvm-x86_64"]);
    coldframe(&[&"inspect", &"--plan", &"hvf", &"some/path"]).fails(2, &["--plan"]);
    coldframe(&[&"inspect"]).fails(2, &["PATH"]);
}
