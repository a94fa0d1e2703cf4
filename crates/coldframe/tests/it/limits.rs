//! Standard streams that are full, closed or left by their reader, limits on what a process may
//! use, and signals that end it: an exit code and one line, and nothing half done.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coldframe_envelope::Producer;
use coldframe_snapshot::import::{DiffHoles, Dump, Source, import};
use coldframe_snapshot::{Chain, Snapshot, derive};
use coldframe_storage::is_temporary;
use coldframe_testkit::child::{self, Running};
use coldframe_testkit::require::skipped;
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Home, Outcome, coldframe, command, memory_of, names, simulated};

/// Verbs that make something called `x`, or print; they run where [`Scene`] is.
const VERBS: [&str; 16] = [
    "import raw image -o x",
    "export raw s/diff-2 -o x",
    "merge s/diff-2 -o x",
    "diff s/full s/diff-2 -o s/x",
    "pull one --store store -o x",
    "push s/diff-2 --store store --name two",
    "disk import image --store store --name e",
    "disk export d --store store -o x",
    "demo --backend simulated --ram 8MiB --diffs 1 --workload input --record --dir x",
    "demo --backend simulated --ram 8MiB --diffs 0",
    "inspect s/full",
    "verify --deep s/diff-2 --json",
    "ls s",
    "store verify --deep --store store",
    "store stat --store store --json",
    "store gc --store store",
];

struct Scene(Home);

impl Scene {
    fn new() -> Self {
        let home = Home::new();
        simulated(&home.at("s"));
        let (image, store) = (home.at("image"), home.at("store"));
        fs::write(&image, vec![7; 3 << 20]).unwrap();
        fs::create_dir(home.at("tmp")).unwrap();
        coldframe(&[&"store", &"init", &"--store", &store]).done();
        let one = home.at("s/diff-1");
        coldframe(&[&"push", &one, &"--store", &store, &"--name", &"one"]).done();
        coldframe(&[
            &"disk", &"import", &image, &"--store", &store, &"--name", &"d",
        ])
        .done();
        Self(home)
    }

    /// The verb, to be run by a shell after `first`.
    fn after(&self, first: &str, verb: &str) -> Command {
        let mut shell = command(&[]);
        let program = shell.get_program().to_owned();
        let exec = format!("{first} exec \"$0\" \"$@\"");
        shell = child::command("sh");
        shell.arg("-c").arg(exec).arg(program).args(verb.split(' '));
        shell
            .current_dir(self.0.path())
            .env("TMPDIR", self.0.at("tmp"));
        shell.stdin(Stdio::null()).env_remove("COLDFRAME_LOG");
        shell
    }

    fn run(&self, first: &str, verb: &str) -> Outcome {
        self.after(first, verb).output().unwrap().into()
    }

    /// No temporary file or directory is left, and what a verb may have made is removed for the
    /// next one.
    #[track_caller]
    fn is_clean(&self, case: &str) {
        for dir in ["", "s", "tmp", "x", "store", "store/packs", "store/wal"] {
            // What a pull has fetched waits there for the next one.
            let is_resumed = case.starts_with("pull") && dir == "x";
            let dir = self.0.at(dir);
            if is_resumed || !dir.is_dir() {
                continue;
            }
            let is_left = |name: &String| is_temporary(name.as_ref());
            let left: Vec<_> = names(&dir).into_iter().filter(is_left).collect();
            assert!(left.is_empty(), "{case}: {left:?} in {}", dir.display());
        }
        assert!(names(&self.0.at("tmp")).is_empty(), "{case}");
        for made in ["x", "s/x"] {
            let _absent = fs::remove_dir_all(self.0.at(made));
            let _absent = fs::remove_file(self.0.at(made));
        }
    }
}

/// Done, or refused in one line with exit code 3.
#[track_caller]
fn is_orderly(outcome: &Outcome, case: &str) {
    let lines = outcome.stderr.lines().count();
    let is_done = outcome.code == 0 && lines == 0;
    let is_refused = outcome.code == 3 && lines == 1 && outcome.stderr.starts_with("coldframe: ");
    assert!(is_done || is_refused, "{case}: {outcome:#?}");
}

/// setrlimit(2), `RLIMIT_FSIZE`: without a handler SIGXFSZ would end the process.
#[test]
fn a_limit_on_the_length_of_files_is_an_error() {
    let scene = Scene::new();
    for verb in VERBS {
        let outcome = scene.run("ulimit -f 64;", verb);
        is_orderly(&outcome, verb);
        // All but the last of these make a file that is longer.
        if verb.ends_with(" x") {
            outcome.fails(3, &["File too large"]);
        }
        scene.is_clean(verb);
    }
}

#[test]
fn a_limit_on_descriptors_is_an_error() {
    let scene = Scene::new();
    let mut refused = 0;
    for count in [5, 6, 7, 8, 9, 10, 12, 16, 64] {
        for verb in VERBS {
            let case = format!("{verb} with {count} descriptors");
            let outcome = scene.run(&format!("ulimit -n {count};"), verb);
            // A few are needed before the command has begun.
            if outcome.code == 127 {
                continue;
            }
            refused += u32::from(outcome.code == 3);
            // What a demonstration says comes from the process in which it thaws, too.
            let is_handed_on = verb.starts_with("demo") && outcome.code == 1;
            // A disk that was made with fewer is there already.
            if !is_handed_on && !verb.ends_with("--name e") {
                is_orderly(&outcome, &case);
            }
            scene.is_clean(&case);
        }
    }
    assert!(refused > 0, "no limit was too low");
}

#[test]
fn a_full_standard_output_is_exit_3_and_a_closed_one_nothing() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return skipped("full", "there is no /dev/full");
    };
    let scene = Scene::new();
    let others = [
        "--help",
        "--version",
        "help merge",
        "store gc --help",
        "completions bash",
    ];
    for verb in VERBS.into_iter().chain(others) {
        let mut printing = scene.after("", verb);
        let printing = printing.stdout(full.try_clone().unwrap());
        let outcome = Outcome::from(printing.output().unwrap());
        outcome.fails(3, &["cannot write to standard output"]);
        scene.is_clean(verb);

        if !verb.starts_with("push") && !verb.starts_with("disk import") {
            scene.run("exec >&- <&-;", verb).done();
            scene.is_clean(verb);
        }
    }
}

/// There is nobody to be told, but for the exit code.
#[test]
fn a_full_or_closed_standard_error_changes_no_exit_code() {
    let scene = Scene::new();
    for end in ["exec 2>&-;", "exec 2>/dev/full;"] {
        if end.contains("full") && File::open("/dev/full").is_err() {
            skipped("full", "there is no /dev/full");
            continue;
        }
        for (verb, code) in [
            ("inspect none", 3),
            ("none", 2),
            ("verify none", 3),
            ("ls s", 0),
        ] {
            let outcome = scene.run(end, verb);
            assert_eq!(outcome.code, code, "{end} {verb}: {outcome:#?}");
        }
    }
}

/// `coldframe ls | head -1`: no error, no panic, and nothing left of what was being made. It ends
/// as commands do that SIGPIPE ends.
#[test]
fn a_reader_that_goes_away_is_no_error_to_speak_of() {
    let scene = Scene::new();
    for verb in VERBS {
        // Gone before the verb begins: how much it writes, and when, makes no difference.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = scene.after("", verb);
        let child = child.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        assert_eq!(
            (outcome.code, &outcome.stderr[..]),
            (141, ""),
            "{verb}: {outcome:#?}"
        );
        scene.is_clean(verb);
    }
}

/// Whenever it comes, a signal either ends a verb that leaves nothing, or comes too late.
#[test]
fn a_signal_leaves_nothing_half_done() {
    let scene = Scene::new();
    let mut rng = Rng::new(15);
    for verb in VERBS {
        // A tag is made once: each run makes another.
        let (words, tag) = verb.split_once("--name ").unwrap_or((verb, ""));
        let named = |round: &str| match tag {
            "" => verb.to_owned(),
            tag => format!("{words}--name {tag}-{round}"),
        };
        let begin = Instant::now();
        scene.run("", &named("whole")).done();
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap();
        scene.is_clean(verb);
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut child = scene.after("", &named(signal.as_str()));
            let child = child.stdout(Stdio::null()).stderr(Stdio::piped());
            let child = Running::start(child);
            std::thread::sleep(Duration::from_micros(rng.below(micros)));
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            kill(pid, signal).unwrap();
            let output = child.output();
            let is_ended = output.status.signal() == Some(signal as i32);
            let is_done = output.status.success();
            assert!(is_ended || is_done, "{verb}: {output:?}");
            assert!(output.stderr.is_empty(), "{verb}: {output:?}");
            let made = scene.0.at("x");
            if made.join("manifest").exists() {
                coldframe(&[&"verify", &made]).done();
            }
            scene.is_clean(verb);
        }
    }
}

/// The processes whose parent is `pid` (proc_pid_stat(5)).
#[cfg(target_os = "linux")]
fn children_of(pid: u32) -> Vec<i32> {
    let is_child = |process: &i32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        behind_name.split_whitespace().nth(1) == Some(&pid.to_string())
    };
    let processes = names("/proc".as_ref());
    let processes = processes.iter().filter_map(|name| name.parse().ok());
    processes.filter(is_child).collect()
}

/// Whether a process runs the verb. One that does not yet is one that was made by vfork(2): were it
/// stopped, who made it would wait in that call, and no signal would end it.
#[cfg(target_os = "linux")]
fn is_thawing(pid: &i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"thaw")
}

/// A demonstration that is ended while it waits for the process in which a snapshot thaws, which
/// is stopped here and so would not end by itself.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_what_a_demonstration_has_started() {
    let scene = Scene::new();
    let verb = "demo --backend simulated --ram 8MiB --diffs 9";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "no process was seen to thaw");
        let mut demo = scene.after("", verb);
        let mut demo = Running::start(demo.stdout(Stdio::null()).stderr(Stdio::null()));
        let mut seen = Vec::new();
        while seen.is_empty() && demo.try_wait().unwrap().is_none() {
            seen = children_of(demo.id());
            seen.retain(is_thawing);
        }
        let stopped: Vec<Pid> = seen.into_iter().map(Pid::from_raw).collect();
        let is_stopped = |pid: &Pid| kill(*pid, Signal::SIGSTOP).is_ok();
        if !stopped.iter().any(is_stopped) {
            continue;
        }
        kill(
            Pid::from_raw(i32::try_from(demo.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        let ended = demo.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::SIGTERM as i32));
        for child in stopped {
            assert!(kill(child, Signal::SIGKILL).is_err(), "{child} lives on");
        }
        scene.is_clean(verb);
        return;
    }
}

/// A full snapshot of 16 pages and so many diffs of one page each, `s0` and on; its memory.
fn long_chain(home: &Home, diffs: usize) -> Vec<u8> {
    use coldframe_units::{Arch, PageSize, RamLayout};

    let mut bytes = vec![1; 16 * 4096];
    let dump = home.at("dump");
    let mut parent = None;
    for index in 0..=diffs {
        let file = File::create(&dump).unwrap();
        if index == 0 {
            file.write_all_at(&bytes, 0).unwrap();
        } else {
            let at = index % 16 * 4096;
            bytes[at..at + 4096].fill(index as u8 | 1);
            file.set_len(bytes.len() as u64).unwrap();
            file.write_all_at(&bytes[at..at + 4096], at as u64).unwrap();
        }
        let dump = Dump::open(&dump).unwrap();
        let source = Source {
            arch: Arch::X86_64,
            ram: RamLayout::contiguous(dump.len()).unwrap(),
            page_size: PageSize::SIZE_4K,
            parent: parent.as_ref(),
            holes: DiffHoles::Proven,
            state: None,
            dump: &dump,
        };
        let producer = Producer::new("tests", "1").unwrap();
        let dest = home.at(&format!("s{index}"));
        parent = Some(import(source, &dest, producer, &mut |_| {}).unwrap());
    }
    bytes
}

#[test]
fn a_chain_longer_than_the_limit_on_descriptors_is_opened_whole() {
    const DIFFS: usize = 300;
    let home = Home::new();
    let bytes = long_chain(&home, DIFFS);
    let scene = Scene(home);
    fs::create_dir(scene.0.at("tmp")).unwrap();
    for verb in [
        "verify --deep s300",
        "export raw s300 -o raw",
        "merge s300 -o flat",
        "inspect s300 --search .",
        "diff s0 s300 -o delta",
        "ls .",
    ] {
        let outcome = scene.run("ulimit -n 64;", verb).done();
        assert!(!outcome.stdout.is_empty(), "{verb}");
    }
    assert!(fs::read(scene.0.at("raw")).unwrap() == bytes);
    assert!(crate::support::memory_of(&scene.0.at("flat")) == bytes);
}

/// A chain of more snapshots than a process may open files by default: a simulated guest's, with
/// imports between its first snapshot and a diff that leads to its second one.
fn thawable_chain(dir: &Path, links: usize) -> PathBuf {
    let producer = Producer::new("test", "1").unwrap();
    simulated(dir);
    let mut last = Snapshot::open(dir.join("full")).unwrap();
    let layout = last.manifest().ram.clone();
    let dump = dir.join("dump");
    for link in 0..links {
        let file = File::create(&dump).unwrap();
        file.set_len(layout.total().get()).unwrap();
        file.write_all_at(&[(link % 251) as u8 + 1; 4096], link as u64 % 64 * 4096)
            .unwrap();
        let source = Source {
            dump: &Dump::open(&dump).unwrap(),
            arch: last.manifest().arch.unwrap(),
            ram: layout.clone(),
            page_size: last.manifest().page_size,
            parent: Some(&last),
            holes: DiffHoles::Assumed,
            state: None,
        };
        let next = dir.join(format!("l{link}"));
        last = import(source, &next, producer, &mut |_| ()).unwrap();
    }
    let chain = |snapshot| Chain::of(snapshot, &[]).unwrap();
    let end = Snapshot::open(dir.join("diff-1")).unwrap();
    let youngest = dir.join("youngest");
    derive::diff(&chain(last), &chain(end), &youngest, producer).unwrap();
    youngest
}

#[test]
fn a_chain_of_more_snapshots_than_descriptors_is_used_as_any_other() {
    let home = scratch::dir();
    let dir = home.path().join("s");
    let youngest = thawable_chain(&dir, 1100);
    let [out, flat, store, pulled] = ["out", "flat", "store", "pulled"].map(|name| {
        let path = home.path().join(name);
        path.to_str().unwrap().to_owned()
    });
    let run = |verb: &str, path: &str, more: &str| {
        let program = env!("CARGO_BIN_EXE_coldframe");
        let mut shell = child::command("sh");
        let limited = "ulimit -n 1024; exec \"$0\" \"$@\"";
        shell.args(["-c", limited, program]).args(verb.split(' '));
        shell.arg(path).args(more.split_whitespace());
        shell.stdin(Stdio::null()).env("TMPDIR", home.path());
        Outcome::from(shell.output().unwrap()).done()
    };
    let path = youngest.to_str().unwrap();
    let thawed = run("thaw", path, "").json();
    let end = dir.join("diff-1");
    assert_eq!(
        thawed["end"],
        run("thaw", end.to_str().unwrap(), "").json()["end"]
    );
    assert_eq!(
        thawed["end"],
        run("thaw --mode copy", path, "").json()["end"]
    );
    run("verify --deep", path, "");
    run("inspect", path, "");
    run("ls", dir.to_str().unwrap(), "");
    run("export raw", path, &format!("-o {out}"));
    assert!(fs::read(&out).unwrap() == memory_of(&end));
    run("merge", path, &format!("-o {flat}"));
    assert!(memory_of(Path::new(&flat)) == memory_of(&end));
    run("store init --store", &store, "");
    run("push", path, &format!("--store {store} --name long"));
    run("pull long", "--store", &format!("{store} -o {pulled}"));
    run("rm", path, "");
}
