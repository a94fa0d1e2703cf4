//! Where a store is, as people write it.

use coldframe_chunks::{
    ChunkStore, Options, Service, StoreError, StoreUrl, StoreUrlError, create, open,
};

use crate::places::{BUCKET, new_prefix, s3s_endpoint};
use crate::support::{chunk, id, push_image};

fn bucket(service: Service, bucket: &str, prefix: &str) -> StoreUrl {
    StoreUrl::Bucket {
        service,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    }
}

// Parity: F42
#[test]
fn each_kind_of_place_is_told_by_its_scheme() {
    let directory = |path: &str| StoreUrl::Directory(path.into());
    let cases = [
        ("store", directory("store")),
        ("./a:b", directory("./a:b")),
        ("/var/lib/store", directory("/var/lib/store")),
        ("file:///var/a%20b", directory("/var/a b")),
        ("file://localhost/x", directory("/x")),
        ("s3://bucket", bucket(Service::S3, "bucket", "")),
        ("s3://bucket/", bucket(Service::S3, "bucket", "")),
        ("S3://bucket/a/b/", bucket(Service::S3, "bucket", "a/b")),
        ("gs://my.bucket/p", bucket(Service::Gcs, "my.bucket", "p")),
        ("az://container/p", bucket(Service::Azure, "container", "p")),
        (
            "https://host/x/",
            StoreUrl::Web("https://host/x".to_owned()),
        ),
        ("memory://", StoreUrl::Memory),
    ];
    for (text, expected) in cases {
        let url: StoreUrl = text.parse().unwrap();
        assert_eq!(url, expected, "{text}");
        // What it is shown as is the same place.
        assert_eq!(url.to_string().parse::<StoreUrl>().unwrap(), url);
    }
}

#[test]
fn what_is_no_place_is_refused_with_its_reason() {
    let refused = |text: &str| text.parse::<StoreUrl>().unwrap_err();
    assert_eq!(refused(""), StoreUrlError::Empty);
    for text in ["ftp://x/y", "s4://bucket/x", "ssh://host/x"] {
        assert!(
            matches!(refused(text), StoreUrlError::UnknownScheme { .. }),
            "{text}"
        );
    }
    for text in [
        "s3://",
        "s3:///x",
        "gs://.x/",
        "az://a b/c",
        "s3://user@bucket/x",
    ] {
        assert!(
            matches!(refused(text), StoreUrlError::BadBucket { .. }),
            "{text}"
        );
    }
    for text in [
        "s3://b/../x",
        "s3://b/a//b",
        "s3://b/./x",
        "s3://b/a%2e",
        "s3://b/a\nb",
    ] {
        assert!(
            matches!(refused(text), StoreUrlError::BadPath { .. }),
            "{text}"
        );
    }
    for text in [
        "file://other/x",
        "file://",
        "file:///a%zz",
        "file:///a%0",
        "memory://x",
    ] {
        assert!(
            matches!(refused(text), StoreUrlError::BadPath { .. }),
            "{text}"
        );
    }
    for text in ["s3://b/x?y", "gs://b/#x", "http://user:pass@host/x"] {
        assert!(
            matches!(refused(text), StoreUrlError::Extra { .. }),
            "{text}"
        );
    }
    let long = format!("s3://b/{}", "x".repeat(5000));
    assert!(matches!(refused(&long), StoreUrlError::TooLong { .. }));
    let error = open("ftp://x", Options::usual()).unwrap_err();
    assert!(matches!(error, StoreError::BadUrl { .. }), "{error:?}");
}

#[test]
fn a_directory_is_opened_by_path_and_by_url() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("new store");
    let text = path.to_str().unwrap();
    let error = open(text, Options::usual()).unwrap_err();
    assert!(matches!(error, StoreError::NoStore { .. }));
    assert!(!path.exists());
    create(text, Options::usual())
        .unwrap()
        .put(&chunk(1))
        .unwrap();
    let url = format!("file://{}", text.replace(' ', "%20"));
    assert!(open(&url, Options::usual()).unwrap().get(id(1)).is_ok());
}

#[test]
fn memory_is_a_store_of_its_own() {
    let store = create("memory://", Options::usual()).unwrap();
    push_image(&store, "a", &[1]).unwrap();
    assert!(store.clone().get(id(1)).is_ok());
    assert!(store.verify(&[]).unwrap().is_sound());
    let error = open("memory://", Options::usual()).unwrap_err();
    assert!(matches!(error, StoreError::NoStore { .. }));
}

const CHILD: &str = "COLDFRAME_CHUNKS_TEST_URL";

/// In a child process, whose environment says where the service is.
#[test]
fn child_that_uses_the_store_of_a_url() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    assert!(matches!(
        open(&url, Options::usual()),
        Err(StoreError::NoStore { .. })
    ));
    let store = create(&url, Options::usual()).unwrap();
    push_image(&store, "a", &[1, 2]).unwrap();
    drop(store);
    let store = open(&url, Options::usual()).unwrap();
    assert!(store.get(id(2)).is_ok());
    assert_eq!(coldframe_chunks::Backend::place(store.backend()), url);
}

#[test]
fn endpoint_and_credentials_come_from_the_environment() {
    let url = format!("s3://{BUCKET}/{}", new_prefix());
    let run = |variables: &[(&str, &str)]| {
        let mut child = coldframe_testkit::child::command(std::env::current_exe().unwrap());
        child.args(["--exact", "url::child_that_uses_the_store_of_a_url"]);
        child.env(CHILD, &url).envs(variables.iter().copied());
        let output = child.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let all = [
        ("AWS_ENDPOINT_URL", s3s_endpoint()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "AK"),
        ("AWS_SECRET_ACCESS_KEY", "SK"),
        ("AWS_REGION", "us-east-1"),
    ];
    // A wrong key is refused by the service, and said to be.
    let mut wrong = all;
    wrong[3].1 = "wrong";
    let (ok, output) = run(&wrong);
    assert!(!ok && output.contains("1 failed"), "{output}");
    let (ok, output) = run(&all);
    assert!(ok && output.contains("1 passed"), "{output}");
}

const CHILD_OPENS: &str = "COLDFRAME_CHUNKS_TEST_OPENED";

/// In a child process: what opening a store says, in one line that begins with "said: ".
#[test]
fn child_that_says_why_a_store_does_not_open() {
    let Ok(url) = std::env::var(CHILD_OPENS) else {
        return;
    };
    let error = open(&url, Options::usual()).unwrap_err();
    println!("said: {}", crate::poor::told(&error));
}

type Variables<'a> = &'a [(&'a str, &'a str)];

/// What opening a store says where the environment has these variables and none of a cloud's.
fn said(url: &str, variables: Variables<'_>) -> String {
    let mut child = coldframe_testkit::child::command(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture"]);
    child.arg("url::child_that_says_why_a_store_does_not_open");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let clouds = ["AWS_", "GOOGLE_", "AZURE_", "GCE_", "COLDFRAME_"];
        if clouds.iter().any(|cloud| text.starts_with(cloud)) {
            child.env_remove(&name);
        }
    }
    let home = coldframe_testkit::scratch::dir();
    child.env(CHILD_OPENS, url).env("HOME", home.path());
    let output = child.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("said: "));
    line.unwrap_or_else(|| panic!("{output:?}")).1.to_owned()
}

// A metadata service is asked only if the environment says so: at any other place its address may
// be anyone's.
#[test]
fn missing_credentials_are_named_at_once_and_no_metadata_service_is_asked() {
    let metadata = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = metadata.local_addr().unwrap().to_string();
    let (url, identity) = (
        format!("http://{address}"),
        format!("http://{address}/identity"),
    );
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        // Closed without an answer.
        for _ in metadata.incoming().flatten() {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
    let services: [(&str, &str, Variables<'_>); 3] = [
        (
            "s3://bucket/x",
            "AWS_ACCESS_KEY_ID",
            &[("AWS_METADATA_ENDPOINT", &url)],
        ),
        (
            "gs://bucket/x",
            "GOOGLE_APPLICATION_CREDENTIALS",
            &[
                ("GCE_METADATA_HOST", &address),
                ("GCE_METADATA_IP", &address),
            ],
        ),
        (
            "az://container/x",
            "AZURE_STORAGE_ACCOUNT_KEY",
            &[
                ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
                ("IDENTITY_ENDPOINT", &identity),
            ],
        ),
    ];
    for (store, named, variables) in services {
        let began = std::time::Instant::now();
        let error = said(store, variables);
        assert!(
            error.contains("no credentials") && error.contains(named),
            "{error}"
        );
        assert!(error.contains("COLDFRAME_INSTANCE_CREDENTIALS"), "{error}");
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
        assert_eq!(asked(), 0, "{store}");
    }
    // Told to, it asks.
    let told = [
        ("AWS_METADATA_ENDPOINT", &*url),
        ("COLDFRAME_INSTANCE_CREDENTIALS", "true"),
        ("COLDFRAME_RETRY_FOR", "0"),
    ];
    said("s3://bucket/x", &told);
    assert!(asked() > 0);
}

#[test]
fn a_plain_endpoint_needs_leave_and_says_which() {
    let began = std::time::Instant::now();
    for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"] {
        let variables = [
            (variable, "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "SK"),
        ];
        let error = said("s3://bucket/x", &variables);
        assert!(error.contains("AWS_ALLOW_HTTP=true"), "{variable}: {error}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}

// Spec: STORE-25
#[test]
fn the_time_of_retries_is_set_by_the_environment_and_a_wrong_one_is_refused() {
    let dead = |retry_for| {
        let variables = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "SK"),
            ("COLDFRAME_RETRY_FOR", retry_for),
        ];
        let began = std::time::Instant::now();
        (said("s3://bucket/x", &variables), began.elapsed().as_secs())
    };
    for wrong in [
        "soon",
        " ",
        "1d",
        "-1",
        "1.5",
        "25h",
        "99999999999999999999",
    ] {
        let (error, _) = dead(wrong);
        assert!(error.contains("COLDFRAME_RETRY_FOR"), "{wrong}: {error}");
    }
    assert!(dead("0").1 < 2);
    // Empty counts as not set: the usual time.
    let (error, took) = dead("");
    assert!(!error.contains("COLDFRAME_RETRY_FOR"), "{error}");
    assert!(took >= 3, "{took}");
    let (_, took) = dead("3s");
    assert!((1..10).contains(&took), "{took}");
}
