//! From a URL to a service: what the environment says of endpoints and credentials.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coldframe_storage::{IoContext, Operation};
use object_store::http::HttpBuilder;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use crate::StoreError;
use crate::error::storage;
use crate::remote::RemoteOptions;
use crate::remote::answers::RemoteConnector;
use crate::remote::credentials;
use crate::url::{Service, StoreUrl, StoreUrlError};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How the names of S3's directory buckets end, which alone of these services list in no order.
const DIRECTORY_BUCKET: &str = "--x-s3";

/// A service, and where in it the store is.
pub(crate) struct Connected {
    pub store: Arc<dyn ObjectStore>,
    pub multipart: Option<Arc<dyn MultipartStore>>,
    pub prefix: String,
    /// Listings are in the order of keys.
    pub lists_in_order: bool,
}

impl Connected {
    fn in_parts<T: ObjectStore + MultipartStore>(store: T, prefix: &str) -> Self {
        let store = Arc::new(store);
        Self {
            store: Arc::clone(&store) as Arc<dyn ObjectStore>,
            multipart: Some(store),
            prefix: prefix.to_owned(),
            lists_in_order: true,
        }
    }
}

pub(crate) fn connect(url: &StoreUrl, options: RemoteOptions) -> Result<Connected, StoreError> {
    let refused = |error: Refused| {
        let place = url.to_string();
        let error: Result<(), _> = Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        match error.at(Operation::Open, place.as_ref()) {
            Err(error) => storage(error),
            Ok(()) => StoreError::NoStore { place },
        }
    };
    match url {
        StoreUrl::Memory => Ok(Connected::in_parts(InMemory::new(), "")),
        StoreUrl::Directory(_) => Err(crate::error::url(StoreUrlError::UnknownScheme {
            scheme: "file".to_owned(),
        })),
        StoreUrl::Bucket {
            service,
            bucket,
            prefix,
        } => in_bucket(*service, bucket, prefix, options).map_err(refused),
        StoreUrl::Web(url) => {
            provide_tls();
            let is_plain = url.starts_with("http:");
            let client = client(options).with_allow_http(is_plain);
            let builder = HttpBuilder::new().with_url(url).with_retry(once());
            let builder = builder.with_http_connector(answers());
            let store = builder.with_client_options(client).build();
            Ok(Connected {
                store: Arc::new(store.map_err(|error| refused(error.into()))?),
                multipart: None,
                prefix: String::new(),
                lists_in_order: false,
            })
        }
    }
}

/// Why the environment does not say how to reach a service.
type Refused = Box<dyn std::error::Error + Send + Sync>;

fn answers() -> RemoteConnector {
    RemoteConnector::default().with_metadata(credentials::asks_metadata())
}

fn in_bucket(
    service: Service,
    bucket: &str,
    prefix: &str,
    options: RemoteOptions,
) -> Result<Connected, Refused> {
    provide_tls();
    Ok(match service {
        Service::S3 => {
            let builder = credentials::s3_from_env().with_bucket_name(bucket);
            credentials::of_s3(&builder)?;
            // One object is deleted at a time: not every service has DeleteObjects.
            let builder = builder.with_disable_bulk_delete(true);
            let builder = builder.with_http_connector(answers());
            let timed = limits(options).into_iter();
            let builder = timed.fold(builder, |builder, (key, value)| {
                builder.with_config(object_store::aws::AmazonS3ConfigKey::Client(key), value)
            });
            let connected = Connected::in_parts(builder.with_retry(once()).build()?, prefix);
            Connected {
                lists_in_order: !bucket.ends_with(DIRECTORY_BUCKET),
                ..connected
            }
        }
        Service::Gcs => {
            let builder = credentials::gcs_from_env().with_bucket_name(bucket);
            credentials::of_gcs(&builder)?;
            let builder = builder.with_http_connector(answers());
            let timed = limits(options).into_iter();
            let builder = timed.fold(builder, |builder, (key, value)| {
                builder.with_config(object_store::gcp::GoogleConfigKey::Client(key), value)
            });
            Connected::in_parts(builder.with_retry(once()).build()?, prefix)
        }
        Service::Azure => {
            let builder = credentials::azure_from_env().with_container_name(bucket);
            credentials::of_azure(&builder)?;
            let builder = builder.with_http_connector(answers());
            let timed = limits(options).into_iter();
            let builder = timed.fold(builder, |builder, (key, value)| {
                builder.with_config(object_store::azure::AzureConfigKey::Client(key), value)
            });
            Connected::in_parts(builder.with_retry(once()).build()?, prefix)
        }
    })
}

/// The limits of time, one by one: the environment may say other things of the client, such as
/// that it may go without TLS.
fn limits(options: RemoteOptions) -> [(object_store::ClientConfigKey, String); 2] {
    use object_store::ClientConfigKey::{ConnectTimeout, Timeout};
    let longest = options.give_up_after.max(options.attempt_timeout);
    let seconds = |limit: Duration| format!("{}s", limit.as_secs().max(1));
    [
        (ConnectTimeout, seconds(CONNECT_MAX)),
        (Timeout, seconds(longest.saturating_mul(4))),
    ]
}

fn client(options: RemoteOptions) -> ClientOptions {
    let limits = limits(options).into_iter();
    limits.fold(ClientOptions::new(), |client, (key, value)| {
        client.with_config(key, value)
    })
}

/// Tries are counted by us, who know which requests may be sent twice.
fn once() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// TLS by ring, unless the program has chosen something else for all of its connections.
fn provide_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost to another thread, it is provided all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
