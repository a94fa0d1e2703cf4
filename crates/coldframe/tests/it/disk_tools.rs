//! Other people's tools against a served disk that holds a real file system.

use std::path::Path;
use std::process::Output;

use coldframe_testkit::child::command;
use coldframe_testkit::require;

use crate::served::Place;
use crate::support::coldframe;

/// Runs a tool; none (after a word about it) if it is not here.
#[track_caller]
pub fn run(need: &str, tool: &str, args: &[&str]) -> Option<Output> {
    match command(tool).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            require::skipped(need, &format!("{tool}: {error}"));
            None
        }
    }
}

/// Runs a tool that must succeed, and gives what it printed.
#[track_caller]
pub fn succeed(need: &str, tool: &str, args: &[&str]) -> Option<String> {
    let output = run(need, tool, args)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {text}{errors}");
    Some(text)
}

/// An ext4 image of 64 MiB with our own sources in it.
#[track_caller]
fn ext4(path: &Path) -> Option<String> {
    let path = path.to_str().unwrap().to_owned();
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let args = ["-q", "-F", "-d", files, "-b", "4096", &path, "64M"];
    succeed("qemu", "/usr/sbin/mkfs.ext4", &args)?;
    Some(path)
}

fn qemu_io(uri: &str, commands: &[&str]) -> Option<String> {
    let mut args = vec!["-f", "raw"];
    commands
        .iter()
        .for_each(|command| args.extend(["-c", command]));
    args.push(uri);
    let text = succeed("qemu", "qemu-io", &args)?;
    assert!(!text.contains("failed"), "{text}");
    Some(text)
}

fn digest(path: &str) -> blake3::Hash {
    blake3::hash(&std::fs::read(path).unwrap())
}

#[track_caller]
fn checkpoint(control: &str, name: &str) {
    let args: [&dyn AsRef<std::ffi::OsStr>; 6] = [
        &"disk",
        &"checkpoint",
        &"--control",
        &control,
        &"--name",
        &name,
    ];
    coldframe(&args).done();
}

// Parity: F36
#[test]
fn a_real_disk_is_served_written_killed_and_served_again() {
    let place = Place::new();
    let Some(image) = ext4(&place.at("root.img")) else {
        return;
    };
    let before = digest(&image);
    place.import(Path::new(&image), "root");
    let control = format!("unix:{}", place.at("ctl").display());
    let serve = || place.serve("root", &["--wal-size", "16MiB", "--control", &control]);
    let server = serve();
    let uri = server.uri.clone();
    let compare = |uri: &str| {
        let args = ["compare", "-f", "raw", "-F", "raw", &image, uri];
        run("qemu", "qemu-img", &args).map(|output| output.status.success())
    };
    let Some(true) = compare(&uri) else {
        return assert!(compare(&uri).is_none(), "the served disk differs");
    };
    let args = ["map", "--output=json", "-f", "raw", &uri];
    let map = succeed("qemu", "qemu-img", &args).unwrap();
    assert!(
        map.contains(r#""zero": true"#) && map.contains(r#""data": true"#),
        "{map}"
    );
    let writes = [
        "write -P 0xaa 40M 64k",
        "write -P 0xbb 41000000 3000",
        "flush",
    ];
    qemu_io(&uri, &writes).unwrap();
    server.kill();
    let server = serve();
    let reads = ["read -P 0xaa 40M 64k", "read -P 0xbb 41000000 3000"];
    qemu_io(&uri, &reads).unwrap();
    checkpoint(&control, "root@1");
    let later = [
        "write -f -P 0xcc 40M 64k",
        "discard 41M 64k",
        "write -z -u 42M 1M",
    ];
    qemu_io(&uri, &later).unwrap();
    let frozen = place.serve("root@1", &["--read-only"]);
    qemu_io(&uri, &["read -P 0xcc 40M 64k", "read -P 0 42M 1M"]).unwrap();
    let args = ["-r", "-f", "raw", "-c", "read -P 0xaa 40M 64k", &frozen.uri];
    let text = succeed("qemu", "qemu-io", &args).unwrap();
    assert!(!text.contains("failed"), "{text}");
    frozen.stop();
    server.stop();
    assert!(before == digest(&image), "the image itself was touched");
    // As far as a file system checks it, all is well.
    place.export("root@1");
    let out = place.at("root@1.out");
    succeed("qemu", "/usr/sbin/e2fsck", &["-fn", out.to_str().unwrap()]).unwrap();
}

// Parity: D36, F34
#[test]
fn nbd_tools_see_and_copy_a_served_disk() {
    let place = Place::new();
    let Some(image) = ext4(&place.at("root.img")) else {
        return;
    };
    place.import(Path::new(&image), "root");
    let server = place.serve("root", &["--wal-size", "128MiB"]);
    let Some(text) = succeed("nbd", "nbdinfo", &["--json", &server.uri]) else {
        return;
    };
    for fact in [
        r#""export-name": "root""#,
        r#""description": "disk root""#,
        r#""export-size": 67108864"#,
        r#""can_fast_zero": true"#,
        r#""can_flush": true"#,
        r#""can_fua": true"#,
        r#""can_multi_conn": true"#,
        r#""can_trim": true"#,
    ] {
        assert!(text.contains(fact), "no {fact} in {text}");
    }
    let out = place.at("out.img").to_str().unwrap().to_owned();
    succeed("nbd", "nbdcopy", &["--connections", "4", &server.uri, &out]).unwrap();
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&image).unwrap());
    // Another image over it, and back.
    let other = place.at("other.img");
    let mut bytes = coldframe_testkit::rng::Rng::new(3).bytes(64 << 20);
    bytes[10 << 20..30 << 20].fill(0);
    std::fs::write(&other, &bytes).unwrap();
    let other = other.to_str().unwrap();
    succeed("nbd", "nbdcopy", &["--flush", other, &server.uri]).unwrap();
    server.kill();
    let server = place.serve("root", &[]);
    succeed("nbd", "nbdcopy", &[&server.uri, &out]).unwrap();
    assert!(std::fs::read(&out).unwrap() == bytes, "after SIGKILL");
    server.stop();
}

#[test]
fn fio_verifies_what_it_wrote_to_a_served_disk() {
    let place = Place::new();
    let disk = place.at("a.img");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(32 << 20)
        .unwrap();
    place.import(&disk, "a");
    // Small log and memory: changes go into the store while fio writes.
    let server = place.serve("a", &["--wal-size", "8MiB", "--dirty-size", "8MiB"]);
    let engines = run("nbd", "fio", &["--enghelp"]);
    if !engines.is_some_and(|out| String::from_utf8_lossy(&out.stdout).contains("nbd")) {
        return require::skipped("nbd", "fio has no nbd engine");
    }
    let uri = format!("--uri={}", server.uri);
    let dir = format!("--aux-path={}", place.0.path().display());
    let job = "--name=x --ioengine=nbd --size=32m --bs=4k --iodepth=16 --rw=randwrite \
               --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0";
    let mut args: Vec<&str> = job.split_whitespace().collect();
    args.extend([uri.as_str(), dir.as_str()]);
    let text = succeed("nbd", "fio", &args).unwrap();
    assert!(text.contains("err= 0"), "{text}");
    server.stop();
}
