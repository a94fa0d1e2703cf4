//! Disks through the command: in, out, listed, resized, served, checkpointed.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use coldframe_testkit::rng::Rng;
use nix::sys::signal::Signal;

use crate::nbd_client::{Client, FLUSH, FUA, TRIM, WRITE, ZEROES};
use crate::served::Place;
use crate::support::{Outcome, coldframe, command, keys, patch};

const MIB: usize = 1 << 20;

/// Noise with a run of zeros in it.
fn image(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Rng::new(seed).bytes(len);
    bytes[len / 4..len / 2].fill(0);
    bytes
}

// Parity: F79b
#[test]
fn an_image_comes_out_as_it_went_in_and_is_kept_once() {
    let place = Place::new();
    let bytes = image(3 * MIB + 777, 1);
    fs::write(place.at("a.img"), &bytes).unwrap();
    let made = place.import(&place.at("a.img"), "a");
    assert_eq!(made["size_bytes"], bytes.len());
    assert!(made["chunks_written"].as_u64().unwrap() > 30);
    let again = place.import(&place.at("a.img"), "b");
    assert_eq!(
        (&again["chunks_written"], &again["root"]),
        (&0.into(), &made["root"])
    );
    assert!(place.export("a") == bytes);
    let url = format!("file://{}", place.store().display());
    let list = coldframe(&[&"disk", &"ls", &"--store", &url, &"--json"])
        .done()
        .json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let expected = [
        "ancestors",
        "base",
        "base_blocks",
        "data_blocks",
        "log",
        "lost_blocks",
        "name",
        "own_blocks",
        "root",
        "size_bytes",
        "unique_chunks",
        "zero_blocks",
    ];
    assert_eq!(keys(&list[0]), expected);
    let blocks = |what: &str| list[0][what].as_u64().unwrap();
    assert_eq!(blocks("data_blocks") + blocks("zero_blocks"), 49);
    assert_eq!(blocks("data_blocks"), blocks("unique_chunks"));
    let table = coldframe(&[&"disk", &"ls", &"--store", &place.store()]).done();
    assert!(table.stdout.lines().count() == 3 && table.stdout.contains("3 MiB"));
}

// Parity: D23b
#[test]
fn what_cannot_be_is_one_line_and_the_exit_code_that_fits() {
    let place = Place::new();
    let (img, store) = (place.at("a.img"), place.store());
    fs::write(&img, image(MIB, 1)).unwrap();
    place.import(&img, "a");
    let again = [
        &"disk" as &dyn AsRef<_>,
        &"import",
        &img,
        &"--store",
        &store,
        &"--name",
        &"a",
    ];
    coldframe(&again).fails(2, &["a exists"]);
    let export = |name: &str| {
        coldframe(&[
            &"disk",
            &"export",
            &name,
            &"--store",
            &store,
            &"-o",
            &place.at("x"),
        ])
    };
    export("none").fails(2, &["there is no disk none"]);
    coldframe(&[&"disk", &"ls", &"--store", &place.at("no-store")]).fails(3, &["no-store"]);
    coldframe(&[&"disk", &"ls", &"--store", &"ftp://x"]).fails(2, &["ftp://x"]);
    coldframe(&[&"disk", &"ls", &"--store", &"file://x"]).fails(2, &["not a plain absolute one"]);
    let checkpoint = |control: &str, name: &str| {
        coldframe(&[
            &"disk",
            &"checkpoint",
            &"--control",
            &control,
            &"--name",
            &name,
        ])
    };
    checkpoint("unix:/no/such/socket", "x").fails(3, &["/no/such/socket"]);
    checkpoint("/no/such/socket", "x").fails(2, &["unix:PATH"]);
    checkpoint("unix:x", ".hidden").fails(2, &["tag name"]);
    let listen = |addr: &str| {
        coldframe(&[
            &"disk",
            &"serve",
            &"a",
            &"--store",
            &store,
            &"--listen",
            &addr,
        ])
    };
    listen("udp:x").fails(2, &["udp:x"]);
    listen(&format!("unix:{}", img.display())).fails(2, &["is not a socket"]);
    // A chunk that is damaged is named, and the file does not appear.
    for pack in fs::read_dir(store.join("packs")).unwrap() {
        crate::support::patch(&pack.unwrap().path(), 200, |byte| *byte ^= 1);
    }
    export("a").fails(1, &["cannot read block 0", "is damaged"]);
    assert!(!place.at("x").exists());
}

// Parity: D30, F33
#[test]
fn a_disk_is_resized_and_shrinks_only_when_told_to() {
    let place = Place::new();
    let bytes = image(MIB, 1);
    fs::write(place.at("a.img"), &bytes).unwrap();
    place.import(&place.at("a.img"), "a");
    let store = place.store();
    let resize = |size: &str, more: &[&str]| {
        let mut command = crate::support::command(&[&"disk", &"resize", &"a", &"--store", &store]);
        let output = command.args(["--size", size, "--json"]).args(more).output();
        crate::support::Outcome::from(output.unwrap())
    };
    let grown = resize("5MiB", &[]).done().json();
    assert_eq!(grown["size_bytes"], 5 * MIB);
    let mut expected = bytes.clone();
    expected.resize(5 * MIB, 0);
    assert!(place.export("a") == expected);
    resize("1MiB", &[]).fails(2, &["would cut off its end"]);
    assert_eq!(
        resize("0", &[]).done().json()["size_bytes"],
        5 * MIB,
        "0 keeps it"
    );
    assert_eq!(
        resize("512KiB", &["--shrink"]).done().json()["before_bytes"],
        5 * MIB
    );
    assert!(place.export("a") == bytes[..MIB / 2]);
}

// Parity: F36, F40
#[test]
fn what_clients_write_is_there_after_sigterm_and_after_sigkill() {
    let place = Place::new();
    let mut bytes = image(2 * MIB, 1);
    fs::write(place.at("a.img"), &bytes).unwrap();
    place.import(&place.at("a.img"), "a");
    let server = place.serve("a", &["--wal-size", "4MiB"]);
    assert_eq!(server.said["size_bytes"], 2 * MIB);
    let mut client = Client::simple(&server.socket, "a");
    assert_eq!(client.write(0, 5000, b"flushed"), 0);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    assert_eq!(client.write(FUA, 9000, b"by FUA"), 0);
    assert_eq!(client.error_of(FUA, ZEROES, 65536, 70000), 0);
    assert_eq!(client.error_of(FUA, TRIM, 0, 4096), 0);
    assert_eq!(client.error_of(0, WRITE, 2 * MIB as u64, 0), 0);
    server.kill();
    bytes[5000..5007].copy_from_slice(b"flushed");
    bytes[9000..9006].copy_from_slice(b"by FUA");
    bytes[65536..135536].fill(0);
    bytes[..4096].fill(0);
    let server = place.serve("a", &[]);
    let mut client = Client::simple(&server.socket, "a");
    assert!(client.read(0, 2 * MIB as u32) == bytes, "after SIGKILL");
    assert_eq!(client.write(0, 20000, b"not flushed"), 0);
    bytes[20000..20011].copy_from_slice(b"not flushed");
    server.stop();
    assert!(
        place.export("a") == bytes,
        "stopping brings all into the store"
    );
    assert!(!place.at("a.sock").exists(), "its socket is gone");
    let interrupted = place.serve("a", &[]).signal(Signal::SIGINT);
    assert_eq!(interrupted.code, 0, "{interrupted:?}");
}

fn checkpoint(control: &str, name: &str, more: &str) -> Outcome {
    let mut command = command(&[&"disk", &"checkpoint", &"--name", &name]);
    let more = Some(more).filter(|more| !more.is_empty());
    let asked = command.args(["--control", control, "--json"]).args(more);
    asked.output().unwrap().into()
}

#[test]
fn clients_of_the_control_socket_that_say_nothing_keep_nobody_waiting() {
    let place = Place::new();
    fs::write(place.at("a.img"), image(MIB, 1)).unwrap();
    place.import(&place.at("a.img"), "a");
    let control = format!("unix:{}", place.at("ctl").display());
    let server = place.serve("a", &["--wal-size", "4MiB", "--control", &control]);
    let connect = || UnixStream::connect(place.at("ctl")).unwrap();
    let mut silent: Vec<UnixStream> = (0..8).map(|_| connect()).collect();
    checkpoint(&control, "one", "").done();
    // None of them had to be given up first.
    for client in &mut silent {
        client.set_nonblocking(true).unwrap();
        let heard = client.read(&mut [0]).unwrap_err();
        assert_eq!(heard.kind(), ErrorKind::WouldBlock);
    }
    // More than are heard at once: those that are too many are told.
    silent.extend((0..80).map(|_| connect()));
    let last = silent.last_mut().unwrap();
    let mut said = String::new();
    last.read_to_string(&mut said).unwrap();
    assert!(said.contains("too many clients"), "{said}");
    drop(silent);
    while checkpoint(&control, "two", "--replace").code != 0 {
        std::thread::yield_now();
    }
    server.stop();
}

#[test]
fn a_served_disk_goes_on_after_its_damaged_ledger_was_replaced() {
    let place = Place::new();
    let mut bytes = image(MIB, 1);
    fs::write(place.at("a.img"), &bytes).unwrap();
    place.import(&place.at("a.img"), "a");
    let control = format!("unix:{}", place.at("ctl").display());
    let server = place.serve("a", &["--wal-size", "4MiB", "--control", &control]);
    let mut client = Client::simple(&server.socket, "a");
    patch(&place.store().join("ledger"), 40, |byte| *byte ^= 1);
    assert_eq!(client.write(0, 4096, &[7; 8192]), 0);
    bytes[4096..12288].fill(7);
    let advice = ["the ledger of the store is damaged", "gc --new-ledger"];
    checkpoint(&control, "one", "").fails(1, &advice);
    let renew = [
        &"store" as &dyn AsRef<_>,
        &"gc",
        &"--new-ledger",
        &"--store",
        &place.store(),
    ];
    coldframe(&renew).done();
    checkpoint(&control, "one", "").done();
    drop(client);
    server.stop();
    assert!(place.export("a") == bytes && place.export("one") == bytes);
}

// Parity: D35
#[test]
fn a_checkpoint_is_served_read_only_while_the_first_goes_on() {
    let place = Place::new();
    let mut bytes = image(2 * MIB, 1);
    fs::write(place.at("a.img"), &bytes).unwrap();
    place.import(&place.at("a.img"), "a");
    let control = format!("unix:{}", place.at("ctl").display());
    let server = place.serve("a", &["--wal-size", "4MiB", "--control", &control]);
    let mode = fs::metadata(place.at("ctl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = Client::simple(&server.socket, "a");
    assert_eq!(client.write(0, 4096, &[1; 8192]), 0);
    bytes[4096..12288].fill(1);
    let checkpoint = |name: &str, more: &str| checkpoint(&control, name, more);
    let made = checkpoint("monday", "").done().json();
    assert_eq!(
        (&made["blocks"], &made["chunks_written"]),
        (&1.into(), &1.into())
    );
    assert!(made["index_bytes"].as_u64().unwrap() < 1024);
    assert_eq!(client.write(0, 4096, &[2; 8192]), 0);
    let frozen = place.serve("monday", &["--read-only"]);
    let mut reader = Client::simple(&frozen.socket, "monday");
    assert!(reader.read(0, 2 * MIB as u32) == bytes, "the checkpoint");
    assert_eq!(reader.write(0, 0, b"x"), 1, "EPERM");
    assert_eq!(client.read(4096, 8192), [2; 8192], "the disk");
    checkpoint("monday", "").fails(2, &["monday exists"]);
    checkpoint("monday", "--replace").done();
    assert!(
        reader.read(0, 2 * MIB as u32) == bytes,
        "what is open stays"
    );
    // A second server of the disk: the log is in use, and so is the socket.
    let second = [
        &"disk" as &dyn AsRef<_>,
        &"serve",
        &"a",
        &"--store",
        &place.store(),
    ];
    let listen = format!("unix:{}", place.at("other.sock").display());
    let second = crate::support::command(&second)
        .args(["--listen", &listen])
        .output()
        .unwrap();
    crate::support::Outcome::from(second).fails(3, &["the log is in use", "coldframe"]);
    frozen.stop();
    server.stop();
    bytes[4096..12288].fill(2);
    assert!(place.export("a") == bytes && place.export("monday") == bytes);
}

// Parity: F31, F79b
#[test]
fn a_lazy_disk_needs_its_image_unchanged() {
    let place = Place::new();
    let bytes = image(MIB, 1);
    let img = place.at("a.img");
    fs::write(&img, &bytes).unwrap();
    let store = place.store();
    for name in ["a", "b"] {
        let import = [
            &"disk" as &dyn AsRef<_>,
            &"import",
            &img,
            &"--store",
            &store,
            &"--lazy",
        ];
        let import = crate::support::command(&import)
            .args(["--name", name, "--json"])
            .output();
        let made = crate::support::Outcome::from(import.unwrap()).done().json();
        assert_eq!(
            (&made["chunks_written"], &made["lazy"]),
            (&0.into(), &true.into())
        );
    }
    let out = place.at("out");
    let export = |name: &str, base: Option<&std::path::Path>| {
        let export = [
            &"disk" as &dyn AsRef<_>,
            &"export",
            &name,
            &"--store",
            &store,
            &"-o",
            &out,
        ];
        let mut command = crate::support::command(&export);
        if let Some(base) = base {
            command.arg("--base").arg(base);
        }
        crate::support::Outcome::from(command.output().unwrap())
    };
    export("a", None).fails(2, &["was not given"]);
    export("a", Some(&img)).done();
    assert!(fs::read(&out).unwrap() == bytes);
    let base = img.to_str().unwrap().to_owned();
    let server = place.serve("a", &["--base", &base, "--wal-size", "4MiB"]);
    let mut client = Client::simple(&server.socket, "a");
    assert!(client.read(0, MIB as u32) == bytes);
    server.stop();
    let list = coldframe(&[&"disk", &"ls", &"--store", &store, &"--json"])
        .done()
        .json();
    let of_base = |at: usize| (&list[at]["base_blocks"], list[at]["base"].is_null());
    assert_eq!(of_base(0), (&0.into(), true), "all is in the store: {list}");
    assert_eq!(of_base(1), (&16.into(), false), "and not what nobody read");
    fs::write(&img, image(MIB, 2)).unwrap();
    fs::remove_file(&out).unwrap();
    export("b", Some(&img)).fails(1, &["has changed"]);
    export("a", None).done();
    assert!(fs::read(&out).unwrap() == bytes, "the image is not needed");
}

#[test]
fn a_file_that_is_said_to_be_empty_and_is_not_is_refused_by_name() {
    let source = "/proc/self/status";
    if fs::read(source).map_or(0, |bytes| bytes.len()) == 0 {
        coldframe_testkit::require::skipped("proc", "no /proc/self/status");
        return;
    }
    let place = Place::new();
    let (store, out) = (place.store(), place.at("out"));
    for more in [&[][..], &["--lazy"], &["--raw"]] {
        let mut import = command(&[&"disk", &"import", &source, &"--name", &"a"]);
        import.arg("--store").arg(&store).args(more);
        let refused: Outcome = import.output().unwrap().into();
        refused.fails(2, &[source, "says that it is empty"]);
    }
    let raw = coldframe(&[&"import", &"raw", &source, &"-o", &out]);
    raw.fails(2, &[source, "says that it is empty"]);
    for (group, verb) in [("wal", "check"), ("wal", "stat"), ("journal", "stat")] {
        let refused = coldframe(&[&group, &verb, &source]);
        refused.fails(3, &[source, "says that it is empty"]);
    }
    assert!(!out.exists());
}

#[test]
fn an_export_sweeps_what_killed_runs_left_beside_it() {
    let place = Place::new();
    fs::write(place.at("a.img"), image(MIB, 2)).unwrap();
    place.import(&place.at("a.img"), "a");
    let left = place.at(".gone.1-0123456789abcdef.tmp");
    fs::write(&left, b"half").unwrap();
    let (store, out) = (place.store(), place.at("out"));
    let export = coldframe(&[&"disk", &"export", &"a", &"--store", &store, &"-o", &out]);
    assert!(
        export.code == 0 && export.stderr.contains("1 leftovers"),
        "{export:?}"
    );
    assert!(!left.exists() && out.exists());
}
