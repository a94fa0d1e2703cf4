//! What cannot be done is one line and an exit code, and changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{frozen, new_store, noise, pull, push, store_verb};
use crate::support::{Home, Outcome, coldframe, names, patch, simulated};

/// Every verb that needs a store, at this place.
fn everywhere(url: &str, home: &Home) -> Vec<Outcome> {
    let snapshot = home.at("kept/full");
    let out = home.at("out");
    let mut outcomes = vec![
        coldframe(&[&"push", &snapshot, &"--store", &url]),
        coldframe(&[&"pull", &"a", &"--store", &url, &"-o", &out]),
    ];
    for verb in ["ls", "stat", "verify", "gc"] {
        outcomes.push(coldframe(&[&"store", &verb, &"--store", &url]));
    }
    outcomes
}

#[test]
fn a_place_without_a_store_is_named_and_left_as_it_is() {
    let home = Home::new();
    simulated(&home.at("kept"));
    let missing = home.at("missing");
    let url = missing.to_str().unwrap();
    for outcome in everywhere(url, &home) {
        outcome.fails(3, &["there is no chunk store at", url]);
    }
    assert!(!missing.exists());
    let other = home.at("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine"), "mine").unwrap();
    let url = other.to_str().unwrap();
    for outcome in everywhere(url, &home) {
        outcome.fails(3, &["there is no chunk store at", url]);
    }
    assert_eq!(names(&other), ["mine"]);
    for outcome in everywhere(other.join("mine").to_str().unwrap(), &home) {
        outcome.fails(3, &["mine"]);
    }
    assert!(!home.at("out").exists());
}

#[test]
fn a_store_whose_own_file_is_damaged_is_found_wanting() {
    let home = Home::new();
    simulated(&home.at("kept"));
    let store = new_store(&home);
    patch(&store.join("store"), 40, |byte| *byte ^= 1);
    let url = store.to_str().unwrap();
    for outcome in everywhere(url, &home) {
        outcome.fails(1, &["the store at", url, "cannot be used"]);
    }
}

#[test]
fn urls_that_name_no_directory_are_wrong_usage() {
    let home = Home::new();
    simulated(&home.at("kept"));
    for url in ["gopher://bucket/prefix", "file://relative", ""] {
        for outcome in everywhere(url, &home) {
            outcome.fails(2, &["--store"]);
        }
    }
}

// Parity: F29
#[test]
fn names_that_no_tag_can_have_are_wrong_usage() {
    let home = Home::new();
    simulated(&home.at("kept"));
    let store = new_store(&home);
    for name in ["../secret", ".hidden", "", "a b", "a/b"] {
        let push = push(&home.at("kept/full"), &store, &["--name", name]);
        push.fails(2, &["--name", "a tag name has 1 to 128"]);
        // To pull, it is only a name that is not there.
        let pull = pull(name, &store, &home.at("out"), &[]);
        pull.fails(3, &["the store has no tag"]);
    }
    assert!(names(&store.join("tags")).is_empty());
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::new();
    let store = new_store(&home);
    let out = home.at("out");
    pull("nightly", &store, &out, &[]).fails(3, &["cannot pull nightly", "has no tag nightly"]);
    let id = "0123456789abcdef0123456789abcdef";
    pull(id, &store, &out, &[]).fails(3, &[id, "no snapshot of such an id"]);
    push(&home.at("none"), &store, &[]).fails(3, &["none"]);
    for grace in ["1y", "-1", "99999999999999999999d"] {
        let gc = store_verb("gc", &store, &["--grace", grace]);
        assert_eq!(gc.code, 2, "{gc:#?}");
    }
}

#[test]
fn a_tag_moves_forward_and_elsewhere_only_when_told_to() {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), new_store(&home));
    simulated(&dir);
    let other = frozen(&home, "other", &noise(1, 16));
    let nightly = ["--name", "nightly"];
    push(&dir.join("full"), &store, &nightly).done();
    push(&dir.join("diff-2"), &store, &nightly).done();
    let before = store_verb("ls", &store, &[]).done().json();
    for snapshot in [&other, &dir.join("diff-1")] {
        let taken = push(snapshot, &store, &nightly);
        taken.fails(2, &["tag nightly points to", "no ancestor", "--replace"]);
    }
    assert_eq!(store_verb("ls", &store, &[]).done().json(), before);
    let moved = push(&other, &store, &["--name", "nightly", "--replace"]).done();
    assert_eq!(moved.json()["before"], before["tags"][0]["root"]);
    let after = store_verb("ls", &store, &[]).done().json();
    assert_eq!(after["tags"][0]["root"], moved.json()["root"]);
}

#[test]
fn a_store_that_may_only_be_read_is_pulled_from_and_not_pushed_to() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(2, 16));
    push(&one, &store, &["--name", "one"]).done();
    // Root may write anywhere: a file in the place of the folder stops it as well.
    let leases = store.join("leases");
    fs::remove_dir(&leases).unwrap();
    fs::write(&leases, "").unwrap();
    fs::set_permissions(&leases, fs::Permissions::from_mode(0o400)).unwrap();
    pull("one", &store, &home.at("out"), &[]).done();
    let two = frozen(&home, "two", &noise(3, 16));
    push(&two, &store, &["--name", "two"]).fails(3, &["cannot push", "leases"]);
}

#[test]
fn a_name_that_something_else_has_is_left_alone() {
    let home = Home::new();
    let (store, out) = (new_store(&home), home.at("out"));
    let one = frozen(&home, "one", &noise(4, 16));
    let id = push(&one, &store, &["--name", "one"]).done().json()["id"].clone();
    let taken = out.join(id.as_str().unwrap());
    fs::create_dir_all(&taken).unwrap();
    fs::write(taken.join("mine"), "mine").unwrap();
    pull("one", &store, &out, &[]).fails(3, &["cannot pull one", id.as_str().unwrap()]);
    assert_eq!(names(&taken), ["mine"]);
}

#[test]
fn the_terminal_gets_a_bar_and_nothing_else_does() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(5, 512));
    // Anything but a terminal: `done` has it that nothing was printed there.
    push(&one, &store, &["--name", "one"]).done();
    let pull = "stty columns 200; exec \"$0\" pull one --store \"$1\" -o \"$2\" --json";
    let program = env!("CARGO_BIN_EXE_coldframe");
    let out = home.at("out");
    let asked = format!(
        "sh -c '{pull}' {program} {} {} > {}",
        store.display(),
        out.display(),
        home.at("json").display()
    );
    let mut script = coldframe_testkit::child::command("script");
    script.args(["--quiet", "--return", "--command", &asked, "/dev/null"]);
    let ran = match script.stdin(std::process::Stdio::null()).output() {
        Ok(ran) => ran,
        Err(error) => {
            coldframe_testkit::require::skipped("script", &error.to_string());
            return;
        }
    };
    let shown = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{shown}");
    for part in ["pull", "/32.00 MiB", "/s", "% dedup"] {
        assert!(shown.contains(part), "no {part:?} in {shown:?}");
    }
    let report = fs::read_to_string(home.at("json")).unwrap();
    assert!(report.starts_with('{'), "{report}");
}
