//! A real Linux guest's memory at three moments: booted, warm, busy.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::{Home, assert_sound, coldframe, tool};

/// Writes the pages of `after` that differ from `before` into a sparse file; gives how many.
fn changed(before: &Path, after: &Path, dest: &Path) -> u64 {
    const STEP: usize = 1 << 20;
    let (before, after) = (File::open(before).unwrap(), File::open(after).unwrap());
    let len = after.metadata().unwrap().len();
    assert_eq!(before.metadata().unwrap().len(), len);
    let sparse = File::create(dest).unwrap();
    sparse.set_len(len).unwrap();
    let (mut old, mut new) = (vec![0; STEP], vec![0; STEP]);
    let mut pages = 0;
    for at in (0..len).step_by(STEP) {
        before.read_exact_at(&mut old, at).unwrap();
        after.read_exact_at(&mut new, at).unwrap();
        for (page, (old, new)) in (0..).zip(old.chunks(4096).zip(new.chunks(4096))) {
            if old != new {
                sparse.write_all_at(new, at + page * 4096).unwrap();
                pages += 1;
            }
        }
    }
    sparse.sync_all().unwrap();
    pages
}

#[track_caller]
fn assert_same_files(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap());
}

#[test]
fn a_real_guests_memory_goes_in_as_full_and_diffs_and_comes_out_the_same() {
    let Some(corpus) = tool("corpus", "COLDFRAME_GUEST_CORPUS") else {
        return;
    };
    let [boot, warm, busy] = ["boot.mem", "warm.mem", "busy.mem"].map(|name| corpus.join(name));
    let home = Home::new();
    let [full, one, two] = ["boot", "warm", "busy"].map(|name| home.at(name));
    coldframe(&[&"import", &"raw", &boot, &"-o", &full]).done();
    for (before, after, parent, dest) in [(&boot, &warm, &full, &one), (&warm, &busy, &one, &two)] {
        let sparse = home.at("sparse.mem");
        let pages = changed(before, after, &sparse);
        assert!(pages > 0);
        coldframe(&[&"import", &"raw", &sparse, &"--parent", parent, &"-o", dest]).done();
        let memory = coldframe(&[&"inspect", &dest.join("memory"), &"--json"])
            .done()
            .json();
        let held = ["data_pages", "zero_pages"].map(|key| memory["memory"][key].as_u64().unwrap());
        assert_eq!(held[0] + held[1], pages);
    }
    assert_sound(&two);
    for (snapshot, dump) in [(&full, &boot), (&one, &warm), (&two, &busy)] {
        let out = home.at("out.mem");
        coldframe(&[&"export", &"raw", snapshot, &"-o", &out, &"--sparse"]).done();
        assert_same_files(&out, dump);
        fs::remove_file(out).unwrap();
    }

    // Made by comparing two full ones, the diff leads to the same bytes.
    let (whole, delta, out) = (home.at("whole"), home.at("delta"), home.at("out.mem"));
    coldframe(&[&"import", &"raw", &busy, &"-o", &whole]).done();
    coldframe(&[&"diff", &full, &whole, &"-o", &delta]).done();
    coldframe(&[&"export", &"raw", &delta, &"-o", &out]).done();
    assert_same_files(&out, &busy);
}
