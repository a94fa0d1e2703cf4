//! Other people's clients against our server.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use coldframe_nbd::{Export, NbdHandle, NbdServer, ReadOnly};
use coldframe_testkit::child::command;
use coldframe_testkit::rng::Rng;
use coldframe_testkit::{require, scratch};

use crate::disk::MemDisk;

const MIB: usize = 1 << 20;

struct Served {
    dir: tempfile::TempDir,
    disk: Arc<MemDisk>,
    handle: NbdHandle,
}

impl Served {
    fn new(disk: MemDisk) -> Self {
        let dir = scratch::dir();
        let disk = Arc::new(disk);
        let server = NbdServer::named("disk", Arc::clone(&disk)).unwrap();
        let server = server
            .export("frozen", ReadOnly(Arc::clone(&disk)))
            .unwrap();
        let handle = server.listen(dir.path().join("nbd.sock")).unwrap();
        Self { dir, disk, handle }
    }

    fn uri(&self) -> String {
        self.handle.uri("disk")
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

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

/// Runs of zeros and of noise, none of a round length.
pub fn patchwork(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        let end = len.min(at + 1 + rng.below(300_000) as usize);
        if rng.below(2) == 0 {
            rng.fill(&mut bytes[at..end]);
        }
        at = end;
    }
    bytes
}

// Spec: NBD-4, NBD-8, NBD-9, NBD-10, NBD-11
// Parity: D36, F34
#[test]
fn nbdinfo_sees_all_that_is_offered() {
    let served = Served::new(MemDisk::new(8 * MIB));
    let Some(text) = succeed("nbd", "nbdinfo", &["--json", &served.uri()]) else {
        return;
    };
    for fact in [
        r#""protocol": "newstyle-fixed""#,
        r#""structured": true"#,
        r#""export-name": "disk""#,
        r#""description": "a disk in memory""#,
        r#""export-size": 8388608"#,
        r#""is_rotational": false"#,
        r#""is_read_only": false"#,
        r#""can_cache": true"#,
        r#""can_df": true"#,
        r#""can_fast_zero": true"#,
        r#""can_flush": true"#,
        r#""can_fua": true"#,
        r#""can_multi_conn": true"#,
        r#""can_trim": true"#,
        r#""can_zero": true"#,
        r#""block_size_minimum": 1"#,
        r#""block_size_preferred": 4096"#,
        r#""block_size_maximum": 33554432"#,
        r#""base:allocation""#,
    ] {
        assert!(text.contains(fact), "no {fact} in {text}");
    }
    let list = succeed(
        "nbd",
        "nbdinfo",
        &["--list", "--json", &served.handle.uri("")],
    )
    .unwrap();
    assert!(list.contains(r#""disk""#) && list.contains(r#""frozen""#));
    let frozen = served.handle.uri("frozen");
    succeed("nbd", "nbdinfo", &["--is", "read-only", &frozen]).unwrap();
    let zero = run("nbd", "nbdinfo", &["--can", "zero", &frozen]).unwrap();
    assert!(!zero.status.success());
}

// Spec: NBD-14, NBD-15, NBD-20
#[test]
fn nbdcopy_there_and_back_changes_nothing() {
    let image = patchwork(16 * MIB + 777, 1);
    let served = Served::new(MemDisk::new(image.len()));
    let (from, to) = (served.file("from.img"), served.file("to.img"));
    std::fs::write(&from, &image).unwrap();
    if succeed("nbd", "nbdcopy", &["--flush", &from, &served.uri()]).is_none() {
        return;
    }
    assert!(served.disk.bytes() == image, "written wrong");
    assert!(served.disk.durable() == image, "flushed wrong");
    for connections in ["1", "4"] {
        let args = ["--connections", connections, &served.uri(), &to];
        succeed("nbd", "nbdcopy", &args).unwrap();
        assert!(std::fs::read(&to).unwrap() == image, "read wrong");
    }
    served.handle.stop().unwrap();
}

// Spec: NBD-20
#[test]
fn nbdinfo_maps_holes_and_zeros() {
    let disk = MemDisk::new(4 * MIB);
    disk.write_at(&vec![1; MIB], MIB as u64).unwrap();
    let served = Served::new(disk);
    let Some(text) = succeed("nbd", "nbdinfo", &["--map", &served.uri()]) else {
        return;
    };
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["0", "1048576", "3", "hole,zero"]);
    assert_eq!(rows[1], ["1048576", "1048576", "0", "data"]);
    assert_eq!(rows[2], ["2097152", "2097152", "3", "hole,zero"]);
}

// Spec: NBD-14, NBD-15, NBD-20
// Parity: D36
#[test]
fn qemu_img_converts_compares_and_maps() {
    let image = patchwork(12 * MIB, 2);
    let served = Served::new(MemDisk::new(image.len()));
    let from = served.file("from.img");
    std::fs::write(&from, &image).unwrap();
    let uri = served.uri();
    let convert = [
        "convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", &from, &uri,
    ];
    if succeed("qemu", "qemu-img", &convert).is_none() {
        return;
    }
    assert!(served.disk.bytes() == image, "converted wrong");
    let compare = ["compare", "-f", "raw", "-F", "raw", &from, &uri];
    succeed("qemu", "qemu-img", &compare).unwrap();
    let map = ["map", "--output=json", "-f", "raw", &uri];
    let map = succeed("qemu", "qemu-img", &map).unwrap();
    assert!(
        map.contains(r#""zero": true"#) && map.contains(r#""data": true"#),
        "{map}"
    );
    let back = served.file("back.img");
    let convert = [
        "convert",
        "-f",
        "raw",
        "-O",
        "raw",
        &served.handle.uri("frozen"),
        &back,
    ];
    succeed("qemu", "qemu-img", &convert).unwrap();
    assert!(std::fs::read(&back).unwrap() == image, "read wrong");
    let bench = "bench -f raw -c 2000 -d 32 -s 4096 -w --flush-interval=100";
    let bench: Vec<&str> = bench.split(' ').chain([uri.as_str()]).collect();
    succeed("qemu", "qemu-img", &bench).unwrap();
}

// Spec: NBD-15, NBD-17, NBD-18
#[test]
fn qemu_io_reads_the_patterns_it_wrote() {
    let served = Served::new(MemDisk::new(4 * MIB));
    let uri = served.uri();
    let commands = [
        "write -P 0xaa 0 64k",
        "write -P 0xbb 1000 3000",
        "write -z -u 128k 64k",
        "write -z 192k 64k",
        "write -f -P 0xcc 256k 64k",
        "read -P 0xbb 1000 3000",
        "read -P 0xaa 4000 60k",
        "discard 0 64k",
        "read -P 0 128k 128k",
        "read -P 0xcc 256k 64k",
        "flush",
    ];
    let mut args = vec!["-f", "raw"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(&uri);
    if let Some(text) = succeed("qemu", "qemu-io", &args) {
        assert!(!text.contains("failed"), "{text}");
        assert_eq!(served.disk.durable(), served.disk.bytes());
    }
}

// Spec: NBD-14, NBD-15
#[test]
fn fio_verifies_what_it_wrote() {
    let served = Served::new(MemDisk::new(16 * MIB));
    let uri = format!("--uri={}", served.uri());
    let engines = run("nbd", "fio", &["--enghelp"]);
    if !engines.is_some_and(|out| String::from_utf8_lossy(&out.stdout).contains("nbd")) {
        return require::skipped("nbd", "fio has no nbd engine");
    }
    let dir = format!("--aux-path={}", served.dir.path().display());
    let job = "--name=x --ioengine=nbd --size=16m --bs=4k --iodepth=32 --rw=randwrite \
               --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0";
    let mut args: Vec<&str> = job.split_whitespace().collect();
    args.extend([uri.as_str(), dir.as_str()]);
    let text = succeed("nbd", "fio", &args).unwrap();
    assert!(text.contains("err= 0"), "{text}");
}

/// The python that has libnbd.
pub fn nbdsh(script: &Path, uri: &str) -> Option<String> {
    let python = "/usr/bin/python3";
    let probe = run("nbd", python, &["-c", "import nbd"])?;
    if !probe.status.success() {
        require::skipped("nbd", "python3-libnbd is not installed");
        return None;
    }
    succeed("nbd", python, &[script.to_str().unwrap(), uri])
}
