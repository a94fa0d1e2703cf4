//! A capture session: begin, copy in the pause, publish after the guest runs again.
//!
//! Each step is a type of its own, so that they cannot be taken out of order. Whatever fails, and
//! wherever a session is dropped, the dirty pages are back in the bitmap and nothing is left under
//! the final name. A step that fails says so before the guest has lost anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use coldframe_envelope::{EncodeError, Limits, Producer, SectionFlags, SectionKind};
use coldframe_hv::{DeviceState, DirtySource, Machine, MachineState, check_devices};
use coldframe_manifest::{Disk, FileRef};
use coldframe_mem::{CaptureSpec, CaptureStats, Captured, GuestRam, MemRoot, MergeBudget};
use coldframe_statefile::limits::BODY_BYTES_MAX;
use coldframe_statefile::schema::v1::MetadataV1;
use coldframe_statefile::{StateBuilder, is_vmm_kind};
use coldframe_storage::{FileStorage, PendingDir};
use coldframe_units::{Arch, PageSize, RamLayout, RootHash, SnapshotId};

use crate::files::{MEMORY, STATE};
use crate::flight::{InFlight, Named, Taken};
use crate::lease::Lease;
use crate::parent::ParentLink;
use crate::publication::{self, Base, Description, StateBytes};
use crate::{AsParent, DirtyTracker, Snapshot, SnapshotError, Unpublished, convert};

/// What kind of snapshot to take.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// All of memory.
    Full,
    /// What changed since `parent`, which must be the last snapshot of this machine.
    Diff {
        /// What it is a child of: a [`Snapshot`], or a [`Frozen`] or [`Unpublished`] that will be
        /// one. The latter must be published first.
        parent: &'a dyn AsParent,
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
    own: Own,
}

/// What the VMM has in the state file beside machine and devices.
#[derive(Clone, Debug, Default)]
struct Own {
    metadata: Option<MetadataV1>,
    sections: Vec<Section>,
}

/// A section of the VMM's own in the state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its kind, which begins with a lower-case letter.
    pub kind: SectionKind,
    /// Which one of its kind.
    pub instance: u32,
    /// The version of the bytes, in the VMM's own counting.
    pub version: u16,
    /// Whether a reader that does not know it must refuse the file.
    pub flags: SectionFlags,
    /// The bytes, at most 16 MiB.
    pub bytes: Vec<u8>,
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
            own: Own::default(),
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

    /// The same with what the guest's metadata service holds.
    #[must_use]
    pub fn with_metadata(mut self, metadata: MetadataV1) -> Self {
        self.own.metadata = Some(metadata);
        self
    }

    /// The same with one more section of the VMM's own; one that is known only later is for
    /// [`Frozen::add_section`].
    #[must_use]
    pub fn with_section(mut self, section: Section) -> Self {
        self.own.sections.push(section);
        self
    }

    /// Prepares the files. The guest runs on; nothing is paused yet. A published parent is held
    /// from now on: `Catalog::delete` refuses to delete it until the snapshot is published, or the
    /// capture dropped.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`], for example if `dest` is taken; [`SnapshotError::Encode`] for
    /// the VMM's own sections; [`SnapshotError::ParentGone`], [`SnapshotError::ParentRoot`],
    /// [`SnapshotError::ParentBusy`] if the parent is not what it was.
    pub fn begin(self, kind: Kind<'_>) -> Result<Capture, SnapshotError> {
        self.own.check()?;
        let id = publication::new_id()?;
        let parent = match kind {
            Kind::Full => None,
            Kind::Diff { parent } => Some(parent.link()),
        };
        let lease = match &parent {
            Some(ParentLink::Published(parent)) => {
                Some(publication::hold(parent, &self.dest, self.producer)?)
            }
            _ => None,
        };
        let pending = publication::pending(&self.dest)?;
        let memory = pending.file(MEMORY).map_err(SnapshotError::Storage)?;
        Ok(Capture {
            freezer: self,
            id,
            parent,
            lease,
            pending,
            memory,
            devices: Vec::new(),
        })
    }
}

/// A session whose files are ready.
#[must_use = "a capture that is dropped leaves nothing"]
#[derive(Debug)]
pub struct Capture {
    freezer: Freezer,
    id: SnapshotId,
    parent: Option<ParentLink>,
    /// Of a parent that was published already.
    lease: Option<Lease>,
    pending: PendingDir,
    memory: FileStorage,
    devices: Vec<DeviceState>,
}

impl Capture {
    /// The id that the snapshot will have.
    #[must_use]
    pub const fn id(&self) -> SnapshotId {
        self.id
    }

    /// The states of the VMM's devices, read while the machine is paused.
    #[must_use = "the capture is returned"]
    pub fn with_devices(mut self, devices: Vec<DeviceState>) -> Self {
        self.devices = devices;
        self
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
    ) -> Result<Frozen, SnapshotError>
    where
        R: GuestRam + ?Sized,
        S: DirtySource,
        M: Machine + ?Sized,
    {
        let started = Instant::now();
        check_devices(&self.devices).map_err(SnapshotError::State)?;
        check_device_bytes(&self.devices, self.freezer.producer)?;
        let regions = ram.regions().iter().map(|region| region.region).collect();
        let layout = RamLayout::new(regions).map_err(SnapshotError::Layout)?;
        dirty.check_parent(self.parent.as_ref(), &layout)?;
        let bitmap = dirty.bitmap().ram();
        if bitmap != layout.total() {
            let (bitmap, ram) = (bitmap.get(), layout.total().get());
            return Err(SnapshotError::BitmapSize { bitmap, ram });
        }
        let state = machine
            .save()
            .map_err(|error| SnapshotError::SaveMachine(Box::new(error)))?;
        state.check().map_err(SnapshotError::State)?;
        let dest = &self.freezer.dest;
        let (flight, taken) = dirty.take(self.id, dest, self.parent.as_ref(), &layout)?;
        let captured = self.copy_memory(ram, &taken, state.arch)?;
        tracing::info!(
            ram_bytes = layout.total().get(),
            dirty_pages = taken.changed.count(),
            duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "guest copied"
        );
        Ok(Frozen {
            capture: self,
            layout,
            state,
            captured,
            flight,
        })
    }

    fn copy_memory<R: GuestRam + ?Sized>(
        &self,
        ram: &R,
        taken: &Taken,
        arch: Arch,
    ) -> Result<Captured, SnapshotError> {
        let spec = CaptureSpec {
            arch,
            page_size: self.freezer.page_size,
            producer: self.freezer.producer,
            merge: MergeBudget::MODEST,
        };
        let discarded = Some(&*taken.discarded).filter(|pages| !pages.is_empty());
        match &self.parent {
            None => coldframe_mem::capture_full_discarded(ram, discarded, &spec, &self.memory),
            Some(parent) => {
                let root = match parent {
                    ParentLink::Published(parent) => parent.manifest().memory.root,
                    // It has none yet: `publish` names it.
                    ParentLink::Unpublished(_) => RootHash::from_bytes([0; 32]),
                };
                let dirty = &taken.changed;
                let file = &self.memory;
                coldframe_mem::capture_diff_discarded(ram, dirty, discarded, root, &spec, file)
            }
        }
        .map_err(SnapshotError::Memory)
    }
}

/// A guest that was copied and may run again. Publish it, on another thread if need be; dropped,
/// it puts the dirty pages back.
///
/// The next capture need not wait for it: a Diff may name it, or its [`handle`](Self::handle), as
/// its parent. Publish the two in their order.
#[must_use = "a frozen guest that is not published is not a snapshot"]
#[derive(Debug)]
pub struct Frozen {
    capture: Capture,
    layout: RamLayout,
    state: MachineState,
    captured: Captured,
    flight: InFlight,
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

    /// The id that the snapshot will have.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.capture.id
    }

    /// What the next diff may name as its parent, while this is published on another thread.
    #[must_use]
    pub fn handle(&self) -> Unpublished {
        self.flight.handle()
    }

    /// Whether it may be published now: its parent is published, or is being published.
    ///
    /// # Errors
    /// [`SnapshotError::ParentUnpublished`], [`SnapshotError::ParentFailed`].
    pub fn check_parent(&self) -> Result<(), SnapshotError> {
        match &self.capture.parent {
            Some(ParentLink::Unpublished(parent)) => parent.check(),
            _ => Ok(()),
        }
    }

    /// Adds a section of the VMM's own to the state file: one that was not ready in the pause.
    ///
    /// # Errors
    /// [`SnapshotError::Encode`]: a kind that is not the VMM's, too long, or there already;
    /// nothing is added then.
    pub fn add_section(&mut self, section: Section) -> Result<(), SnapshotError> {
        let own = &mut self.capture.freezer.own;
        own.sections.push(section);
        own.check().inspect_err(|_| drop(own.sections.pop()))
    }

    /// Hashes, writes state and manifest, syncs, and gives the snapshot its name.
    ///
    /// A parent that is being published on another thread is waited for. A VMM that publishes on
    /// many threads in no order calls [`Unpublished::wait`] of the parent first.
    ///
    /// # Errors
    /// [`SnapshotError::ParentUnpublished`] if nobody has begun to publish the parent;
    /// [`SnapshotError::ParentFailed`] if it failed; [`SnapshotError::ParentGone`] if it was
    /// deleted in spite of being held. Else [`SnapshotError`] of the step. The dirty pages are back
    /// in the bitmap, and nothing is under the final name, but for one case: after
    /// [`StorageError::SyncDirectory`](coldframe_storage::StorageError::SyncDirectory) the snapshot
    /// is there and whole, but its name may not outlive a power cut.
    pub fn publish(self) -> Result<Snapshot, SnapshotError> {
        let Capture {
            freezer,
            id,
            parent,
            lease,
            pending,
            memory,
            devices,
        } = self.capture;
        let path = parent.as_ref().map(|parent| parent.path().to_path_buf());
        let parent = parent.map(|parent| named(parent, lease, &freezer));
        let parent = parent.transpose()?;
        self.flight.begin_publishing()?;
        let captured = match &parent {
            Some(parent) => self.captured.with_parent(parent.memory),
            None => self.captured,
        };
        let MemRoot { root, file_len, .. } =
            captured.finish(&memory).map_err(SnapshotError::Memory)?;
        drop(memory);
        let state = state_bytes(&self.state, &devices, freezer.own, freezer.producer)?;
        let base = parent.as_ref().zip(path);
        let base = base.map(|(named, path)| Base::at(named.parent, &path));
        let description = Description {
            producer: freezer.producer,
            arch: Some(self.state.arch),
            base,
            ram: self.layout,
            page_size: freezer.page_size,
            disks: freezer.disks,
            labels: freezer.labels,
        };
        let memory = FileRef {
            len: file_len,
            root,
        };
        let held = parent.as_ref().and_then(|parent| parent.lease.as_deref());
        let (snapshot, lease) =
            publication::publish_held(pending, id, description, memory, Some(state), held)?;
        self.flight.published(Named {
            parent: publication::name_of(&snapshot),
            memory: snapshot.manifest().memory.root,
            lease: lease.map(Arc::new),
        });
        Ok(snapshot)
    }
}

/// A parent by its roots, held.
fn named(
    parent: ParentLink,
    lease: Option<Lease>,
    freezer: &Freezer,
) -> Result<Named, SnapshotError> {
    match parent {
        ParentLink::Published(parent) => Ok(Named {
            parent: publication::name_of(&parent),
            memory: parent.manifest().memory.root,
            lease: lease.map(Arc::new),
        }),
        ParentLink::Unpublished(parent) => {
            let mut named = parent.named()?;
            if named.lease.is_none() {
                named.lease = Some(Arc::new(Lease::of(parent.dest(), named.parent)?));
            }
            let (dest, producer) = (&freezer.dest, freezer.producer);
            publication::note_elsewhere(parent.dest(), parent.id(), dest, producer)?;
            Ok(named)
        }
    }
}

impl Own {
    fn put(self, file: &mut StateBuilder) -> Result<(), EncodeError> {
        if let Some(metadata) = &self.metadata {
            file.metadata(metadata)?;
        }
        self.sections.into_iter().try_for_each(|section| {
            let Section {
                kind,
                instance,
                version,
                flags,
                bytes,
            } = section;
            file.opaque(kind, instance, version, flags, bytes)
        })
    }

    /// Whether a state file takes it, without a copy of its bytes.
    fn check(&self) -> Result<(), SnapshotError> {
        let mut seen = BTreeSet::new();
        let checked = self.sections.iter().try_for_each(|section| {
            let Section {
                kind,
                instance,
                flags,
                bytes,
                ..
            } = section;
            if !is_vmm_kind(*kind) {
                return Err(EncodeError::Invalid {
                    field: "section kind",
                });
            }
            if flags.is_hashed_by_format() {
                return Err(EncodeError::Invalid {
                    field: "section flags",
                });
            }
            if bytes.len() as u64 > BODY_BYTES_MAX {
                return Err(EncodeError::LimitExceeded {
                    what: "body length in bytes",
                    found: bytes.len() as u64,
                    limit: BODY_BYTES_MAX,
                });
            }
            if seen.insert((*kind, *instance)) {
                return Ok(());
            }
            let (kind, instance) = (*kind, *instance);
            Err(EncodeError::DuplicateSection { kind, instance })
        });
        checked.map_err(encode)
    }
}

/// What the codec adds to the bytes of a device, at the very most.
const CODEC_BYTES: u64 = 4096;

/// Refuses devices that do not fit the state file before anything is taken or copied. Only what is
/// near a limit is encoded for it.
fn check_device_bytes(devices: &[DeviceState], producer: Producer) -> Result<(), SnapshotError> {
    let mut total: u64 = 0;
    for device in devices {
        let len = device.bytes.len() as u64 + CODEC_BYTES;
        total = total.saturating_add(len);
        if len <= BODY_BYTES_MAX {
            continue;
        }
        let mut file = StateBuilder::new(Arch::X86_64, producer);
        convert::put_device(&mut file, device).map_err(|source| SnapshotError::Device {
            kind: device.kind.clone(),
            instance: device.instance,
            source,
        })?;
    }
    // vCPUs and the rest of the machine have a quarter of it.
    if total <= Limits::SMALL_FILE.file_bytes_max / 4 * 3 {
        return Ok(());
    }
    let mut file = StateBuilder::new(Arch::X86_64, producer);
    let put = |device| convert::put_device(&mut file, device);
    devices.iter().try_for_each(put).map_err(encode)?;
    file.finish().map(drop).map_err(encode)
}

fn encode(source: EncodeError) -> SnapshotError {
    SnapshotError::Encode {
        file: STATE,
        source,
    }
}

/// The state file of a machine.
fn state_bytes(
    machine: &MachineState,
    devices: &[DeviceState],
    own: Own,
    producer: Producer,
) -> Result<StateBytes, SnapshotError> {
    let mut file = StateBuilder::new(machine.arch, producer);
    convert::put_machine(&mut file, machine).map_err(encode)?;
    for device in devices {
        convert::put_device(&mut file, device).map_err(encode)?;
    }
    own.put(&mut file).map_err(encode)?;
    let (bytes, root) = file.finish().map_err(encode)?;
    let host = convert::host_summary(&machine.host, &bytes);
    Ok(StateBytes { bytes, root, host })
}
