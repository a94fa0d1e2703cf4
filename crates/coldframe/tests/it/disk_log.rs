//! Disks whose changes are in a log alone, after the server was killed: no verb leaves them out
//! without a word, and none loses them.

use std::fs;
use std::path::Path;

use coldframe_testkit::poor_host::{Lack, PoorHost};
use coldframe_testkit::rng::Rng;

use crate::nbd_client::{Client, FLUSH};
use crate::served::Place;
use crate::support::{Outcome, coldframe, command};

pub const MIB: usize = 1 << 20;

/// A disk of zeros, of which a server that was killed has a flushed page in its log.
pub fn killed(more: &[&str]) -> (Place, Vec<u8>) {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    let server = place.serve("a", &[&["--wal-size", "4MiB"], more].concat());
    let mut client = Client::simple(&server.socket, "a");
    assert_eq!(client.write(0, 0, &[0x5a; 4096]), 0);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    server.kill();
    let mut bytes = vec![0; MIB];
    bytes[..4096].fill(0x5a);
    (place, bytes)
}

pub fn disk(place: &Place, verb: &str, more: &[&str]) -> Outcome {
    let mut run = command(&[&"disk", &verb, &"--store", &place.store()]);
    run.args(more).output().unwrap().into()
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_was_flushed_is_exported_and_served_read_only_after_a_kill() {
    let (place, bytes) = killed(&[]);
    assert!(place.export("a") == bytes, "the default log is found");
    let server = place.serve("a", &["--read-only"]);
    let mut client = Client::simple(&server.socket, "a");
    assert!(client.read(0, MIB as u32) == bytes);
    assert_eq!(client.write(0, 0, b"x"), 1, "EPERM");
    server.stop();
    let list = disk(&place, "ls", &["--json"]).done().json();
    let log = list[0]["log"]["path"].as_str().unwrap();
    assert_eq!(Path::new(log), place.store().join("wal/a.wal"));
    let table = disk(&place, "ls", &[]).done();
    assert!(table.stdout.contains("wal/a.wal"), "{table:?}");
    let out = text(&place.at("stored"));
    disk(&place, "export", &["a", "-o", &out, "--without-log"]).done();
    assert!(fs::read(&out).unwrap() == vec![0; MIB]);
    place.serve("a", &[]).stop();
    let list = disk(&place, "ls", &["--json"]).done().json();
    assert!(list[0]["log"].is_null(), "{list}");
    assert!(place.export("a") == bytes, "after a clean stop");
}

#[test]
fn a_disk_that_is_being_served_is_not_exported_without_its_changes() {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    let server = place.serve("a", &["--wal-size", "4MiB"]);
    let out = text(&place.at("out"));
    let export = disk(&place, "export", &["a", "-o", &out]);
    export.fails(1, &["a.wal", "in use", "--without-log"]);
    assert!(!place.at("out").exists());
    server.stop();
}

#[test]
fn a_log_elsewhere_is_not_passed_over_by_resize_and_a_second_server() {
    let log = coldframe_testkit::scratch::on_disk();
    let log = log.path().join("x.wal");
    let (place, bytes) = killed(&["--wal", log.to_str().unwrap()]);
    let socket = format!("unix:{}", place.at("s2").display());
    let resize = ["a", "--size", "2MiB"];
    for (verb, more) in [
        ("resize", &resize[..]),
        ("serve", &["a", "--listen", &socket]),
    ] {
        disk(&place, verb, more).fails(1, &["x.wal", "--wal", "disk recover"]);
    }
    assert!(!place.store().join("wal/a.wal").exists(), "no log was made");
    assert!(place.export("a") == bytes, "found where the tag says");
    // Moved, it must be named.
    let moved = place.at("moved.wal");
    fs::rename(&log, &moved).unwrap();
    let out = text(&place.at("out"));
    disk(&place, "export", &["a", "-o", &out]).fails(1, &["x.wal", "not found", "--wal"]);
    let wal = text(&moved);
    disk(&place, "export", &["a", "-o", &out, "--wal", &wal]).done();
    assert!(fs::read(&out).unwrap() == bytes);
    disk(&place, "resize", &[&resize[..], &["--wal", &wal]].concat()).done();
    let exported = place.export("a");
    assert!(exported.len() == 2 * MIB && exported[..MIB] == bytes);
}

#[test]
fn a_disk_made_anew_has_nothing_of_the_old_one_whose_log_is_rescued() {
    let (place, bytes) = killed(&[]);
    fs::remove_file(place.store().join("tags/a")).unwrap();
    place.import(&place.at("a.img"), "a");
    assert!(place.export("a") == vec![0; MIB]);
    let socket = format!("unix:{}", place.at("s2").display());
    let serve = disk(&place, "serve", &["a", "--listen", &socket]);
    serve.fails(1, &["earlier disk", "disk recover"]);
    let wal = text(&place.store().join("wal/a.wal"));
    let recover = ["--wal", &wal, "--name", "saved", "--json"];
    let made = disk(&place, "recover", &recover).done().json();
    assert_eq!(
        (&made["log_of"], &made["changed_blocks"]),
        (&"a".into(), &1.into())
    );
    assert!(place.export("saved") == bytes);
    disk(&place, "recover", &recover).fails(2, &["saved exists"]);
}

#[test]
fn a_log_that_is_gone_for_good_is_given_up_by_name() {
    let (place, _) = killed(&[]);
    fs::remove_file(place.store().join("wal/a.wal")).unwrap();
    let socket = format!("unix:{}", place.at("s2").display());
    let serve = disk(&place, "serve", &["a", "--listen", &socket]);
    serve.fails(1, &["not found", "--abandon-log"]);
    place.serve("a", &["--abandon-log"]).stop();
    assert!(place.export("a") == vec![0; MIB]);
}

#[test]
fn an_image_of_another_kind_is_refused_by_name() {
    let place = Place::new();
    let image = |name: &str, bytes: &[u8]| {
        let mut all = Rng::new(3).bytes(64 << 10);
        all[..bytes.len()].copy_from_slice(bytes);
        fs::write(place.at(name), all).unwrap();
        text(&place.at(name))
    };
    let qcow2 = image("q", b"QFI\xfb\0\0\0\x03");
    let import = ["--name", "q", &qcow2];
    disk(&place, "import", &import).fails(2, &["qcow2", "qemu-img convert", "--raw"]);
    disk(&place, "import", &[&import[..], &["--raw"]].concat()).done();
    let gzip = image("z", b"\x1f\x8b\x08\0");
    disk(&place, "import", &["--name", "z", &gzip, "--lazy"]).fails(2, &["gzip", "unpack"]);
    let mut fixed = vec![0; 64 << 10];
    fixed.extend_from_slice(b"conectix");
    fixed.resize((64 << 10) + 512, 0);
    fs::write(place.at("v"), fixed).unwrap();
    let vhd = text(&place.at("v"));
    disk(&place, "import", &["--name", "v", &vhd]).fails(2, &["vhd"]);
    let fifo = place.at("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let what = "not a regular file or block device";
    for path in [text(&fifo), text(&place.store()), "/dev/zero".into()] {
        for more in [
            &["--name", "x", &path][..],
            &["--name", "x", &path, "--lazy"],
        ] {
            disk(&place, "import", more).fails(2, &[what]);
        }
    }
    let list = coldframe(&[&"disk", &"ls", &"--store", &place.store(), &"--json"]);
    assert_eq!(list.done().json().as_array().unwrap().len(), 1);
}

#[test]
fn the_name_of_a_log_that_another_made_is_durable_before_the_tag_names_it() {
    let Some(host) = PoorHost::get() else { return };
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    let wal = text(&place.at("x.wal"));
    place
        .serve("a", &["--wal", &wal, "--wal-size", "4MiB"])
        .stop();
    let mut resize = command(&[&"disk", &"resize", &"a", &"--size", &"0", &"--wal", &wal]);
    resize.arg("--store").arg(place.store());
    host.without(Lack::SoundDirectorySync, &mut resize);
    let refused: Outcome = resize.output().unwrap().into();
    refused.fails(
        3,
        &["cannot open the log", "x.wal", "cannot sync the directory"],
    );
    let list = disk(&place, "ls", &["--json"]).done().json();
    assert!(list[0]["log"].is_null(), "{list}");
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn a_copy_of_a_store_does_not_take_the_log_of_the_store_unless_told_to() {
    let (place, bytes) = killed(&[]);
    let copy = place.at("copy");
    copy_tree(&place.store(), &copy);
    fs::remove_dir_all(copy.join("wal")).unwrap();
    let wal = text(&place.store().join("wal/a.wal"));
    let resize = |more: &[&str]| -> Outcome {
        let mut resize = command(&[&"disk", &"resize", &"a", &"--size", &"0", &"--store", &copy]);
        resize
            .args(["--wal", &wal])
            .args(more)
            .output()
            .unwrap()
            .into()
    };
    let store = text(&place.store().canonicalize().unwrap());
    resize(&[]).fails(1, &["belongs to", &store, "--take-log"]);
    // Without it nothing was taken from the store.
    assert!(place.export("a") == bytes);
    resize(&["--take-log"]).done();
    let out = text(&place.at("out"));
    disk(&place, "export", &["a", "-o", &out]).fails(1, &["into another disk"]);
}

#[test]
fn a_copy_of_a_whole_store_is_exported_as_it_was_copied() {
    let (place, bytes) = killed(&[]);
    let copy = place.at("copy");
    copy_tree(&place.store(), &copy);
    // The store goes on.
    let server = place.serve("a", &[]);
    let mut client = Client::simple(&server.socket, "a");
    assert_eq!(client.write(0, 8192, &[0x77; 4096]), 0);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    let out = place.at("out");
    let export = |more: &[&str]| -> Outcome {
        let _ = fs::remove_file(&out);
        let mut run = command(&[&"disk", &"export", &"a", &"-o", &out, &"--store", &copy]);
        run.args(more).output().unwrap().into()
    };
    export(&[]).done();
    assert!(
        fs::read(&out).unwrap() == bytes,
        "while the store is served"
    );
    server.kill();
    export(&[]).done();
    assert!(fs::read(&out).unwrap() == bytes, "after");
    // Without its own log: the store's is not taken for it, wherever the store is now.
    fs::remove_dir_all(copy.join("wal")).unwrap();
    let store = text(&place.store().canonicalize().unwrap());
    export(&[]).fails(1, &["belongs to", &store, "too", "--without-log"]);
    export(&["--without-log"]).done();
    let away = place.at("away");
    let wal = text(&away.join("wal/a.wal"));
    fs::rename(place.store(), &away).unwrap();
    let resize = coldframe(&[
        &"disk", &"resize", &"a", &"--size", &"0", &"--wal", &wal, &"--store", &copy,
    ]);
    resize.fails(1, &["which is not there now", "mount it", "--take-log"]);
}

#[test]
fn advice_is_a_command_with_the_names_that_it_is_about() {
    let (place, _) = killed(&[]);
    let (store, wal) = (text(&place.store()), text(&place.store().join("wal/a.wal")));
    let fold = format!("coldframe disk resize a --store {store} --size 0 --wal {wal}");
    let untag = coldframe(&[&"store", &"untag", &"a", &"--store", &store]);
    untag.fails(1, &[&fold]);
    let image = text(&place.at("a.img"));
    let import = ["--name", "a", "--replace", &image];
    disk(&place, "import", &import).fails(1, &[&fold]);
    // A file that never was its log.
    let other = place.at("other");
    fs::write(&other, vec![7; 64 << 10]).unwrap();
    let (out, other) = (text(&place.at("out")), text(&other));
    let export = disk(&place, "export", &["a", "-o", &out, "--wal", &other]);
    export.fails(1, &[&other, "is not a log of disk a"]);
    let missing = text(&place.at("missing"));
    let export = disk(&place, "export", &["a", "-o", &out, "--wal", &missing]);
    export.fails(3, &[&missing]);
    // As it stands there.
    let status = coldframe_testkit::child::command("sh")
        .args([
            "-c",
            &fold.replacen("coldframe", env!("CARGO_BIN_EXE_coldframe"), 1),
        ])
        .status();
    assert!(status.unwrap().success());
    coldframe(&[&"store", &"untag", &"a", &"--store", &store]).done();
}
