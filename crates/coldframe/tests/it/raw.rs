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

// Parity: F10
#[test]
fn a_full_dump_comes_out_as_it_went_in_at_each_page_size() {
    let home = Home::new();
    let file = home.at("guest.mem");
    let bytes = dump(&file);
    for page_size in [
        "4KiB", "8KiB", "16KiB", "32KiB", "64KiB", "128KiB", "1MiB", "4096",
    ] {
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

// Parity: F11
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

// Parity: D12
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
    let fifo = home.at("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for odd in [
        fifo.as_path(),
        Path::new("/dev/null"),
        Path::new("/dev/zero"),
    ] {
        coldframe(&[&"import", &"raw", &odd, &"-o", &out]).fails(2, &["not a file"]);
        for (state, mem) in [(odd, file.as_path()), (file.as_path(), odd)] {
            let import = coldframe(&[
                &"import",
                &"firecracker",
                &"--state",
                &state,
                &"--mem",
                &mem,
                &"-o",
                &out,
            ]);
            assert!([1, 2].contains(&import.code), "{import:?}");
        }
    }
    for verb in [&["merge"][..], &["diff", "/nowhere"], &["export", "raw"]] {
        let mut merge = crate::support::command(&[]);
        let merge = merge.args(verb).arg(&fifo).arg("-o").arg(&out);
        let outcome = crate::support::Outcome::from(merge.output().unwrap());
        assert!([2, 3].contains(&outcome.code), "{outcome:?}");
    }
    coldframe(&[&"merge", &fifo, &"-o", &out]).fails(2, &["not a snapshot directory"]);
    fs::remove_file(&fifo).unwrap();
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

#[test]
fn large_pages_are_merged_compared_and_exported() {
    let home = Home::new();
    let (file, other) = (home.at("a.mem"), home.at("b.mem"));
    let mut bytes = Rng::new(3).bytes(6 << 20);
    fs::write(&file, &bytes).unwrap();
    bytes[(2 << 20) + 5] ^= 1;
    bytes[4 << 20..].fill(0);
    fs::write(&other, &bytes).unwrap();
    for page_size in ["128KiB", "256KiB", "512KiB", "1MiB", "2MiB"] {
        let at = |name: &str| home.at(&format!("{name}-{page_size}"));
        let (a, b, between, flat) = (at("a"), at("b"), at("diff"), at("flat"));
        for (dump, dest) in [(&file, &a), (&other, &b)] {
            let mut import = crate::support::command(&[&"import", &"raw", dump, &"-o", dest]);
            let import = import.args(["--page-size", page_size]).output().unwrap();
            crate::support::Outcome::from(import).done();
        }
        coldframe(&[&"diff", &a, &b, &"-o", &between]).done();
        assert!(memory_of(&between) == bytes, "{page_size}");
        coldframe(&[&"merge", &between, &"-o", &flat]).done();
        assert!(memory_of(&flat) == bytes, "{page_size}");
        assert_sound(&flat);
    }
}

/// A full dump, and the directory of its snapshot.
fn base(home: &Home) -> (Vec<u8>, std::path::PathBuf) {
    let (file, full) = (home.at("guest.mem"), home.at("full"));
    let bytes = dump(&file);
    coldframe(&[&"import", &"raw", &file, &"-o", &full]).done();
    (bytes, full)
}

#[test]
fn a_diff_dump_whose_holes_say_nothing_is_refused_unless_taken_as_it_is() {
    let home = Home::new();
    let (bytes, full) = base(&home);
    let import = |dump: &Path, dest: &Path, more: &[&str]| {
        let mut import =
            crate::support::command(&[&"import", &"raw", &dump, &"-o", &dest, &"--parent", &full]);
        crate::support::Outcome::from(import.args(more).output().unwrap())
    };
    let out = home.at("out");
    // Copied without its holes: what was a hole is zero.
    let dense = home.at("dense.mem");
    let mut changed = vec![0; 1 << 20];
    changed[0x5000..0x6000].fill(7);
    fs::write(&dense, &changed).unwrap();
    import(&dense, &out, &[]).fails(1, &["dense.mem", "no hole", "--assume-dense"]);
    // Without a zero page too: it may be a full dump.
    let random = home.at("random.mem");
    fs::write(&random, Rng::new(9).bytes(1 << 20)).unwrap();
    import(&random, &out, &[]).fails(1, &["random.mem", "no hole", "--assume-dense"]);
    // Allocated 64 KiB at a time, as a file system with large blocks does.
    let coarse = home.at("coarse.mem");
    let pages: Vec<(u64, u8)> = (16..32).map(|page| (page, u8::from(page == 20))).collect();
    sparse(&coarse, &pages);
    import(&coarse, &out, &[]).fails(1, &["coarse.mem", "65536", "0x10000", "--assume-dense"]);
    assert!(!out.exists());
    // Asked for: every allocated page is part of the diff.
    import(&dense, &out, &["--assume-dense"]).done();
    assert!(memory_of(&out) == changed);
    let mut expected = bytes.clone();
    expected[0x1_0000..0x2_0000].fill(0);
    expected[0x1_4000..0x1_5000].fill(1);
    import(&coarse, &home.at("out-coarse"), &["--assume-dense"]).done();
    assert!(memory_of(&home.at("out-coarse")) == expected);
    // The switch says nothing of a full dump.
    let import = coldframe(&[
        &"import",
        &"raw",
        &dense,
        &"-o",
        &home.at("x"),
        &"--assume-dense",
    ]);
    assert_eq!(import.code, 2, "{import:?}");
}

#[test]
fn coarse_holes_do_no_harm_where_no_page_is_zero() {
    let home = Home::new();
    let (mut bytes, full) = base(&home);
    let (changed, out) = (home.at("changed.mem"), home.at("out"));
    let pages: Vec<(u64, u8)> = (16..32).map(|page| (page, page as u8)).collect();
    sparse(&changed, &pages);
    coldframe(&[&"import", &"raw", &changed, &"--parent", &full, &"-o", &out]).done();
    for (page, byte) in pages {
        bytes[page as usize * 4096..][..4096].fill(byte);
    }
    assert!(memory_of(&out) == bytes);
}

#[test]
fn a_directory_to_make_may_be_named_with_a_slash() {
    let home = Home::new();
    let (bytes, full) = base(&home);
    let merged = home.at("merged");
    let mut named = merged.clone().into_os_string();
    named.push("/");
    coldframe(&[&"merge", &full, &"-o", &named]).done();
    assert!(memory_of(&merged) == bytes);
}

#[test]
fn a_sparse_export_is_a_full_dump_again() {
    let home = Home::new();
    let (bytes, full) = base(&home);
    let (out, again) = (home.at("out"), home.at("again"));
    coldframe(&[&"export", &"raw", &full, &"-o", &out, &"--sparse"]).done();
    coldframe(&[&"import", &"raw", &out, &"-o", &again]).done();
    assert!(memory_of(&again) == bytes);
}

#[test]
fn containers_of_other_programs_are_named_and_refused() {
    let home = Home::new();
    let file = home.at("file");
    for (at, magic, name) in [
        (0, &b"QFI\xfb\0\0\0\x03"[..], "qcow"),
        (0, b"\x1f\x8b\x08\0", "gzip"),
        (0, b"\x28\xb5\x2f\xfd", "zstd"),
        (0, b"\x7fELF\x02\x01", "ELF"),
        (257, b"ustar\0", "tar"),
        (0, b"\x89CFR\r\n\x1a\n", "coldframe"),
    ] {
        let mut bytes = vec![0; 8192];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        fs::write(&file, &bytes).unwrap();
        let out = home.at(name);
        let import = coldframe(&[&"import", &"raw", &file, &"-o", &out]);
        import.fails(2, &[name, "--raw"]);
        coldframe(&[&"import", &"raw", &file, &"--raw", &"-o", &out]).done();
        assert!(memory_of(&out) == bytes);
    }
}
