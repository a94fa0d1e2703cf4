//! The verbs, what each needs, and what it is for.

use std::path::Path;
use std::process::{Command, Stdio};

use coldframe_testkit::child::Running;
use nix::sys::signal::Signal;

use super::{DISK, Scene};
use crate::nbd_client::{FLUSH, READ};
use crate::served::Server;
use crate::support::Outcome;

/// A verb with its arguments.
pub struct Verb {
    /// `{P}` is the place, `{NEW}` a name that is free.
    pub words: &'static str,
    /// What it may fail for, as [`super::Case::is_of`] reads it.
    pub needs: &'static [&'static str],
    /// What it says is wrong, if that cannot be read.
    pub tells: &'static [&'static str],
    /// Names that it makes, moves or removes.
    pub changes: &'static [&'static str],
    /// Whether it removes them.
    pub removes: bool,
    /// Whether it says what it finds of all there is (exit 1).
    pub is_survey: bool,
    /// Whether it is refused, whatever ails.
    pub is_refused: bool,
}

const fn verb(words: &'static str, needs: &'static [&'static str]) -> Verb {
    Verb {
        words,
        needs,
        tells: &[],
        changes: &[],
        removes: false,
        is_survey: false,
        is_refused: false,
    }
}

impl Verb {
    const fn tells(mut self, tells: &'static [&'static str]) -> Self {
        (self.tells, self.is_survey) = (tells, true);
        self
    }

    const fn changes(mut self, changes: &'static [&'static str]) -> Self {
        self.changes = changes;
        self
    }

    const fn removes(mut self, changes: &'static [&'static str]) -> Self {
        (self.changes, self.removes) = (changes, true);
        self
    }

    const fn refused(mut self) -> Self {
        self.is_refused = true;
        self
    }

    pub fn is_below(&self, file: &str, changed: &str) -> bool {
        let below = file.strip_prefix(changed);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub fn is_changed(&self, file: &str) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|changed| self.is_below(file, changed))
    }

    /// Runs it at a place, with what `spoil` does to its command.
    pub fn run(&self, scene: &Scene, place: &Path, spoil: &mut dyn FnMut(&mut Command)) -> Outcome {
        if self.words.starts_with("disk serve") || self.words.starts_with("disk checkpoint") {
            return self.run_server(scene, place, spoil);
        }
        let mut command = scene.command(place, self.words);
        spoil(&mut command);
        Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
            .output()
            .into()
    }

    /// Serves a disk, reads it, writes to it, and makes a checkpoint of it.
    fn run_server(
        &self,
        scene: &Scene,
        place: &Path,
        spoil: &mut dyn FnMut(&mut Command),
    ) -> Outcome {
        let dir = place.parent().unwrap();
        let (socket, control) = (dir.join("dusk.sock"), dir.join("control.sock"));
        let _absent = std::fs::remove_file(&control);
        let mut command = scene.command(place, "disk serve dusk --store {P}/store --json");
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        command
            .arg("--control")
            .arg(format!("unix:{}", control.display()));
        // What a request fails for is told in the log.
        command.env("COLDFRAME_LOG", "warn");
        spoil(&mut command);
        let server = match Server::try_start(&mut command, &socket) {
            Ok(server) => server,
            Err(mut outcome) => {
                outcome.stderr = outcome.stderr.replace('\n', " ");
                return outcome;
            }
        };
        let mut client = server.client();
        let mut failed = 0;
        for at in (0..DISK as u64).step_by(65536) {
            let error = client.error_of(0, READ, at, 65536);
            if error == 0 {
                let at = usize::try_from(at).unwrap();
                assert!(
                    client.take(65536) == scene.disk[at..at + 65536],
                    "other bytes at {at}"
                );
            }
            failed += u32::from(error != 0);
        }
        let written = client.write(0, 0, &[9; 4096]);
        let flushed = client.error_of(0, FLUSH, 0, 0);
        if self.words.starts_with("disk checkpoint") {
            let mut checkpoint = scene.command(place, self.words);
            checkpoint
                .arg("--control")
                .arg(format!("unix:{}", control.display()));
            let outcome = Outcome::from(checkpoint.output().unwrap());
            server.kill();
            return outcome;
        }
        let mut ended = server.signal(Signal::SIGTERM);
        ended.stderr = ended.stderr.replace('\n', " ");
        if ended.code == 0 && (failed, written, flushed) != (0, 0, 0) {
            ended.code = 1;
            ended.stderr = format!(
                "{failed} reads failed, write {written}, flush {flushed}: {}",
                ended.stderr
            );
        }
        ended
    }
}

/// What each verb of a store needs: a folder that cannot be listed is not passed over.
macro_rules! read {
    ($($more:literal),*) => {
        &["store/", "store/store", "store/packs/", "store/roots/", "store/tags/", $($more),*]
    };
}

/// The same of one that writes there.
macro_rules! written {
    ($($more:literal),*) => {
        read!("store/ledger", "store/lock", $($more),*)
    };
}

const DIFF_1: &[&str] = &["s/", "s/full", "s/diff-1"];
const DIFF_2: &[&str] = &["s/", "s/full", "s/diff-1", "s/diff-2"];
const MANIFESTS: &[&str] = &["s/full/manifest", "s/diff-1/manifest", "s/diff-2/manifest"];

const TAGS: &[&str] = &["store/tags/chain", "store/tags/dusk"];

/// All verbs that read what was there before.
pub const VERBS: &[Verb] = &[
    // Pins and leases are not known without the catalog.
    verb("ls {P}/s", &["s/", "s/catalog"]).tells(MANIFESTS),
    verb("verify {P}/s/diff-1", DIFF_1).tells(&["s/full/manifest", "s/diff-1/manifest"]),
    verb("verify --deep {P}/s/full", &["s/full"]).tells(&[
        "s/full/manifest",
        "s/full/memory",
        "s/full/state",
    ]),
    verb("verify --deep {P}/s/diff-2", DIFF_2).tells(&["s/full", "s/diff-1", "s/diff-2"]),
    verb("inspect {P}/s/diff-1", &["s/diff-1", "s/", "s/full"]),
    verb("inspect {P}/s/diff-1/memory", &["s/diff-1"]),
    verb("inspect --against-host {P}/s/full", &["s/full"]),
    verb("export raw {P}/s/full -o {NEW}", &["s/full"]),
    verb("export raw {P}/s/diff-1 -o {NEW}", DIFF_1),
    verb("diff {P}/s/full {P}/s/diff-1 -o {P}/s/made", DIFF_1).changes(&["s/made"]),
    verb("merge {P}/s/diff-1 -o {NEW}", DIFF_1),
    verb(
        "merge {P}/s/diff-2 --down-to {P}/s/full -o {P}/s/made",
        DIFF_2,
    )
    .changes(&["s/made"]),
    verb("import raw {P}/mem -o {NEW}", &["mem"]),
    verb("rm {P}/s/diff-2", &["s"]).removes(&["s/diff-2"]),
    verb("rm {P}/s/full", &["s"]).refused(),
    verb(
        "replay {P}/s/diff-1 --journal {P}/s/journal",
        &["s/", "s/full", "s/diff-1", "s/journal"],
    ),
    verb("thaw {P}/s/diff-1", DIFF_1),
    verb("thaw --mode copy {P}/s/diff-1", DIFF_1),
    verb(
        "demo --backend simulated --ram 8MiB --diffs 1 --dir {P}/s",
        &["s"],
    )
    .refused(),
    verb(
        "demo --backend simulated --ram 8MiB --diffs 1 --dir {NEW}",
        &[],
    ),
    verb(
        "import firecracker --state {P}/fc/state --mem {P}/mem -o {NEW}",
        &["fc/state", "mem"],
    ),
    verb("export firecracker {P}/fc/base -o {NEW}", &["fc/base"]),
    verb(
        "store import-shuru {P}/cas --index {P}/cas/d.idx --store {P}/store --name made",
        written!("cas"),
    )
    .changes(&["store/tags/made"]),
    verb("journal stat {P}/s/journal", &["s/journal"]),
    verb("journal dump {P}/s/catalog", &["s/catalog"]),
    verb("wal stat {P}/store/wal/dusk.wal", &["store/wal/dusk.wal"]),
    verb("wal dump {P}/store/wal/dusk.wal", &["store/wal/dusk.wal"]),
    verb("wal check {P}/store/wal/dusk.wal", &["store/wal/dusk.wal"]),
    verb(
        "push {P}/s/diff-1 --store {P}/store --name made",
        // A root that is there already is read.
        written!("s/", "s/full", "s/diff-1", "@chain"),
    )
    .changes(&["store/tags/made"]),
    verb(
        "push {P}/s/diff-2 --store {P}/store --name chain",
        written!(
            "s/",
            "s/full",
            "s/diff-1",
            "s/diff-2",
            "store/tags/chain",
            "@chain"
        ),
    ),
    verb(
        "pull chain --store {P}/store -o {NEW}",
        read!("store/tags/chain", "@chain"),
    ),
    verb(
        "pull chain --store {P}/store -o {NEW} --search {P}/s",
        read!("store/tags/chain", "@chain", "s/"),
    ),
    verb("store init --store {P}/store", read!()),
    verb("store ls --store {P}/store", read!()).tells(TAGS),
    verb("store stat --store {P}/store", read!()).tells(TAGS),
    verb("store verify --store {P}/store", read!()).tells(&[
        "store/tags",
        "store/packs",
        "@chain",
        "@dusk",
    ]),
    verb("store verify --deep --store {P}/store", read!()).tells(&[
        "store/tags",
        "store/packs",
        "@chain",
        "@dusk",
    ]),
    verb("store gc --grace 0s --store {P}/store", &["store"]),
    verb(
        "store gc --grace 0s --dry-run --store {P}/store",
        &["store"],
    ),
    verb(
        "store untag ember@1 --store {P}/store",
        written!("store/tags/ember@1"),
    )
    .removes(&["store/tags/ember@1"]),
    verb("store prune --keep-last 1 --store {P}/store", &["store"])
        .removes(&["store/tags/ember@1"]),
    verb(
        "disk import {P}/mem --store {P}/store --name made",
        written!("mem"),
    )
    .changes(&["store/tags/made"]),
    verb(
        "disk import {P}/mem --store {P}/store --name dusk",
        &["store"],
    )
    .refused(),
    verb(
        "disk export ember@1 --store {P}/store -o {NEW}",
        read!("store/tags/ember@1", "@ember@1"),
    ),
    verb("disk ls --store {P}/store", read!()).tells(TAGS),
    verb(
        "disk resize ember@2 --size 16MiB --store {P}/store",
        written!("store/tags/ember@2", "store/wal/", "@ember@2"),
    )
    .changes(&["store/tags/ember@2"]),
    verb(
        "disk recover --wal {P}/store/wal/dusk.wal --store {P}/store --name made",
        written!(
            "store/wal/",
            "store/wal/dusk.wal",
            "store/tags/dusk",
            "@dusk"
        ),
    )
    .changes(&["store/tags/made"]),
    verb(
        "disk serve dusk",
        written!(
            "store/tags/dusk",
            "store/wal/",
            "store/wal/dusk.wal",
            "@dusk"
        ),
    )
    .changes(&["store/tags/dusk"]),
    verb(
        "disk checkpoint --name made",
        written!(
            "store/tags/dusk",
            "store/wal/",
            "store/wal/dusk.wal",
            "@dusk"
        ),
    )
    .changes(&["store/tags/dusk", "store/tags/made"]),
];
