//! The checked-out tree: its files as git sees them (tracked, and new but not ignored).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository's working tree.
pub struct Tree {
    root: PathBuf,
    files: Vec<String>,
}

impl Tree {
    /// Finds the tree that this program was started from (or, failing that, built from).
    pub fn open() -> Result<Self> {
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own.join("..").canonicalize().context("finding the root")?;
        let mut tree = Self {
            root,
            files: Vec::new(),
        };
        let listing = tree.git(&["ls-files", "-z", "-co", "--exclude-standard"])?;
        let mut files: Vec<String> = listing
            .split('\0')
            .filter(|path| !path.is_empty() && tree.path(path).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        tree.files = files;
        Ok(tree)
    }

    /// The directory that holds it all.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside, made absolute.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// All files, relative to the root, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// All Rust files.
    pub fn rust_files(&self) -> impl Iterator<Item = &str> {
        self.files().filter(|path| path.ends_with(".rs"))
    }

    /// Whether there is such a file.
    pub fn has(&self, relative: &str) -> bool {
        self.path(relative).is_file()
    }

    /// The text of a file.
    pub fn read(&self, relative: &str) -> Result<String> {
        std::fs::read_to_string(self.path(relative)).with_context(|| format!("reading {relative}"))
    }

    /// What git prints for these arguments.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("git")
            .args(args)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .output()
            .context("starting git")?;
        if !output.status.success() {
            bail!(
                "git {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Whether a Rust file is test code by its place.
pub fn is_test_path(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// The folder under `crates/` that a path lies in.
pub fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}
