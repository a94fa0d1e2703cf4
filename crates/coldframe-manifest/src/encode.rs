//! Writing a manifest. Order: `IDNT`, `RAML`, `FILE.1`, `FILE.2`, `HOST`, `DISK`, `LABL`, `PNAM`.

use alloc::vec::Vec;

use coldframe_envelope::{ContainerBuilder, EncodeError, Format};
use coldframe_units::RootHash;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::layout::{
    DISK, DISK_NAME_BYTES_MAX, DiskRow, FILE, FILE_MEMORY, FILE_STATE, FORMAT, FileBytes, HOST,
    IDNT, IdentityBytes, LABL, LabelHead, PNAM, RAML, RegionRow,
};
use crate::{Disk, FileRef, Manifest, SnapshotKind};

const FORMAT_1_0: Format = Format::new(*b"MANI", 1, 0);

/// The version of every section that this release writes, and the newest that it reads.
pub(crate) const BODY_VERSION: u16 = 1;

impl Manifest {
    /// The file's bytes and its root; equal manifests give equal bytes.
    ///
    /// # Errors
    /// [`EncodeError`] naming the field that breaks a rule.
    pub fn encode(&self) -> Result<(Vec<u8>, RootHash), EncodeError> {
        self.check()?;
        let format = match self.parent_name {
            // Nothing in it that was not in 1.0.
            None => FORMAT_1_0,
            Some(_) => FORMAT,
        };
        let mut file = ContainerBuilder::new(format, self.producer).with_page_size(self.page_size);
        if let Some(arch) = self.arch {
            file = file.with_arch(arch);
        }
        let mut must = |kind, instance, body| {
            file.must_understand(kind, instance, BODY_VERSION, body);
        };
        must(IDNT, 0, identity(self).as_bytes().to_vec());
        must(RAML, 0, regions(self));
        must(FILE, FILE_MEMORY, reference(self.memory));
        if let Some(state) = self.state {
            must(FILE, FILE_STATE, reference(state));
        }
        if let Some(host) = self.host {
            file.optional(HOST, 0, BODY_VERSION, host.to_bytes().as_bytes().to_vec());
        }
        if !self.disks.is_empty() {
            let rows = self.disks.iter().map(disk_row);
            let body = rows.flat_map(|row| row.as_bytes().to_vec()).collect();
            file.must_understand(DISK, 0, BODY_VERSION, body);
        }
        if !self.labels.is_empty() {
            file.optional(LABL, 0, BODY_VERSION, labels(self));
        }
        if let Some(name) = &self.parent_name {
            file.optional(PNAM, 0, BODY_VERSION, name.clone());
        }
        file.finish()
    }
}

fn identity(manifest: &Manifest) -> IdentityBytes {
    let (kind, parent_id, parent_root) = match manifest.kind {
        SnapshotKind::Full => (1, [0; 16], [0; 32]),
        SnapshotKind::Diff { parent } => (2, *parent.id.as_bytes(), *parent.root.as_bytes()),
    };
    IdentityBytes {
        id: *manifest.id.as_bytes(),
        kind,
        reserved0: [0; 3],
        created_nanos: U32::new(manifest.created.nanos),
        created_seconds: U64::new(manifest.created.seconds),
        parent_id,
        parent_root,
    }
}

fn regions(manifest: &Manifest) -> Vec<u8> {
    let rows = manifest.ram.regions().iter().map(|region| RegionRow {
        guest_addr: U64::new(region.addr().get()),
        len: U64::new(region.len().get()),
    });
    rows.flat_map(|row| row.as_bytes().to_vec()).collect()
}

fn reference(file: FileRef) -> Vec<u8> {
    let bytes = FileBytes {
        len: U64::new(file.len.get()),
        root: *file.root.as_bytes(),
    };
    bytes.as_bytes().to_vec()
}

fn disk_row(disk: &Disk) -> DiskRow {
    let mut name = [0; DISK_NAME_BYTES_MAX];
    for (to, from) in name.iter_mut().zip(disk.name.bytes()) {
        *to = from;
    }
    DiskRow {
        index: *disk.index.as_bytes(),
        name_len: u8::try_from(disk.name.len()).unwrap_or(u8::MAX),
        name,
    }
}

fn labels(manifest: &Manifest) -> Vec<u8> {
    let len = |text: &str| U16::new(u16::try_from(text.len()).unwrap_or(u16::MAX));
    let mut body = Vec::new();
    for (key, value) in &manifest.labels {
        let head = LabelHead {
            key_len: len(key),
            value_len: len(value),
        };
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(key.as_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body
}
