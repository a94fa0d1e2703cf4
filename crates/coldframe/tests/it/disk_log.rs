//! Disks whose changes are in a log alone, after the server was killed: no verb leaves them out
//! without a word, and none loses them.

use std::fs;
use std::path::Path;

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
