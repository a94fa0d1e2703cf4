//! The command on a host that lacks one feature at a time: each verb does its work or says in one
//! line what is missing, nothing is lost, and nothing is left behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use coldframe_storage::is_temporary;
use coldframe_testkit::child::Running;
use coldframe_testkit::poor_host::{Lack, PoorHost};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::nbd_client::{Client, FLUSH};
use crate::support::{Home, Outcome, coldframe, command, memory_of, names, simulated};

type Arg<'a> = &'a dyn AsRef<OsStr>;

/// What a lack may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cost {
    /// Nothing.
    Nothing,
    /// Verbs that make files may refuse, and say so in these words.
    Writers(&'static str),
    /// Verbs that make snapshots may refuse.
    Snapshots(&'static str),
    /// Any verb may refuse.
    All(&'static str),
}

pub const fn cost(lack: Lack) -> Cost {
    match lack {
        // Without locks nobody could tell the temporary files of the living.
        Lack::Flock | Lack::LocksLeft => Cost::Writers("file locks (flock) do not work"),
        // A snapshot is a directory, and appears by one rename.
        Lack::DirectoryRename => Cost::Snapshots("does not rename the directory"),
        // What is mapped must not be writable by anyone.
        Lack::Modes | Lack::Chmod => Cost::All("may be written to"),
        // The kernel refuses to say what it would be wrong to guess.
        Lack::PagemapScan => Cost::All("which guest memory was touched"),
        _ => Cost::Nothing,
    }
}

/// What is there before, made on the host as it is.
struct Scene {
    home: Home,
    host: &'static PoorHost,
    lack: Lack,
    memory: Vec<u8>,
    image: Vec<u8>,
}

impl Scene {
    fn new(host: &'static PoorHost, lack: Lack) -> Self {
        let home = Home::new();
        simulated(&home.at("s"));
        let memory = memory_of(&home.at("s/diff-2"));
        let image: Vec<u8> = (0..3 << 20).map(|at: u32| (at / 4096) as u8).collect();
        fs::write(home.at("image"), &image).unwrap();
        fs::create_dir(home.at("tmp")).unwrap();
        let store = home.at("there");
        coldframe(&[&"store", &"init", &"--store", &store]).done();
        let name = ["--store", store.to_str().unwrap(), "--name", "one"];
        coldframe(&[
            &"push",
            &home.at("s/diff-2"),
            &name[0],
            &name[1],
            &name[2],
            &name[3],
        ])
        .done();
        Self {
            home,
            host,
            lack,
            memory,
            image,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.at(name)
    }

    fn run(&self, args: &[Arg<'_>]) -> Outcome {
        let mut command = command(args);
        command.env("TMPDIR", self.at("tmp"));
        self.host.without(self.lack, &mut command);
        command.output().unwrap().into()
    }

    /// Runs a verb that only reads.
    #[track_caller]
    fn reads(&self, args: &[Arg<'_>]) {
        self.makes(Makes::Nothing, args);
    }

    /// Runs a verb that makes something: whether it worked.
    #[track_caller]
    fn makes(&self, what: Makes, args: &[Arg<'_>]) -> bool {
        let outcome = self.run(args);
        let words = match (cost(self.lack), what) {
            (Cost::Writers(words), Makes::File | Makes::Snapshot)
            | (Cost::Snapshots(words), Makes::Snapshot)
            | (Cost::All(words), _) => words,
            _ => "",
        };
        if words.is_empty() || outcome.code == 0 {
            assert_eq!(outcome.code, 0, "{:?}: {outcome:#?}", self.lack);
            return true;
        }
        // A demonstration hands on what the process says in which it thaws.
        let is_refused = matches!(outcome.code, 1 | 3) && outcome.stderr.contains(words);
        assert!(is_refused, "{:?}: {outcome:#?}", self.lack);
        assert!(outcome.stderr.lines().count() <= 2, "{outcome:#?}");
        false
    }

    /// Nothing is left of what was not finished, and what was there is whole.
    #[track_caller]
    fn is_clean(&self) {
        let lack = self.lack;
        let left: Vec<PathBuf> = tree(self.home.path())
            .into_iter()
            .filter(|path| path.file_name().is_some_and(is_temporary))
            .collect();
        assert!(left.is_empty(), "{lack:?}: {left:?}");
        assert!(names(&self.at("tmp")).is_empty(), "{lack:?}");
        let sound = coldframe(&[&"verify", &"--deep", &self.at("s/diff-2")]);
        assert_eq!(sound.code, 0, "{lack:?}: {sound:#?}");
        let sound = coldframe(&[
            &"store",
            &"verify",
            &"--deep",
            &"--store",
            &self.at("there"),
        ]);
        assert_eq!(sound.code, 0, "{lack:?}: {sound:#?}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Makes {
    Nothing,
    File,
    Snapshot,
}

fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            all.extend(tree(&path));
        }
        all.push(path);
    }
    all
}

/// Capturing, deriving and removing snapshots.
fn snapshots(scene: &Scene) {
    let (one, two) = (scene.at("s/full"), scene.at("s/diff-2"));
    scene.reads(&[&"verify", &"--deep", &two]);
    scene.reads(&[&"inspect", &two]);
    scene.reads(&[&"ls", &scene.at("s")]);
    let demo: [Arg<'_>; 7] = [
        &"demo",
        &"--backend",
        &"simulated",
        &"--ram",
        &"8MiB",
        &"--diffs",
        &"1",
    ];
    scene.makes(Makes::Snapshot, &demo);

    let out = scene.at("out.mem");
    if scene.makes(Makes::File, &[&"export", &"raw", &two, &"-o", &out]) {
        assert!(fs::read(&out).unwrap() == scene.memory, "{:?}", scene.lack);
    }
    let dump = scene.at("dump.mem");
    fs::write(&dump, &scene.memory).unwrap();
    let made = [
        (
            "import",
            scene.makes(
                Makes::Snapshot,
                &[&"import", &"raw", &dump, &"-o", &scene.at("import")],
            ),
        ),
        (
            "merge",
            scene.makes(
                Makes::Snapshot,
                &[&"merge", &two, &"-o", &scene.at("merge")],
            ),
        ),
    ];
    for (name, _) in made.into_iter().filter(|(_, is_made)| *is_made) {
        assert!(
            memory_of(&scene.at(name)) == scene.memory,
            "{:?}: {name}",
            scene.lack
        );
    }
    let diff = scene.at("s/other");
    if scene.makes(Makes::Snapshot, &[&"diff", &one, &two, &"-o", &diff]) {
        assert!(memory_of(&diff) == scene.memory, "{:?}", scene.lack);
        scene.makes(Makes::File, &[&"rm", &diff]);
    }
    scene.is_clean();
}

/// Stores, and what goes there and back.
fn stores(scene: &Scene) {
    let there = scene.at("there");
    for verb in ["ls", "stat"] {
        scene.reads(&[&"store", &verb, &"--store", &there]);
    }
    scene.reads(&[&"store", &"verify", &"--deep", &"--store", &there]);
    let new = scene.at("new");
    let made = scene.makes(Makes::File, &[&"store", &"init", &"--store", &new]);
    let two = scene.at("s/diff-2");
    let pushed = made
        && scene.makes(
            Makes::File,
            &[&"push", &two, &"--store", &new, &"--name", &"x"],
        );
    let from = if pushed { "new" } else { "there" };
    let tag = if pushed { "x" } else { "one" };
    let dir = scene.at("pulled");
    if scene.makes(
        Makes::Snapshot,
        &[&"pull", &tag, &"--store", &scene.at(from), &"-o", &dir],
    ) {
        let found: Vec<_> = names(&dir)
            .into_iter()
            .filter(|name| memory_of(&dir.join(name)) == scene.memory)
            .collect();
        assert_eq!(found.len(), 1, "{:?}: {found:?}", scene.lack);
    }
    collects(scene, &there);
    scene.is_clean();
}

/// The collector ends, whatever those who died have left; it removes that, here or elsewhere.
fn collects(scene: &Scene, store: &Path) {
    let lease = store.join("leases/00000000000000aa.lease");
    let temporary = store.join("packs/.00000000000000aa.pack.4194305-0123456789abcdef.tmp");
    for left in [&lease, &temporary] {
        fs::write(left, b"left").unwrap();
    }
    assert!(is_temporary(temporary.file_name().unwrap()));
    let gc: [Arg<'_>; 6] = [&"store", &"gc", &"--grace", &"0s", &"--store", &store];
    if !scene.makes(Makes::File, &gc) {
        assert!(lease.exists() && temporary.exists(), "{:?}", scene.lack);
        coldframe(&gc).done();
    }
    assert!(!lease.exists() && !temporary.exists(), "{:?}", scene.lack);
}

/// A disk: in, written to, out.
fn disks(scene: &Scene) {
    let store = scene.at("there");
    let image = scene.at("image");
    let named: [Arg<'_>; 4] = [&"--store", &store, &"--name", &"d"];
    let mut import: Vec<Arg<'_>> = vec![&"disk", &"import", &image];
    import.extend(named);
    if !scene.makes(Makes::File, &import) {
        coldframe(&import).done();
    }
    scene.reads(&[&"disk", &"ls", &"--store", &store]);
    let mut bytes = scene.image.clone();
    if let Some(page) = serve(scene) {
        bytes[4096..8192].copy_from_slice(&page);
    }
    let out = scene.at("out.img");
    if scene.makes(
        Makes::File,
        &[&"disk", &"export", &"d", &"--store", &store, &"-o", &out],
    ) {
        assert!(fs::read(&out).unwrap() == bytes, "{:?}", scene.lack);
    }
    scene.is_clean();
}

/// Serves the disk and writes a page; what was written, if it could be served.
fn serve(scene: &Scene) -> Option<Vec<u8>> {
    let socket = scene.at("d.sock");
    let listen = format!("unix:{}", socket.display());
    let store = scene.at("there");
    let mut serve = command(&[
        &"disk",
        &"serve",
        &"d",
        &"--store",
        &store,
        &"--listen",
        &listen,
    ]);
    serve
        .args(["--wal-size", "1MiB"])
        .env("TMPDIR", scene.at("tmp"));
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    scene.host.without(scene.lack, &mut serve);
    let mut server = Running::start(&mut serve);
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    if line.is_empty() {
        let outcome = Outcome::from(server.output());
        let words = match (scene.lack, cost(scene.lack)) {
            // A socket that others may connect to is not listened on.
            (Lack::Chmod, _) => "cannot listen",
            (_, Cost::Writers(words)) => words,
            _ => panic!("{:?}: {outcome:#?}", scene.lack),
        };
        outcome.fails(3, &[words]);
        return None;
    }
    let page = vec![0x5a; 4096];
    let mut client = Client::simple(&socket, "d");
    assert_eq!(client.write(0, 4096, &page), 0, "{:?}", scene.lack);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0, "{:?}", scene.lack);
    drop(client);
    let pid = Pid::from_raw(i32::try_from(server.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let outcome = Outcome::from(server.output());
    assert_eq!(outcome.code, 0, "{:?}: {outcome:#?}", scene.lack);
    Some(page)
}

#[track_caller]
fn check(lacks: &[Lack]) {
    let Some(host) = PoorHost::get() else { return };
    for lack in lacks {
        let scene = Scene::new(host, *lack);
        snapshots(&scene);
        stores(&scene);
        disks(&scene);
    }
}

#[test]
fn without_a_kind_of_lock() {
    check(&[Lack::FlockOfReaders, Lack::Flock, Lack::LocksLeft]);
}

#[test]
fn without_a_way_to_make_names_durable_or_new() {
    check(&[Lack::DirectorySync, Lack::Links, Lack::RenameFlags]);
    check(&[Lack::LinksAndRenameFlags, Lack::DirectoryRename]);
}

#[test]
fn without_modes_holes_or_space_ahead() {
    check(&[
        Lack::Modes,
        Lack::Chmod,
        Lack::Holes,
        Lack::Fallocate,
        Lack::Tmpfile,
    ]);
}

#[test]
fn without_calls_of_the_kernel_that_a_jail_takes_away() {
    check(&[Lack::Proc, Lack::PagemapScan, Lack::Userfaultfd]);
}

#[test]
fn with_calls_that_are_interrupted_or_do_less() {
    check(&[Lack::Quiet, Lack::LongCalls]);
}

#[test]
fn leases_that_are_not_found_again_are_an_error_and_not_one_after_the_other() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    let (store, image) = (home.at("there"), home.at("image"));
    coldframe(&[&"store", &"init", &"--store", &store]).done();
    fs::write(&image, [1; 9000]).unwrap();
    let mut import = command(&[&"disk", &"import", &image, &"--name", &"d"]);
    import.arg("--store").arg(&store);
    host.not_found_again("/there/leases", &mut import);
    let outcome = Outcome::from(import.output().unwrap());
    outcome.fails(3, &["there/leases"]);
    assert!(names(&store.join("leases")).len() <= 1);
}

// The directory of the logs is as new as the log: without its own name on the disk, the log that
// was acknowledged would be gone after a power cut.
#[test]
fn a_disk_is_not_served_when_the_directory_of_its_log_is_not_durable() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    let (store, image) = (home.at("there"), home.at("image"));
    fs::write(&image, [1; 9000]).unwrap();
    let named: [Arg<'_>; 4] = [&"--store", &store, &"--name", &"d"];
    let mut import: Vec<Arg<'_>> = vec![&"disk", &"import", &image];
    import.extend(named);
    coldframe(&import).done();
    let listen = format!("unix:{}", home.at("d.sock").display());
    let mut serve = command(&[&"disk", &"serve", &"d", &"--store", &store]);
    serve.args(["--listen", &listen, "--wal-size", "1MiB"]);
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    host.unsynced("/there", &mut serve);
    let mut server = Running::start(&mut serve);
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "", "it is served");
    Outcome::from(server.output()).fails(3, &["cannot make", "there/wal"]);
}

#[test]
fn every_lack_is_tried() {
    let tried = include_str!("poor.rs");
    for lack in Lack::ALL {
        assert!(tried.contains(&format!("Lack::{lack:?}")), "{lack:?}");
    }
}

/// The proof that the checks above can fail: a directory whose sync fails is no lack that a sound
/// program gets along with.
#[test]
fn planted_a_sync_that_fails_is_found() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    simulated(&home.at("s"));
    let out = home.at("out");
    let mut export = command(&[&"export", &"raw", &home.at("s/full"), &"-o", &out]);
    host.without(Lack::SoundDirectorySync, &mut export);
    let outcome = Outcome::from(export.output().unwrap());
    outcome.fails(
        3,
        &["is complete, but its directory cannot be synced", "out"],
    );
    assert_eq!(fs::read(&out).unwrap(), memory_of(&home.at("s/full")));
}
