//! Why a request failed: what may be tried again, and what it becomes for callers.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_units::{ByteLen, FileOffset};

use crate::remote::answers::{Answer, element};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The service, or the way to it.
    #[error("{}", said(.0))]
    Service(object_store::Error),
    /// The service answered with a status that object_store has no error of its own for.
    #[error(
        "the service answered with status {status}{}{}: {}",
        hint(error), asked(*retry_after), said(error)
    )]
    Answered {
        /// The status.
        status: u16,
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
        /// What else it said.
        error: object_store::Error,
    },
    /// The object cannot be read, and the service does not say whether it exists.
    #[error(
        "access is denied, and so is listing the object{}: {}",
        advice(&[refusal, listing]), said_of(refusal, listing)
    )]
    Forbidden {
        /// The refusal of the object itself.
        refusal: object_store::Error,
        /// That of the listing: answers to HEAD have no body that says more.
        listing: Box<object_store::Error>,
    },
    /// Listing is refused.
    #[error("listing is denied{}: {}", advice(&[refusal]), said(refusal))]
    ListDenied {
        /// The refusal.
        refusal: object_store::Error,
    },
    /// The service ignores a condition of a write.
    #[error(
        "the service does not honour conditional writes ({0}): concurrent writers would overwrite \
         each other"
    )]
    Unconditional(&'static str),
    /// The service does not name the versions of its objects.
    #[error(
        "the service gives its objects no ETag, so none can be replaced only if it is unchanged: \
         concurrent writers would overwrite each other"
    )]
    Unversioned,
    /// The service ignores ranges.
    #[error("the service answered a request for a range with the whole object")]
    NoRange,
    /// The object is not there, though a listing has it.
    #[error("it is listed, but not found when it is read")]
    ListedNotFound,
    /// The object is not there, though a write of it has succeeded.
    #[error("it was written, but is not found when it is read")]
    WrittenNotFound,
    /// The object cannot be made, though there is none.
    #[error("the service says that it exists, but it is not found when it is read")]
    TakenNotFound,
    /// A list repeats itself without end.
    #[error("the service's list repeats its entries and does not end")]
    Endless,
    /// The client library panicked over an answer.
    #[error("the client library failed on an answer of the service (panic)")]
    Panicked,
    /// Nothing came back in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The answer is not what it says of itself: cut short, or another range.
    #[error("{got} bytes came of {asked} that were asked for")]
    Short {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The object ends before the range.
    #[error("the object has {len} bytes")]
    PastEnd {
        /// Its length.
        len: u64,
    },
    /// The object is longer than may be read.
    #[error("the object has {len} bytes, it may have {limit}")]
    TooLong {
        /// Its length.
        len: u64,
        /// The most.
        limit: u64,
    },
    /// Others changed the object again and again.
    #[error("the object was changed by others {0} times in a row")]
    Contended(u32),
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        Self::Service(error)
    }
}

impl Failure {
    /// The object is not there.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Service(object_store::Error::NotFound { .. }))
    }

    /// The object is not what the request was made for.
    pub const fn is_refused(&self) -> bool {
        use object_store::Error::{AlreadyExists, NotModified, Precondition};
        matches!(
            self,
            Self::Service(AlreadyExists { .. } | NotModified { .. } | Precondition { .. })
        )
    }

    /// The refusal, if access is denied.
    pub fn denied(self) -> Result<object_store::Error, Self> {
        match self {
            Self::Service(error @ object_store::Error::PermissionDenied { .. })
            | Self::Answered {
                status: 403, error, ..
            } => Ok(error),
            failure => Err(failure),
        }
    }

    /// What a write under this condition failed with. 501 says that a header is not implemented,
    /// and these writes have no other special one.
    pub fn of_condition(self, condition: &'static str) -> Self {
        match self {
            Self::Answered { status: 501, .. } => Self::Unconditional(condition),
            // The client's own refusal, before anything is sent.
            Self::Service(error @ object_store::Error::Generic { .. })
                if chain(&error).contains("required for conditional") =>
            {
                Self::Unversioned
            }
            failure => failure,
        }
    }

    /// Asked again, the service may answer.
    pub const fn is_transient(&self) -> bool {
        use object_store::Error::{Generic, JoinError};
        match self {
            Self::Service(error) => matches!(error, Generic { .. } | JoinError { .. }),
            // 501 and 505 say what the service cannot do at all. Below 300 it is a body that
            // failed.
            Self::Answered { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502..=504 | 506..)
            }
            Self::TimedOut(_) | Self::Short { .. } => true,
            // It may take the service a while to agree with itself.
            Self::WrittenNotFound => true,
            Self::PastEnd { .. }
            | Self::TooLong { .. }
            | Self::Contended(_)
            | Self::Forbidden { .. }
            | Self::ListDenied { .. }
            | Self::Unconditional(_)
            | Self::Unversioned
            | Self::NoRange
            | Self::ListedNotFound
            | Self::TakenNotFound
            | Self::Endless
            | Self::Panicked => false,
        }
    }

    /// How long the service asks to wait before the next try.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What an attempt failed with, whose last answer was this.
    pub fn of(error: object_store::Error, answer: Answer) -> Self {
        match answer.status {
            Some(status @ 300..) if matches!(error, object_store::Error::Generic { .. }) => {
                Self::Answered {
                    status,
                    retry_after: answer.retry_after,
                    error,
                }
            }
            Some(200)
                if matches!(error, object_store::Error::Generic { .. })
                    && chain(&error).contains("non-partial response") =>
            {
                Self::NoRange
            }
            _ => Self::Service(error),
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        use object_store::Error as E;
        match self {
            Self::Service(E::NotFound { .. }) => io::ErrorKind::NotFound,
            Self::Service(E::PermissionDenied { .. } | E::Unauthenticated { .. }) => {
                io::ErrorKind::PermissionDenied
            }
            Self::Service(E::NotImplemented { .. } | E::NotSupported { .. })
            | Self::Unconditional(_)
            | Self::Unversioned
            | Self::NoRange => io::ErrorKind::Unsupported,
            Self::Forbidden { .. } | Self::ListDenied { .. } => io::ErrorKind::PermissionDenied,
            Self::TimedOut(_) => io::ErrorKind::TimedOut,
            Self::Short { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        }
    }

    /// What callers see.
    pub fn at(self, operation: Operation, object: &str) -> StorageError {
        let path = PathBuf::from(object);
        if let (Operation::Read(offset, need), Self::PastEnd { len }) = (operation, &self) {
            let have = ByteLen::new(len.saturating_sub(offset.get()));
            return StorageError::UnexpectedEnd {
                path,
                offset,
                need,
                have,
            };
        }
        if let Self::TooLong { len, .. } = self {
            return StorageError::OutOfBounds {
                path,
                offset: FileOffset::ZERO,
                len: ByteLen::new(len),
            };
        }
        let error: Result<(), io::Error> = Err(io::Error::new(self.io_kind(), self));
        match error.at(operation, &path) {
            Err(error) => error,
            Ok(()) => StorageError::BadName { path },
        }
    }
}

/// The most letters of what a service says.
const SAID_MAX: usize = 600;

/// An error with its causes, each told once: many have the text of their cause in their own.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// What the service says, in brief.
fn said(error: &object_store::Error) -> String {
    let text = chain(error);
    let text = brief(&text);
    match text.char_indices().nth(SAID_MAX) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// What the service says of one of two refusals: of that which has a code.
fn said_of(refusal: &object_store::Error, listing: &object_store::Error) -> String {
    said(match code(refusal) {
        Some(_) => refusal,
        None => listing,
    })
}

/// A text with the XML of an error in it cut down to its code and message.
fn brief(text: &str) -> String {
    let start = text.find("<?xml").or_else(|| text.find("<Error>"));
    let Some((before, xml)) = start.map(|start| text.split_at(start)) else {
        return text.to_owned();
    };
    let Some(end) = xml.find("</Error>") else {
        return text.to_owned();
    };
    let (xml, after) = xml.split_at(end + "</Error>".len());
    let parts = ["Code", "Message"].map(|name| element(xml, name).unwrap_or_default().trim());
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.collect();
    format!("{before}{}{}", parts.join(": "), brief(after))
}

/// The code of a refusal, such as AccessDenied, if the service gives one.
fn code(error: &object_store::Error) -> Option<String> {
    let text = chain(error);
    let code = element(&text, "Code")?.trim();
    (!code.is_empty()).then(|| code.to_owned())
}

/// What to do about an answer 403: its code says why, and it is not always about permissions.
fn advice(refusals: &[&object_store::Error]) -> String {
    let code = refusals.iter().find_map(|refusal| code(refusal));
    let of_permissions = " (the credentials lack a permission; without that to list, S3: \
                          s3:ListBucket, a missing object cannot be told from a forbidden one)";
    let Some(code) = code else {
        return of_permissions.to_owned();
    };
    let advice = match code.as_str() {
        "AccessDenied" | "AuthorizationPermissionMismatch" | "Forbidden" => {
            return of_permissions.to_owned();
        }
        "RequestTimeTooSkewed" | "RequestExpired" => ": this machine's clock is wrong, set it",
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            ": the credentials have expired, get new ones"
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "AuthenticationFailed"
        | "InvalidClientTokenId"
        | "InvalidSecurity"
        | "InvalidAuthenticationInfo" => {
            ": the service does not accept the credentials of the environment, check them"
        }
        _ => "",
    };
    format!(" ({code}{advice})")
}

fn asked(retry_after: Option<Duration>) -> String {
    let text = |wait: Duration| format!(", and asks to wait {} s", wait.as_secs());
    retry_after.map(text).unwrap_or_default()
}

/// What to do about a refusal, where its text says so.
fn hint(error: &object_store::Error) -> &'static str {
    let text = error.to_string();
    let wants_checksum = ["Content-MD5", "x-amz-checksum", "ObjectLockConfiguration"];
    if wants_checksum.iter().any(|word| text.contains(word)) {
        " (a bucket with Object Lock wants a checksum: set AWS_CHECKSUM_ALGORITHM=SHA256)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn of_the_xml_of_an_error_its_code_and_message_are_told() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code>\
                   <Message>Reduce your rate.</Message><HostId>x</HostId></Error>";
        let text = format!("503: {xml} after 2 tries: {xml}");
        let told = "503: SlowDown: Reduce your rate. after 2 tries: SlowDown: Reduce your rate.";
        assert_eq!(brief(&text), told);
        for text in ["", "refused", "<Error>", "<html><p>Bad Gateway</p></html>"] {
            assert_eq!(brief(text), text);
        }
        assert_eq!(brief("a <Error><Code>X</Code></Error>"), "a X");
    }
}
