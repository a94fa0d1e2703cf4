//! Every path that any verb takes, given every kind of file and every odd name: the verb does its
//! work or says in one line what is wrong, soon, and leaves what was there alone.
//!
//! The verbs and their arguments come from the command's own help, so that one which is added is
//! missed here.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use coldframe_storage::is_temporary;
use coldframe_testkit::child::Running;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{Home, Outcome, coldframe, command, names, simulated};

/// The verbs with a path in each place where they take one, `{P}`; `{NEW}` is a name that is free.
const PLACES: &[(&str, &str)] = &[
    ("demo", "--backend simulated --ram 8MiB --diffs 0 --dir {P}"),
    (
        "demo",
        "--backend simulated --ram 8MiB --diffs 0 --payload {P}",
    ),
    ("inspect", "{P}"),
    ("verify", "{P}"),
    ("verify", "--deep {P} --json"),
    ("verify", "{SNAP} --search {P}"),
    ("import raw", "{P} -o {NEW}"),
    ("import raw", "{MEM} -o {P}"),
    ("import raw", "{MEM} --parent {P} -o {NEW}"),
    ("import firecracker", "--state {P} --mem {MEM} -o {NEW}"),
    ("import firecracker", "--state {MEM} --mem {P} -o {NEW}"),
    ("export raw", "{P} -o {NEW}"),
    ("export raw", "{SNAP} -o {P}"),
    ("export firecracker", "{P} -o {NEW}"),
    ("export firecracker", "{SNAP} -o {P}"),
    ("diff", "{P} {SNAP} -o {NEW}"),
    ("diff", "{SNAP} {P} -o {NEW}"),
    ("diff", "{SNAP} {SNAP} -o {P}"),
    ("merge", "{P} -o {NEW}"),
    ("merge", "{SNAP} -o {P}"),
    ("merge", "{SNAP} --down-to {P} -o {NEW}"),
    ("ls", "{P}"),
    ("rm", "{P}"),
    ("replay", "{P} --journal {MEM}"),
    ("replay", "{SNAP} --journal {P}"),
    ("replay", "{SNAP} --journal {MEM} --search {P}"),
    ("wal stat", "{P}"),
    ("wal dump", "{P} --json"),
    ("wal check", "--apply {P}"),
    ("journal stat", "{P}"),
    ("journal dump", "{P} --json"),
    ("push", "{P} --store {STORE} --name x"),
    ("push", "{SNAP} --store {P} --name x"),
    ("push", "{SNAP} --store {STORE} --search {P}"),
    ("pull", "one --store {P} -o {NEW}"),
    ("pull", "one --store {STORE} -o {P}"),
    ("pull", "one --store {STORE} -o {NEW} --search {P}"),
    ("pull", "one --store {STORE} -o {NEW} --cache {P}"),
    ("store init", "--store {P}"),
    ("store ls", "--store {P}"),
    ("store stat", "--store {P}"),
    ("store verify", "--store {P}"),
    ("store gc", "--store {P}"),
    ("store untag", "x --store {P}"),
    ("store prune", "--keep-last 1 --store {P}"),
    ("store import-shuru", "{P} --store {STORE} --name x"),
    (
        "store import-shuru",
        "{DIR} --index {P} --store {STORE} --name x",
    ),
    ("store import-shuru", "{DIR} --store {P} --name x"),
    ("disk import", "{P} --store {STORE} --name x --replace"),
    (
        "disk import",
        "{P} --store {STORE} --name y --lazy --replace",
    ),
    ("disk import", "{MEM} --store {P} --name x"),
    ("disk export", "disk --store {STORE} -o {NEW} --base {P}"),
    ("disk export", "disk --store {STORE} -o {NEW} --wal {P}"),
    ("disk export", "disk --store {STORE} -o {NEW} --cache {P}"),
    ("disk export", "disk --store {P} -o {NEW}"),
    ("disk export", "disk --store {STORE} -o {P}"),
    ("disk ls", "--store {P}"),
    ("disk resize", "disk --size 16MiB --store {P}"),
    ("disk resize", "disk --size 16MiB --store {STORE} --wal {P}"),
    ("disk serve", "disk --listen unix:{NEW} --store {P}"),
    (
        "disk serve",
        "disk --listen unix:{NEW} --store {STORE} --wal {P}",
    ),
    (
        "disk serve",
        "disk --read-only --listen unix:{NEW} --store {STORE} --cache {P}",
    ),
    (
        "disk serve",
        "disk --read-only --listen unix:{NEW} --store {STORE} --base {P}",
    ),
    ("disk checkpoint", "x --control {P}"),
    ("disk recover", "--wal {P} --store {STORE} --name x"),
    ("disk recover", "--wal {MEM} --store {P} --name x"),
];

/// What lies where a path leads.
const KINDS: &[&str] = &[
    "fifo",
    "socket",
    "text",
    "empty",
    "full",
    "none",
    "loop",
    "dangling",
    "text/",
    "text/below",
    "missing",
    "missing/",
    "missing/below",
    "new\nline",
    "esc\u{1b}[31m",
    "/dev/null",
    "/dev/zero",
    "/dev/stdin",
    "/dev/full",
    "",
    ".",
    "..",
];

/// As long as a file name may be, and too long.
fn long() -> [String; 2] {
    ["n".repeat(255), "n".repeat(300)]
}

/// A directory with one of each kind in it.
fn lay_out(dir: &Path) {
    fs::create_dir(dir).unwrap();
    mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(dir.join("socket")).unwrap());
    fs::write(dir.join("text"), "no file of ours\n").unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    fs::create_dir(dir.join("full")).unwrap();
    fs::write(dir.join("full/text"), "mine").unwrap();
    fs::create_dir(dir.join("none")).unwrap();
    std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
}

struct Scene {
    home: Home,
    round: usize,
}

impl Scene {
    fn new() -> Self {
        let home = Home::new();
        simulated(&home.at("s"));
        let (mem, snap, store) = (home.at("mem"), home.at("s/diff-1"), home.at("store"));
        fs::write(&mem, vec![1; 8 << 20]).unwrap();
        fs::create_dir(home.at("dir")).unwrap();
        coldframe(&[&"store", &"init", &"--store", &store]).done();
        coldframe(&[&"push", &snap, &"--store", &store, &"--name", &"one"]).done();
        coldframe(&[
            &"disk", &"import", &mem, &"--store", &store, &"--name", &"disk",
        ])
        .done();
        Self { home, round: 0 }
    }

    /// Runs one verb with one kind of file in one place.
    fn check(&mut self, verb: &str, place: &str, kind: &str) {
        self.round += 1;
        let here = self.home.at(&format!("{}", self.round));
        lay_out(&here);
        fs::create_dir(here.join("cwd")).unwrap();
        let path = match kind {
            "" | "." | ".." => PathBuf::from(kind),
            _ => here.join(kind),
        };
        let mut command = command(&[]);
        command.args(verb.split(' ')).current_dir(here.join("cwd"));
        for word in place.split(' ') {
            let word = word.replace("{NEW}", here.join("new").to_str().unwrap());
            command.arg(match &word[..] {
                "{SNAP}" => self.home.at("s/diff-1"),
                "{MEM}" => self.home.at("mem"),
                "{STORE}" => self.home.at("store"),
                "{DIR}" => self.home.at("dir"),
                "{P}" => path.clone(),
                _ => word.into(),
            });
        }
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = Running::start(pipes.stderr(Stdio::piped()));
        let case = format!("{verb} {place} with {kind:?}");
        let serves = verb == "disk serve";
        let outcome = ended(child, serves, &case);
        if let Some(outcome) = outcome {
            is_orderly(&outcome, &case);
        }
        assert_eq!(fs::read(here.join("text")).unwrap(), b"no file of ours\n");
        assert_eq!(fs::read(here.join("full/text")).unwrap(), b"mine");
        let left: Vec<_> = names(&here)
            .into_iter()
            .filter(|name| is_temporary(name.as_ref()))
            .collect();
        assert!(left.is_empty(), "{case}: {left:?}");
        fs::remove_dir_all(&here).unwrap();
    }
}

/// How it ended; `None` for a server that runs, which is ended here.
fn ended(mut child: Running, serves: bool, case: &str) -> Option<Outcome> {
    // Nobody writes to it, and nobody closes it.
    let _stdin = child.stdin.take();
    if serves {
        // Either it says that it listens, or it ends.
        let mut stdout = child.stdout.take().unwrap();
        let has_said = stdout.read(&mut [0]).unwrap() > 0;
        return (!has_said).then(|| child.output().into());
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "{case}: it waits for ever");
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(child.output().into())
}

/// One of the exit codes there are; an error is one line, and no control characters reach the
/// terminal.
#[track_caller]
fn is_orderly(outcome: &Outcome, case: &str) {
    assert!(
        matches!(outcome.code, 0..=3),
        "{case} ended with {}: {outcome:#?}",
        outcome.code
    );
    let lines = outcome.stderr.lines().count();
    let has_said = outcome.code < 2 && !outcome.stdout.is_empty();
    assert!(
        lines == 1 || (lines == 0 && (outcome.code == 0 || has_said)),
        "{case}: {outcome:#?}"
    );
    for text in [&outcome.stdout, &outcome.stderr] {
        let is_control = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(is_control), "{case}: {outcome:#?}");
    }
}

#[track_caller]
fn check(verbs: impl Fn(&str) -> bool) {
    let mut scene = Scene::new();
    let long = long();
    let kinds: Vec<&str> = KINDS
        .iter()
        .copied()
        .chain(long.iter().map(|name| &name[..]))
        .collect();
    for (verb, place) in PLACES.iter().filter(|(verb, _)| verbs(verb)) {
        for kind in &kinds {
            scene.check(verb, place, kind);
        }
    }
}

fn group(verb: &str) -> &str {
    verb.split(' ').next().unwrap_or_default()
}

#[test]
fn snapshots_are_orderly_about_every_kind_of_file() {
    check(|verb| !matches!(group(verb), "disk" | "store" | "push" | "pull"));
}

#[test]
fn stores_are_orderly_about_every_kind_of_file() {
    check(|verb| matches!(group(verb), "store" | "push" | "pull"));
}

#[test]
fn disks_are_orderly_about_every_kind_of_file() {
    check(|verb| group(verb) == "disk");
}

/// Every verb that takes a file has its line above, by what `--help` says that it takes.
#[test]
fn every_verb_with_a_path_is_tried() {
    const VALUES: [&str; 10] = [
        "<PATH>",
        "<PATHS>",
        "<FILE>",
        "<DIR>",
        "<SNAPSHOT>",
        "<SNAPSHOTS>",
        "<URL>",
        "<IMAGE>",
        "<D>",
        "<F>",
    ];
    for verb in crate::cli::VERBS {
        let help = command(&[]).args(verb).arg("--help").output().unwrap();
        let help = Outcome::from(help).done().stdout;
        if help.contains("Commands:") || !VALUES.iter().any(|value| help.contains(value)) {
            continue;
        }
        let verb = verb.join(" ");
        assert!(
            PLACES.iter().any(|(known, _)| *known == verb),
            "{verb} is not tried"
        );
    }
}

/// A name that ends in a slash is the name without it; what is there already is no new name.
#[test]
fn an_output_may_end_in_a_slash_and_must_be_a_new_name() {
    let scene = Scene::new();
    let (snap, mem, store) = (
        scene.home.at("s/diff-1"),
        scene.home.at("mem"),
        scene.home.at("store"),
    );
    let makers: [Vec<&Path>; 6] = [
        vec!["import".as_ref(), "raw".as_ref(), &mem],
        vec!["export".as_ref(), "raw".as_ref(), &snap],
        vec!["diff".as_ref(), &snap, &snap],
        vec!["merge".as_ref(), &snap],
        vec!["pull".as_ref(), "one".as_ref(), "--store".as_ref(), &store],
        vec![
            "disk".as_ref(),
            "export".as_ref(),
            "disk".as_ref(),
            "--store".as_ref(),
            &store,
        ],
    ];
    for (at, maker) in makers.iter().enumerate() {
        let made = format!("made-{at}");
        let run = |output: &str| {
            let mut command = command(&[]);
            command
                .args(maker)
                .args(["-o", output])
                .current_dir(scene.home.path());
            Outcome::from(command.output().unwrap())
        };
        // Where a pull goes may be there.
        if at != 4 {
            for old in [".", "..", "/", "s/.."] {
                run(old).fails(2, &["--output", "DIR/NAME"]);
            }
        }
        run("").fails(2, &["--output"]);
        run(&format!("{made}/")).done();
        assert!(scene.home.at(&made).exists(), "{made}");
    }
}
