//! A service that does one thing wrong, under each verb that uses one: the verb does its work, or
//! says in one line what is wrong; it ends in time, nothing that is needed is deleted, and when the
//! service is well again the store is sound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coldframe_chunkfile::Ledger;
use coldframe_envelope::Producer;
use coldframe_testkit::cases::{explore, planted};
use coldframe_testkit::child::Running;
use coldframe_testkit::poor_service::{BUCKET, Lack, PoorService, Saved};
use coldframe_testkit::rng::Rng;
use nix::sys::signal::Signal;

use crate::nbd_client::FLUSH;
use crate::served::Server;
use crate::support::{Home, Outcome, coldframe, command, memory_of};

/// How long requests are tried again here.
const RETRY_FOR: &str = "2s";

/// More than any verb takes, on a host that does much else.
const LONGEST: Duration = Duration::from_secs(120);

/// `{NEW}` is a name that is free, `{T}` the directory of the test.
const VERBS: [&str; 14] = [
    "store init",
    "store ls",
    "store stat",
    "store verify",
    "store verify --deep",
    "store gc --grace 0",
    "store gc --grace 0 --dry-run",
    "store prune --keep-last 1",
    "push {T}/more --name more",
    "pull kept -o {NEW}",
    "disk import {T}/image --name more",
    "disk export disk -o {NEW}",
    "disk ls",
    "disk serve disk",
];

/// Verbs that delete. `{ROOT}` is the root of a snapshot that is needed, `{OLD}` that of one that
/// is not.
const DELETING: [&str; 9] = [
    "store gc --grace 0",
    "store gc --grace 0 --dry-run",
    "store gc --grace 0 --give-up {ROOT}",
    "store gc --grace 0 --give-up {ROOT} --give-up {OLD}",
    "store gc --grace 1h",
    "store untag spare@0",
    "store prune --keep-last 1",
    "disk import {T}/image --name disk --replace",
    "push {T}/kept --name kept",
];

type Case = (Lack, &'static str);

/// Whether a verb works all the same, or what it may say instead.
enum Cost {
    Nothing,
    Says(&'static [&'static str]),
}

fn cost(lack: Lack) -> Cost {
    use Cost::{Nothing, Says};
    match lack {
        Lack::IgnoresConditions | Lack::HasNoConditions => Says(&["conditional writes"]),
        Lack::ForbidsMissingAndListing => Says(&["s3:ListBucket", "AccessDenied"]),
        Lack::Forbids(_) => Says(&["AccessDenied"]),
        Lack::SlowsDownLate(..) => Says(&["asks to wait 86400 s"]),
        Lack::Fails(403, _) => Says(&["403", "s3:ListBucket"]),
        Lack::WantsChecksum => Says(&["AWS_CHECKSUM_ALGORITHM=SHA256"]),
        Lack::Retains(_) => Says(&["AccessDenied"]),
        Lack::FlipsBits(_) => Says(&["damaged", "cannot be used", "cannot be read", "checksum"]),
        Lack::EndlessListing => Says(&["does not end"]),
        Lack::LeavesOut(_) => Says(&["was changed", "listed", "left out", "not in the store"]),
        Lack::ListedNotFound(_) => Says(&["not found", "is listed", "is not there"]),
        Lack::HasNoETags => Says(&["no ETag"]),
        Lack::Denies(code) => Says(match code {
            "InvalidAccessKeyId" => &["does not accept the credentials"],
            _ => &["403"],
        }),
        Lack::Redirects => Says(&["redirect", "region"]),
        _ => Nothing,
    }
}

/// A service with a store, and what is in it.
struct Scene {
    home: Home,
    service: PoorService,
    saved: Saved,
    memory: Vec<u8>,
    image: Vec<u8>,
    /// The roots of a snapshot that is needed, and of one that is garbage.
    root: String,
    old: String,
}

impl Scene {
    fn new() -> Self {
        let (home, service) = (Home::new(), PoorService::start().unwrap());
        let saved = service.save();
        let memory = Rng::new(5).bytes(5 << 16);
        let image = Rng::new(6).bytes(3 << 16);
        let mut scene = Self {
            home,
            service,
            saved,
            memory,
            image,
            root: String::new(),
            old: String::new(),
        };
        let freeze = |name: &str, memory: &[u8]| {
            let raw = scene.at("raw");
            fs::write(&raw, memory).unwrap();
            coldframe(&[&"import", &"raw", &raw, &"-o", &scene.at(name)]).done();
        };
        freeze("kept", &scene.memory);
        freeze("gone", &Rng::new(7).bytes(3 << 16));
        freeze("more", &Rng::new(8).bytes(3 << 16));
        fs::write(scene.at("image"), &scene.image).unwrap();
        for words in [
            "store init",
            "push {T}/kept --name kept",
            "push {T}/gone --name gone",
            "push {T}/more --name spare@0",
            "push {T}/more --name spare@1",
            "disk import {T}/image --name disk",
        ] {
            scene.well(words);
        }
        let listed = scene.well("store ls --json").json();
        let root = |name: &str| {
            let mut tags = listed["tags"].as_array().unwrap().iter();
            let tag = tags.find(|tag| tag["name"] == name).unwrap();
            tag["root"].as_str().unwrap().to_owned()
        };
        (scene.root, scene.old) = (root("kept"), root("gone"));
        scene.well("store untag gone");
        scene.saved = scene.service.save();
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.at(name)
    }

    fn new_name(&self) -> PathBuf {
        self.at("new")
    }

    fn command(&self, words: &str) -> Command {
        let mut command = command(&[]);
        for word in words.split(' ') {
            let word = word.replace("{NEW}", self.new_name().to_str().unwrap());
            let word = word
                .replace("{ROOT}", &self.root)
                .replace("{OLD}", &self.old);
            command.arg(word.replace("{T}", self.home.path().to_str().unwrap()));
        }
        command.args(["--store", &format!("s3://{BUCKET}/stores/1")]);
        command.env("AWS_ENDPOINT_URL", self.service.endpoint());
        command.env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "AK");
        command.env("AWS_SECRET_ACCESS_KEY", "SK");
        command.env("COLDFRAME_RETRY_FOR", RETRY_FOR);
        command
    }

    /// Runs a verb that must work.
    #[track_caller]
    fn well(&self, words: &str) -> Outcome {
        let outcome = Outcome::from(self.command(words).output().unwrap());
        assert_eq!(outcome.code, 0, "{words}: {outcome:#?}");
        outcome
    }

    fn clear(&self) {
        self.clear_new();
        let _absent = fs::remove_file(self.at("disk.wal"));
    }

    fn clear_new(&self) {
        let new = self.new_name();
        let _absent = fs::remove_dir_all(&new).or_else(|_| fs::remove_file(&new));
    }

    fn run(&self, words: &str) -> Outcome {
        if words.starts_with("disk serve") {
            return self.run_server(words);
        }
        let mut command = self.command(words);
        Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
            .output()
            .into()
    }

    /// Serves the disk, writes to it, and ends the server. What was flushed is in its log.
    fn run_server(&self, words: &str) -> Outcome {
        let socket = self.at("disk.sock");
        let mut serve = self.command(words);
        serve.arg("--wal").arg(self.at("disk.wal")).arg("--json");
        serve
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        let server = match Server::try_start(&mut serve, &socket) {
            Ok(server) => server,
            Err(outcome) => return outcome,
        };
        let mut client = server.client();
        let page = self.image[4096..8192].to_vec();
        assert_eq!(client.write(0, 4096, &page), 0, "the log is here");
        assert_eq!(client.error_of(0, FLUSH, 0, 0), 0, "the log is here");
        drop(client);
        server.signal(Signal::SIGTERM)
    }

    /// What a verb that worked made is right.
    #[track_caller]
    fn is_right(&self, words: &str) {
        let new = self.new_name();
        if words.starts_with("pull") {
            let made = only(&new);
            assert!(memory_of(&made) == self.memory, "{words}");
        } else if words.starts_with("disk export") {
            assert!(fs::read(&new).unwrap() == self.image, "{words}");
        } else if words.starts_with("push") || words.starts_with("disk import") {
            let listed = self.well("store ls").stdout;
            assert!(listed.contains("more"), "{words}: {listed}");
        }
    }

    /// What must hold when the service is well again.
    #[track_caller]
    fn is_sound(&self) {
        self.service.heal();
        // The log may have what the server could not bring into the store.
        self.clear_new();
        let log = self.at("disk.wal");
        self.well("store verify --deep");
        let export = "disk export disk -o {NEW}";
        let outcome = Outcome::from(self.command(export).output().unwrap());
        if outcome.code != 0 {
            assert!(log.exists(), "{outcome:#?}");
            outcome.fails(1, &["has changes in another log", "disk.wal"]);
            self.well(&format!("{export} --wal {}", log.display()));
        }
        assert!(fs::read(self.new_name()).unwrap() == self.image);
        self.clear();
        self.well("pull kept -o {NEW}");
        self.is_right("pull");
        self.clear();
    }

    #[track_caller]
    fn check(&self, (lack, words): Case) {
        self.service.heal();
        self.service.restore(&self.saved);
        self.clear();
        self.service.lacks(lack);
        let began = Instant::now();
        let outcome = self.run(words);
        let took = began.elapsed();
        assert!(took < LONGEST, "{took:?}");
        let notice = |line: &&str| line.contains("are tried for up to");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        let said: Vec<&str> = lines.into_iter().filter(|line| !notice(line)).collect();
        assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
        match (outcome.code, cost(lack)) {
            (0, _) => {
                assert!(said.is_empty(), "{outcome:#?}");
                self.service.heal();
                self.is_right(words);
            }
            (1 | 3, Cost::Says(words)) => {
                assert!(said.len() <= 1, "{outcome:#?}");
                let all = format!("{} {}", outcome.stdout, outcome.stderr);
                let is_said = words.iter().any(|word| all.contains(word));
                assert!(is_said, "none of {words:?}: {outcome:#?}");
                assert!(!all.contains("<Code>"), "{outcome:#?}");
            }
            _ => panic!("{outcome:#?}"),
        }
        self.is_sound();
    }
}

/// The only entry of a directory.
#[track_caller]
fn only(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let first = entries.next().unwrap();
    assert!(entries.next().is_none(), "{}", dir.display());
    first
}

#[test]
fn verbs_with_a_service_that_does_one_thing_wrong() {
    let scene = Scene::new();
    let verbs = |lack: Lack| VERBS.map(|verb| (lack, verb));
    let cases: Vec<Case> = Lack::ALL.into_iter().flat_map(verbs).collect();
    explore("verbs with a poor service", 24, &cases, &|case| {
        scene.check(*case)
    });
}

#[test]
fn the_loss_of_what_is_needed_is_found() {
    let scene = Scene::new();
    let cases = [(Lack::Hides("tags/kept"), "store gc --grace 0")];
    let said = planted("what is hidden is deleted", &cases, &|case| {
        scene.check(*case);
    });
    assert!(said.contains("kept") || said.contains("damaged"), "{said}");
}

/// A verb that deletes while no listing has one object: whatever it says, nothing needed goes.
#[track_caller]
fn check_left_out(scene: &Scene, key: &str, words: &str) {
    scene.clear();
    scene.service.leaves_out(key);
    let outcome = scene.run(words);
    assert!([0, 1, 3].contains(&outcome.code), "{outcome:#?}");
    assert!(outcome.stderr.lines().count() <= 1, "{outcome:#?}");
    scene.is_sound();
}

// Parity: M11
#[test]
fn verbs_that_delete_while_a_listing_leaves_out_any_one_object() {
    let scene = Scene::new();
    let keys = scene.service.keys();
    let with = |key: &String| DELETING.map(|words| (key.clone(), words));
    let cases: Vec<(String, &str)> = keys.iter().flat_map(with).collect();
    explore("verbs and a listing that lacks one", 16, &cases, &|case| {
        scene.service.restore(&scene.saved);
        check_left_out(&scene, &case.0, case.1);
    });
}

// As if the ledger had no names of files: then a listing is all that tells of them.
#[test]
fn a_root_that_is_given_up_on_the_word_of_a_listing_is_found() {
    let scene = Scene::new();
    let keys = scene.service.keys();
    let ledger = keys.iter().find(|key| key.ends_with("/ledger")).unwrap();
    let is_kept = |key: &&String| key.contains(&format!("roots/{}", scene.root));
    let kept = keys.iter().find(is_kept).unwrap();
    let cases = [(kept.clone(), DELETING[2])];
    let said = planted("a listing believed by a verb", &cases, &|case| {
        scene.service.restore(&scene.saved);
        scene.service.edit(ledger, |bytes| {
            let mut ledger = Ledger::decode(bytes).unwrap();
            ledger.files.clear();
            *bytes = ledger.encode(Producer::new("test", "1").unwrap()).unwrap();
        });
        check_left_out(&scene, &case.0, case.1);
    });
    assert!(
        said.contains("damaged") || said.contains("not in"),
        "{said}"
    );
}

// 403 is told at once, by its name, and is not asked again; nothing is deleted.
#[test]
fn what_is_forbidden_is_told_at_once_and_deletes_nothing() {
    let scene = Scene::new();
    let objects = |scene: &Scene| -> Vec<String> {
        let is_ours = |key: &String| {
            ["packs/", "roots/", "tags/"]
                .iter()
                .any(|of| key.contains(of))
        };
        scene.service.keys().into_iter().filter(is_ours).collect()
    };
    for within in [
        "packs/",
        "roots/",
        "tags/",
        "ledger",
        "leases",
        "collector",
        "stores/1/store",
    ] {
        for words in [DELETING[0], DELETING[1], DELETING[3], "pull kept -o {NEW}"] {
            scene.service.restore(&scene.saved);
            scene.clear();
            let before = objects(&scene);
            scene.service.lacks(Lack::Forbids(within));
            let began = Instant::now();
            let outcome = scene.run(words);
            let text = format!("{within}: {words}: {outcome:#?}");
            assert!(!outcome.stderr.contains("are tried for"), "{text}");
            assert!(began.elapsed() < Duration::from_secs(20), "{text}");
            assert!(!outcome.stderr.contains("<Code>"), "{text}");
            if outcome.code != 0 {
                assert!([1, 3].contains(&outcome.code), "{text}");
                assert!(outcome.stderr.contains("AccessDenied"), "{text}");
                assert_eq!(objects(&scene), before, "{text}");
            }
            scene.is_sound();
        }
    }
}
