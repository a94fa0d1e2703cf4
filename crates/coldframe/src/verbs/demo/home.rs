//! Where the snapshots of a demonstration lie: in a directory that was asked for, or in one that
//! is gone afterwards.
//!
//! The second is made exclusively, with a random name and mode 0700: nobody else can have made it
//! before, and nobody else can put a link into it. It is a temporary directory like any other, so
//! a signal removes it, and that of a demonstration that was killed is swept by the next.

use std::path::{Path, PathBuf};

use coldframe_storage::{PendingDir, create_dir_all, sweep_stale};

use crate::exit::Failure;

/// The directory; if nobody asked for it, it is removed when this is dropped.
pub enum Home {
    /// It was asked for, and stays.
    Kept(PathBuf),
    /// It is never published.
    Own(PendingDir),
}

impl Home {
    /// Makes the directory. One that was asked for may be there, if it is empty.
    pub fn new(asked: Option<&Path>) -> Result<Self, Failure> {
        match asked {
            Some(path) => Self::kept_at(path),
            None => Self::own(),
        }
    }

    fn kept_at(path: &Path) -> Result<Self, Failure> {
        let cannot = || format!("cannot make {}", path.display());
        create_dir_all(path).map_err(|error| Failure::environment(cannot(), &error))?;
        let mut entries =
            std::fs::read_dir(path).map_err(|error| Failure::environment(cannot(), &error))?;
        if entries.next().is_some() {
            return Err(Failure::Usage(format!(
                "{} is not empty: name a directory for the snapshots alone",
                path.display()
            )));
        }
        Ok(Self::Kept(path.to_path_buf()))
    }

    fn own() -> Result<Self, Failure> {
        let temporary = std::env::temp_dir();
        if let Err(error) = sweep_stale(&temporary) {
            tracing::warn!(path = %temporary.display(), %error, "leftovers not swept");
        }
        let made = PendingDir::create(&temporary.join("coldframe-demo"));
        made.map(Self::Own).map_err(|error| {
            let cannot = format!("cannot make a directory in {}", temporary.display());
            Failure::environment(cannot, &error)
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Own(pending) => pending.path(),
        }
    }

    /// The directory, if it stays.
    pub fn kept(&self) -> Option<&Path> {
        match self {
            Self::Kept(path) => Some(path),
            Self::Own(_) => None,
        }
    }
}
