//! A directory of the host whose every change is written down while real code works on it.
//!
//! Invariants: a call is noted in the order of its effect, since the recording is locked during the
//! call; what was noted is the whole story, since the end is compared with the directory itself. A
//! sync is noted and not done: no power is cut here, and a test need not wait for the disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::crash::content::Content;
use crate::crash::trace::{HostOp, Names, Node, NodeId, Trace, Tree};

/// A call that can be made to misbehave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostCall {
    /// pread(2).
    Read,
    /// pwrite(2), pwritev(2).
    Write,
    /// fsync(2), fdatasync(2).
    Sync,
}

/// How it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostFault {
    /// It fails so (errno(3)), without any effect; `EINTR` for one.
    Errno(i32),
    /// It does so many bytes, at most, and says so.
    Short(usize),
}

/// Device and inode.
type Identity = (u64, u64);

#[derive(Debug)]
pub(crate) struct State {
    trace: Trace,
    // The names now.
    names: Names,
    found: HashMap<Identity, NodeId>,
    faults: Vec<(HostCall, u64, HostFault)>,
    calls: [u64; 3],
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static RECORDINGS: Mutex<Vec<Arc<Mutex<State>>>> = Mutex::new(Vec::new());

/// Whether calls are to be looked at at all.
pub(crate) fn is_running() -> bool {
    RUNNING.load(Ordering::Acquire) > 0
}

/// Calls `body` with the recording that knows this file or directory, if one does.
pub(crate) fn with_owner<T>(of: Identity, body: impl FnOnce(&mut State, NodeId) -> T) -> Option<T> {
    let all = lock(&RECORDINGS).clone();
    for recording in all {
        let mut state = lock(&recording);
        if let Some(node) = state.found.get(&of).copied() {
            return Some(body(&mut state, node));
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an open file or a path is.
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl State {
    fn new(root: &Path) -> std::io::Result<Self> {
        let trace = Trace {
            nodes: Vec::new(),
            names: Names::new(),
            ops: Vec::new(),
        };
        let mut state = Self {
            trace,
            names: Names::new(),
            found: HashMap::new(),
            faults: Vec::new(),
            calls: [0; 3],
        };
        state.adopt(root, "")?;
        state.trace.names = state.names.clone();
        Ok(state)
    }

    /// What was there before is durable.
    fn adopt(&mut self, path: &Path, label: &str) -> std::io::Result<NodeId> {
        let node = self.add(path, label)?;
        if self.trace.nodes[node].is_dir {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let child = self.adopt(&entry.path(), &name)?;
                self.names.insert((node, name), child);
            }
        } else {
            self.trace.nodes[node].content = Content::read(&File::open(path)?)?;
        }
        Ok(node)
    }

    /// A node that is not known yet, as it is at first.
    pub fn add(&mut self, path: &Path, label: &str) -> std::io::Result<NodeId> {
        let metadata = fs::metadata(path)?;
        let node = self.trace.nodes.len();
        self.trace.nodes.push(Node {
            is_dir: metadata.is_dir(),
            mode: metadata.permissions().mode() & 0o7777,
            content: Content::default(),
            label: label.to_owned(),
        });
        self.found.insert((metadata.dev(), metadata.ino()), node);
        Ok(node)
    }

    pub fn named(&self, dir: NodeId, name: &str) -> Option<NodeId> {
        self.names.get(&(dir, name.to_owned())).copied()
    }

    pub fn note(&mut self, op: HostOp) {
        match &op {
            HostOp::Name { dir, name, node } => {
                self.names.insert((*dir, name.clone()), *node);
            }
            HostOp::Rename { from, to, node } => {
                self.names.remove(from);
                self.names.insert(to.clone(), *node);
                self.trace.nodes[*node].label.clone_from(&to.1);
            }
            HostOp::Remove { dir, name, .. } => {
                self.names.remove(&(*dir, name.clone()));
            }
            _ => {}
        }
        self.trace.ops.push(op);
    }

    /// Counts a call, and says how it shall misbehave.
    pub fn enter(&mut self, call: HostCall) -> Option<HostFault> {
        let count = &mut self.calls[call as usize];
        let this = *count;
        *count += 1;
        let ordered = self.faults.iter();
        ordered
            .filter(|(kind, nth, _)| *kind == call && *nth == this)
            .map(|(_, _, fault)| *fault)
            .next()
    }
}

/// A recording that goes on until it is dropped.
#[derive(Debug)]
pub struct Recording {
    state: Arc<Mutex<State>>,
    root: PathBuf,
}

impl Recording {
    /// Begins with what is in `root` now.
    ///
    /// # Panics
    /// If `root` cannot be read.
    #[must_use]
    pub fn start(root: &Path) -> Self {
        crate::crash::hooks::keep();
        let state = State::new(root).expect("the directory can be read");
        let state = Arc::new(Mutex::new(state));
        lock(&RECORDINGS).push(Arc::clone(&state));
        RUNNING.fetch_add(1, Ordering::AcqRel);
        Self {
            state,
            root: root.to_path_buf(),
        }
    }

    /// How many calls there were: a moment that can be named later.
    #[must_use]
    pub fn operations(&self) -> usize {
        lock(&self.state).trace.ops.len()
    }

    /// The `nth` call of its kind (counted from 0) misbehaves, once.
    pub fn inject(&self, call: HostCall, nth: u64, fault: HostFault) {
        lock(&self.state).faults.push((call, nth, fault));
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, call: HostCall) -> u64 {
        lock(&self.state).calls[call as usize]
    }

    /// What was noted so far.
    ///
    /// # Panics
    /// If that does not lead to what is in the directory: then a call was not seen.
    #[must_use]
    pub fn trace(&self) -> Trace {
        // Not under the lock: reading the directory makes calls that are looked at as well.
        let trace = lock(&self.state).trace.clone();
        let there = Tree::read(&self.root).expect("the directory can be read");
        let noted = trace.latest();
        assert!(
            noted == there,
            "a call was not seen: there is\n{there}and noted was\n{noted}"
        );
        trace
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
        lock(&RECORDINGS).retain(|other| !Arc::ptr_eq(other, &self.state));
    }
}
