//! Snapshots out of other programs' memory dumps.

use std::collections::BTreeMap;
use std::path::Path;

use coldframe_envelope::{Producer, SectionFlags, SectionKind};
use coldframe_manifest::FileRef;
use coldframe_mem::{CaptureSpec, DumpParent, MemRoot, MergeBudget, import_raw};
use coldframe_statefile::StateBuilder;
use coldframe_units::{Arch, PageSize, RamLayout};

use crate::files::{MEMORY, STATE};
use crate::parent::ParentLink;
use crate::publication::{self, Base, Description, StateBytes};
use crate::{Snapshot, SnapshotError};

pub use coldframe_mem::{DiffHoles, Dump};

/// A dump and what is known of its guest.
#[derive(Debug)]
pub struct Source<'a> {
    /// The raw memory: the regions back to back.
    pub dump: &'a Dump,
    /// The guest's architecture.
    pub arch: Arch,
    /// Where the regions lie in the guest.
    pub ram: RamLayout,
    /// The page size of the snapshot.
    pub page_size: PageSize,
    /// With a parent the snapshot is a diff, and a hole of the dump means "as in the parent".
    pub parent: Option<&'a Snapshot>,
    /// How far the holes of a diff are trusted.
    pub holes: DiffHoles,
    /// The machine's state in the other program's own form.
    pub state: Option<OpaqueState>,
}

/// A machine's state in another program's form, kept whole.
#[derive(Clone, Debug)]
pub struct OpaqueState {
    /// The section that it is kept in; its name begins with a lower-case letter.
    pub kind: SectionKind,
    /// The version of the bytes, in our own counting.
    pub version: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Makes a snapshot of a dump. `progress` is told of bytes of RAM that are done.
///
/// # Errors
/// [`SnapshotError::Storage`], [`SnapshotError::Memory`], [`SnapshotError::Encode`];
/// [`SnapshotError::Disagree`] if the parent has another memory layout or page size.
pub fn import(
    source: Source<'_>,
    dest: &Path,
    producer: Producer,
    progress: &mut dyn FnMut(u64),
) -> Result<Snapshot, SnapshotError> {
    let Source {
        dump,
        arch,
        ram,
        page_size,
        parent,
        holes,
        state,
    } = source;
    if let Some(parent) = parent {
        ParentLink::Published(Box::new(parent.clone())).check_ram(&ram)?;
    }
    let lease = parent.map(|parent| publication::hold(parent, dest, producer));
    let lease = lease.transpose()?;
    let pending = publication::pending(dest)?;
    let memory = pending.file(MEMORY).map_err(SnapshotError::Storage)?;
    let spec = CaptureSpec {
        arch,
        page_size,
        producer,
        merge: MergeBudget::NONE,
    };
    let parent_memory = parent.map(|parent| DumpParent {
        root: parent.manifest().memory.root,
        holes,
    });
    let MemRoot { root, file_len, .. } =
        import_raw(dump, &ram, parent_memory, &spec, &memory, progress)
            .and_then(|imported| imported.finish(&memory))
            .map_err(SnapshotError::Memory)?;
    drop(memory);
    let state = state
        .map(|state| opaque(arch, producer, state))
        .transpose()?;
    let description = Description {
        producer,
        arch: Some(arch),
        base: parent.map(Base::of),
        ram,
        page_size,
        disks: Vec::new(),
        labels: BTreeMap::new(),
    };
    let memory = FileRef {
        len: file_len,
        root,
    };
    publication::publish(
        pending,
        publication::new_id()?,
        description,
        memory,
        state,
        lease.as_ref(),
    )
}

/// A state file that holds nothing but the other program's bytes.
fn opaque(arch: Arch, producer: Producer, state: OpaqueState) -> Result<StateBytes, SnapshotError> {
    let encode = |source| SnapshotError::Encode {
        file: STATE,
        source,
    };
    let mut file = StateBuilder::new(arch, producer);
    let OpaqueState {
        kind,
        version,
        bytes,
    } = state;
    file.opaque(kind, 0, version, SectionFlags::OPTIONAL, bytes)
        .map_err(encode)?;
    let (bytes, root) = file.finish().map_err(encode)?;
    Ok(StateBytes {
        bytes,
        root,
        host: None,
    })
}
