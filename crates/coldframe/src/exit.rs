//! How a verb ends other than well, as an exit code and one line of text.

use std::error::Error;
use std::fmt::{self, Write as _};

use coldframe_chunks::StoreError;

/// Why a verb did not end with exit code 0.
#[derive(Debug)]
pub enum Failure {
    /// Something was checked and found wanting (exit 1).
    Wanting(String),
    /// The same, and the verb has printed it already (exit 1).
    Reported,
    /// The command line makes no sense (exit 2).
    Usage(String),
    /// The machine or its files stand in the way (exit 3).
    Environment(String),
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Wanting(_) | Self::Reported => 1,
            Self::Usage(_) => 2,
            Self::Environment(_) => 3,
        }
    }

    /// Found wanting: `what`, then the error with all that caused it, on one line.
    pub fn wanting(what: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::Wanting(line(what, error))
    }

    /// Wrong usage, likewise.
    pub fn usage(what: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::Usage(line(what, error))
    }

    /// I/O or environment, likewise.
    pub fn environment(what: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::Environment(line(what, error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanting(text) | Self::Usage(text) | Self::Environment(text) => f.write_str(text),
            Self::Reported => f.write_str("found wanting"),
        }
    }
}

/// `what: error: its cause: ...`, with line breaks folded; then the way out, if there is one that
/// is the same for every verb.
pub fn line(what: impl fmt::Display, error: &(dyn Error + 'static)) -> String {
    let way = way_out(error).unwrap_or_default();
    format!("{what}: {}{way}", reason(error)).replace('\n', " ")
}

/// What to do about a file of a store without which hardly any verb works.
fn way_out(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<StoreError>() {
            Some(StoreError::DamagedLedger { source }) if !source.is_unsupported_version() => {
                let way = "; 'coldframe store gc --new-ledger' makes a new one";
                return Some(way.to_owned());
            }
            Some(StoreError::DamagedTag { name, source }) if !source.is_unsupported_version() => {
                let command = format!("coldframe store untag {name} --damaged");
                return Some(format!(
                    "; '{command}' removes it, and what it points to is lost"
                ));
            }
            _ => next = error.source(),
        }
    }
    None
}

/// `error: its cause: ...`, with line breaks folded. A cause that an error before it has told in
/// full is not told again.
pub fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}
