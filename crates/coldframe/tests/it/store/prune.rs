//! Tags are removed by name, and by rules that say what is kept.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{assert_sound_store, frozen, new_store, noise, push, store_verb};
use crate::support::{Home, coldframe};

const BLOCKS: usize = 4;

/// A disk tag that was written so many days ago.
fn disk(home: &Home, store: &Path, name: &str, days: u64) {
    let image = home.at("disk.img");
    fs::write(&image, noise(days, BLOCKS)).unwrap();
    coldframe(&[
        &"disk", &"import", &image, &"--store", &store, &"--name", &name,
    ])
    .done();
    let file = fs::File::open(store.join("tags").join(name)).unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    file.set_modified(then).unwrap();
}

fn tags(store: &Path) -> Vec<String> {
    let listing = store_verb("ls", store, &[]).done().json();
    let tags = listing["tags"].as_array().unwrap().iter();
    tags.map(|tag| tag["name"].as_str().unwrap().to_owned())
        .collect()
}

fn family() -> (Home, std::path::PathBuf) {
    let home = Home::new();
    let store = new_store(&home);
    for (name, days) in [
        ("web", 9),
        ("web@a", 1),
        ("web@b", 2),
        ("web@c", 30),
        ("db@x", 40),
    ] {
        disk(&home, &store, name, days);
    }
    (home, store)
}

#[test]
fn untagged_is_garbage_and_a_name_that_is_not_there_removes_none() {
    let (_home, store) = family();
    let bad = coldframe(&[&"store", &"untag", &"web@a", &"nobody", &"--store", &store]);
    bad.fails(1, &["cannot untag nobody", "no tag is removed"]);
    assert_eq!(tags(&store).len(), 5);
    let said = coldframe(&[&"store", &"untag", &"web@a", &"db@x", &"--store", &store]).done();
    assert_eq!(said.stdout, "db@x removed\nweb@a removed\n");
    assert_eq!(tags(&store), ["web", "web@b", "web@c"]);
    let freed = store_verb("gc", &store, &["--grace", "0"]).done().json();
    assert_eq!(freed["deleted_packs"], 2, "{freed:#}");
    assert_sound_store(&store);
    let report = store_verb("untag", &store, &["web"]).done().json();
    assert_eq!(report["removed"], Value::from(vec!["web"]));
}

#[test]
fn the_newest_of_each_family_are_kept_and_other_tags_are_not_looked_at() {
    let (_home, store) = family();
    let dry = store_verb("prune", &store, &["--keep-last", "1", "--dry-run"]);
    let dry = dry.done().json();
    assert_eq!(dry["removed"], Value::Array(Vec::new()));
    let web = &dry["families"][1];
    let told: Vec<(&str, bool)> = (web["tags"].as_array().unwrap().iter())
        .map(|tag| {
            (
                tag["name"].as_str().unwrap(),
                tag["keep"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [("web@a", true), ("web@b", false), ("web@c", false)]);
    assert_eq!(tags(&store).len(), 5);
    let within = store_verb("prune", &store, &["--keep-within", "7d"])
        .done()
        .json();
    assert_eq!(within["removed"], Value::from(vec!["web@c"]));
    // Nothing but this family.
    let other = ["--keep-last", "1", "--family", "db"];
    store_verb("prune", &store, &other).done();
    assert_eq!(tags(&store), ["db@x", "web", "web@a", "web@b"]);
    let said = coldframe(&[&"store", &"prune", &"--keep-last", &"1", &"--store", &store]).done();
    assert!(
        said.stdout
            .ends_with("web@a kept\nweb@b removed\n1 tags removed\n"),
        "{said:#?}"
    );
    assert_eq!(tags(&store), ["db@x", "web", "web@a"]);
    assert_sound_store(&store);
}

#[test]
fn a_snapshot_is_as_old_as_it_was_made_and_not_as_its_tag() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(51, BLOCKS));
    std::thread::sleep(Duration::from_millis(1100));
    let two = frozen(&home, "two", &noise(52, BLOCKS));
    push(&two, &store, &["--name", "vm@two"]).done();
    push(&one, &store, &["--name", "vm@one"]).done();
    let report = store_verb("prune", &store, &["--keep-last", "1"])
        .done()
        .json();
    assert_eq!(report["removed"], Value::from(vec!["vm@one"]));
}

#[test]
fn a_tag_that_cannot_be_read_keeps_all() {
    let (_home, store) = family();
    let path = store.join("tags/web@b");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(99);
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let pruned = store_verb("prune", &store, &["--keep-last", "1"]);
    pruned.fails(1, &["web@b", "no tag is removed"]);
    assert_eq!(fs::read_dir(store.join("tags")).unwrap().count(), 5);
    // The others are listed.
    let listing = store_verb("ls", &store, &[]);
    assert_eq!(listing.code, 1);
    assert_eq!(listing.json()["tags"].as_array().unwrap().len(), 5);
}

#[test]
fn without_a_rule_nothing_is_removed() {
    let (_home, store) = family();
    assert_eq!(store_verb("prune", &store, &[]).code, 2);
    assert_eq!(store_verb("prune", &store, &["--keep-last", "0"]).code, 2);
    assert_eq!(store_verb("untag", &store, &[]).code, 2);
    assert_eq!(tags(&store).len(), 5);
}
