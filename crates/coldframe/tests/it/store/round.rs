//! There and back: what is said on the way, and that what comes back is what went in.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{assert_equal, assert_sound_store, new_store, pull, pulled_path, push, store_verb};
use crate::support::{Home, assert_sound, coldframe, command, keys, names, no_kvm, simulated};

// Parity: F25
#[test]
fn a_push_says_what_was_sent_and_a_second_one_sends_nothing() {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), new_store(&home));
    simulated(&dir);
    let report = push(&dir.join("diff-2"), &store, &["--name", "nightly"]);
    let report = report.done().json();
    let all = [
        "before",
        "blocks",
        "bytes",
        "id",
        "root",
        "sent_blocks",
        "sent_bytes",
        "snapshots",
        "stored_bytes",
        "tag",
    ];
    assert_eq!(keys(&report), all);
    assert_eq!(report["tag"], "nightly");
    assert_eq!(report["before"], Value::Null);
    assert_eq!(report["snapshots"], 3);
    let number = |key: &str| report[key].as_u64().unwrap();
    assert!(0 < number("sent_blocks") && number("sent_blocks") <= number("blocks"));
    assert!(number("stored_bytes") < number("sent_bytes"));
    assert!(number("sent_bytes") <= number("bytes"));

    let again = push(&dir.join("diff-2"), &store, &["--name", "nightly"]);
    let again = again.done().json();
    assert_eq!(again["before"], report["root"]);
    assert_eq!(
        (&again["sent_blocks"], &again["stored_bytes"]),
        (&0.into(), &0.into())
    );
    assert_eq!(again["blocks"], report["blocks"]);

    let said = coldframe(&[&"push", &dir.join("full"), &"--store", &store]).done();
    let id = said.stdout.split(':').next().unwrap();
    assert!(said.stdout.contains("a chain of 1"), "{said:#?}");
    assert!(
        said.stdout.contains(", 0 B of them new to the store"),
        "{said:#?}"
    );
    let listed = store_verb("ls", &store, &[]).done().json();
    let tags = listed["tags"].as_array().unwrap();
    assert_eq!(tags.len(), 2);
    assert!(
        tags.iter().any(|tag| tag["name"] == id && tag["id"] == id),
        "{listed:#}"
    );
}

#[test]
fn a_pull_says_where_each_snapshot_is_and_a_second_one_fetches_nothing() {
    let home = Home::new();
    let (dir, store, out) = (home.at("kept"), new_store(&home), home.at("deep/out"));
    simulated(&dir);
    push(&dir.join("diff-2"), &store, &["--name", "nightly"]).done();
    let report = pull("nightly", &store, &out, &[]).done().json();
    let all = [
        "blocks",
        "bytes",
        "fetched_blocks",
        "fetched_bytes",
        "id",
        "leftovers_removed",
        "path",
        "root",
        "snapshots",
    ];
    assert_eq!(keys(&report), all);
    let links = report["snapshots"].as_array().unwrap();
    assert_eq!(links.len(), 3);
    for (link, name) in links.iter().zip(["full", "diff-1", "diff-2"]) {
        assert_eq!(keys(link), ["id", "is_new", "kind", "path"]);
        assert_eq!(link["kind"], name.split('-').next().unwrap());
        assert_eq!(link["is_new"], true);
        let path = pulled_path(link);
        assert_eq!(path, out.join(link["id"].as_str().unwrap()));
        assert_equal(&dir.join(name), &path);
        assert_sound(&path);
    }
    assert_eq!(report["path"], links[2]["path"]);
    assert_eq!(report["id"], links[2]["id"]);

    let again = pull("nightly", &store, &out, &[]).done().json();
    assert_eq!(again["fetched_blocks"], 0);
    let links = again["snapshots"].as_array().unwrap();
    assert!(
        links.iter().all(|link| link["is_new"] == false),
        "{again:#}"
    );

    let said = coldframe(&[&"pull", &"nightly", &"--store", &store, &"-o", &out]).done();
    assert_eq!(
        said.stdout.matches("snapshot, was there\n").count(),
        3,
        "{said:#?}"
    );
    assert!(
        said.stdout.ends_with(", 0 B of them fetched\n"),
        "{said:#?}"
    );
}

// Parity: F73
#[test]
fn a_snapshot_is_pulled_by_its_id_and_blocks_at_hand_are_not_fetched() {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), new_store(&home));
    simulated(&dir);
    push(&dir.join("diff-2"), &store, &["--name", "nightly"]).done();
    let info = coldframe(&[&"ls", &dir, &"--json"]).done().json();
    let items = info["snapshots"].as_array().unwrap();
    let full = items.iter().find(|item| item["name"] == "full").unwrap();
    let id = full["id"].as_str().unwrap();
    let search = ["--search", dir.to_str().unwrap()];
    let report = pull(id, &store, &home.at("out"), &search).done().json();
    assert_eq!(report["fetched_blocks"], 0);
    assert_ne!(report["blocks"], 0);
    assert_equal(&dir.join("full"), &pulled_path(&report));
    assert_eq!(names(&home.at("out")), [id]);
}

/// A store with two tags, of which the second is built on the first.
#[track_caller]
fn two_tags() -> (Home, PathBuf) {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), new_store(&home));
    simulated(&dir);
    push(&dir.join("diff-1"), &store, &["--name", "one"]).done();
    push(&dir.join("diff-2"), &store, &["--name", "two"]).done();
    (home, store)
}

// Parity: D37
#[test]
fn a_listing_has_the_keys_that_programs_read() {
    let (_home, store) = two_tags();
    let made = store_verb("init", &store, &[]).done().json();
    assert_eq!(keys(&made), ["store"]);
    let listed = store_verb("ls", &store, &[]).done().json();
    assert_eq!(keys(&listed), ["store", "tags"]);
    let tag = &listed["tags"][0];
    let all = [
        "bytes",
        "created_unix_seconds",
        "error",
        "id",
        "kind",
        "name",
        "root",
    ];
    assert_eq!(keys(tag), all);
    assert_eq!(
        (&tag["name"], &tag["kind"]),
        (&"one".into(), &"snapshot".into())
    );
    assert_eq!(
        (&tag["bytes"], &tag["error"]),
        (&(8 << 20).into(), &Value::Null)
    );
    let said = coldframe(&[&"store", &"ls", &"--store", &store]).done();
    let line = said.stdout.lines().nth(1).unwrap();
    assert!(line.starts_with("one   snapshot  8 MiB  "), "{said:#?}");
}

// Parity: D37, F42
#[test]
fn statistics_and_verdicts_have_the_keys_that_programs_read() {
    let home = Home::new();
    let empty = store_verb("stat", &new_store(&home), &[]).done().json();
    assert_eq!(empty["dedup_ratio"], Value::Null);
    assert_eq!(empty["chunks"], 0);
    let (_home, store) = two_tags();
    let stat = store_verb("stat", &store, &[]).done().json();
    let all = [
        "chunks",
        "compression_ratio",
        "damages",
        "dedup_ratio",
        "logical_bytes",
        "pack_bytes",
        "packs",
        "raw_bytes",
        "root_bytes",
        "roots",
        "shared_bytes",
        "store",
        "stored_bytes",
        "tags",
        "unique_bytes",
    ];
    assert_eq!(keys(&stat), all);
    let line = &stat["tags"][1];
    let all = [
        "exclusive_bytes",
        "logical_bytes",
        "lost_blocks",
        "missing_chunks",
        "name",
        "shared_bytes",
        "unique_bytes",
        "unread_files",
    ];
    assert_eq!(keys(line), all);
    assert_eq!(line["missing_chunks"], 0);
    // The second tag needs all that the first does.
    assert_eq!(stat["tags"][0]["exclusive_bytes"], 0);
    assert_eq!(line["shared_bytes"], stat["shared_bytes"]);
    assert_eq!(stat["unique_bytes"], stat["raw_bytes"]);
    assert!(stat["dedup_ratio"].as_f64().unwrap() > 1.0);

    let said = coldframe(&[&"store", &"stat", &"--store", &store]).done();
    assert!(said.stdout.contains("different: dedup "), "{said:#?}");
    assert_eq!(store_verb("stat", &store, &[]).done().json(), stat);
    let verified = store_verb("verify", &store, &["--deep"]).done().json();
    assert_eq!(
        keys(&verified),
        [
            "chunks_read",
            "damages",
            "hurt_tags",
            "not_recorded",
            "verdict"
        ]
    );
    assert_eq!(verified["chunks_read"], stat["chunks"]);
}

#[test]
fn a_file_url_is_the_directory_that_it_names() {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), home.at("store"));
    simulated(&dir);
    let url = format!("file://{}", store.display());
    coldframe(&[&"store", &"init", &"--store", &url]).done();
    push(&dir.join("full"), &store, &["--name", "a"]).done();
    let url = format!("file://localhost{}", store.display());
    coldframe(&[&"pull", &"a", &"--store", &url, &"-o", &home.at("out")]).done();
    assert_eq!(names(&home.at("out")).len(), 1);
}

/// A demonstration is pushed and deleted; each of its snapshots comes back in a clean directory,
/// and thaws in a process of its own to the end of the guest that was never stopped.
#[track_caller]
fn check_thawed(backend: &str, workload: &str, diffs: u32) {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), new_store(&home));
    let count = diffs.to_string();
    let mut demo = command(&[&"demo", &"--backend", &backend, &"--workload", &workload]);
    demo.args(["--ram", "16MiB", "--diffs", &count, "--json", "--dir"]);
    let demo = demo.arg(&dir).output().unwrap();
    let end = serde_json::from_slice::<Value>(&demo.stdout).unwrap()["end"].clone();
    let last = format!("diff-{diffs}");
    let pushed = push(&dir.join(&last), &store, &["--name", "demo"]);
    assert_eq!(pushed.done().json()["snapshots"], diffs + 1);
    fs::remove_dir_all(&dir).unwrap();
    assert_sound_store(&store);

    let out = home.at("clean");
    let report = pull("demo", &store, &out, &[]).done().json();
    // The store is not needed any more.
    fs::remove_dir_all(&store).unwrap();
    for link in report["snapshots"].as_array().unwrap() {
        thaws_to(Path::new(link["path"].as_str().unwrap()), &end);
    }
}

#[track_caller]
fn thaws_to(snapshot: &Path, end: &Value) {
    for mode in ["map", "copy"] {
        let thawed = coldframe(&[&"thaw", &snapshot, &"--mode", &mode]).done();
        assert_eq!(thawed.json()["end"], *end, "{} {mode}", snapshot.display());
    }
}

#[test]
fn a_demonstration_comes_back_from_a_store_and_ends_identical() {
    for workload in ["hash", "zeroing", "random"] {
        check_thawed("simulated", workload, 3);
    }
}

#[test]
fn a_demonstration_comes_back_from_a_store_and_ends_identical_on_kvm() {
    if no_kvm() {
        return;
    }
    check_thawed("kvm", "hash", 2);
    check_thawed("kvm", "smp", 1);
}
