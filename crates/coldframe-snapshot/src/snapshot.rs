//! An opened snapshot: its manifest was read and checked; its other files are opened when asked
//! for, and then checked against the roots that the manifest names.

use std::path::{Path, PathBuf};

use coldframe_envelope::{Limits, SectionKind};
use coldframe_hv::{DeviceState, MachineState};
use coldframe_manifest::Manifest;
use coldframe_mem::{FilePool, MemoryFile};
use coldframe_memfile::{Kind, MemFile};
use coldframe_statefile::StateFile;
use coldframe_storage::{IoContext, MappedFile, Operation};
use coldframe_units::{RootHash, SnapshotId};

use crate::files::{self, MANIFEST, MEMORY, STATE};
use crate::{SnapshotError, convert};

/// A published snapshot whose manifest is sound.
#[derive(Clone, Debug)]
pub struct Snapshot {
    path: PathBuf,
    manifest: Manifest,
    root: RootHash,
}

impl Snapshot {
    /// Opens a snapshot directory: reads and checks its manifest, nothing else.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`], [`SnapshotError::Decode`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SnapshotError> {
        let path = path.as_ref().to_path_buf();
        let file = path.join(MANIFEST);
        let bytes = files::read_small(&file)?;
        let (manifest, root) = Manifest::decode(&bytes)
            .map_err(|source| SnapshotError::Decode { path: file, source })?;
        Ok(Self {
            path,
            manifest,
            root,
        })
    }

    /// One whose manifest was written just now.
    pub(crate) const fn new(path: PathBuf, manifest: Manifest, root: RootHash) -> Self {
        Self {
            path,
            manifest,
            root,
        }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.manifest.id
    }

    /// The one hash that identifies the snapshot and all that it is built on: that of the
    /// manifest, which names the roots of its files and of its parent.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.root
    }

    /// What the manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The machine's state as it was saved.
    ///
    /// # Errors
    /// [`SnapshotError::NoMachine`] if only memory, or an opaque state, was imported; else as
    /// [`Snapshot::state`].
    pub fn machine(&self) -> Result<MachineState, SnapshotError> {
        let state = self.state()?;
        state.machine()
    }

    /// The states of the VMM's devices.
    ///
    /// # Errors
    /// As [`Snapshot::state`].
    pub fn devices(&self) -> Result<Vec<DeviceState>, SnapshotError> {
        self.state()?.devices()
    }

    /// The state file, read and checked against its root.
    ///
    /// # Errors
    /// [`SnapshotError::NoMachine`], [`SnapshotError::Storage`], [`SnapshotError::Decode`],
    /// [`SnapshotError::FileRoot`].
    pub fn state(&self) -> Result<SavedState, SnapshotError> {
        let path = self.path.join(STATE);
        let Some(expected) = self.manifest.state else {
            return Err(SnapshotError::NoMachine {
                path: self.path.clone(),
            });
        };
        let bytes = files::read_small(&path)?;
        let len = coldframe_units::ByteLen::new(bytes.len() as u64);
        files::check_len(&path, len, expected.len)?;
        let state = SavedState { path, bytes };
        let found = state.file()?.root();
        check_root(&state.path, expected.root, found)?;
        Ok(state)
    }

    /// The memory file, mapped, its header checked against the manifest.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`], [`SnapshotError::Decode`], [`SnapshotError::FileRoot`],
    /// [`SnapshotError::Disagree`].
    pub fn memory_file(&self) -> Result<MappedFile, SnapshotError> {
        let path = self.path.join(MEMORY);
        let file = files::map(&path)?;
        let len = coldframe_units::ByteLen::new(file.as_slice().len() as u64);
        files::check_len(&path, len, self.manifest.memory.len)?;
        let view = MemFile::open(file.as_slice(), Limits::MEMORY_FILE).map_err(|source| {
            SnapshotError::Decode {
                path: path.clone(),
                source,
            }
        })?;
        self.check_memory(path, &view)?;
        Ok(file)
    }

    /// The memory file, opened for reading, its header checked against the manifest. It need not
    /// be read-only, and is not mapped. `pool` keeps its descriptor.
    ///
    /// # Errors
    /// As [`Snapshot::memory_file`].
    pub fn memory_source(&self, pool: &FilePool) -> Result<MemoryFile, SnapshotError> {
        let path = self.path.join(MEMORY);
        let metadata = std::fs::symlink_metadata(&path).at(Operation::Open, &path);
        let metadata = metadata.map_err(SnapshotError::Storage)?;
        if metadata.is_file() {
            let len = coldframe_units::ByteLen::new(metadata.len());
            files::check_len(&path, len, self.manifest.memory.len)?;
        }
        let file = files::open_memory(&path, pool)?;
        let view = file.view().map_err(files::of_memory)?;
        self.check_memory(path, &view)?;
        Ok(file)
    }

    /// Checks an opened memory file against the manifest.
    fn check_memory(&self, path: PathBuf, view: &MemFile<'_>) -> Result<(), SnapshotError> {
        let expected = self.manifest.memory;
        check_root(&path, expected.root, view.root())?;
        let is_diff = self.manifest.parent().is_some();
        let disagree = |what| {
            Err(SnapshotError::Disagree {
                path: path.clone(),
                what,
            })
        };
        if (view.kind() == Kind::Diff) != is_diff {
            return disagree("kind");
        }
        if *view.layout() != self.manifest.ram {
            return disagree("RAM layout");
        }
        if view.page_size() != self.manifest.page_size {
            return disagree("page size");
        }
        Ok(())
    }
}

fn check_root(path: &Path, expected: RootHash, found: RootHash) -> Result<(), SnapshotError> {
    if expected == found {
        return Ok(());
    }
    Err(SnapshotError::FileRoot {
        path: path.to_path_buf(),
        expected,
        found,
    })
}

/// A state file that was read whole, and whose root is the one that the manifest names.
#[derive(Clone, Debug)]
pub struct SavedState {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl SavedState {
    /// Its bytes as they are on disk.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its sections; must-understand sections of the VMM's own are let through, for the VMM knows
    /// them.
    ///
    /// # Errors
    /// [`SnapshotError::Decode`].
    pub fn file(&self) -> Result<StateFile<'_>, SnapshotError> {
        let own = convert::vmm_kinds(&self.bytes);
        self.file_knowing(&own)
    }

    /// Checks the bytes of a state file: header, table, sections.
    #[cfg(feature = "store")]
    pub(crate) fn check(bytes: &[u8]) -> Result<(), coldframe_envelope::DecodeError> {
        let own = convert::vmm_kinds(bytes);
        StateFile::decode(bytes, &own, Limits::SMALL_FILE).map(drop)
    }

    /// Its sections, for a VMM that understands just these kinds of its own.
    ///
    /// # Errors
    /// [`SnapshotError::Decode`], naming the first section that must be understood and is not.
    pub fn file_knowing(&self, kinds: &[SectionKind]) -> Result<StateFile<'_>, SnapshotError> {
        StateFile::decode(&self.bytes, kinds, Limits::SMALL_FILE).map_err(|source| {
            SnapshotError::Decode {
                path: self.path.clone(),
                source,
            }
        })
    }

    /// The machine's state.
    ///
    /// # Errors
    /// [`SnapshotError::NoMachine`], [`SnapshotError::Decode`], [`SnapshotError::State`].
    pub fn machine(&self) -> Result<MachineState, SnapshotError> {
        let file = self.file()?;
        if !file.has_machine() {
            return Err(SnapshotError::NoMachine {
                path: self.path.clone(),
            });
        }
        let machine = convert::machine(&file).map_err(|source| SnapshotError::Decode {
            path: self.path.clone(),
            source,
        })?;
        machine.check().map_err(SnapshotError::State)?;
        Ok(machine)
    }

    /// The states of the VMM's devices.
    ///
    /// # Errors
    /// [`SnapshotError::Decode`].
    pub fn devices(&self) -> Result<Vec<DeviceState>, SnapshotError> {
        convert::devices(&self.file()?).map_err(|source| SnapshotError::Decode {
            path: self.path.clone(),
            source,
        })
    }
}
