//! Requests that fail for the export's sake are reported to the server's operator, and not only to
//! the client that made them: a few lines, however many fail.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;
use crate::ExportError;
use crate::proto::Errno;

/// So many are said in each of these.
const LINES_MAX: u32 = 3;
const PERIOD: Duration = Duration::from_secs(10);

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    since: Option<Instant>,
    said: u32,
    /// Not said one by one.
    kept_back: u64,
}

/// What to say of one more.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    /// It, and how many others failed since.
    It {
        others: u64,
    },
}

impl Lately {
    fn one_more(&mut self, now: Instant) -> Say {
        if (self.since).is_none_or(|since| now.duration_since(since) >= PERIOD) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == LINES_MAX {
            self.kept_back = self.kept_back.saturating_add(1);
            return Say::Nothing;
        }
        self.said += 1;
        let others = std::mem::take(&mut self.kept_back);
        Say::It { others }
    }
}

impl Complaints {
    /// Says that a request failed, if the export cannot do what it should; what a client asked for
    /// in vain, or a full disk, is the client's alone.
    pub(super) fn hear(&self, export: &str, error: &ExportError) {
        let message = error.message();
        if error.errno() != Errno::Io {
            tracing::debug!(export, error = message, "a request failed");
            return;
        }
        match lock(&self.0).one_more(Instant::now()) {
            Say::Nothing => tracing::debug!(export, error = message, "a request failed"),
            Say::It { others: 0 } => tracing::error!("{export}: a request failed: {message}"),
            Say::It { others } => {
                tracing::error!("{export}: a request failed, and {others} before: {message}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
