//! The style that a machine can check. Every complaint names the file, the line, and the way out.

use anyhow::Result;

use crate::findings::Findings;
use crate::goldens;
use crate::prose;
use crate::source::Source;
use crate::tree::{Tree, crate_of, is_test_path};

const LINE_CHARS_MAX: usize = 100;
const FN_LINES_MAX: usize = 70;
const FILE_LINES_WARN: usize = 800;
const FILE_LINES_MAX: usize = 1200;

/// Everything that may lie at the top of the tree.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "crates",
    "deny.toml",
    "fuzz",
    "rust-toolchain.toml",
    "specs",
    "xtask",
];

/// Files that are text whatever their name; all else is judged by its extension.
const TEXT_EXTENSIONS: &[&str] = &["md", "py", "rs", "s", "S", "sh", "snapshot", "toml", "txt"];

/// Where a banned API may not stand.
#[derive(PartialEq)]
enum Scope {
    /// Nowhere.
    Everywhere,
    /// Not outside tests.
    Production,
    /// Not in a crate that others link, outside its tests and binaries.
    Library,
    /// Not in anything under `crates/`.
    Published,
    /// Not under `crates/` but in coldframe-storage and in what tests use.
    Storage,
    /// Not in tests of anything under `crates/`.
    Tests,
}

struct Ban {
    pattern: &'static str,
    scope: Scope,
    instead: &'static str,
}

const BANS: &[Ban] = &[
    ban(
        ". unwrap (",
        Scope::Production,
        "return the error, or `expect` with the proof",
    ),
    ban("todo !", Scope::Everywhere, "write it, or leave it out"),
    ban(
        "unimplemented !",
        Scope::Everywhere,
        "write it, or leave it out",
    ),
    ban(
        "dbg !",
        Scope::Everywhere,
        "use a `tracing` event, or an assertion",
    ),
    ban(
        ". seek (",
        Scope::Everywhere,
        "use positional I/O: `read_at`, `write_at`",
    ),
    ban(
        "println !",
        Scope::Library,
        "return the text, or use a `tracing` event",
    ),
    ban(
        "eprintln !",
        Scope::Library,
        "return the text, or use a `tracing` event",
    ),
    ban(
        "anyhow : :",
        Scope::Published,
        "use the crate's own error enum",
    ),
    ban(
        "# [ ignore",
        Scope::Everywhere,
        "print `SKIPPED: reason` at run time",
    ),
    ban(
        "# [ should_panic",
        Scope::Everywhere,
        "return an error and match on it",
    ),
    ban(
        "Command : : new",
        Scope::Tests,
        "it may outlive the test: use `coldframe_testkit::child::command`",
    ),
    ban(
        "temp_dir (",
        Scope::Tests,
        "it is left when the test is killed: use `coldframe_testkit::scratch`",
    ),
    ban(
        "tempdir (",
        Scope::Tests,
        "it is left when the test is killed: use `coldframe_testkit::scratch`",
    ),
    ban(
        "fs : : rename",
        Scope::Storage,
        "it replaces, and a power cut undoes it: use `coldframe_storage`",
    ),
    ban(
        "fs : : hard_link",
        Scope::Storage,
        "not every file system has links: use `coldframe_storage`",
    ),
    ban(
        ". sync_all (",
        Scope::Storage,
        "an error of it is told once: use `coldframe_storage`",
    ),
    ban("from_ne_bytes", Scope::Everywhere, "use `from_le_bytes`"),
    ban("to_ne_bytes", Scope::Everywhere, "use `to_le_bytes`"),
];

/// What is banned, each as tokens.
#[cfg(test)]
pub fn banned() -> impl Iterator<Item = &'static str> {
    BANS.iter().map(|ban| ban.pattern)
}

const fn ban(pattern: &'static str, scope: Scope, instead: &'static str) -> Ban {
    Ban {
        pattern,
        scope,
        instead,
    }
}

/// Checks every file of the tree.
pub fn check(tree: &Tree) -> Result<Findings> {
    let mut findings = Findings::default();
    for path in tree.files() {
        let top = path.split('/').next().unwrap_or(path);
        if !TOP_LEVEL.contains(&top) {
            findings.fail(path, "nothing of this name belongs at the top level");
        }
        if is_text(path) {
            let text = tree.read(path)?;
            check_text(path, &text, &mut findings);
            prose::check(path, &text, &mut findings);
        }
    }
    for path in tree.rust_files() {
        let text = tree.read(path)?;
        check_file(path, &text, &mut findings);
        match Source::parse(&text) {
            Ok(source) => check_source(path, &source, &mut findings),
            Err(error) => findings.fail(path, error),
        }
    }
    goldens::check(tree, &mut findings)?;
    Ok(findings)
}

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, extension)) => TEXT_EXTENSIONS.contains(&extension),
        None => path.starts_with(".ci/"),
    }
}

fn check_text(path: &str, text: &str, findings: &mut Findings) {
    for (line, number) in text.lines().zip(1..) {
        if let Some(odd) = line.chars().find(|c| !c.is_ascii() || *c == '\t') {
            let odd = odd.escape_default();
            findings.fail(
                format!("{path}:{number}"),
                format!("'{odd}': plain ASCII, no tabs"),
            );
        }
        // Tables cannot be broken into lines, and neither can dumps.
        let free = path.ends_with(".md") || path.ends_with(".txt") || path.ends_with(".snapshot");
        if !free && !path.ends_with(".toml") && line.chars().count() > LINE_CHARS_MAX {
            let message = format!("longer than {LINE_CHARS_MAX} characters: break the line");
            findings.fail(format!("{path}:{number}"), message);
        }
    }
}

fn check_file(path: &str, text: &str, findings: &mut Findings) {
    let line_count = text.lines().count();
    let message = format!("{line_count} lines, at most {FILE_LINES_WARN}: split it by role");
    if line_count > FILE_LINES_MAX {
        findings.fail(path, message);
    } else if line_count > FILE_LINES_WARN {
        findings.warn(path, message);
    }
    let mut lines = text.lines();
    let head = lines.find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !is_test_path(path) && !head.is_some_and(|line| line.starts_with("//!")) {
        findings.fail(
            path,
            "begins without a `//!` header that states its invariants",
        );
    }
}

fn check_source(path: &str, source: &Source, findings: &mut Findings) {
    for function in source.functions() {
        if function.line_count > FN_LINES_MAX {
            let (name, lines) = (&function.name, function.line_count);
            let message = format!("fn {name} has {lines} lines, at most {FN_LINES_MAX}: split it");
            findings.fail(format!("{path}:{}", function.line), message);
        }
    }
    let test_only = source.test_only();
    for ban in BANS.iter().filter(|ban| applies(&ban.scope, path)) {
        for index in source.find(ban.pattern) {
            if ban.scope != Scope::Everywhere && test_only.iter().any(|r| r.contains(&index)) {
                continue;
            }
            let place = format!("{path}:{}", source.tokens()[index].line);
            let what = ban.pattern.replace(' ', "");
            findings.fail(place, format!("`{what}` is banned: {}", ban.instead));
        }
    }
}

fn applies(scope: &Scope, path: &str) -> bool {
    let binary = path.ends_with("/main.rs") || path.contains("/bin/");
    let tool = matches!(
        crate_of(path),
        Some("coldframe" | "coldframe-testkit") | None
    );
    match scope {
        Scope::Everywhere => true,
        Scope::Production => path.contains("/src/") && !is_test_path(path),
        Scope::Library => path.contains("/src/") && !is_test_path(path) && !binary && !tool,
        Scope::Published => crate_of(path).is_some(),
        Scope::Storage => {
            let owner = matches!(
                crate_of(path),
                Some("coldframe-storage" | "coldframe-testkit")
            );
            path.contains("/src/") && !is_test_path(path) && crate_of(path).is_some() && !owner
        }
        Scope::Tests => crate_of(path).is_some() && is_test_path(path),
    }
}
