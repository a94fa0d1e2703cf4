//! What a check found: failures stop the build, warnings are only shown.

use std::fmt;

/// The outcome of one check.
#[derive(Default)]
pub struct Findings {
    failures: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    /// Adds what must be put right, at a place such as `path:line`.
    pub fn fail(&mut self, place: impl fmt::Display, what: impl fmt::Display) {
        self.failures.push(format!("{place}: {what}"));
    }

    /// Adds what should be looked at.
    pub fn warn(&mut self, place: impl fmt::Display, what: impl fmt::Display) {
        self.warnings.push(format!("{place}: {what}"));
    }

    /// Whether nothing must be put right.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for failure in &self.failures {
            writeln!(f, "error: {failure}")?;
        }
        Ok(())
    }
}
