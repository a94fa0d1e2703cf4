//! Where a store is, and what is said of one that is not there, not ours, or does not answer.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use coldframe_testkit::fault::EIO;
use coldframe_testkit::poor_host::{self, PoorHost, Trouble};
use coldframe_testkit::poor_service::{BUCKET, Lack, PoorService};
use coldframe_testkit::unreadable::{Ailment, EACCES};

use super::{files, frozen, new_store, noise, pull, push, store_verb};
use crate::support::{Home, Outcome, coldframe, command, names};

#[test]
fn a_store_that_is_not_there_is_told_with_how_to_make_it() {
    let home = Home::new();
    let snapshot = frozen(&home, "one", &noise(1, 1));
    let store = home.at("none");
    let hint = format!("'coldframe store init --store {}'", store.display());
    let pushed = push(&snapshot, &store, &[]);
    pushed.fails(3, &["there is no chunk store at", &hint]);
    store_verb("ls", &store, &[]).fails(3, &[&hint]);
    assert!(!store.exists());
}

#[test]
fn a_store_that_cannot_be_used_is_not_said_to_be_unmade() {
    let home = Home::new();
    let store = new_store(&home);
    let file = store.join("store");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "something else").unwrap();
    let init = coldframe(&[&"store", &"init", &"--store", &store]);
    init.fails(1, &["cannot open", "cannot be used"]);
    assert!(!init.stderr.contains("cannot make"), "{init:#?}");
}

#[test]
fn a_pack_with_a_damaged_table_is_named_by_who_misses_its_chunks() {
    let home = Home::new();
    let store = new_store(&home);
    let image = home.at("image");
    fs::write(&image, noise(2, 3)).unwrap();
    let at: [&dyn AsRef<OsStr>; 4] = [&"--store", &store, &"--name", &"d"];
    coldframe(&[&"disk", &"import", &image, at[0], at[1], at[2], at[3]]).done();
    let pack = files(&store, "packs").remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let end = bytes.len();
    bytes[end - 40..].fill(0xff);
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let out = home.at("out");
    let export = coldframe(&[&"disk", &"export", &"d", at[0], at[1], &"-o", &out]);
    let name = pack.file_stem().unwrap().to_str().unwrap();
    export.fails(1, &["is not in the store", name, "table is damaged"]);
}

#[test]
fn a_path_that_is_not_utf8_is_a_store() {
    let home = Home::new();
    let store = home.path().join(OsStr::from_bytes(b"st\xff re"));
    coldframe(&[&"store", &"init", &"--store", &store]).done();
    let memory = noise(3, 2);
    let snapshot = frozen(&home, "one", &memory);
    push(&snapshot, &store, &["--name", "one"]).done();
    let image = home.at("image");
    fs::write(&image, noise(4, 2)).unwrap();
    let at: [&dyn AsRef<OsStr>; 2] = [&"--store", &store];
    let import: [&dyn AsRef<OsStr>; 5] = [&"disk", &"import", &image, &"--name", &"d"];
    coldframe(&[import.as_slice(), &at].concat()).done();
    coldframe(&[&"disk", &"resize", &"d", &"--size", &"1MiB", at[0], at[1]]).done();
    assert!(store.join("wal").is_dir());
    pull("one", &store, &home.at("out"), &[]).done();
    for verb in ["ls", "stat", "verify"] {
        store_verb(verb, &store, &[]).done();
    }
    // By its bytes with escapes, too.
    let parent = home.path().to_str().unwrap();
    let url = format!("file://{parent}/st%FF%20re");
    coldframe(&[&"store", &"ls", &"--store", &url]).done();
}

#[test]
fn what_killed_pulls_left_is_removed_by_the_next() {
    let home = Home::new();
    let store = new_store(&home);
    push(
        &frozen(&home, "one", &noise(5, 1)),
        &store,
        &["--name", "one"],
    )
    .done();
    let out = home.at("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join(".x.123-0123456789abcdef.tmp"), b"half").unwrap();
    fs::create_dir(out.join(".y.123-0123456789abcdef.tmp")).unwrap();
    let report = pull("one", &store, &out, &[]).done().json();
    assert_eq!(report["leftovers_removed"], 2);
    assert_eq!(names(&out).len(), 1);
}

#[test]
fn a_pull_that_fails_for_what_the_store_lacks_leaves_nothing() {
    let home = Home::new();
    let store = new_store(&home);
    let snapshot = frozen(&home, "one", &noise(5, 4));
    push(&snapshot, &store, &["--name", "one"]).done();
    for pack in files(&store, "packs") {
        fs::remove_file(pack).unwrap();
    }
    let out = home.at("out");
    pull("one", &store, &out, &[]).fails(1, &["cannot pull one"]);
    assert!(!out.exists() || names(&out).is_empty(), "{:?}", names(&out));
    // The list says it of a file that a tag names, too.
    store_verb("ls", &store, &[]).done();
    for file in files(&store, "roots") {
        fs::remove_file(file).unwrap();
    }
    let listed = store_verb("ls", &store, &[]);
    assert_eq!((listed.code, &listed.stderr[..]), (1, ""), "{listed:#?}");
    assert!(listed.stdout.contains("one"), "{listed:#?}");
}

#[test]
fn untag_says_what_is_removed_when_the_disk_fails() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    let store = new_store(&home);
    let snapshot = frozen(&home, "one", &noise(5, 1));
    for name in ["a", "b", "c"] {
        push(&snapshot, &store, &["--name", name]).done();
    }
    let untag = |set: &dyn Fn(&mut Command)| -> Outcome {
        let mut untag = command(&[&"store", &"untag", &"a", &"b", &"--store", &store]);
        set(&mut untag);
        untag.output().unwrap().into()
    };
    // One that cannot be read: none is removed.
    for ailment in [Ailment::Errno(EIO), Ailment::Errno(EACCES)] {
        let outcome = untag(&|run| host.troubled(Trouble::Ails(ailment), "/tags/b", run));
        outcome.fails(3, &["cannot untag b", "no tag is removed", "tags/b"]);
        assert_eq!(files(&store, "tags").len(), 3);
    }
    // Removed, and perhaps back after a power cut.
    let outcome = untag(&|run| host.without(poor_host::Lack::SoundDirectorySync, run));
    assert_eq!(outcome.stdout, "a removed\nb removed\n");
    assert_eq!(
        (outcome.code, outcome.stderr.lines().count()),
        (3, 1),
        "{outcome:#?}"
    );
    assert!(
        outcome.stderr.contains("removed, but not durably"),
        "{outcome:#?}"
    );
    assert_eq!(files(&store, "tags").len(), 1);
    pull("c", &store, &home.at("out"), &[]).done();
}

// Leases that cannot be listed are no reason to say that all is well.
#[test]
fn a_dry_run_tells_of_leases_that_cannot_be_listed() {
    let home = Home::new();
    let store = new_store(&home);
    let leases = store.join("leases");
    fs::remove_dir(&leases).unwrap();
    fs::write(&leases, "no directory").unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let gc = store_verb("gc", &store, more);
        gc.fails(3, &["cannot collect garbage", leases.to_str().unwrap()]);
    }
}

// A directory of mode 0300 may be entered and written to, and not listed.
#[test]
fn what_goes_into_a_directory_that_cannot_be_listed_is_made_there() {
    let home = Home::new();
    let drop_box = home.at("box");
    let set = |mode| fs::set_permissions(&drop_box, Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&drop_box).unwrap();
    let snapshot = frozen(&home, "one", &noise(6, 2));
    let image = home.at("image");
    fs::write(&image, noise(7, 2)).unwrap();
    set(0o300);
    let (store, disks) = (drop_box.join("store"), drop_box.join("disks"));
    let done = |args: &[&dyn AsRef<OsStr>]| assert_eq!(coldframe(args).code, 0);
    if cfg!(target_os = "linux") {
        done(&[&"store", &"init", &"--store", &store]);
        push(&snapshot, &store, &["--name", "one"]).done();
        done(&[
            &"disk", &"import", &image, &"--name", &"d", &"--store", &disks,
        ]);
        done(&[&"pull", &"one", &"--store", &store, &"-o", &drop_box]);
        done(&[
            &"pull",
            &"one",
            &"--store",
            &store,
            &"-o",
            &drop_box.join("out"),
        ]);
        let dir = drop_box.join("demo");
        done(&[
            &"demo",
            &"--backend",
            &"simulated",
            &"--ram",
            &"4MiB",
            &"--diffs",
            &"1",
            &"--dir",
            &dir,
        ]);
        done(&[&"store", &"gc", &"--grace", &"0", &"--store", &store]);
        done(&[&"store", &"verify", &"--deep", &"--store", &disks]);
    }
    set(0o700);
    assert!(names(&drop_box).iter().all(|name| !name.starts_with('.')));
}

fn far(endpoint: &str, args: &[&str]) -> Command {
    let args: Vec<&dyn AsRef<OsStr>> = args.iter().map(|arg| arg as &dyn AsRef<OsStr>).collect();
    let mut command = command(&args);
    command.args(["--store", &format!("s3://{BUCKET}/x")]);
    command.env("AWS_ENDPOINT_URL", endpoint);
    command.env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "AK");
    command.env("AWS_SECRET_ACCESS_KEY", "SK");
    command.env("COLDFRAME_RETRY_FOR", "1s");
    command
}

fn run(mut command: Command) -> Outcome {
    command.output().unwrap().into()
}

#[test]
fn an_error_of_a_service_is_told_once_and_without_its_xml() {
    let service = PoorService::start().unwrap();
    service.lacks(Lack::Fails(400, 1));
    let failed = run(far(service.endpoint(), &["store", "ls"]));
    failed.fails(3, &["status 400", "Failed"]);
    assert_eq!(
        failed.stderr.matches("Failed: Failed").count(),
        1,
        "{failed:#?}"
    );
    assert!(!failed.stderr.contains('<'), "{failed:#?}");
}

#[test]
fn a_refused_connection_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failed = run(far(&endpoint, &["store", "ls"]));
    failed.fails(3, &["Connection refused"]);
    assert_eq!(
        failed.stderr.matches("Connection refused").count(),
        1,
        "{failed:#?}"
    );
}

#[test]
fn a_request_that_is_tried_for_long_is_told_while_it_is() {
    let service = PoorService::start().unwrap();
    run(far(service.endpoint(), &["store", "init"])).done();
    let mut ls = far(service.endpoint(), &["store", "ls"]);
    ls.env("COLDFRAME_RETRY_FOR", "60s");
    // So long that one of the tries after the first three seconds fails, wherever they fall.
    service.lacks(Lack::SlowDown(Duration::from_secs(15), None));
    let outcome = run(ls);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let [line] = lines[..] else {
        panic!("{outcome:#?}");
    };
    assert!(line.starts_with("coldframe: s3://"), "{line}");
    assert!(
        line.contains("SlowDown") && line.contains(" s more"),
        "{line}"
    );
}

#[test]
fn a_time_that_is_none_is_wrong_usage() {
    let mut ls = far("http://127.0.0.1:9", &["store", "ls"]);
    ls.env("COLDFRAME_RETRY_FOR", "soon");
    run(ls).fails(2, &["COLDFRAME_RETRY_FOR is \"soon\""]);
}

#[test]
fn credentials_that_are_empty_are_missing() {
    let with = |id: Option<&str>, secret: Option<&str>| {
        let mut ls = far("http://127.0.0.1:9", &["store", "ls"]);
        let values = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
        for (name, value) in values {
            match value {
                Some(value) => ls.env(name, value),
                None => ls.env_remove(name),
            };
        }
        run(ls)
    };
    for (id, secret) in [(None, None), (Some(""), Some("")), (Some(" "), None)] {
        with(id, secret).fails(3, &["no credentials: set AWS_ACCESS_KEY_ID and"]);
    }
    with(Some("AK"), Some("")).fails(3, &["AWS_SECRET_ACCESS_KEY is not, or is empty"]);
    with(None, Some("SK")).fails(3, &["AWS_ACCESS_KEY_ID is not, or is empty"]);
}

#[test]
fn a_dry_run_of_gc_works_where_nothing_can_be_written() {
    let home = Home::new();
    let store = new_store(&home);
    push(
        &frozen(&home, "one", &noise(8, 1)),
        &store,
        &["--name", "one"],
    )
    .done();
    fs::remove_file(store.join("tags/one")).unwrap();
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let Some(mut gc) = coldframe_testkit::child::mounting(script) else {
        return;
    };
    gc.arg(&store).arg(env!("CARGO_BIN_EXE_coldframe"));
    gc.args([
        "store",
        "gc",
        "--dry-run",
        "--grace",
        "0",
        "--json",
        "--store",
    ]);
    let report = run_done(gc.arg(&store));
    assert_eq!(report.json()["condemned_packs"], 1);
}

#[track_caller]
fn run_done(command: &mut Command) -> Outcome {
    Outcome::from(command.env_remove("COLDFRAME_LOG").output().unwrap()).done()
}

#[test]
fn gc_stops_at_what_it_cannot_list_and_says_what() {
    let home = Home::new();
    let store = new_store(&home);
    push(
        &frozen(&home, "one", &noise(9, 1)),
        &store,
        &["--name", "one"],
    )
    .done();
    fs::remove_file(store.join("tags/one")).unwrap();
    let wal = store.join("wal");
    fs::write(&wal, "no directory").unwrap();
    let before = [files(&store, "packs"), files(&store, "roots")];
    let gc = coldframe(&[&"store", &"gc", &"--grace", &"0", &"--store", &store]);
    gc.fails(3, &["cannot collect garbage", wal.to_str().unwrap()]);
    assert_eq!([files(&store, "packs"), files(&store, "roots")], before);
}

#[test]
fn gc_goes_on_without_a_file_that_is_given_up() {
    let home = Home::new();
    let store = new_store(&home);
    for (seed, name) in [(10, "lost"), (11, "kept"), (12, "gone")] {
        let snapshot = frozen(&home, name, &noise(seed, 1));
        push(&snapshot, &store, &["--name", name]).done();
    }
    let listed = store_verb("ls", &store, &[]).done().json();
    let tags = listed["tags"].as_array().unwrap();
    let lost = tags.iter().find(|tag| tag["name"] == "lost").unwrap();
    let root = lost["root"].as_str().unwrap();
    let is_its = |path: &&std::path::PathBuf| {
        Path::new(path)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(root)
    };
    let roots = files(&store, "roots");
    fs::remove_file(roots.iter().find(is_its).unwrap()).unwrap();
    fs::remove_file(store.join("tags/gone")).unwrap();
    let gc = |more: &[&str]| store_verb("gc", &store, &[&["--grace", "0"], more].concat());
    let way_out = format!("--give-up {root}");
    gc(&[]).fails(1, &["cannot collect garbage", root, &way_out, "untag"]);
    let report = gc(&["--give-up", root]).done().json();
    assert_eq!(report["live_chunks"], 1);
    assert!(report["deleted_packs"].as_u64().unwrap() >= 1);
    pull("kept", &store, &home.at("out"), &[]).done();
}

/// A store is made, filled, read and collected at a URL whose endpoint only the environment names.
#[track_caller]
fn check_endpoint(url: &str, plain: &str, settings: &[(&str, &str)]) {
    let service = PoorService::start().unwrap();
    let home = Home::new();
    let memory = noise(13, 3);
    let snapshot = frozen(&home, "one", &memory);
    let start = |args: &[&dyn AsRef<OsStr>]| {
        let mut command = command(args);
        command
            .args(["--store", url])
            .env("COLDFRAME_RETRY_FOR", "5s");
        for (name, value) in settings {
            command.env(name, value.replace("{ENDPOINT}", service.endpoint()));
        }
        command
    };
    let run = |args: &[&dyn AsRef<OsStr>]| Outcome::from(start(args).output().unwrap());
    if !plain.is_empty() {
        let mut refused = start(&[&"store", &"init"]);
        refused.env_remove(plain);
        let refused = Outcome::from(refused.output().unwrap());
        refused.fails(3, &["has no TLS", &format!("set {plain}=true")]);
        assert!(service.keys().is_empty());
    }
    run(&[&"store", &"ls"]).fails(3, &["there is no chunk store at", url]);
    run(&[&"store", &"init"]).done();
    run(&[&"push", &snapshot, &"--name", &"one"]).done();
    run(&[&"push", &snapshot, &"--name", &"two"]).done();
    run(&[&"store", &"untag", &"two"]).done();
    run(&[&"store", &"gc", &"--grace", &"0"]).done();
    run(&[&"store", &"verify", &"--deep"]).done();
    let out = home.at("out");
    run(&[&"pull", &"one", &"-o", &out]).done();
    let pulled = out.join(&names(&out)[0]);
    assert!(crate::support::memory_of(&pulled) == memory);
    assert!(
        service
            .keys()
            .iter()
            .any(|key| key.starts_with("a/b/packs/"))
    );
}

#[test]
fn an_s3_store_at_an_endpoint_of_the_environment() {
    let settings = [
        ("AWS_ENDPOINT_URL", "{ENDPOINT}"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "AK"),
        ("AWS_SECRET_ACCESS_KEY", "SK"),
    ];
    check_endpoint(&format!("s3://{BUCKET}/a/b"), "AWS_ALLOW_HTTP", &settings);
}

const GCS_KEY: &str = r#"{"private_key": "x", "private_key_id": "x", "client_email": "x",
    "disable_oauth": true, "gcs_base_url": "{ENDPOINT}"}"#;

#[test]
fn a_gcs_store_at_an_endpoint_of_the_environment() {
    let settings = [
        ("GOOGLE_BASE_URL", "{ENDPOINT}"),
        ("GOOGLE_ALLOW_HTTP", "true"),
        // As emulators want it: no token is asked for.
        ("GOOGLE_SERVICE_ACCOUNT_KEY", GCS_KEY),
    ];
    let url = format!("gs://{BUCKET}/a/b");
    check_endpoint(&url, "GOOGLE_ALLOW_HTTP", &settings);
}

#[test]
fn an_azure_store_at_an_emulator_of_the_environment() {
    let settings = [
        ("AZURE_STORAGE_USE_EMULATOR", "true"),
        ("AZURITE_BLOB_STORAGE_URL", "{ENDPOINT}"),
    ];
    check_endpoint(&format!("az://{BUCKET}/a/b"), "", &settings);
}
