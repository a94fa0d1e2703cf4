//! Places of every kind for the tests: a directory, memory, and two real S3 servers on loopback.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coldframe_chunks::{AnyBackend, Directory, Remote, RemoteConnector, RemoteOptions};
use coldframe_testkit::poor_service::PoorService;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::memory::InMemory;
use object_store::{ClientOptions, RetryConfig};
use s3s::service::S3ServiceBuilder;

pub const BUCKET: &str = "cold-bucket";

/// Few and short tries: what the tests make fail fails soon.
pub const QUICK: RemoteOptions = RemoteOptions {
    attempts: 5,
    attempt_timeout: Duration::from_secs(10),
    give_up_after: Duration::from_secs(20),
    first_answer_within: Duration::from_secs(20),
    first_pause: Duration::from_millis(2),
    longest_pause: Duration::from_millis(20),
    lease_ttl: Duration::from_secs(60),
    part_bytes: 5 << 20,
    parts_at_once: 3,
    reads_at_once: 8,
    abandoned_after: Duration::from_secs(3600),
};

type Opener = Box<dyn Fn() -> AnyBackend + Send + Sync>;

/// A place for a store; opened again, it is the same place seen by another process.
pub struct Place {
    pub name: &'static str,
    open: Opener,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    pub fn open(&self) -> AnyBackend {
        (self.open)()
    }

    /// Whether two who write at once are told apart: s3s-fs and moto look first and write then,
    /// both on many threads.
    pub fn is_atomic(&self) -> bool {
        !matches!(self.name, "s3s-fs" | "moto")
    }

    /// Whether a service keeps it.
    pub fn is_object_storage(&self) -> bool {
        self.name != "directory"
    }
}

/// A fresh place of each kind.
pub fn places() -> Vec<Place> {
    let mut places = vec![directory(), memory(), s3s(), look_alike()];
    places.extend(moto());
    places
}

pub fn remotes() -> Vec<Place> {
    let mut places = places();
    places.retain(Place::is_object_storage);
    places
}

fn directory() -> Place {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().to_path_buf();
    let open = move || {
        let directory = Directory::new(&path).unwrap();
        directory.prepare().unwrap();
        AnyBackend::new(directory)
    };
    Place {
        name: "directory",
        open: Box::new(open),
        _dir: Some(dir),
    }
}

pub fn memory() -> Place {
    let store = Arc::new(InMemory::new());
    let open = move || {
        let parts = Some(store.clone() as Arc<dyn object_store::multipart::MultipartStore>);
        let remote = Remote::new(store.clone(), parts, "memory://", "a/b", QUICK);
        AnyBackend::new(remote.unwrap())
    };
    Place {
        name: "memory",
        open: Box::new(open),
        _dir: None,
    }
}

/// A store of its own in the s3s-fs server of this process.
pub fn s3s() -> Place {
    in_bucket("s3s-fs", s3s_endpoint())
}

/// A store of its own in a service of this process that does one request after the other.
fn look_alike() -> Place {
    static SERVICE: OnceLock<PoorService> = OnceLock::new();
    let service = SERVICE.get_or_init(|| PoorService::start().unwrap());
    in_bucket("look-alike", service.endpoint())
}

/// A store of its own in a `moto_server`, if there is one.
pub fn moto() -> Option<Place> {
    moto_endpoint().map(|endpoint| in_bucket("moto", endpoint))
}

/// A prefix that nobody else in this process uses.
pub fn new_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("stores/{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn in_bucket(name: &'static str, endpoint: &str) -> Place {
    let (endpoint, prefix) = (endpoint.to_owned(), new_prefix());
    let open = move || AnyBackend::new(remote(&endpoint, &prefix, QUICK));
    Place {
        name,
        open: Box::new(open),
        _dir: None,
    }
}

pub fn remote(endpoint: &str, prefix: &str, options: RemoteOptions) -> Remote {
    let store = Arc::new(client(endpoint));
    let place = format!("s3://{BUCKET}/{prefix}");
    let remote = Remote::new(store.clone(), Some(store), &place, prefix, options);
    remote.unwrap().listing_in_order()
}

pub fn client(endpoint: &str) -> AmazonS3 {
    // Building a client wants TLS, though none is used here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_access_key_id("AK")
        .with_secret_access_key("SK")
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry)
        .with_disable_bulk_delete(true)
        .with_http_connector(RemoteConnector::default())
        .build()
        .unwrap()
}

/// The endpoint of an s3s-fs server that lives as long as this process.
pub fn s3s_endpoint() -> &'static str {
    static ENDPOINT: OnceLock<String> = OnceLock::new();
    ENDPOINT.get_or_init(|| {
        // A static is never dropped: this directory goes with the process all the same.
        let root = coldframe_testkit::scratch::root().join("s3s");
        std::fs::create_dir_all(root.join(BUCKET)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&root, listener));
        format!("http://{address}")
    })
}

fn serve(root: &std::path::Path, listener: TcpListener) {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(s3s::auth::SimpleAuth::from_single("AK", "SK"));
    let service = builder.build();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let server = hyper_util::server::conn::auto::Builder::new(executor);
        while let Ok((socket, _)) = listener.accept().await {
            let socket = hyper_util::rt::TokioIo::new(socket);
            let connection = server
                .serve_connection(socket, service.clone())
                .into_owned();
            tokio::spawn(async move {
                let _ = connection.await;
            });
        }
    });
}

/// The endpoint of a `moto_server` with the bucket.
pub fn moto_endpoint() -> Option<&'static str> {
    coldframe_testkit::moto::endpoint(BUCKET)
}
