//! Reading a manifest: the envelope first, then each section by its fixed layout.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use coldframe_envelope::{
    Body, Container, DecodeError, DecodeErrorKind as Kind, Section, check_zeros,
};
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout, RootHash, SnapshotId};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::encode::BODY_VERSION;
use crate::host::HostSummary;
use crate::layout::{
    DISK, DiskRow, FILE, FILE_MEMORY, FILE_STATE, FORMAT, FileBytes, HOST, HostBytes, IDNT,
    IdentityBytes, KINDS, LABL, LIMITS, LabelHead, PNAM, RAML, REGION_COUNT_MAX, RegionRow,
};
use crate::manifest::{
    Flaw, check_disks, check_identity, check_labels, check_parent_name, check_ram,
};
use crate::{Disk, FileRef, Manifest, Parent, SnapshotKind, Timestamp};

impl From<Flaw> for Kind {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Invalid(field) => Self::Invalid { field },
            Flaw::Limit { what, limit, found } => Self::LimitExceeded { what, limit, found },
        }
    }
}

impl Manifest {
    /// Reads a manifest and its root, which a child names as its parent's.
    ///
    /// # Errors
    /// [`DecodeError`]: of the envelope, an unknown section that must be understood, or a section
    /// that breaks a rule.
    pub fn decode(file: &[u8]) -> Result<(Self, RootHash), DecodeError> {
        let container = Container::decode(file, FORMAT, LIMITS)?;
        container.refuse_unknown(&KINDS)?;
        for body in container.bodies() {
            check_section(&body)?;
        }
        let header = container.header();
        let page_size = header.page_size.ok_or(DecodeError::new(
            Kind::Invalid {
                field: "page_size_log2",
            },
            17,
        ))?;
        let (id, kind, created) = identity(&container.require(IDNT, 0)?)?;
        let ram = ram(&container.require(RAML, 0)?, page_size)?;
        let memory = reference(&container.require(FILE, FILE_MEMORY)?)?;
        let optional = |kind, instance| container.find(kind, instance);
        let state = optional(FILE, FILE_STATE);
        let host = optional(HOST, 0);
        let disks = optional(DISK, 0);
        let labels = optional(LABL, 0);
        let parent_name = optional(PNAM, 0);
        let manifest = Self {
            producer: header.producer,
            arch: header.arch,
            id,
            kind,
            parent_name: parent_name
                .map(|body| name_of_parent(&body, kind))
                .transpose()?,
            created,
            ram,
            page_size,
            memory,
            state: state.map(|body| reference(&body)).transpose()?,
            host: host.map(|body| summary(&body)).transpose()?,
            disks: disks.map_or(Ok(Vec::new()), |body| disk_rows(&body))?,
            labels: labels.map_or(Ok(BTreeMap::new()), |body| label_rows(&body))?,
        };
        Ok((manifest, container.root()))
    }
}

/// Checks version, flags and instance of a section of ours.
fn check_section(body: &Body<'_>) -> Result<(), DecodeError> {
    let Section {
        kind,
        instance,
        version,
        flags,
        ..
    } = *body.section();
    let must = flags.is_must_understand();
    let known_file = kind == FILE && [FILE_MEMORY, FILE_STATE].contains(&instance);
    if kind == FILE && !known_file && must {
        return Err(body.error(Kind::UnknownSection { kind, instance }, 0));
    }
    if !KINDS.contains(&kind) || (kind == FILE && !known_file) {
        return Ok(());
    }
    if version > BODY_VERSION {
        let kind = Kind::UnsupportedSection {
            kind,
            instance,
            found: version,
            max: BODY_VERSION,
        };
        return Err(body.error(kind, 0));
    }
    let field = if version == 0 {
        "section version"
    } else if must == [HOST, LABL, PNAM].contains(&kind) {
        "section flags"
    } else if kind != FILE && instance != 0 {
        "section instance"
    } else {
        return Ok(());
    };
    Err(invalid(body, field, 0))
}

fn invalid(body: &Body<'_>, field: &'static str, offset: usize) -> DecodeError {
    let offset = u64::try_from(offset).unwrap_or(u64::MAX);
    body.error(Kind::Invalid { field }, offset)
}

/// The body as exactly one structure.
fn one<'a, T>(body: &Body<'a>) -> Result<&'a T, DecodeError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_bytes(body.body()).map_err(|_| invalid(body, "section length", 0))
}

/// The body as one or more rows.
fn rows<'a, T>(body: &Body<'a>) -> Result<&'a [T], DecodeError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let rows = <[T]>::ref_from_bytes(body.body());
    let rows = rows.map_err(|_| invalid(body, "section length", 0))?;
    if rows.is_empty() {
        return Err(invalid(body, "section length", 0));
    }
    Ok(rows)
}

fn identity(body: &Body<'_>) -> Result<(SnapshotId, SnapshotKind, Timestamp), DecodeError> {
    let raw: &IdentityBytes = one(body)?;
    check_zeros(&raw.reserved0, body.section().offset.saturating_add(17))?;
    let parent = Parent {
        id: SnapshotId::from_bytes(raw.parent_id),
        root: RootHash::from_bytes(raw.parent_root),
    };
    let kind = match raw.kind {
        1 if raw.parent_id != [0; 16] => return Err(invalid(body, "parent_id", 32)),
        1 if raw.parent_root != [0; 32] => return Err(invalid(body, "parent_root", 48)),
        1 => SnapshotKind::Full,
        2 => SnapshotKind::Diff { parent },
        _ => return Err(invalid(body, "kind", 16)),
    };
    let id = SnapshotId::from_bytes(raw.id);
    let created = Timestamp {
        seconds: raw.created_seconds.get(),
        nanos: raw.created_nanos.get(),
    };
    check_identity(id, kind, created).map_err(|flaw| body.error(flaw.into(), 0))?;
    Ok((id, kind, created))
}

fn name_of_parent(body: &Body<'_>, kind: SnapshotKind) -> Result<Vec<u8>, DecodeError> {
    let name = body.body();
    check_parent_name(kind, Some(name)).map_err(|flaw| body.error(flaw.into(), 0))?;
    Ok(name.to_vec())
}

fn ram(body: &Body<'_>, page_size: PageSize) -> Result<RamLayout, DecodeError> {
    let rows: &[RegionRow] = rows(body)?;
    let found = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if found > REGION_COUNT_MAX {
        let kind = Kind::LimitExceeded {
            what: "ram region count",
            limit: REGION_COUNT_MAX,
            found,
        };
        return Err(body.error(kind, 0));
    }
    let regions = rows.iter().map(|row| {
        let addr = GuestAddr::new(row.guest_addr.get());
        GuestRegion::new(addr, ByteLen::new(row.len.get()))
    });
    let layout = regions.collect::<Result<_, _>>().and_then(RamLayout::new);
    let layout = layout.map_err(|_| invalid(body, "ram regions", 0))?;
    check_ram(&layout, page_size).map_err(|flaw| body.error(flaw.into(), 0))?;
    Ok(layout)
}

fn reference(body: &Body<'_>) -> Result<FileRef, DecodeError> {
    let raw: &FileBytes = one(body)?;
    Ok(FileRef {
        len: ByteLen::new(raw.len.get()),
        root: RootHash::from_bytes(raw.root),
    })
}

fn summary(body: &Body<'_>) -> Result<HostSummary, DecodeError> {
    let raw: &HostBytes = one(body)?;
    HostSummary::from_bytes(raw).ok_or(invalid(body, "host text", 32))
}

fn disk_rows(body: &Body<'_>) -> Result<Vec<Disk>, DecodeError> {
    let rows: &[DiskRow] = rows(body)?;
    let disk = |row: &DiskRow| {
        let (name, rest) = row.name.split_at_checked(row.name_len.into())?;
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Disk {
            name: String::from(core::str::from_utf8(name).ok()?),
            index: RootHash::from_bytes(row.index),
        })
    };
    let disks: Option<Vec<Disk>> = rows.iter().map(disk).collect();
    let disks = disks.ok_or(invalid(body, "disk name", 0))?;
    check_disks(&disks).map_err(|flaw| body.error(flaw.into(), 0))?;
    Ok(disks)
}

fn label_rows(body: &Body<'_>) -> Result<BTreeMap<String, String>, DecodeError> {
    let bytes = body.body();
    let mut labels = BTreeMap::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len().saturating_sub(rest.len());
        let (key, value, next) = label(rest).ok_or(invalid(body, "label", at))?;
        let rises = labels.last_key_value().is_none_or(|(last, _)| *last < key);
        if !rises {
            return Err(invalid(body, "label order", at));
        }
        labels.insert(key, value);
        rest = next;
    }
    if labels.is_empty() {
        return Err(invalid(body, "section length", 0));
    }
    check_labels(&labels).map_err(|flaw| body.error(flaw.into(), 0))?;
    Ok(labels)
}

/// Key and value at the head of `bytes`, and what follows.
fn label(bytes: &[u8]) -> Option<(String, String, &[u8])> {
    let (head, rest) = LabelHead::ref_from_prefix(bytes).ok()?;
    let (key, rest) = rest.split_at_checked(head.key_len.get().into())?;
    let (value, rest) = rest.split_at_checked(head.value_len.get().into())?;
    let text = |bytes| core::str::from_utf8(bytes).ok().map(String::from);
    Some((text(key)?, text(value)?, rest))
}
