//! The command on a file system that ignores case: one thing that is found by two names is one.

use std::ffi::OsStr;
use std::fs;

use coldframe_testkit::poor_host::PoorHost;

use crate::support::{Home, Outcome, assert_sound, coldframe, command, names, simulated};

fn folded(host: &PoorHost, (name, real): (&str, &str), args: &[&dyn AsRef<OsStr>]) -> Outcome {
    let mut command = command(args);
    host.folding(name, real, &mut command);
    command.output().unwrap().into()
}

#[test]
fn a_snapshot_that_was_renamed_in_case_alone_is_no_second_copy_of_itself() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    let dir = home.at("s");
    simulated(&dir);
    let rm = |name: &str| folded(host, ("/full", "/FULL"), &[&"rm", &dir.join(name)]);
    // The catalog notes the names.
    coldframe(&[&"rm", &dir.join("full")]).fails(1, &["diff-1"]);
    fs::rename(dir.join("full"), dir.join("FULL")).unwrap();
    for _ in 0..2 {
        rm("FULL").fails(1, &["diff-1"]);
    }
    let listed = folded(host, ("/full", "/FULL"), &[&"ls", &dir]).done();
    let is_old = |line: &str| line.starts_with("full");
    assert!(!listed.stdout.lines().any(is_old), "{listed:#?}");
    let there = names(&dir);
    assert!(there.contains(&"FULL".to_owned()), "{there:?}");
    for name in ["FULL", "diff-1", "diff-2"] {
        assert_sound(&dir.join(name));
    }
    for name in ["diff-2", "diff-1", "FULL"] {
        rm(name).done();
    }
    assert_eq!(names(&dir), ["catalog", "console.txt"]);
}

#[test]
fn a_tag_that_came_back_in_another_spelling_keeps_no_verb_of_the_store_from_its_work() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    let (image, store) = (home.at("image"), home.at("store"));
    fs::write(&image, [7; 1 << 16]).unwrap();
    let import = |name: &str| {
        coldframe(&[
            &"disk", &"import", &image, &"--store", &store, &"--name", &name,
        ])
        .done();
    };
    import("d");
    coldframe(&[&"store", &"untag", &"d", &"--store", &store]).done();
    import("D");
    let case = ("/tags/d", "/tags/D");
    for verb in ["ls", "stat", "verify", "gc", "gc"] {
        folded(host, case, &[&"store", &verb, &"--store", &store]).done();
    }
    let prune = ["prune", "--keep-last", "5", "--store"];
    let [verb, keep, count, at] = &prune;
    folded(host, case, &[&"store", verb, keep, count, at, &store]).done();
    let out = home.at("out");
    coldframe(&[&"disk", &"export", &"D", &"--store", &store, &"-o", &out]).done();
    assert_eq!(fs::read(out).unwrap(), fs::read(image).unwrap());
}
