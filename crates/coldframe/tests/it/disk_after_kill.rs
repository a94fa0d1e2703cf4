//! After the kill of a server: what every verb makes of a disk whose changes are in its log alone,
//! in stores of every kind.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use coldframe_storage::is_temporary;
use coldframe_testkit::child::Running;
use coldframe_testkit::poor_host::{Lack, PoorHost};
use coldframe_testkit::require::skipped;

use crate::disk_log::{MIB, disk, killed, text};
use crate::nbd_client::{Client, FLUSH};
use crate::remote::Far;
use crate::served::Place;
use crate::support::{Outcome, coldframe, command, names, simulated};

/// A page of the disk that its store does not have.
const PAGE: [u8; 4096] = [0x5a; 4096];

/// What the disk is with that page.
fn changed() -> Vec<u8> {
    let mut bytes = vec![0; MIB];
    bytes[..PAGE.len()].copy_from_slice(&PAGE);
    bytes
}

/// Starts a server, writes the page, flushes, and kills it.
#[track_caller]
fn write_and_kill(mut serve: Command, socket: &Path, name: &str) {
    let listen = format!("unix:{}", socket.display());
    serve.args(["--json", "--listen", &listen, "--wal-size", "4MiB"]);
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running::start(&mut serve);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if !lines.any(|line| line.unwrap() == "}") {
        panic!("the server did not start: {:?}", child.output());
    }
    let mut client = Client::simple(socket, name);
    assert_eq!(client.write(0, 0, &PAGE), 0);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn store(place: &Place, verb: &str, more: &[&str]) -> Outcome {
    let mut run = command(&[&"store", &verb, &"--store", &place.store()]);
    run.args(more).output().unwrap().into()
}

#[test]
fn no_verb_of_the_store_loses_the_changes() {
    let (place, bytes) = killed(&[]);
    let way_out = [
        "a.wal",
        "disk resize a --store",
        "--size 0",
        "--abandon-log",
    ];
    store(&place, "untag", &["a"]).fails(1, &way_out);
    // Not one of several is removed.
    place.import(&place.at("a.img"), "b");
    store(&place, "untag", &["b", "a"]).fails(1, &way_out);
    for verb in ["ls", "stat", "verify"] {
        store(&place, verb, &[]).done();
    }
    for _ in 0..2 {
        store(&place, "gc", &["--grace", "0"]).done();
    }
    let tag = place.store().join("tags/a");
    let inspected = coldframe(&[&"inspect", &tag]).done();
    assert!(inspected.stdout.contains("a.wal"), "{inspected:?}");
    simulated(&place.at("s"));
    let push: [&dyn AsRef<OsStr>; 7] = [
        &"push",
        &place.at("s/diff-2"),
        &"--store",
        &place.store(),
        &"--name",
        &"a",
        &"--replace",
    ];
    coldframe(&push).fails(2, &["tag a points to a disk"]);
    assert!(place.export("a") == bytes, "nothing is lost");
    assert!(place.export("b") == vec![0; MIB]);
    disk(&place, "resize", &["a", "--size", "0"]).done();
    assert!(place.export("a") == bytes, "all is in the store");
    store(&place, "untag", &["a", "b"]).done();
}

#[test]
fn prune_goes_on_behind_a_disk_whose_log_has_changes() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    for name in ["a@1", "a@2", "a@3"] {
        place.import(&place.at("a.img"), name);
    }
    let mut serve = command(&[&"disk", &"serve", &"a@1"]);
    serve.arg("--store").arg(place.store());
    write_and_kill(serve, &place.at("socket"), "a@1");
    // An hour between each two of them, the first is the oldest.
    let tags = place.store().join("tags");
    for (name, hours) in names(&tags).iter().zip([2, 1]) {
        let written = SystemTime::now() - Duration::from_secs(hours * 3600);
        let tag = fs::File::open(tags.join(name)).unwrap();
        tag.set_modified(written).unwrap();
    }
    let pruned = store(&place, "prune", &["--keep-last", "1", "--json"]);
    assert!(place.export("a@1") == changed());
    assert_eq!(pruned.code, 1, "{pruned:?}");
    assert!(pruned.stderr.contains("a@1.wal"), "{pruned:?}");
    assert_eq!(names(&tags).len(), 2);
}

#[test]
fn an_import_replaces_a_disk_but_not_its_unfolded_changes() {
    let (place, bytes) = killed(&[]);
    fs::write(place.at("new.img"), vec![7; 2 * MIB]).unwrap();
    let new = text(&place.at("new.img"));
    let import = ["--name", "a", &new];
    disk(&place, "import", &import).fails(2, &["a exists", "--replace"]);
    let replace = [&import[..], &["--replace"]].concat();
    for lazy in [&[][..], &["--lazy"]] {
        let refused = disk(&place, "import", &[&replace[..], lazy].concat());
        refused.fails(
            1,
            &[
                "a.wal",
                "disk resize a --store",
                "--size 0",
                "--abandon-log",
            ],
        );
    }
    assert!(place.export("a") == bytes);
    disk(&place, "resize", &["a", "--size", "0"]).done();
    disk(&place, "import", &replace).done();
    assert!(place.export("a") == vec![7; 2 * MIB]);
    // The log of the disk that was replaced is there still, and none of it is shown or replayed.
    assert!(place.store().join("wal/a.wal").exists());
    place.serve("a", &[]).stop();
    assert!(place.export("a") == vec![7; 2 * MIB]);
}

#[test]
fn a_base_that_is_no_image_is_refused_and_not_waited_for() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![1; MIB]).unwrap();
    let image = text(&place.at("a.img"));
    disk(&place, "import", &["--name", "a", "--lazy", &image]).done();
    let fifo = text(&place.at("fifo"));
    nix::unistd::mkfifo(Path::new(&fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (out, socket) = (text(&place.at("out")), text(&place.at("s")));
    let listen = format!("unix:{socket}");
    let verbs = [
        ("export", &["a", "-o", &out][..]),
        ("resize", &["a", "--size", "2MiB"]),
        ("serve", &["a", "--listen", &listen]),
        ("serve", &["a", "--listen", &listen, "--read-only"]),
    ];
    for (verb, args) in verbs {
        for base in [&fifo, "/dev/zero", &text(&place.store())] {
            let refused = disk(&place, verb, &[args, &["--base", base]].concat());
            refused.fails(2, &[base, "not a regular file or block device"]);
        }
    }
    assert!(!place.store().join("wal/a.wal").exists(), "no log was made");
}

#[test]
fn a_log_behind_a_link_is_a_log_and_somebody_elses_file_is_none() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    fs::create_dir(place.at("logs")).unwrap();
    let (real, link) = (place.at("logs/real"), place.at("link"));
    symlink(&real, &link).unwrap();
    let wal = text(&link);
    for bytes in [&b""[..], b"text of someone"] {
        fs::write(&real, bytes).unwrap();
        let other = disk(&place, "resize", &["a", "--size", "0", "--wal", &wal]);
        other.fails(3, &["link", "no log"]);
        assert_eq!(fs::read(&real).unwrap(), bytes, "it stays");
    }
    fs::remove_file(&real).unwrap();
    disk(
        &place,
        "resize",
        &["a", "--size", "0", "--wal", &text(&real)],
    )
    .done();
    let mut serve = command(&[&"disk", &"serve", &"a", &"--wal", &wal]);
    serve.arg("--store").arg(place.store());
    write_and_kill(serve, &place.at("socket"), "a");
    assert!(link.is_symlink(), "the link is as it was");
    assert_eq!(names(&place.at("logs")), ["real"], "and nothing else");
    assert!(place.export("a") == changed());
    disk(&place, "resize", &["a", "--size", "0", "--wal", &wal]).done();
}

#[test]
fn a_log_whose_name_cannot_be_made_durable_takes_no_writes() {
    let Some(host) = PoorHost::get() else { return };
    let logs = coldframe_testkit::scratch::on_disk();
    let wal = logs.path().join("x.wal");
    let (place, bytes) = killed(&["--wal", wal.to_str().unwrap()]);
    let mut resize = command(&[&"disk", &"resize", &"a", &"--size", &"0", &"--wal", &wal]);
    resize.arg("--store").arg(place.store());
    host.without(Lack::SoundDirectorySync, &mut resize);
    Outcome::from(resize.output().unwrap()).fails(3, &["cannot open the log", "x.wal"]);
    assert!(place.export("a") == bytes);
}

#[test]
fn a_live_log_is_not_abandoned() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    let server = place.serve("a", &["--wal-size", "4MiB"]);
    let mut client = Client::simple(&server.socket, "a");
    assert_eq!(client.write(0, 0, &PAGE), 0);
    let other = text(&place.at("other.wal"));
    let resize = ["a", "--size", "0", "--wal", &other, "--abandon-log"];
    disk(&place, "resize", &resize).fails(1, &["a.wal", "in use"]);
    drop(client);
    server.stop();
    assert!(place.export("a") == changed());
}

#[test]
fn names_of_every_kind_find_their_log() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    let name = "a@b=c:d+e-f";
    place.import(&place.at("a.img"), name);
    let mut serve = command(&[&"disk", &"serve", &name]);
    serve.arg("--store").arg(place.store());
    write_and_kill(serve, &place.at("socket"), name);
    assert!(place.export(name) == changed(), "the default log");
    // Bytes that are no text, and a line break.
    for (number, odd) in [&b"odd\xff\xfe.wal"[..], b"two\nlines.wal"]
        .iter()
        .enumerate()
    {
        let name = format!("odd{number}");
        place.import(&place.at("a.img"), &name);
        let wal = place.0.path().join(OsStr::from_bytes(odd));
        if fs::write(&wal, b"").is_err() {
            skipped("names", "the file system takes no names that are no text");
            continue;
        }
        fs::remove_file(&wal).unwrap();
        let mut serve = command(&[&"disk", &"serve", &name, &"--wal", &wal]);
        serve.arg("--store").arg(place.store());
        write_and_kill(serve, &place.at(&format!("socket{number}")), &name);
        assert!(place.export(&name) == changed(), "found where the tag says");
        let out = place.at("refused");
        let moved = place.at("moved.wal");
        fs::rename(&wal, &moved).unwrap();
        let mut export = command(&[&"disk", &"export", &name, &"-o", &out]);
        export.arg("--store").arg(place.store());
        Outcome::from(export.output().unwrap()).fails(1, &["not found", "--wal"]);
        fs::rename(&moved, &wal).unwrap();
        disk(&place, "ls", &[]).done();
        let args: [&dyn AsRef<OsStr>; 6] = [&"disk", &"resize", &name, &"--size", &"0", &"--wal"];
        let mut resize = command(&args);
        resize.arg(&wal).arg("--store").arg(place.store());
        Outcome::from(resize.output().unwrap()).done();
    }
}

/// Runs the command where the directory is mounted read-only; `None`, said to be skipped, if this
/// host cannot.
fn read_only(dir: &Path, args: &[&dyn AsRef<OsStr>]) -> Option<Outcome> {
    const SCRIPT: &str = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" \
         || exit 99; shift; exec \"$@\"";
    let run = command(args);
    let mut unshare = coldframe_testkit::child::command("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"]);
    unshare.arg(dir).arg(run.get_program()).args(run.get_args());
    let output = unshare.stdin(Stdio::null()).output();
    match output.map(Outcome::from) {
        Ok(outcome) if outcome.code == 99 || outcome.stderr.contains("unshare") => {
            skipped("unshare", &outcome.stderr);
            None
        }
        Ok(outcome) => Some(outcome),
        Err(error) => {
            skipped("unshare", &error.to_string());
            None
        }
    }
}

#[test]
fn a_store_that_is_mounted_read_only_is_read_with_its_log() {
    let (place, bytes) = killed(&[]);
    fs::create_dir(place.at("outside")).unwrap();
    let out = place.at("outside/out");
    let (store, dir) = (place.store(), place.store());
    let export: [&dyn AsRef<OsStr>; 7] =
        [&"disk", &"export", &"a", &"--store", &store, &"-o", &out];
    let Some(exported) = read_only(&dir, &export) else {
        return;
    };
    exported.done();
    assert!(fs::read(&out).unwrap() == bytes);
    let list: [&dyn AsRef<OsStr>; 4] = [&"disk", &"ls", &"--store", &store];
    let listed = read_only(&dir, &list).unwrap().done();
    assert!(listed.stdout.contains("a.wal"), "{listed:?}");
    // What writes says so, and changes nothing.
    let resize: [&dyn AsRef<OsStr>; 7] = [
        &"disk", &"resize", &"a", &"--size", &"0", &"--store", &store,
    ];
    let resized = read_only(&dir, &resize).unwrap();
    resized.fails(3, &["Read-only file system"]);
    assert!(place.export("a") == bytes);
}

#[test]
fn a_disk_of_a_store_far_away_names_its_log() {
    let Some(far) = Far::new("logs") else { return };
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    let image = place.at("a.img");
    far.run(&[&"disk", &"import", &image, &"--name", &"a"])
        .done();
    let wal = place.at("a.wal");
    let serve = far.command(&[&"disk", &"serve", &"a", &"--wal", &wal]);
    write_and_kill(serve, &place.at("socket"), "a");
    let exported = |more: &[&dyn AsRef<OsStr>], to: &str| {
        let out = place.at(to);
        let export: [&dyn AsRef<OsStr>; 5] = [&"disk", &"export", &"a", &"-o", &out];
        let outcome = far.run(&[&export, more].concat());
        (outcome, fs::read(out).unwrap_or_default())
    };
    let (outcome, bytes) = exported(&[], "found");
    outcome.done();
    assert!(bytes == changed(), "found where the tag says");
    let other = place.at("other.wal");
    let resize: [&dyn AsRef<OsStr>; 6] = [&"disk", &"resize", &"a", &"--size", &"0", &"--wal"];
    far.run(&[&resize[..], &[&other]].concat())
        .fails(1, &["a.wal", "--wal", "disk recover"]);
    assert!(!other.exists(), "no log was made");
    far.run(&[&"store", &"untag", &"a"]).fails(1, &["a.wal"]);
    far.run(&[&"disk", &"import", &image, &"--name", &"a", &"--replace"])
        .fails(1, &["a.wal"]);
    let moved = place.at("moved.wal");
    fs::rename(&wal, &moved).unwrap();
    exported(&[], "refused").0.fails(1, &["a.wal", "not found"]);
    let (outcome, bytes) = exported(&[&"--wal", &moved], "named");
    outcome.done();
    assert!(bytes == changed(), "named");
    let recover: [&dyn AsRef<OsStr>; 6] =
        [&"disk", &"recover", &"--name", &"saved", &"--wal", &moved];
    far.run(&recover).done();
    far.run(&[&resize[..], &[&moved]].concat()).done();
    let (outcome, bytes) = exported(&[], "folded");
    outcome.done();
    assert!(bytes == changed(), "in the store");
    far.run(&[&"store", &"untag", &"a", &"saved"]).done();
}

/// A server is killed again and again while it starts: at every moment its disk is served, exported
/// and removed as if nothing had been, and what it left is swept.
#[test]
fn a_kill_while_a_log_is_made_leaves_nothing_in_the_way() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    let wal = place.store().join("wal");
    for round in 0..24_u64 {
        let listen = format!("unix:{}", place.at("socket").display());
        let mut serve = command(&[&"disk", &"serve", &"a", &"--listen", &listen]);
        serve.arg("--store").arg(place.store());
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = Running::start(&mut serve);
        // Somewhere between the start and the first client: where does not matter.
        std::thread::sleep(std::time::Duration::from_millis(round));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(place.export("a") == vec![0; MIB], "round {round}");
        if round % 3 == 0 {
            let _ = fs::remove_file(wal.join("a.wal"));
            disk(&place, "resize", &["a", "--size", "0", "--abandon-log"]).done();
            let _ = fs::remove_file(wal.join("a.wal"));
        }
    }
    place.serve("a", &["--abandon-log"]).stop();
    store(&place, "gc", &["--grace", "0"]).done();
    let left: Vec<OsString> = fs::read_dir(&wal)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| is_temporary(name))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_damaged_default_log_is_rescued_and_given_up_as_the_error_says() {
    let (place, bytes) = killed(&[]);
    // A later record says that the one that is damaged then was durable.
    let server = place.serve("a", &[]);
    let mut client = Client::simple(&server.socket, "a");
    assert_eq!(client.write(0, 8192, &[0xa5; 4096]), 0);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    server.kill();
    let log = place.store().join("wal/a.wal");
    let mut file = fs::read(&log).unwrap();
    let at = file.windows(64).position(|part| part == &bytes[..64]);
    file[at.unwrap()] ^= 1;
    fs::write(&log, &file).unwrap();
    let (out, socket) = (text(&place.at("out")), text(&place.at("s")));
    let way_out = [
        "a.wal",
        "disk recover --wal",
        "--damaged",
        "disk resize a --store",
        "--size 0 --abandon-log",
    ];
    for (verb, more) in [
        ("export", &["a", "-o", &out][..]),
        ("serve", &["a", "--listen", &format!("unix:{socket}")]),
        ("resize", &["a", "--size", "0"]),
    ] {
        disk(&place, verb, more).fails(1, &way_out);
    }
    store(&place, "untag", &["a"]).fails(1, &["disk resize a --store", "--size 0 --abandon-log"]);
    let wal = text(&log);
    let recover = ["--wal", &wal, "--name", "b"];
    disk(&place, "recover", &recover).fails(1, &["a.wal", "--damaged"]);
    let damaged = [&recover[..], &["--damaged", "--json"]].concat();
    let made = disk(&place, "recover", &damaged);
    assert_eq!(made.code, 1, "{made:?}");
    assert!(made.stderr.contains("1 lost record"), "{made:?}");
    assert_eq!(made.json()["lost_records"], 1);
    let given_up = disk(&place, "resize", &["a", "--size", "0", "--abandon-log"]);
    assert_eq!(given_up.code, 0, "{given_up:?}");
    let aside = "a.wal.abandoned-1";
    assert!(given_up.stderr.contains(aside), "{given_up:?}");
    let aside = place.store().join("wal/a.wal.abandoned-1");
    assert!(fs::read(aside).unwrap() == file, "nothing of it is deleted");
    assert!(place.export("a") == vec![0; MIB]);
    store(&place, "untag", &["a"]).done();
}

#[test]
fn a_log_that_is_too_small_is_wrong_usage_and_not_in_the_way_later() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    for size in ["8KiB", "16KiB"] {
        let resize = ["a", "--size", "0", "--wal-size", size];
        disk(&place, "resize", &resize).fails(2, &["a.wal"]);
        assert!(!place.store().join("wal/a.wal").exists(), "{size}");
    }
    disk(&place, "resize", &["a", "--size", "0"]).done();
}
