//! How a step of `ci` ended, in counts that add up to the last line of it all.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::exec::{self, Done};
use crate::findings::Findings;

/// Lines of a failed program's output that are shown; all of it is in the log.
const SHOWN_LINES: usize = 200;

/// The outcome of one step.
#[derive(Default)]
pub struct Verdict {
    /// Checks that held; a step is one check, but for the tests.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
    /// Checks that could not be made.
    pub skipped: usize,
    /// What to show below the step's line.
    pub detail: String,
}

impl Verdict {
    /// One check that held or did not.
    pub fn of(ok: bool, detail: String) -> Self {
        Self {
            passed: usize::from(ok),
            failed: usize::from(!ok),
            skipped: 0,
            detail,
        }
    }

    /// What a program did: its output is shown if it failed.
    pub fn of_program(done: &Done) -> Self {
        let detail = if done.ok {
            String::new()
        } else {
            last_lines(&done.output)
        };
        Self::of(done.ok, detail)
    }

    /// What a check found.
    pub fn of_findings(findings: &Findings) -> Self {
        Self::of(findings.is_clean(), findings.to_string())
    }

    /// Something is missing: a failure if it is required.
    pub fn missing(what: &str, reason: &str) -> Self {
        if exec::is_required(what) {
            return Self::of(false, format!("{reason}\n"));
        }
        Self {
            skipped: 1,
            detail: format!("SKIPPED: {reason}\n"),
            ..Self::default()
        }
    }

    /// Adds another outcome.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.detail.push_str(&other.detail);
    }

    /// The word on the step's line.
    pub fn word(&self) -> &'static str {
        match (self.failed, self.passed, self.skipped) {
            (1.., _, _) => "FAILED",
            (0, 0, 1..) => "SKIPPED",
            _ => "ok",
        }
    }
}

/// Reads the output of `cargo test`. A test that wrote `SKIPPED: what: reason` did not pass,
/// whatever its harness says; if `what` is required, it failed. The detail counts them by reason.
pub fn of_tests(done: &Done, required: &[String]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    for line in done.output.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            verdict.passed += count_before(result, " passed");
            verdict.failed += count_before(result, " failed");
        }
        // With one thread the harness has begun the line with the test's name.
        if let Some((_, reason)) = line.split_once("SKIPPED: ") {
            *skipped.entry(reason).or_default() += 1;
        }
    }
    for (reason, tests) in skipped {
        verdict.passed = verdict.passed.saturating_sub(tests);
        let what = reason.split(':').next().unwrap_or(reason);
        let prefix = if required.iter().any(|item| item == what) {
            verdict.failed += tests;
            "required, but "
        } else {
            verdict.skipped += tests;
            ""
        };
        let _ = writeln!(verdict.detail, "{prefix}SKIPPED: {reason} ({tests} tests)");
    }
    if !done.ok {
        verdict.failed = verdict.failed.max(1);
        verdict.detail.push_str(&failures(&done.output));
    }
    verdict
}

fn count_before(result: &str, word: &str) -> usize {
    let head = result.split(word).next().unwrap_or("");
    let number = head.rsplit(' ').next().unwrap_or("");
    number.parse().unwrap_or(0)
}

/// What failing test binaries say about their failures, or the end of all if none does.
fn failures(output: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for line in output.lines() {
        match line {
            "failures:" => inside = true,
            "successes:" => inside = false,
            _ if line.starts_with("test result:") => inside = false,
            _ => {}
        }
        if inside || line.starts_with("error") {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    if inside || !shown.contains("failures:") {
        shown.push_str(&last_lines(output));
    }
    shown
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    let mut text = lines[from..].join("\n");
    text.push('\n');
    text
}
