//! Snapshots in a real S3 server: pushed, deleted here, pulled elsewhere, thawed.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use coldframe_testkit::moto;

use crate::nbd_client::Client;
use crate::served::Server;
use crate::support::{Home, Outcome, assert_sound, coldframe, command, memory_of, names, no_kvm};

const BUCKET: &str = "cold-bucket";

/// The store of one test in the server.
pub struct Far {
    endpoint: &'static str,
    url: String,
}

impl Far {
    pub fn new(prefix: &str) -> Option<Self> {
        let endpoint = moto::endpoint(BUCKET)?;
        let url = format!("s3://{BUCKET}/{prefix}");
        let far = Self { endpoint, url };
        far.run(&[&"store", &"init"]).done();
        Some(far)
    }

    pub fn command(&self, args: &[&dyn AsRef<OsStr>]) -> Command {
        let mut command = command(args);
        command.args(["--store", &self.url]);
        command.env("AWS_ENDPOINT_URL", self.endpoint);
        command.env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "AK");
        command.env("AWS_SECRET_ACCESS_KEY", "SK");
        command
    }

    pub fn run(&self, args: &[&dyn AsRef<OsStr>]) -> Outcome {
        self.command(args).output().unwrap().into()
    }

    /// Deletes what holds the chunks, past the command.
    fn lose_packs(&self) {
        let prefix = &self.url[format!("s3://{BUCKET}/").len()..];
        let listed = self.ask(
            "GET",
            &format!("/{BUCKET}?list-type=2&prefix={prefix}/packs/"),
        );
        let keys = listed.split("<Key>").skip(1);
        let keys: Vec<_> = keys.filter_map(|rest| rest.split_once("</Key>")).collect();
        assert!(!keys.is_empty(), "{listed}");
        for (key, _) in keys {
            let gone = self.ask("DELETE", &format!("/{BUCKET}/{key}"));
            assert!(gone.starts_with("HTTP/1.1 204"), "{gone}");
        }
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\
             Authorization: AWS AK:unchecked\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// A demo's snapshots survive in the store alone, and each ends as its guest did.
#[track_caller]
fn check_demo(backend: &str, prefix: &str) {
    let Some(far) = Far::new(prefix) else { return };
    let home = Home::new();
    let (made, pulled) = (home.at("made"), home.at("pulled"));
    let demo = coldframe(&[
        &"demo",
        &"--backend",
        &backend,
        &"--ram",
        &"16MiB",
        &"--diffs",
        &"2",
        &"--json",
        &"--dir",
        &made,
    ]);
    let end = demo.done().json()["end"].clone();
    let memories = ["full", "diff-1", "diff-2"].map(|name| memory_of(&made.join(name)));
    let sent = far.run(&[
        &"push",
        &made.join("diff-2"),
        &"--name",
        &"nightly",
        &"--json",
    ]);
    let sent = sent.done().json();
    assert_eq!(sent["snapshots"], 3);
    assert!(sent["sent_blocks"].as_u64().unwrap() > 0);
    fs::remove_dir_all(&made).unwrap();
    let got = far.run(&[&"pull", &"nightly", &"-o", &pulled, &"--json"]);
    let got = got.done().json();
    assert_eq!(got["id"], sent["id"]);
    let links = got["snapshots"].as_array().unwrap();
    assert_eq!(links.len(), 3);
    for (link, memory) in links.iter().zip(memories) {
        let path = link["path"].as_str().unwrap().as_ref();
        assert_sound(path);
        assert!(memory_of(path) == memory, "another memory in {link}");
        let thawed = coldframe(&[&"thaw", &path]).done().json();
        assert_eq!(thawed["end"], end, "{link}");
    }
    // Once more, nothing is sent.
    let again = far.run(&[
        &"push",
        &got["path"].as_str().unwrap(),
        &"--name",
        &"nightly",
        &"--json",
    ]);
    assert_eq!(again.done().json()["sent_blocks"], 0);
}

#[test]
fn snapshots_pushed_deleted_and_pulled_elsewhere_end_as_the_guest_that_was_never_stopped() {
    check_demo("simulated", "simulated");
}

#[test]
fn snapshots_pushed_deleted_and_pulled_elsewhere_end_the_same_on_kvm() {
    if !no_kvm() {
        check_demo("kvm", "kvm");
    }
}

#[test]
fn what_was_fetched_once_is_pulled_again_from_the_cache() {
    let Some(far) = Far::new("cached") else {
        return;
    };
    let home = Home::new();
    let made = home.at("made");
    crate::support::simulated(&made);
    far.run(&[&"push", &made.join("diff-2"), &"--name", &"t"])
        .done();
    let cache = home.at("cache");
    let pull = |name: &str| {
        let out = home.at(name);
        far.run(&[&"pull", &"t", &"-o", &out, &"--cache", &cache])
            .done();
        out
    };
    let first = pull("first");
    assert!(!names(&cache).is_empty());
    far.lose_packs();
    let lost = far.run(&[&"pull", &"t", &"-o", &home.at("lost")]);
    assert_eq!(lost.code, 1, "{lost:#?}");
    let second = pull("second");
    assert_eq!(names(&first), names(&second));
    for name in names(&first) {
        assert_sound(&second.join(&name));
        assert!(memory_of(&first.join(&name)) == memory_of(&second.join(&name)));
    }
    let sized = far.run(&[
        &"pull",
        &"t",
        &"-o",
        &home.at("y"),
        &"--cache-size",
        &"1GiB",
    ]);
    sized.fails(2, &["--cache"]);
}

#[test]
fn a_disk_far_away_is_served_and_exported_from_the_cache() {
    let Some(far) = Far::new("cached-disk") else {
        return;
    };
    let home = Home::new();
    let (image, cache) = (home.at("a.img"), home.at("cache"));
    let bytes: Vec<u8> = (0..3_u32 << 18)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect();
    fs::write(&image, &bytes).unwrap();
    far.run(&[&"disk", &"import", &image, &"--name", &"a"])
        .done();
    let export = |to: &str, more: &[&dyn AsRef<OsStr>]| {
        let out = home.at(to);
        let export: [&dyn AsRef<OsStr>; 5] = [&"disk", &"export", &"a", &"-o", &out];
        (far.run(&[&export, more].concat()), out)
    };
    // Half of it by a server, all of it by the export.
    let serve = |name: &str| {
        let socket = home.at(name);
        let listen = format!("unix:{}", socket.display());
        let mut serve = far.command(&[&"disk", &"serve", &"a", &"--read-only", &"--json"]);
        serve.args(["--listen", &listen]).arg("--cache").arg(&cache);
        (
            Server::try_start(&mut serve, &socket).unwrap(),
            Client::simple(&socket, "a"),
        )
    };
    let half = bytes.len() / 2;
    let (server, mut client) = serve("first");
    assert!(client.read(0, u32::try_from(half).unwrap()) == bytes[..half]);
    drop(client);
    server.stop();
    assert!(!names(&cache).is_empty());
    let (outcome, out) = export("first.img", &[&"--cache", &cache]);
    outcome.done();
    assert!(fs::read(out).unwrap() == bytes);
    far.lose_packs();
    export("lost.img", &[])
        .0
        .fails(1, &["cannot export disk a", "is not in the store"]);
    let (outcome, out) = export("second.img", &[&"--cache", &cache]);
    outcome.done();
    assert!(fs::read(out).unwrap() == bytes);
    let (server, mut client) = serve("second");
    assert!(client.read(0, u32::try_from(bytes.len()).unwrap()) == bytes);
    drop(client);
    server.stop();
    let listen = format!("unix:{}", home.at("third").display());
    let sized = [
        &"disk" as &dyn AsRef<OsStr>,
        &"serve",
        &"a",
        &"--listen",
        &listen,
    ];
    far.run(&[&sized[..], &[&"--cache-dir-size", &"1GiB"]].concat())
        .fails(2, &["--cache"]);
}

#[test]
fn a_store_is_counted_checked_and_collected_in_object_storage() {
    let Some(far) = Far::new("kept") else { return };
    let home = Home::new();
    let made = home.at("made");
    crate::support::simulated(&made);
    for name in ["full", "diff-2"] {
        far.run(&[&"push", &made.join(name), &"--name", &name])
            .done();
    }
    let listed = far.run(&[&"store", &"ls"]).done();
    assert!(listed.stdout.contains("full") && listed.stdout.contains("diff-2"));
    far.run(&[&"store", &"verify", &"--deep"]).done();
    let stat = far.run(&[&"store", &"stat", &"--json"]).done();
    assert!(stat.stdout.contains("full"), "{stat:#?}");
    let collected = far.run(&[&"store", &"gc", &"--grace", &"0s", &"--json"]);
    assert_eq!(collected.done().json()["deleted_packs"], 0);
    far.run(&[&"store", &"verify", &"--deep"]).done();
}

#[test]
fn a_store_that_is_not_there_or_cannot_be_reached_is_said_in_one_line() {
    let missing = coldframe(&[&"store", &"ls", &"--store", &"ftp://host/x"]);
    missing.fails(2, &["ftp://"]);
    let mut nothing = command(&[&"store", &"ls", &"--store", &"http://127.0.0.1:9/none"]);
    nothing.env("COLDFRAME_RETRY_FOR", "0");
    let nothing = Outcome::from(nothing.output().unwrap());
    nothing.fails(3, &["http://127.0.0.1:9/none"]);
    let Some(far) = Far::new("denied") else {
        return;
    };
    let mut none = command(&[&"store", &"ls"]);
    none.args(["--store", &format!("s3://{BUCKET}/nothing-here")]);
    none.env("AWS_ENDPOINT_URL", far.endpoint);
    none.env("AWS_ALLOW_HTTP", "true");
    none.env("AWS_ACCESS_KEY_ID", "AK");
    none.env("AWS_SECRET_ACCESS_KEY", "SK");
    let none = Outcome::from(none.output().unwrap());
    none.fails(3, &["nothing-here"]);
}
