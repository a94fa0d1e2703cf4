//! The examples of the help run as they are pasted, in an empty directory, or say of what they are.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coldframe_testkit::child::{self, Running};
use coldframe_testkit::scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shuru_store::{CasBackend, ChunkIndex, LocalChunkStore};

use crate::served::Server;
use crate::support::{Home, Outcome, coldframe, command, firecracker_state};

/// The first example of a verb.
struct Example {
    /// What is there before; nothing if the example makes all it needs.
    of: Option<String>,
    lines: Vec<String>,
}

impl Example {
    fn read(verb: &[&str]) -> Self {
        let help = command(&[]).args(verb).arg("--help").output().unwrap();
        let help = Outcome::from(help).done().stdout;
        let (_, text) = help.split_once("\nExample").unwrap();
        let (heading, text) = text.split_once(":\n").unwrap();
        let lines = text.lines().take_while(|line| !line.is_empty());
        Self {
            of: heading.strip_prefix(", of ").map(str::to_owned),
            lines: lines.map(|line| line.trim().to_owned()).collect(),
        }
    }
}

/// Lines for sh(1), to be run in a directory.
fn shell(dir: &Path, lines: &[String]) -> Command {
    let mut shell = child::command("sh");
    let own = Path::new(env!("CARGO_BIN_EXE_coldframe")).parent().unwrap();
    let mut path = vec![own.to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    shell
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("TMPDIR", scratch::root())
        .env_remove("COLDFRAME_LOG")
        .args(["-e", "-c", &lines.join("\n")])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    shell
}

#[track_caller]
fn run(dir: &Path, lines: &[String]) {
    let outcome = Outcome::from(shell(dir, lines).output().unwrap());
    assert_eq!(outcome.code, 0, "{lines:#?}\n{outcome:#?}");
}

/// Makes what an example says that it is of; a server goes on.
fn prepare(dir: &Path, of: &str) -> Option<Server> {
    let (state, mem) = (dir.join("full.snap"), dir.join("full.mem"));
    match of {
        "a disk that was served"
        | "a disk whose server was killed"
        | "a disk that is served with `--control unix:root.ctl`" => {
            let import = "coldframe disk import root.img --store chunks --name root";
            run(dir, &["truncate -s 64M root.img".into(), import.into()]);
            let (listen, socket) = ("unix:root.sock", dir.join("root.sock"));
            let mut serve = command(&[&"disk", &"serve", &"root", &"--store", &"chunks"]);
            serve.args(["--json", "--listen", listen, "--control", "unix:root.ctl"]);
            let server = Server::try_start(serve.current_dir(dir), &socket);
            let server = server.unwrap_or_else(|outcome| panic!("{outcome:#?}"));
            if of.contains("is served") {
                return Some(server);
            }
            server.kill();
        }
        "the two files of a snapshot of Firecracker" => {
            fs::write(state, firecracker_state(8 << 20)).unwrap();
            File::create(mem).unwrap().set_len(8 << 20).unwrap();
        }
        "a snapshot that was imported from Firecracker" => {
            prepare(dir, "the two files of a snapshot of Firecracker");
            let import: [&dyn AsRef<std::ffi::OsStr>; 6] = [
                &"import",
                &"firecracker",
                &"--state",
                &state,
                &"--mem",
                &mem,
            ];
            let mut args = import.to_vec();
            let base = dir.join("base");
            args.extend([&"-o" as &dyn AsRef<_>, &base]);
            coldframe(&args).done();
        }
        "a directory `cas` of shuru-store with an index `cas/d.idx`" => {
            let cas = dir.join("cas");
            let chunks = LocalChunkStore::open(cas.to_str().unwrap()).unwrap();
            let disk = CasBackend::new(Box::new(chunks), ChunkIndex::new(1 << 17));
            disk.write(0, &[7; 1 << 16]).unwrap();
            disk.save_index(cas.join("d.idx").to_str().unwrap())
                .unwrap();
        }
        other => panic!("nobody makes {other}"),
    }
    None
}

/// Runs a server until its socket is there, and ends it.
fn serve(dir: &Path, lines: &[String]) {
    let (last, before) = lines.split_last().unwrap();
    run(dir, before);
    let server = Running::start(&mut shell(dir, &[format!("exec {last}")]));
    let started = Instant::now();
    let is_socket = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|found| found.file_type().is_socket())
    };
    while !is_socket(&dir.join("root.sock")) {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it does not listen"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(
        Pid::from_raw(server.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let outcome = Outcome::from(server.output());
    assert_eq!(outcome.code, 0, "{outcome:#?}");
}

/// What `coldframe demo` made, which several examples begin with.
#[derive(Default)]
struct Demos(HashMap<String, Home>);

impl Demos {
    /// Runs the first line, or copies what it made before; returns what is left to run.
    fn begin<'a>(&mut self, dir: &Path, lines: &'a [String]) -> &'a [String] {
        let Some((first, rest)) = lines.split_first() else {
            return lines;
        };
        if rest.is_empty() || !first.starts_with("coldframe demo") {
            return lines;
        }
        let made = self.0.entry(first.clone()).or_insert_with(|| {
            let home = Home::new();
            run(home.path(), std::slice::from_ref(first));
            home
        });
        let mut copy = child::command("cp");
        copy.arg("-a").arg(made.path().join(".")).arg(dir);
        assert!(copy.status().unwrap().success());
        rest
    }
}

#[test]
fn every_example_runs_as_it_is_pasted() {
    let mut demos = Demos::default();
    for verb in crate::cli::VERBS {
        let example = Example::read(verb);
        let home = Home::new();
        let dir = home.path();
        let of = example.of.as_ref();
        let server = of.and_then(|of| prepare(dir, of));
        let rest = demos.begin(dir, &example.lines);
        match rest.last().is_some_and(|last| last.contains("disk serve")) {
            true => serve(dir, rest),
            false => run(dir, rest),
        }
        drop(server);
    }
}
