//! Other people's programs: flat binaries in each mode, and a kernel that Firecracker boots too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use coldframe_testkit::child;

use crate::support::{Home, Outcome, coldframe, no_kvm, tool};

/// Prints `ABCDEF`, a mark after each letter, and ends.
const REAL: &[u8] = &[
    0xb9, 6, 0, // mov cx, 6
    0xbb, 0x41, 0, // mov bx, 'A'
    0xba, 0xf8, 0x03, // again: mov dx, 0x3f8
    0x88, 0xd8, // mov al, bl
    0xee, // out dx, al
    0x66, 0x0f, 0xb7, 0xc3, // movzx eax, bx
    0x66, 0xe7, 0xf0, // out 0xf0, eax
    0x43, // inc bx
    0xe2, 0xf0, // loop again
    0xb0, 0, 0xe6, 0xf4, // mov al, 0; out 0xf4, al
];

/// The same in 32 bits, and byte for byte the same in 64.
const PROTECTED_OR_LONG: &[u8] = &[
    0xb9, 6, 0, 0, 0, // mov ecx, 6
    0xbb, 0x41, 0, 0, 0, // mov ebx, 'A'
    0x66, 0xba, 0xf8, 0x03, // again: mov dx, 0x3f8
    0x88, 0xd8, // mov al, bl
    0xee, // out dx, al
    0x89, 0xd8, // mov eax, ebx
    0xe7, 0xf0, // out 0xf0, eax
    0xff, 0xc3, // inc ebx
    0xe2, 0xf1, // loop again
    0xb0, 0, 0xe6, 0xf4, // mov al, 0; out 0xf4, al
];

/// Prints `xxxxxxxx` without a mark, and halts.
const WITHOUT_MARKS: &[u8] = &[
    0xb9, 8, 0, // mov cx, 8
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'x', // mov al, 'x'
    0xee, // again: out dx, al
    0xe2, 0xfd, // loop again
    0xfa, 0xf4, // cli; hlt
];

/// Runs a flat binary with two diffs; gives what it printed.
#[track_caller]
fn run_flat(code: &[u8], load_at: &str, entry: &str) -> Vec<u8> {
    let home = Home::new();
    let (file, dir) = (home.at("code"), home.at("kept"));
    fs::write(&file, code).unwrap();
    let demo = coldframe(&[
        &"demo",
        &"--backend",
        &"kvm",
        &"--ram",
        &"8MiB",
        &"--diffs",
        &"2",
        &"--payload",
        &file,
        &"--load-at",
        &load_at,
        &"--entry",
        &entry,
        &"--dir",
        &dir,
        &"--json",
    ]);
    let report = demo.done().json();
    assert_eq!(report["verdict"], "identical");
    assert_eq!(report["snapshots"].as_array().unwrap().len(), 3);
    assert_eq!(report["workload"].as_str(), file.to_str());
    fs::read(dir.join("console.txt")).unwrap()
}

#[test]
fn a_flat_binary_runs_in_each_mode() {
    if no_kvm() {
        return;
    }
    assert_eq!(run_flat(REAL, "0x1000", "real"), b"ABCDEF");
    assert_eq!(run_flat(REAL, "32768", "real"), b"ABCDEF");
    assert_eq!(
        run_flat(PROTECTED_OR_LONG, "0x100000", "protected"),
        b"ABCDEF"
    );
    assert_eq!(run_flat(PROTECTED_OR_LONG, "0x200000", "long"), b"ABCDEF");
}

#[test]
fn without_marks_snapshots_are_taken_by_exits() {
    if no_kvm() {
        return;
    }
    assert_eq!(run_flat(WITHOUT_MARKS, "0x1000", "real"), b"xxxxxxxx");
}

#[test]
fn a_program_that_cannot_be_entered_is_wrong_usage() {
    let home = Home::new();
    let file = home.at("code");
    fs::write(&file, REAL).unwrap();
    let demo = |more: &[&str]| -> Outcome {
        let mut demo = crate::support::command(&[&"demo", &"--ram", &"8MiB", &"--payload", &file]);
        demo.args(more).output().unwrap().into()
    };
    demo(&[]).fails(2, &["not an ELF64 image", "--load-at", "--entry"]);
    demo(&["--entry", "real"]).fails(2, &["--load-at"]);
    demo(&["--load-at", "here"]).fails(2, &["--load-at", "here"]);
    demo(&["--load-at", "0x1000", "--entry", "virtual"]).fails(2, &["--entry", "virtual"]);
    coldframe(&[&"demo", &"--load-at", &"0x1000"]).fails(2, &["--payload"]);
    let missing = home.at("missing");
    coldframe(&[&"demo", &"--payload", &missing]).fails(3, &["missing"]);
    let simulated = demo(&[
        "--load-at",
        "0x1000",
        "--entry",
        "real",
        "--backend",
        "simulated",
    ]);
    simulated.fails(2, &["simulated"]);
    if no_kvm() {
        return;
    }
    demo(&["--load-at", "0x10000000", "--entry", "long"]).fails(2, &["cannot boot"]);
    demo(&["--load-at", "0x100000", "--entry", "real"]).fails(2, &["cannot boot"]);
}

/// Builds the tiny kernel.
fn build(tiny: &Path, out: &Path, settings: &[&str]) {
    let mut build = child::command(tiny.join("build.sh"));
    let status = build.arg(out).args(settings).status().unwrap();
    assert!(status.success());
}

/// What the guest said: lines of a round and a hash, and the last.
fn lines(console: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(console);
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let of_guest = |line: &&str| {
        *line == "END"
            || line
                .split_once(' ')
                .is_some_and(|(round, hash)| is_hex(round, 6) && is_hex(hash, 16))
    };
    text.lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(of_guest)
        .map(String::from)
        .collect()
}

/// What the same image prints under Firecracker, with as much memory. Its own log goes to a file:
/// on the console it would cut into the guest's lines.
fn under_firecracker(firecracker: &Path, home: &Path, ram_mib: u32) -> Vec<String> {
    let config = serde_json::json!({
        "boot-source": {"kernel_image_path": "kernel.elf", "boot_args": "console=ttyS0"},
        "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": ram_mib},
    });
    fs::write(home.join("config.json"), config.to_string()).unwrap();
    fs::write(home.join("log"), []).unwrap();
    let output = child::command(firecracker.join("firecracker"))
        .args(["--no-seccomp", "--no-api", "--log-path", "log"])
        .args(["--config-file", "config.json"])
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    lines(&output.stdout)
}

#[test]
fn a_kernel_prints_here_what_it_prints_under_firecracker() {
    if no_kvm() {
        return;
    }
    let Some(tiny) = tool("tiny-kernel", "COLDFRAME_TINY_KERNEL") else {
        return;
    };
    let firecracker: Option<PathBuf> = tool("firecracker", "COLDFRAME_FIRECRACKER");
    let settings = [
        ["-DPAGES=512u", "-DROUNDS=512u", "-DMARK=16u"],
        ["-DPAGES=2048u", "-DROUNDS=900u", "-DMARK=64u"],
        ["-DPAGES=3u", "-DROUNDS=100u", "-DMARK=1u"],
    ];
    for settings in settings {
        let home = Home::new();
        let (kernel, dir) = (home.at("kernel.elf"), home.at("kept"));
        build(&tiny, &kernel, &settings);
        let demo = coldframe(&[
            &"demo",
            &"--ram",
            &"64MiB",
            &"--diffs",
            &"2",
            &"--payload",
            &kernel,
            &"--dir",
            &dir,
            &"--json",
        ]);
        assert_eq!(demo.done().json()["verdict"], "identical");
        let console = fs::read(dir.join("console.txt")).unwrap();
        let printed = lines(&console);
        assert_eq!(printed.last().unwrap(), "END");
        assert_eq!(
            printed.join("\n") + "\n",
            String::from_utf8(console).unwrap()
        );
        if let Some(firecracker) = &firecracker {
            let there = under_firecracker(firecracker, home.path(), 64);
            assert_eq!(printed, there, "{settings:?}");
        }
    }
}
