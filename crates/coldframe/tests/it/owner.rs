//! A command that is run once as root in directories of another user: that user goes on with what
//! it made.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coldframe_testkit::child;
use coldframe_testkit::require::skipped;
use coldframe_testkit::scratch;

use crate::nbd_client::FLUSH;
use crate::served::Server;
use crate::support::{Home, Outcome, command, memory_of};

/// Nobody in particular.
const USER: u32 = 65534;

type Arg<'a> = &'a dyn AsRef<OsStr>;

/// A directory of another user, in which root and that user run verbs.
struct Shared {
    home: Home,
    image: Vec<u8>,
}

impl Shared {
    /// `None`, said to be skipped, where this process is not root, or the user cannot run the
    /// command.
    fn new() -> Option<Self> {
        let home = Home::new();
        if fs::metadata(home.path()).unwrap().uid() != 0 {
            skipped("root", "only root makes files that others cannot open");
            return None;
        }
        fs::set_permissions(scratch::root(), Permissions::from_mode(0o711)).unwrap();
        if chown(home.path(), Some(USER), Some(USER)).is_err() {
            skipped("root", "files cannot be given to another user");
            return None;
        }
        let image: Vec<u8> = (0..3 << 20).map(|at: u32| (at / 4096) as u8).collect();
        let shared = Self { home, image };
        for dir in ["tmp", "work"] {
            let dir = shared.at(dir);
            fs::create_dir(&dir).unwrap();
            chown(&dir, Some(USER), Some(USER)).unwrap();
        }
        fs::write(shared.at("image"), &shared.image).unwrap();
        let mut version = shared.by_user(&[&"--version"]);
        if !version.output().is_ok_and(|output| output.status.success()) {
            skipped("root", "another user cannot run the command where it is");
            return None;
        }
        Some(shared)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.at(name)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.at("work").join(name)
    }

    fn by_root(&self, args: &[Arg<'_>]) -> Command {
        let mut command = command(args);
        command.env("TMPDIR", self.at("tmp"));
        command
    }

    fn by_user(&self, args: &[Arg<'_>]) -> Command {
        let mut command = self.by_root(args);
        command.uid(USER).gid(USER);
        command
    }

    #[track_caller]
    fn root(&self, args: &[Arg<'_>]) -> Outcome {
        done(self.by_root(args).output().unwrap())
    }

    #[track_caller]
    fn user(&self, args: &[Arg<'_>]) -> Outcome {
        done(self.by_user(args).output().unwrap())
    }

    /// Everything there belongs to the user.
    #[track_caller]
    fn is_all_theirs(&self, after: &str) {
        let mut queue = vec![self.at("work")];
        while let Some(path) = queue.pop() {
            let found = fs::symlink_metadata(&path).unwrap();
            let owner = (found.uid(), found.gid());
            assert_eq!(owner, (USER, USER), "{} after {after}", path.display());
            if found.is_dir() {
                let entries = fs::read_dir(&path).unwrap();
                queue.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
    }

    /// Serves a disk, writes its first page, and ends the server, gently or not.
    #[track_caller]
    fn write_page(&self, serve: &mut Command, page: &[u8], gently: bool) {
        let socket = self.at("disk.sock");
        let _ = fs::remove_file(&socket);
        let listen = format!("unix:{}", socket.display());
        serve.args(["--listen", &listen, "--json"]);
        let server = Server::try_start(serve, &socket);
        let server = server.unwrap_or_else(|outcome| panic!("{outcome:#?}"));
        let mut client = server.client();
        assert_eq!(client.write(0, 0, page), 0);
        assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
        drop(client);
        match gently {
            true => server.stop(),
            false => server.kill(),
        }
    }
}

#[track_caller]
fn done(output: Output) -> Outcome {
    Outcome::from(output).done()
}

const DEMO: [&str; 9] = [
    "demo",
    "--backend",
    "simulated",
    "--ram",
    "8MiB",
    "--diffs",
    "2",
    "--workload",
    "zeroing",
];

fn demo<'a>(dir: &'a Path) -> Vec<Arg<'a>> {
    let mut args: Vec<Arg<'a>> = DEMO.iter().map(|arg| arg as Arg<'a>).collect();
    args.push(&"--dir");
    args.push(Box::leak(Box::new(dir.to_path_buf())));
    args
}

#[test]
fn snapshots_that_root_makes_beside_a_users_are_the_users() {
    let Some(shared) = Shared::new() else { return };
    let s = shared.work("s");
    shared.root(&demo(&s));
    shared.is_all_theirs("demo");
    let (full, one, two) = (s.join("full"), s.join("diff-1"), s.join("diff-2"));
    let memory = memory_of(&two);
    let (raw, made) = (shared.work("raw"), shared.work("made"));
    shared.root(&[&"export", &"raw", &two, &"-o", &raw]);
    shared.root(&[&"import", &"raw", &raw, &"-o", &made]);
    shared.root(&[&"diff", &full, &two, &"-o", &s.join("d")]);
    shared.root(&[&"merge", &two, &"-o", &s.join("m")]);
    shared.is_all_theirs("import, export, diff and merge");
    shared.root(&[&"rm", &s.join("d")]);
    shared.is_all_theirs("rm");
    shared.user(&[&"verify", &"--deep", &two]);
    shared.user(&[&"ls", &s]);
    shared.user(&[&"rm", &s.join("m")]);
    shared.user(&[&"rm", &two]);
    shared.user(&[&"rm", &one]);
    assert!(fs::read(raw).unwrap() == memory);
}

#[test]
fn a_store_that_root_has_worked_in_is_still_its_owners() {
    let Some(shared) = Shared::new() else { return };
    let (s, store) = (shared.work("s"), shared.work("store"));
    shared.user(&demo(&s));
    let at: [Arg<'_>; 2] = [&"--store", &store];
    let with = |args: &[Arg<'_>]| {
        let mut all = args.to_vec();
        all.extend(at.iter().copied());
        shared.root(&all);
        shared.is_all_theirs(&args[0].as_ref().to_string_lossy());
    };
    with(&[&"store", &"init"]);
    with(&[&"push", &s.join("diff-1"), &"--name", &"snap"]);
    with(&[&"push", &s.join("diff-2"), &"--name", &"gone@1"]);
    with(&[&"disk", &"import", &shared.at("image"), &"--name", &"disk"]);
    let (pulled, cache) = (shared.work("pulled"), shared.work("cache"));
    with(&[&"pull", &"snap", &"-o", &pulled, &"--cache", &cache]);
    let page = [7; 4096];
    let serve: [Arg<'_>; 5] = [&"disk", &"serve", &"disk", &at[0], &at[1]];
    shared.write_page(&mut shared.by_root(&serve), &page, false);
    shared.is_all_theirs("disk serve");
    with(&[&"disk", &"export", &"disk", &"-o", &shared.work("out")]);
    with(&[&"disk", &"resize", &"disk", &"--size", &"4MiB"]);
    with(&[&"store", &"untag", &"gone@1"]);
    with(&[&"store", &"gc", &"--grace", &"0"]);
    with(&[&"store", &"verify", &"--deep"]);

    shared.write_page(&mut shared.by_user(&serve), &[8; 4096], true);
    let theirs = |args: &[Arg<'_>]| {
        let mut all = args.to_vec();
        all.extend(at.iter().copied());
        shared.user(&all);
    };
    theirs(&[&"push", &s.join("diff-2"), &"--name", &"again"]);
    theirs(&[&"store", &"untag", &"snap"]);
    theirs(&[&"store", &"gc", &"--grace", &"0"]);
    theirs(&[&"store", &"verify", &"--deep"]);
    theirs(&[&"pull", &"again", &"-o", &pulled, &"--cache", &cache]);
    let out = shared.work("theirs");
    theirs(&[&"disk", &"export", &"disk", &"-o", &out]);
    let out = fs::read(out).unwrap();
    assert!(out[..4096] == [8; 4096] && out[4096..3 << 20] == shared.image[4096..]);
}

#[test]
fn a_lock_that_a_killed_command_of_roots_left_keeps_nobody_out() {
    let Some(shared) = Shared::new() else { return };
    let store = shared.work("store");
    shared.user(&[&"store", &"init", &"--store", &store]);
    let image = shared.at("image");
    shared.user(&[
        &"disk", &"import", &image, &"--store", &store, &"--name", &"disk",
    ]);
    // Others may read the directory: the lock of the socket's path is a file.
    fs::set_permissions(shared.home.path(), Permissions::from_mode(0o755)).unwrap();
    let left = shared.at(".disk.sock.lock");
    fs::write(&left, b"").unwrap();
    fs::set_permissions(&left, Permissions::from_mode(0o600)).unwrap();
    let serve: [Arg<'_>; 5] = [&"disk", &"serve", &"disk", &"--store", &store];
    shared.write_page(&mut shared.by_user(&serve), &[1; 4096], true);
    assert!(!left.exists());
}

#[test]
fn where_a_directory_cannot_be_listed_rm_leaves_no_catalog() {
    let Some(shared) = Shared::new() else { return };
    let s = shared.work("s");
    shared.user(&demo(&s));
    fs::set_permissions(&s, Permissions::from_mode(0o300)).unwrap();
    let names = crate::support::names(&s);
    let mut rm = shared.by_user(&[&"rm", &s.join("diff-2")]);
    Outcome::from(rm.output().unwrap()).fails(3, &["cannot be read", "denied"]);
    let mut damaged = shared.by_user(&[&"rm", &"--damaged", &s.join("diff-2")]);
    Outcome::from(damaged.output().unwrap()).fails(3, &["cannot be read", "denied"]);
    assert_eq!(crate::support::names(&s), names);
}

#[test]
fn a_user_without_the_right_to_give_files_away_still_works() {
    let Some(shared) = Shared::new() else { return };
    // Root in name only, as in many containers.
    let mut run = child::command("setpriv");
    run.args(["--bounding-set", "-chown", "--inh-caps", "-chown"]);
    run.arg(env!("CARGO_BIN_EXE_coldframe")).args(DEMO);
    run.arg("--dir").arg(shared.work("s"));
    run.env_remove("COLDFRAME_LOG")
        .env("TMPDIR", shared.at("tmp"));
    let Ok(output) = run.output() else {
        skipped("setpriv", "it cannot be run");
        return;
    };
    let outcome = Outcome::from(output);
    if outcome.stderr.starts_with("setpriv") {
        skipped("setpriv", &outcome.stderr);
        return;
    }
    outcome.done();
}
