//! What a program did to a directory, call by call: the input of the enumeration, and the place to
//! plant a bug, by leaving a call out or putting it elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::crash::content::Content;

/// A file or directory, whatever its name; 0 is the directory itself.
pub type NodeId = usize;

/// A call that changed something, or promised that changes will last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostOp {
    /// A name for a new file or directory, or one more (link(2)).
    Name {
        /// In this directory.
        dir: NodeId,
        /// The name.
        name: String,
        /// Of this.
        node: NodeId,
    },
    /// rename(2).
    Rename {
        /// The directory and the name before.
        from: (NodeId, String),
        /// The directory and the name since.
        to: (NodeId, String),
        /// Of this.
        node: NodeId,
    },
    /// unlink(2), rmdir(2).
    Remove {
        /// From this directory.
        dir: NodeId,
        /// The name.
        name: String,
        /// Of this.
        node: NodeId,
    },
    /// pwrite(2), pwritev(2), write(2).
    Write {
        /// To this file.
        node: NodeId,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// ftruncate(2), or open(2) with `O_TRUNC`.
    SetLen {
        /// Of this file.
        node: NodeId,
        /// How long.
        len: u64,
    },
    /// chmod(2).
    SetMode {
        /// Of this.
        node: NodeId,
        /// Permission bits.
        mode: u32,
    },
    /// fsync(2), fdatasync(2), of a file or a directory.
    Sync {
        /// Of this.
        node: NodeId,
        /// Whether the mode is left out.
        data_only: bool,
    },
}

impl HostOp {
    /// A call that does nothing: a sync of what there is not.
    pub const NOTHING: Self = Self::Sync {
        node: NodeId::MAX,
        data_only: false,
    };
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub is_dir: bool,
    /// At first.
    pub mode: u32,
    pub content: Content,
    /// A name that it had, for people.
    pub label: String,
}

/// The names in all directories.
pub(crate) type Names = BTreeMap<(NodeId, String), NodeId>;

/// A directory as it was durably, and all that was done to it since.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Names,
    pub(crate) ops: Vec<HostOp>,
}

impl Trace {
    /// How many calls there were.
    #[must_use]
    pub const fn operations(&self) -> usize {
        self.ops.len()
    }

    /// The calls, to be changed: what would be left if the program did that?
    pub const fn ops_mut(&mut self) -> &mut Vec<HostOp> {
        &mut self.ops
    }

    /// As if the program had not made the calls that this holds for.
    pub fn leave_out(&mut self, wanted: impl Fn(&Self, &HostOp) -> bool) {
        // A call that does nothing takes their place: moments keep their numbers.
        let all = self.clone();
        for op in &mut self.ops {
            if wanted(&all, op) {
                *op = HostOp::NOTHING;
            }
        }
    }

    /// The last name of a file or directory; empty for the directory itself.
    #[must_use]
    pub fn label(&self, node: NodeId) -> &str {
        self.nodes.get(node).map_or("", |node| &node.label)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self, node: NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_dir)
    }

    /// A call, for people.
    pub(crate) fn describe(&self, op: &HostOp) -> String {
        let dir = |dir: NodeId| self.label(dir);
        match op {
            HostOp::Name { dir: at, name, .. } => format!("create {}/{name}", dir(*at)),
            HostOp::Rename { from, to, .. } => {
                format!(
                    "rename {}/{} to {}/{}",
                    dir(from.0),
                    from.1,
                    dir(to.0),
                    to.1
                )
            }
            HostOp::Remove { dir: at, name, .. } => format!("remove {}/{name}", dir(*at)),
            HostOp::Write {
                node,
                offset,
                bytes,
            } => {
                let len = bytes.len();
                format!("write {len} bytes at {offset:#x} of {}", self.label(*node))
            }
            HostOp::SetLen { node, len } => format!("set length {len} of {}", self.label(*node)),
            HostOp::SetMode { node, mode } => format!("set mode {mode:o} of {}", self.label(*node)),
            HostOp::Sync { node, data_only } => {
                let call = if *data_only { "fdatasync" } else { "fsync" };
                format!("{call} {:?}", self.label(*node))
            }
        }
    }
}

/// A file of a [`Tree`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Entry {
    Dir(u32),
    File(u32, Content),
}

/// A directory as a power cut may leave it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tree(pub(crate) BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Makes it, in an empty directory.
    ///
    /// # Errors
    /// Those of the host.
    pub fn lay_out(&self, root: &Path) -> io::Result<()> {
        for (path, entry) in &self.0 {
            let path = root.join(path);
            match entry {
                Entry::Dir(_) => fs::DirBuilder::new().mode(0o700).create(&path)?,
                Entry::File(mode, content) => {
                    let file = File::create_new(&path)?;
                    content.fill(&file)?;
                    file.set_permissions(Permissions::from_mode(*mode))?;
                }
            }
        }
        // Deepest first: a directory may lose the right to be entered.
        for (path, entry) in self.0.iter().rev() {
            if let Entry::Dir(mode) = entry
                && *mode != 0o700
            {
                fs::set_permissions(root.join(path), Permissions::from_mode(*mode))?;
            }
        }
        Ok(())
    }

    /// What is in a directory now.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_into(root, Path::new(""))?;
        Ok(tree)
    }

    fn read_into(&mut self, root: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let metadata = entry.metadata()?;
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.0.insert(path.clone(), Entry::Dir(mode));
                self.read_into(root, &path)?;
            } else {
                let content = Content::read(&File::open(entry.path())?)?;
                self.0.insert(path, Entry::File(mode, content));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, entry) in &self.0 {
            match entry {
                Entry::Dir(mode) => writeln!(f, "{}/ {mode:o}", path.display())?,
                Entry::File(mode, content) => {
                    writeln!(f, "{} {mode:o} {} bytes", path.display(), content.len())?;
                }
            }
        }
        Ok(())
    }
}
