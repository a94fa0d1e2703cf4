//! One section body: its rules, checked in the same way before it is written and after it is read.
//!
//! Invariant: bytes that decode are the bytes that the decoded value encodes to.

use alloc::vec::Vec;

use bitcode::{DecodeOwned, Encode};
use coldframe_envelope::{Body, DecodeError, DecodeErrorKind as Kind, EncodeError, SectionKind};
use coldframe_units::{Arch, PageSize};

use crate::limits::{
    BODY_BYTES_MAX, DEVICE_KIND_BYTES_MAX, ITEM_COUNT_MAX, ROW_COUNT_MAX, TABLE_BODY_BYTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::schema::v1::{DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};

/// The version of every body that this release writes, and the newest that it reads.
pub(crate) const BODY_VERSION: u16 = 1;

/// A rule that a value breaks.
#[derive(Clone, Copy)]
pub(crate) enum Flaw {
    Invalid(&'static str),
    Limit {
        what: &'static str,
        limit: u64,
        found: u64,
    },
}

impl From<Flaw> for EncodeError {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Invalid(field) => Self::Invalid { field },
            Flaw::Limit { what, limit, found } => Self::LimitExceeded { what, limit, found },
        }
    }
}

impl From<Flaw> for Kind {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Invalid(field) => Self::Invalid { field },
            Flaw::Limit { what, limit, found } => Self::LimitExceeded { what, limit, found },
        }
    }
}

/// A typed body of ours.
pub(crate) trait StateBody: Encode + DecodeOwned {
    const KIND: SectionKind;
    const BYTES_MAX: u64 = TABLE_BODY_BYTES_MAX;

    fn check(&self) -> Result<(), Flaw>;
}

pub(crate) fn encode_body<T: StateBody>(value: &T) -> Result<Vec<u8>, EncodeError> {
    value.check()?;
    let body = bitcode::encode(value);
    check_count("body length in bytes", body.len(), T::BYTES_MAX)?;
    Ok(body)
}

pub(crate) fn decode_body<T: StateBody>(body: &Body<'_>) -> Result<T, DecodeError> {
    let bytes = body.body();
    let refuse = |flaw: Flaw| body.error(flaw.into(), 0);
    check_version(body)?;
    check_count("body length in bytes", bytes.len(), T::BYTES_MAX).map_err(refuse)?;
    let value: T = decode_bytes(body)?;
    value.check().map_err(refuse)?;
    if bitcode::encode(&value) != bytes {
        return Err(refuse(Flaw::Invalid("canonical form")));
    }
    Ok(value)
}

/// Hands a body, whose hash was checked, to the codec.
pub(crate) fn decode_bytes<T: DecodeOwned>(body: &Body<'_>) -> Result<T, DecodeError> {
    let (kind, instance) = (body.section().kind, body.section().instance);
    bitcode::decode(body.body()).map_err(|_| body.error(Kind::Codec { kind, instance }, 0))
}

pub(crate) fn check_version(body: &Body<'_>) -> Result<(), DecodeError> {
    let section = body.section();
    if section.version == 0 {
        return Err(body.error(
            Kind::Invalid {
                field: "section version",
            },
            0,
        ));
    }
    if section.version > BODY_VERSION {
        let kind = Kind::UnsupportedSection {
            kind: section.kind,
            instance: section.instance,
            found: section.version,
            max: BODY_VERSION,
        };
        return Err(body.error(kind, 0));
    }
    Ok(())
}

pub(crate) fn check_count(what: &'static str, found: usize, limit: u64) -> Result<(), Flaw> {
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if found > limit {
        return Err(Flaw::Limit { what, limit, found });
    }
    Ok(())
}

/// Checks that `rows` rise strictly by their key, and that there are not too many.
fn check_rows<T, K: Ord>(
    what: &'static str,
    rows: &[T],
    key: impl Fn(&T) -> K,
    limit: u64,
) -> Result<(), Flaw> {
    check_count(what, rows.len(), limit)?;
    let rising = rows.is_sorted_by(|left, right| key(left) < key(right));
    if rising {
        Ok(())
    } else {
        Err(Flaw::Invalid(what))
    }
}

/// Any number is carried: the set of hypervisors is open. 0 is what a field is that nobody set.
fn check_hypervisor(code: u8) -> Result<(), Flaw> {
    match code {
        0 => Err(Flaw::Invalid("hypervisor")),
        _ => Ok(()),
    }
}

impl StateBody for HostV1 {
    const KIND: SectionKind = crate::HOST;

    fn check(&self) -> Result<(), Flaw> {
        check_hypervisor(self.hypervisor)?;
        check_count("vendor", self.vendor.len(), TEXT_BYTES_MAX)?;
        check_count("brand", self.brand.len(), TEXT_BYTES_MAX)?;
        check_count("kernel", self.kernel.len(), TEXT_BYTES_MAX)?;
        check_count("cpuid", self.cpuid.len(), ROW_COUNT_MAX)?;
        let key = |row: &(u64, u64)| row.0;
        check_rows("id_registers", &self.id_registers, key, ROW_COUNT_MAX)?;
        check_rows("msr_indexes", &self.msr_indexes, |row| *row, ROW_COUNT_MAX)?;
        let key = |row: &(u32, i64)| row.0;
        check_rows("capabilities", &self.capabilities, key, ROW_COUNT_MAX)?;
        match PageSize::from_log2(self.page_size_log2) {
            Ok(_) => Ok(()),
            Err(_) => Err(Flaw::Invalid("page_size_log2")),
        }
    }
}

impl StateBody for MachineV1 {
    const KIND: SectionKind = crate::MACH;

    fn check(&self) -> Result<(), Flaw> {
        if Arch::from_code(self.arch).is_none() {
            return Err(Flaw::Invalid("arch"));
        }
        check_hypervisor(self.hypervisor)?;
        check_rows("items", &self.items, |row| row.0, ITEM_COUNT_MAX)
    }
}

impl StateBody for VcpuV1 {
    const KIND: SectionKind = crate::VCPU;

    fn check(&self) -> Result<(), Flaw> {
        check_rows("items", &self.items, |row| row.0, ITEM_COUNT_MAX)?;
        check_rows("msrs", &self.msrs, |row| row.0, ROW_COUNT_MAX)?;
        check_rows("regs", &self.regs, |row| row.0, ROW_COUNT_MAX)
    }
}

impl StateBody for DeviceV1 {
    const KIND: SectionKind = crate::DEVC;
    const BYTES_MAX: u64 = BODY_BYTES_MAX;

    fn check(&self) -> Result<(), Flaw> {
        check_count("device kind", self.kind.len(), DEVICE_KIND_BYTES_MAX)?;
        let printable = self.kind.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if self.kind.is_empty() || !printable {
            return Err(Flaw::Invalid("device kind"));
        }
        Ok(())
    }
}

impl StateBody for MetadataV1 {
    const KIND: SectionKind = crate::META;

    fn check(&self) -> Result<(), Flaw> {
        Ok(())
    }
}
