//! Writers that die at any moment, on real files: what they acknowledged is there, in order, and
//! nothing was made up.

use std::path::Path;
use std::time::Duration;

use coldframe_journal::{Batch, JournalOptions};
use coldframe_testkit::kills;
use coldframe_testkit::rng::Rng;

use crate::sample::{Writer, note, notes_in};

/// Cheap enough for every run of the tests; `cargo xtask crash --kills 500` does them all.
const KILLS: u64 = 25;
/// The longest that a writer lives.
const LIFE: Duration = Duration::from_millis(60);

fn open_journal(path: &Path) -> Writer {
    let options = JournalOptions::new().unwrap();
    if path.exists() {
        Writer::open(path, options).unwrap().0
    } else {
        Writer::create(path, options).unwrap()
    }
}

/// Appends and flushes for ever, and compacts now and then.
fn write_journal(path: &Path) -> ! {
    use coldframe_journal::Scope;

    let mut writer = open_journal(path);
    let mut next = writer.entries();
    let mut rng = Rng::new(next);
    loop {
        let count = 1 + rng.below(3);
        kills::say(&format!("begun {}", next + count));
        let mut batch = Batch::new();
        for at in next..next + count {
            batch.push(&note(at)).unwrap();
        }
        writer.commit(&batch).unwrap();
        next += count;
        if rng.below(2) == 0 {
            writer.flush().unwrap();
            kills::say(&format!("done {next}"));
        }
        if rng.below(50) == 0 {
            let rewritten = writer.begin_compaction().unwrap().run(|_| Scope::Keep);
            writer.adopt(rewritten.unwrap()).unwrap();
            kills::say(&format!("done {next}"));
        }
    }
}

// Spec: JRNL-5, JRNL-16, JRNL-17
#[test]
fn a_journal_keeps_what_it_acknowledged_whenever_its_writer_is_killed() {
    if let Some(path) = kills::work_place() {
        write_journal(&path);
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    drop(open_journal(&path));
    let (mut done, mut most) = (0, 0);
    let test = "kill::a_journal_keeps_what_it_acknowledged_whenever_its_writer_is_killed";
    kills::rounds("journal", test, &path, KILLS, LIFE, |round, said| {
        let begun = kills::last(said, "begun", done);
        done = kills::last(said, "done", done);
        coldframe_storage::sweep_stale(dir.path()).unwrap();
        let (found, end) = notes_in(&std::fs::read(&path).unwrap());
        let count = found.len() as u64;
        assert!(end.is_clean() || end.is_torn(), "round {round}: {end}");
        assert!(found.iter().copied().eq(0..count), "round {round}");
        assert!(
            count >= done,
            "round {round}: {done} were done, {count} there"
        );
        assert!(count <= begun.max(done), "round {round}: {count} invented");
        most = most.max(count);
        done = count;
        // Now and then from the start: reading it all again takes longer each time.
        if count > 5000 {
            std::fs::remove_file(&path).unwrap();
            drop(open_journal(&path));
            done = 0;
        }
    });
    assert!(most > 0);
}
