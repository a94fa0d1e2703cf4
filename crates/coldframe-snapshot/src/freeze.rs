//! A capture session: begin, copy in the pause, publish after the guest runs again.
//!
//! Each step is a type of its own, so that they cannot be taken out of order. Whatever fails, and
//! wherever a session is dropped, the dirty pages are back in the bitmap and nothing is left under
//! the final name. A step that fails says so before the guest has lost anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use coldframe_dirty::DirtyToken;
use coldframe_envelope::Producer;
use coldframe_hv::{DeviceState, DirtySource, Machine, MachineState, check_devices};
use coldframe_manifest::{Disk, FileRef};
use coldframe_mem::{CaptureSpec, CaptureStats, Captured, GuestRam, MemRoot, MergeBudget};
use coldframe_statefile::StateBuilder;
use coldframe_storage::{FileStorage, PendingDir};
use coldframe_units::{Arch, PageSize, RamLayout, RootHash, SnapshotId};

use crate::files::{MEMORY, STATE};
use crate::publication::{self, Description, StateBytes};
use crate::tracker::Baseline;
use crate::{DirtyTracker, Snapshot, SnapshotError, convert};

/// What kind of snapshot to take.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// All of memory.
    Full,
    /// What changed since `parent`, which must be the last snapshot of this machine.
    Diff {
        /// The snapshot that it is a child of.
        parent: &'a Snapshot,
    },
}

/// Where a snapshot will lie and what its manifest will say of it.
#[derive(Clone, Debug)]
pub struct Freezer {
    dest: PathBuf,
    producer: Producer,
    page_size: PageSize,
    disks: Vec<Disk>,
    labels: BTreeMap<String, String>,
}

impl Freezer {
    /// A snapshot at `dest`, which must not exist, with pages of 4 KiB.
    #[must_use]
    pub fn new(dest: impl Into<PathBuf>, producer: Producer) -> Self {
        Self {
            dest: dest.into(),
            producer,
            page_size: PageSize::SIZE_4K,
            disks: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The same with pages of this size in the memory file: 4 KiB to 2 MiB.
    #[must_use]
    pub fn with_page_size(self, page_size: PageSize) -> Self {
        Self { page_size, ..self }
    }

    /// The same with one more disk.
    #[must_use]
    pub fn with_disk(mut self, name: impl Into<String>, index: RootHash) -> Self {
        self.disks.push(Disk {
            name: name.into(),
            index,
        });
        self
    }

    /// The same with one more label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Prepares the files. The guest runs on; nothing is paused yet.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`], for one if `dest` is taken.
    pub fn begin(self, kind: Kind<'_>) -> Result<Capture, SnapshotError> {
        let id = publication::new_id()?;
        let pending = publication::pending(&self.dest)?;
        let memory = pending.file(MEMORY).map_err(SnapshotError::Storage)?;
        let parent = match kind {
            Kind::Full => None,
            Kind::Diff { parent } => Some(parent.clone()),
        };
        Ok(Capture {
            freezer: self,
            id,
            parent,
            pending,
            memory,
        })
    }
}

/// A session whose files are ready.
#[must_use = "a capture that is dropped leaves nothing"]
#[derive(Debug)]
pub struct Capture {
    freezer: Freezer,
    id: SnapshotId,
    parent: Option<Snapshot>,
    pending: PendingDir,
    memory: FileStorage,
}

impl Capture {
    /// The id that the snapshot will have.
    #[must_use]
    pub const fn id(&self) -> SnapshotId {
        self.id
    }

    /// The pause: reads the machine's state, takes the dirty pages, copies memory, and nothing
    /// else. The machine must be paused, its devices quiet, from before this call to after it.
    ///
    /// The order matters: reading state may itself write guest memory (the tables of an Arm ITS),
    /// so memory comes last.
    ///
    /// # Errors
    /// [`SnapshotError`] of the step; the dirty pages are back, the guest may run on.
    pub fn copy<R, S, M>(
        self,
        ram: &R,
        dirty: &mut DirtyTracker<S>,
        machine: &M,
        devices: Vec<DeviceState>,
    ) -> Result<Frozen, SnapshotError>
    where
        R: GuestRam + ?Sized,
        S: DirtySource,
        M: Machine + ?Sized,
    {
        let started = Instant::now();
        check_devices(&devices).map_err(SnapshotError::State)?;
        let regions = ram.regions().iter().map(|region| region.region).collect();
        let layout = RamLayout::new(regions).map_err(SnapshotError::Layout)?;
        self.check_parent(&layout, dirty.baseline())?;
        let bitmap = dirty.bitmap().ram();
        if bitmap != layout.total() {
            let (bitmap, ram) = (bitmap.get(), layout.total().get());
            return Err(SnapshotError::BitmapSize { bitmap, ram });
        }
        let state = machine
            .save()
            .map_err(|error| SnapshotError::SaveMachine(Box::new(error)))?;
        state.check().map_err(SnapshotError::State)?;
        let token = dirty.take()?;
        let captured = self.copy_memory(ram, &token, state.arch)?;
        tracing::info!(
            ram_bytes = layout.total().get(),
            dirty_pages = token.pages().count(),
            duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "guest copied"
        );
        Ok(Frozen {
            capture: self,
            layout,
            state,
            devices,
            captured,
            token,
            baseline: dirty.shared_baseline(),
        })
    }

    fn check_parent(
        &self,
        layout: &RamLayout,
        baseline: Option<SnapshotId>,
    ) -> Result<(), SnapshotError> {
        let Some(parent) = &self.parent else {
            return Ok(());
        };
        if baseline != Some(parent.id()) {
            let path = parent.path().to_path_buf();
            return Err(SnapshotError::Baseline { path, baseline });
        }
        parent.check_ram(layout)
    }

    fn copy_memory<R: GuestRam + ?Sized>(
        &self,
        ram: &R,
        token: &DirtyToken,
        arch: Arch,
    ) -> Result<Captured, SnapshotError> {
        let spec = CaptureSpec {
            arch,
            page_size: self.freezer.page_size,
            producer: self.freezer.producer,
            merge: MergeBudget::MODEST,
        };
        match &self.parent {
            None => coldframe_mem::capture_full(ram, &spec, &self.memory),
            Some(parent) => {
                let dirty = token.pages();
                let root = parent.manifest().memory.root;
                coldframe_mem::capture_diff(ram, dirty, root, &spec, &self.memory)
            }
        }
        .map_err(SnapshotError::Memory)
    }
}

/// A guest that was copied and may run again. Publish it, on another thread if need be; dropped,
/// it puts the dirty pages back.
#[must_use = "a frozen guest that is not published is not a snapshot"]
#[derive(Debug)]
pub struct Frozen {
    capture: Capture,
    layout: RamLayout,
    state: MachineState,
    devices: Vec<DeviceState>,
    captured: Captured,
    token: DirtyToken,
    baseline: Baseline,
}

impl Frozen {
    /// Where the snapshot will lie.
    #[must_use]
    pub fn dest(&self) -> &Path {
        &self.capture.freezer.dest
    }

    /// What was copied in the pause.
    #[must_use]
    pub fn stats(&self) -> CaptureStats {
        self.captured.stats()
    }

    /// Hashes, writes state and manifest, syncs, and gives the snapshot its name.
    ///
    /// # Errors
    /// [`SnapshotError`] of the step; the dirty pages are back in the bitmap, and nothing is under
    /// the final name.
    pub fn publish(self) -> Result<Snapshot, SnapshotError> {
        let Capture {
            freezer,
            id,
            parent,
            pending,
            memory,
        } = self.capture;
        let MemRoot { root, file_len, .. } = self
            .captured
            .finish(&memory)
            .map_err(SnapshotError::Memory)?;
        drop(memory);
        let state = state_bytes(&self.state, &self.devices, freezer.producer)?;
        let description = Description {
            producer: freezer.producer,
            arch: Some(self.state.arch),
            kind: publication::kind_of(parent.as_ref()),
            ram: self.layout,
            page_size: freezer.page_size,
            disks: freezer.disks,
            labels: freezer.labels,
        };
        let memory = FileRef {
            len: file_len,
            root,
        };
        let snapshot = publication::publish(pending, id, description, memory, Some(state))?;
        self.token.commit();
        self.baseline.set(id);
        Ok(snapshot)
    }
}

/// The state file of a machine.
fn state_bytes(
    machine: &MachineState,
    devices: &[DeviceState],
    producer: Producer,
) -> Result<StateBytes, SnapshotError> {
    let encode = |source| SnapshotError::Encode {
        file: STATE,
        source,
    };
    let mut file = StateBuilder::new(machine.arch, producer);
    convert::put_machine(&mut file, machine).map_err(encode)?;
    for device in devices {
        convert::put_device(&mut file, device).map_err(encode)?;
    }
    let (bytes, root) = file.finish().map_err(encode)?;
    let host = convert::host_summary(&machine.host, &bytes);
    Ok(StateBytes { bytes, root, host })
}
