//! Where a store is, as people write it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use crate::any::AnyBackend;
use crate::error::storage;
use crate::{Directory, StoreError};

/// The most bytes of a URL.
const URL_BYTES_MAX: usize = 4096;

/// Where a store is: a path, `file://`, `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix`, `http://` and `https://` (read-only), or `memory://`.
///
/// All but the first two need the feature `remote`, and take their credentials and endpoints from
/// the environment variables that the vendors' own tools use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A directory of this host.
    Directory(PathBuf),
    /// Objects below a prefix of a bucket.
    Bucket {
        /// Who keeps the bucket.
        service: Service,
        /// Its name: the container's for [`Service::Azure`].
        bucket: String,
        /// Where in the bucket the store is; empty for its top.
        prefix: String,
    },
    /// A web server that lists its files (WebDAV): read-only.
    Web(String),
    /// The memory of this process: a store that is gone with its handle, for tests.
    Memory,
}

/// A kind of object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Service {
    /// How its URLs begin.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// Why a text is no URL of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// Nothing was given.
    #[error("the place of a store is empty")]
    Empty,
    /// It is longer than any place.
    #[error("a store's URL of {len} bytes was given, it may have {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most.
        max: usize,
    },
    /// Nobody knows how to reach it.
    #[error(
        "{scheme}:// is no place for a store: a path, file://, s3://, gs://, az://, http:// and \
         https:// are"
    )]
    UnknownScheme {
        /// What it begins with.
        scheme: String,
    },
    /// It names no bucket, or one that cannot be.
    #[error("{url} names no bucket: {scheme}://bucket/prefix does")]
    BadBucket {
        /// What was given.
        url: String,
        /// What it begins with.
        scheme: &'static str,
    },
    /// The path is not plain: it is empty, relative, has `.` or `..` parts, or control characters.
    #[error("the path of {url} is not a plain absolute one")]
    BadPath {
        /// What was given.
        url: String,
    },
    /// It has credentials, a query or a fragment, which are not for URLs of stores.
    #[error("{scheme}:// URLs of stores have no user, query or fragment")]
    Extra {
        /// What it begins with.
        scheme: String,
    },
    /// This build leaves out how to reach it.
    #[error("this build leaves out {scheme}://: it needs the feature remote")]
    NotBuilt {
        /// What it begins with.
        scheme: &'static str,
    },
}

impl StoreUrl {
    /// The place, without asking it anything.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] if this build cannot reach it, [`StoreError::Storage`] if the
    /// environment does not say how.
    pub fn backend(&self) -> Result<AnyBackend, StoreError> {
        match self {
            Self::Directory(path) => {
                let directory = Directory::new(path).map_err(storage)?;
                Ok(AnyBackend::new(directory))
            }
            remote => remote_backend(remote),
        }
    }

    /// The place, made ready for a new store: a missing directory is made.
    ///
    /// # Errors
    /// As [`StoreUrl::backend`].
    pub fn prepared(&self) -> Result<AnyBackend, StoreError> {
        match self {
            Self::Directory(path) => {
                let directory = Directory::new(path).map_err(storage)?;
                directory.prepare().map_err(storage)?;
                Ok(AnyBackend::new(directory))
            }
            remote => remote_backend(remote),
        }
    }
}

#[cfg(feature = "remote")]
fn remote_backend(url: &StoreUrl) -> Result<AnyBackend, StoreError> {
    use crate::remote::{Remote, RemoteOptions};
    Remote::connect(url, RemoteOptions::from_env()?).map(AnyBackend::new)
}

#[cfg(not(feature = "remote"))]
fn remote_backend(url: &StoreUrl) -> Result<AnyBackend, StoreError> {
    let scheme = match url {
        StoreUrl::Bucket { service, .. } => service.scheme(),
        StoreUrl::Web(_) => "http",
        StoreUrl::Memory => "memory",
        StoreUrl::Directory(_) => "file",
    };
    Err(crate::error::url(StoreUrlError::NotBuilt { scheme }))
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let (len, max) = (text.len(), URL_BYTES_MAX);
        if len > max {
            return Err(StoreUrlError::TooLong { len, max });
        }
        if text.is_empty() {
            return Err(StoreUrlError::Empty);
        }
        let Some((scheme, rest)) = text
            .split_once("://")
            .filter(|(scheme, _)| is_scheme(scheme))
        else {
            return Ok(Self::Directory(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file(text, rest),
            "s3" | "s3a" => bucket(text, Service::S3, rest),
            "gs" => bucket(text, Service::Gcs, rest),
            "az" | "azure" => bucket(text, Service::Azure, rest),
            "http" | "https" => web(text, scheme, rest),
            "memory" if matches!(rest, "" | "/") => Ok(Self::Memory),
            "memory" => Err(StoreUrlError::BadPath { url: text.into() }),
            _ => Err(StoreUrlError::UnknownScheme {
                scheme: scheme.to_owned(),
            }),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(allowed)
}

/// `file:///path`, percent-encoded; no other host than this one.
fn file(url: &str, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let bad = || StoreUrlError::BadPath { url: url.into() };
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let is_plain = |path: &Vec<u8>| path.starts_with(b"/") && !path.contains(&0);
    let path = decoded(path).filter(is_plain).map(OsString::from_vec);
    path.map(|path| StoreUrl::Directory(path.into()))
        .ok_or_else(bad)
}

/// The bytes that are meant, which for a path need not be UTF-8; `None` if an escape is broken.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(left.next()?).to_digit(16)?;
        let low = char::from(left.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

fn bucket(url: &str, service: Service, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let scheme = service.scheme();
    if rest.contains(['?', '#']) {
        let scheme = scheme.to_owned();
        return Err(StoreUrlError::Extra { scheme });
    }
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
    let is_plain = (1..=255).contains(&name.len()) && name.bytes().all(allowed);
    if !is_plain || name.starts_with('.') {
        let url = url.to_owned();
        return Err(StoreUrlError::BadBucket { url, scheme });
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let is_part = |part: &str| {
        let is_plain = !matches!(part, "" | "." | "..");
        is_plain && !part.contains(|letter: char| letter.is_control() || letter == '%')
    };
    if !prefix.is_empty() && !prefix.split('/').all(is_part) {
        return Err(StoreUrlError::BadPath { url: url.into() });
    }
    Ok(StoreUrl::Bucket {
        service,
        bucket: name.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn web(url: &str, scheme: &str, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    if rest.contains(['?', '#', '@']) {
        let scheme = scheme.to_owned();
        return Err(StoreUrlError::Extra { scheme });
    }
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |letter: char| !letter.is_control() && !letter.is_whitespace();
    if host.is_empty() || !rest.chars().all(is_plain) {
        return Err(StoreUrlError::BadPath { url: url.into() });
    }
    Ok(StoreUrl::Web(url.trim_end_matches('/').to_owned()))
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket {
                service,
                bucket,
                prefix,
            } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "{}://{bucket}{slash}{prefix}", service.scheme())
            }
            Self::Web(url) => f.write_str(url),
            Self::Memory => f.write_str("memory://"),
        }
    }
}
