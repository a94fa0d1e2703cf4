//! Where the snapshots of a demonstration lie: in a directory that was asked for, or in one that
//! is gone afterwards.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The directory; if nobody asked for it, it is removed when this is dropped.
pub struct Home {
    path: PathBuf,
    kept: bool,
}

impl Home {
    /// Makes the directory. One that was asked for may be there, if it is empty.
    pub fn new(asked: Option<&Path>) -> Result<Self, Failure> {
        let path = match asked {
            Some(path) => path.to_path_buf(),
            None => std::env::temp_dir().join(format!("coldframe-demo-{}", std::process::id())),
        };
        let cannot = |error: std::io::Error| {
            Failure::environment(format!("cannot make {}", path.display()), &error)
        };
        std::fs::create_dir_all(&path).map_err(cannot)?;
        let mut entries = std::fs::read_dir(&path).map_err(cannot)?;
        if entries.next().is_some() {
            return Err(Failure::Usage(format!(
                "{} is not empty: name a directory for the snapshots alone",
                path.display()
            )));
        }
        Ok(Self {
            path,
            kept: asked.is_some(),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, if it stays.
    pub fn kept(&self) -> Option<&Path> {
        self.kept.then_some(&self.path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed from the temporary directory stays there.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
