//! One thing cannot be read, and stays so, while a verb runs: every file and directory of a
//! directory of snapshots, of a store and of a disk with changes in its log, every way in which it
//! cannot be read, every verb. Nothing that is needed is deleted, what does not need the thing goes
//! on, and what goes wrong names it.

mod lacks;
mod service;
mod verbs;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coldframe_testkit::poor_host::{PoorHost, Trouble};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_testkit::unreadable::{Ailment, World, explore_sampled, planted_sampled};

use shuru_store::{CasBackend, ChunkIndex, LocalChunkStore};

use crate::served::Server;
use crate::support::{Outcome, coldframe, command, firecracker_state, names};
use verbs::{VERBS, Verb};

/// The length of the disks.
const DISK: usize = 5 << 16;

/// A place that is filled, to be copied for each case.
struct Scene {
    home: tempfile::TempDir,
    /// All files of the place.
    files: BTreeMap<String, Vec<u8>>,
    /// The packs and roots that each import or push has brought.
    brought: BTreeMap<&'static str, Vec<String>>,
    /// What the disk with a log reads as.
    disk: Vec<u8>,
}

impl Scene {
    /// Where it is made, and copied to: the tag of a disk says where its log is.
    fn place(&self) -> PathBuf {
        self.home.path().join("case")
    }

    /// Where what was made waits to be copied.
    fn original(&self) -> PathBuf {
        self.home.path().join("original")
    }

    /// Runs the words, `{P}` in them for the place and `{NEW}` for a name that is free.
    fn command(&self, place: &Path, words: &str) -> std::process::Command {
        let mut command = command(&[]);
        let new = self.home.path().join("new");
        for word in words.split(' ') {
            let word = word.replace("{NEW}", new.to_str().unwrap());
            command.arg(word.replace("{P}", place.to_str().unwrap()));
        }
        command
    }

    #[track_caller]
    fn done(&self, words: &str) {
        let mut command = self.command(&self.place(), words);
        Outcome::from(command.output().unwrap()).done();
    }

    /// Does what brings packs and roots to the store.
    fn bring(&mut self, what: &'static str, words: &str) {
        let objects = |scene: &Self| {
            let mut all = Vec::new();
            for folder in ["packs", "roots"] {
                let path = scene.place().join("store").join(folder);
                let found = names(&path).into_iter();
                all.extend(found.map(|name| format!("store/{folder}/{name}")));
            }
            all
        };
        let before = objects(self);
        self.done(words);
        let mut after = objects(self);
        after.retain(|name| !before.contains(name));
        self.brought.insert(what, after);
    }

    fn new(rng: &mut Rng) -> Self {
        let mut scene = Self {
            home: scratch::dir(),
            files: BTreeMap::new(),
            brought: BTreeMap::new(),
            disk: rng.bytes(DISK),
        };
        let place = scene.place();
        fs::create_dir(&place).unwrap();
        let seed = rng.below(1000);
        scene.done(&format!(
            "demo --backend simulated --ram 8MiB --diffs 2 --workload input --record --seed {seed} \
             --dir {{P}}/s"
        ));
        // The catalog.
        scene.done("diff {P}/s/full {P}/s/diff-1 -o {P}/s/spare");
        scene.done("rm {P}/s/spare");
        let mem = File::create(place.join("mem")).unwrap();
        mem.set_len(8 << 20).unwrap();
        mem.write_all_at(&rng.bytes(1 << 16), 1 << 20).unwrap();
        fs::create_dir(place.join("fc")).unwrap();
        fs::write(place.join("fc/state"), firecracker_state(8 << 20)).unwrap();
        scene.done("import firecracker --state {P}/fc/state --mem {P}/mem -o {P}/fc/base");
        shuru_disk(&place.join("cas"), rng);
        scene.done("store init --store {P}/store");
        scene.bring("chain", "push {P}/s/diff-2 --store {P}/store --name chain");
        for name in ["dusk", "ember@1", "ember@2", "gone"] {
            let bytes = match name {
                "dusk" => scene.disk.clone(),
                _ => rng.bytes(DISK),
            };
            fs::write(place.join("image"), bytes).unwrap();
            let words = "disk import {P}/image --store {P}/store --name";
            scene.bring(name, &format!("{words} {name}"));
        }
        scene.done("store untag gone --store {P}/store");
        scene.write_to_disk(rng);
        scene.files = files(&place);
        fs::rename(&place, scene.original()).unwrap();
        scene
    }

    /// Writes to a disk whose server is killed: the changes are in its log alone.
    fn write_to_disk(&mut self, rng: &mut Rng) {
        let server = self.serve();
        let mut client = server.client();
        let page = rng.bytes(4096);
        assert_eq!(client.write(0, 65536, &page), 0);
        assert_eq!(client.error_of(0, crate::nbd_client::FLUSH, 0, 0), 0);
        self.disk[65536..65536 + 4096].copy_from_slice(&page);
        server.kill();
    }

    fn serve(&self) -> Server {
        let store = self.place().join("store");
        let socket = self.home.path().join("dusk.sock");
        let listen = format!("unix:{}", socket.display());
        let at = (&listen[..], &*socket);
        Server::start(&store, "dusk", at, &["--wal-size", "1MiB"])
    }

    /// A copy of the place.
    fn copy(&self) -> PathBuf {
        let copy = self.place();
        for left in ["case", "new", "dusk.sock"] {
            let path = self.home.path().join(left);
            let _absent = fs::remove_dir_all(&path);
            let _absent = fs::remove_file(&path);
        }
        copy_tree(&self.original(), &copy);
        // The older of its family.
        let tag = File::open(copy.join("store/tags/ember@1")).unwrap();
        let written = SystemTime::now() - Duration::from_secs(3600);
        tag.set_modified(written).unwrap();
        copy
    }

    /// What was there is there, but for what the verb is for.
    #[track_caller]
    fn check_whole(&self, verb: &Verb, place: &Path, code: i32) {
        let after = files(place);
        let is_free = |file: &str| verb.is_changed(file);
        for (file, bytes) in &self.files {
            let is_kept = ["s/", "fc/", "cas/", "store/tags/"]
                .iter()
                .any(|dir| file.starts_with(dir))
                && file != "s/catalog";
            if !is_kept || is_free(file) {
                continue;
            }
            match after.get(file) {
                Some(found) => assert!(found == bytes, "{file} is another"),
                None => panic!("{file} is gone"),
            }
        }
        for changed in verb.changes {
            let is_part = |file: &&String| verb.is_below(file, changed);
            let before = self.files.keys().filter(is_part).count();
            let left = after.keys().filter(is_part).count();
            let is_whole = left == before;
            let is_removed = verb.removes && left == 0;
            let is_made = before == 0;
            assert!(is_whole || is_removed || is_made, "{changed} is half gone");
            assert!(
                code != 0 || !verb.removes || is_removed,
                "{changed} is not gone"
            );
        }
        if !verb.words.contains("store") && !verb.words.starts_with("disk") {
            return;
        }
        if after == self.files {
            return;
        }
        let store = place.join("store");
        let sound = coldframe(&[&"store", &"verify", &"--deep", &"--store", &store]);
        assert_eq!(sound.code, 0, "{sound:#?}");
        let server = self.serve();
        let mut read = server.client().read(0, DISK.try_into().unwrap());
        server.kill();
        // What the verb has written.
        if verb.changes.contains(&"store/tags/dusk") {
            read[..4096].copy_from_slice(&self.disk[..4096]);
        }
        assert!(read == self.disk, "the disk has other bytes");
    }
}

/// A directory of a shuru-store, with one disk.
fn shuru_disk(dir: &Path, rng: &mut Rng) {
    let chunks = LocalChunkStore::open(dir.to_str().unwrap()).unwrap();
    let disk = CasBackend::new(Box::new(chunks), ChunkIndex::new(1 << 17));
    disk.write(0, &rng.bytes(1 << 16)).unwrap();
    disk.save_index(dir.join("d.idx").to_str().unwrap())
        .unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else if is_long(&from) {
            // It is never written to.
            fs::hard_link(from, to).unwrap();
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// A memory file: what it holds is not read for each case, but it is the same file.
fn is_long(path: &Path) -> bool {
    path.metadata().unwrap().len() > 1 << 20
}

/// The files below a directory by their paths from there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in names(dir) {
        let path = dir.join(&name);
        if path.is_dir() {
            let below = files(&path).into_iter();
            all.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            let bytes = match is_long(&path) {
                true => path.metadata().unwrap().ino().to_le_bytes().to_vec(),
                false => fs::read(path).unwrap(),
            };
            all.insert(name, bytes);
        }
    }
    all
}

struct Places {
    host: &'static PoorHost,
    /// The planted bug: what cannot be read is taken for absent.
    forgives: bool,
}

/// One verb while one thing ails.
struct Case<'a> {
    scene: &'a Scene,
    thing: &'a str,
    ailment: Ailment,
    verb: &'a Verb,
}

impl Case<'_> {
    /// Whether the thing is one of these: `path` stands for itself and all below it, `path/` for
    /// the listing of a directory, `@name` for what an import has brought. What is below a
    /// directory ails with it.
    fn is_of(&self, paths: &[&str]) -> bool {
        let is_hit = |path: &str| {
            let listing = path.strip_suffix('/');
            let path = listing.unwrap_or(path);
            let is_below = |path: &str, above: &str| {
                path == above || path.strip_prefix(above).is_some_and(|p| p.starts_with('/'))
            };
            is_below(path, self.thing) || (listing.is_none() && is_below(self.thing, path))
        };
        paths.iter().any(|path| match path.strip_prefix('@') {
            Some(name) => self.scene.brought[name].iter().any(|path| is_hit(path)),
            None => is_hit(path),
        })
    }

    fn is_named(&self, said: &str) -> bool {
        let name = self.thing.rsplit('/').next().unwrap_or_default();
        let is_object = ["store/packs/", "store/roots/"];
        let is_object = is_object.iter().any(|dir| self.thing.starts_with(dir));
        let shown = match name.split_once('.') {
            Some((id, _)) if is_object => id,
            _ => name,
        };
        said.contains(shown)
    }

    #[track_caller]
    fn judge(&self, outcome: &Outcome) {
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stderr.lines().count() <= 1, "{outcome:#?}");
        let is_error = matches!(self.ailment, Ailment::Errno(_));
        // Of what is left out of a listing nobody knows the name.
        let is_known = self.ailment != Ailment::LeftOut;
        if self.verb.is_refused {
            assert!(matches!(outcome.code, 1..=3), "not refused: {outcome:#?}");
            return;
        }
        // A name that is not found when it is looked for is a wrong name.
        let is_wrong_name = outcome.code == 2 && self.ailment == Ailment::ListedNotFound;
        assert!(
            matches!(outcome.code, 0 | 1 | 3) || is_wrong_name,
            "{outcome:#?}"
        );
        if outcome.code != 0 {
            let is_told = self.verb.is_survey && outcome.code == 1;
            let may_fail = self.is_of(self.verb.needs) || is_told;
            assert!(may_fail, "it does not need that: {outcome:#?}");
            assert!(!is_known || self.is_named(&said), "not named: {outcome:#?}");
        } else if is_error && self.is_of(self.verb.tells) {
            panic!("not told: {outcome:#?}");
        }
    }
}

impl World for Places {
    type Place = Scene;
    type Thing = String;
    type Operation = &'static str;

    fn draw(&self, rng: &mut Rng) -> Scene {
        let scene = Scene::new(rng);
        // Every verb works, or is refused, where nothing ails.
        for verb in VERBS {
            let place = scene.copy();
            let outcome = verb.run(&scene, &place, &mut |_| ());
            let is_done = outcome.code == 0 && outcome.stderr.is_empty();
            assert!(is_done != verb.is_refused, "{}: {outcome:#?}", verb.words);
        }
        scene
    }

    fn things(&self, scene: &Scene) -> Vec<String> {
        let mut all: Vec<String> = scene.files.keys().cloned().collect();
        // They are printed, not read.
        all.retain(|file| !matches!(&file[..], "s/console.txt" | "image"));
        let dirs = [
            "s",
            "s/full",
            "s/diff-1",
            "s/diff-2",
            "fc",
            "fc/base",
            "cas",
            "cas/chunks",
        ];
        let of_store = [
            "store",
            "store/packs",
            "store/roots",
            "store/tags",
            "store/wal",
        ];
        all.extend(dirs.into_iter().chain(of_store).map(str::to_owned));
        all
    }

    fn operations(&self) -> Vec<&'static str> {
        VERBS.iter().map(|verb| verb.words).collect()
    }

    fn check(&self, scene: &Scene, thing: &String, ailment: Ailment, words: &'static str) {
        let verb = VERBS.iter().find(|verb| verb.words == words).unwrap();
        let case = Case {
            scene,
            thing,
            ailment,
            verb,
        };
        let place = scene.copy();
        let trouble = match self.forgives {
            true => Trouble::Absent,
            false => Trouble::Ails(ailment),
        };
        let path = format!("/case/{thing}");
        let outcome = verb.run(scene, &place, &mut |command| {
            self.host.troubled(trouble, &path, command);
        });
        case.judge(&outcome);
        scene.check_whole(verb, &place, outcome.code);
    }
}

#[test]
fn whatever_cannot_be_read_nothing_needed_goes_and_the_rest_goes_on() {
    let Some(host) = PoorHost::get() else { return };
    let forgives = false;
    explore_sampled("command: unreadable thing", 150, &Places { host, forgives });
}

/// Cases that once went wrong: a parent removed whose child the listing left out, lists that failed
/// whole, a tag taken for absent and overwritten, an error taken for a wrong name.
#[test]
fn what_was_found_stays_mended() {
    let Some(host) = PoorHost::get() else { return };
    let forgives = false;
    let (world, scene) = (Places { host, forgives }, Scene::new(&mut Rng::new(2)));
    let io = Ailment::Errno(coldframe_testkit::fault::EIO);
    let stale = Ailment::Errno(coldframe_testkit::unreadable::ESTALE);
    for (thing, ailment, words) in [
        ("s/diff-1", Ailment::LeftOut, "rm {P}/s/full"),
        ("s", stale, "ls {P}/s"),
        ("store/tags/dusk", io, "disk ls --store {P}/store"),
        ("store/ledger", io, "disk ls --store {P}/store"),
        (
            "store/tags/dusk",
            Ailment::ListedNotFound,
            "disk import {P}/mem --store {P}/store --name dusk",
        ),
        (
            "store/tags",
            Ailment::ListedNotFound,
            "store untag ember@1 --store {P}/store",
        ),
    ] {
        world.check(&scene, &thing.to_owned(), ailment, words);
    }
}

#[test]
fn a_command_that_takes_an_error_for_absence_is_found() {
    let Some(host) = PoorHost::get() else { return };
    let forgives = true;
    let name = "command: an error taken for absence";
    let violation = planted_sampled(name, 1000, &Places { host, forgives });
    println!("{}: {}", violation.case, violation.message);
}

/// Every verb that reads anything has a line in the table.
#[test]
fn every_verb_is_tried() {
    const NONE: [&str; 2] = ["completions", "help"];
    for verb in crate::cli::VERBS {
        let help = command(&[]).args(verb).arg("--help").output().unwrap();
        let help = Outcome::from(help).done().stdout;
        let verb = verb.join(" ");
        if help.contains("Commands:") || NONE.contains(&&verb[..]) {
            continue;
        }
        let begins = |tried: &&Verb| tried.words.starts_with(&verb);
        assert!(VERBS.iter().any(|tried| begins(&tried)), "{verb}");
    }
}
