//! Raw dumps of guest memory, in and out.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use coldframe_testkit::rng::Rng;

use crate::support::{Home, assert_sound, coldframe, keys, memory_of, names};

/// 1 MiB with zeros in the middle.
fn dump(path: &Path) -> Vec<u8> {
    let mut bytes = Rng::new(3).bytes(1 << 20);
    bytes[0x4_0000..0x8_0000].fill(0);
    fs::write(path, &bytes).unwrap();
    bytes
}

/// A sparse file of 1 MiB with these pages allocated.
fn sparse(path: &Path, pages: &[(u64, u8)]) {
    let file = File::create(path).unwrap();
    file.set_len(1 << 20).unwrap();
    for (page, byte) in pages {
        file.write_all_at(&[*byte; 4096], page * 4096).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn a_full_dump_comes_out_as_it_went_in_at_each_page_size() {
    let home = Home::new();
    let file = home.at("guest.mem");
    let bytes = dump(&file);
    for page_size in ["4KiB", "16KiB", "64KiB", "1MiB", "4096"] {
        let dir = home.at(&format!("s-{page_size}"));
        let made = coldframe(&[
            &"import",
            &"raw",
            &file,
            &"--page-size",
            &page_size,
            &"-o",
            &dir,
            &"--json",
        ]);
        let made = made.done().json();
        assert_eq!(
            keys(&made),
            [
                "id",
                "kind",
                "memory_file_bytes",
                "parent",
                "path",
                "ram_bytes",
                "root"
            ]
        );
        assert_eq!(made["kind"], "full");
        assert_eq!(made["ram_bytes"], 1 << 20);
        assert_sound(&dir);
        assert!(memory_of(&dir) == bytes);
        assert_eq!(names(&dir), ["manifest", "memory"]);
    }
}

#[test]
fn a_sparse_export_has_holes_for_zeros() {
    let home = Home::new();
    let (file, dir) = (home.at("guest.mem"), home.at("full"));
    let bytes = dump(&file);
    coldframe(&[&"import", &"raw", &file, &"-o", &dir]).done();
    let out = home.at("out");
    let said = coldframe(&[&"export", &"raw", &dir, &"-o", &out, &"--sparse", &"--json"]).done();
    assert_eq!(keys(&said.json()), ["path", "ram_bytes"]);
    assert!(fs::read(&out).unwrap() == bytes);
    assert!(fs::metadata(&out).unwrap().blocks() * 512 <= (1 << 20) - 0x4_0000);
    let dense = home.at("dense");
    coldframe(&[&"export", &"raw", &dir, &"-o", &dense]).done();
    assert!(fs::read(&dense).unwrap() == bytes);
}

#[test]
fn a_hole_means_clean_and_an_allocated_zero_page_means_zero() {
    let home = Home::new();
    let (file, full) = (home.at("guest.mem"), home.at("full"));
    let mut bytes = dump(&file);
    coldframe(&[&"import", &"raw", &file, &"-o", &full]).done();

    let changed = home.at("changed.mem");
    sparse(
        &changed,
        &[(1, 0xaa), (2, 0), (3, 0), (100, 0xbb), (255, 0)],
    );
    let diff = home.at("diff");
    let made = coldframe(&[
        &"import",
        &"raw",
        &changed,
        &"--parent",
        &full,
        &"-o",
        &diff,
        &"--json",
    ]);
    assert_eq!(made.done().json()["kind"], "diff");
    for (page, byte) in [(1, 0xaa), (2, 0), (3, 0), (100, 0xbb), (255, 0)] {
        bytes[page * 4096..][..4096].fill(byte);
    }
    assert!(memory_of(&diff) == bytes);
    assert_sound(&diff);
    let memory = coldframe(&[&"inspect", &diff.join("memory"), &"--json"]).json();
    assert_eq!(memory["memory"]["data_pages"], 2);
    assert_eq!(memory["memory"]["zero_pages"], 3);

    // Folded, the zeros stay zeros.
    let flat = home.at("flat");
    coldframe(&[&"merge", &diff, &"-o", &flat]).done();
    assert!(memory_of(&flat) == bytes);
}

#[test]
fn a_sparse_dump_without_changes_is_an_empty_diff() {
    let home = Home::new();
    let (file, full, diff) = (home.at("guest.mem"), home.at("full"), home.at("diff"));
    let bytes = dump(&file);
    coldframe(&[&"import", &"raw", &file, &"-o", &full]).done();
    sparse(&home.at("same.mem"), &[]);
    coldframe(&[
        &"import",
        &"raw",
        &home.at("same.mem"),
        &"--parent",
        &full,
        &"-o",
        &diff,
    ])
    .done();
    assert!(memory_of(&diff) == bytes);
    assert_sound(&diff);
}

#[test]
fn dumps_that_make_no_snapshot_are_refused_and_leave_nothing() {
    let home = Home::new();
    let (file, out) = (home.at("guest.mem"), home.at("out"));
    let import = |more: &[&str]| {
        let mut import = crate::support::command(&[&"import", &"raw", &file, &"-o", &out]);
        crate::support::Outcome::from(import.args(more).output().unwrap())
    };
    import(&[]).fails(3, &["guest.mem"]);
    fs::write(&file, vec![1; 5000]).unwrap();
    import(&[]).fails(1, &["5000", "4KiB"]);
    fs::write(&file, b"").unwrap();
    import(&[]).fails(1, &["guest.mem"]);
    fs::write(&file, vec![1; 12288]).unwrap();
    import(&["--page-size", "8KiB"]).fails(1, &["12288", "8KiB"]);
    for odd in ["0", "3000", "3KiB", "1", "4MiB", "big"] {
        import(&["--page-size", odd]).fails(2, &["page"]);
    }
    assert_eq!(names(home.path()), ["guest.mem"]);

    let full = home.at("full");
    coldframe(&[&"import", &"raw", &file, &"-o", &full]).done();
    sparse(&file, &[(1, 1)]);
    let parent = full.to_str().unwrap();
    import(&["--parent", parent]).fails(1, &["RAM layout"]);
    import(&["--parent", "/nowhere"]).fails(3, &["/nowhere"]);
    coldframe(&[&"import", &"raw", &home.path(), &"-o", &out]).fails(2, &["not a file"]);
    coldframe(&[&"import", &"raw", &file, &"-o", &full]).fails(3, &["exists already"]);
    assert_eq!(names(home.path()), ["full", "guest.mem"]);
}

#[test]
fn a_hole_that_splits_a_page_of_a_diff_is_refused() {
    let home = Home::new();
    let (file, full, out) = (home.at("guest.mem"), home.at("full"), home.at("out"));
    dump(&file);
    coldframe(&[
        &"import",
        &"raw",
        &file,
        &"--page-size",
        &"64KiB",
        &"-o",
        &full,
    ])
    .done();
    let changed = home.at("changed.mem");
    sparse(&changed, &[(17, 1)]);
    let import = coldframe(&[
        &"import",
        &"raw",
        &changed,
        &"--page-size",
        &"64KiB",
        &"--parent",
        &full,
        &"-o",
        &out,
    ]);
    import.fails(1, &["hole", "0x11000"]);
}

#[test]
fn an_export_takes_no_ones_place() {
    let home = Home::new();
    let (file, full) = (home.at("guest.mem"), home.at("full"));
    dump(&file);
    coldframe(&[&"import", &"raw", &file, &"-o", &full]).done();
    coldframe(&[&"export", &"raw", &full, &"-o", &file]).fails(3, &["exists already"]);
    coldframe(&[&"export", &"raw", &home.at("no"), &"-o", &home.at("x")]).fails(3, &["no"]);
    let pair = home.at("pair");
    let export = coldframe(&[&"export", &"firecracker", &full, &"-o", &pair]);
    export.fails(2, &["no Firecracker state"]);
    assert_eq!(names(home.path()), ["full", "guest.mem"]);
}
