//! One section body: its rules, checked in the same way before it is written and after it is read.
//!
//! Invariant: bytes that decode are the bytes that the decoded value encodes to.

use alloc::vec::Vec;

use coldframe_envelope::{Body, DecodeError, DecodeErrorKind as Kind, EncodeError, SectionKind};
use coldframe_units::{Arch, PageSize};

use crate::columns::{Broken, Int, Reader, Writer};
use crate::limits::{
    BODY_BYTES_MAX, DEVICE_KIND_BYTES_MAX, ITEM_COUNT_MAX, ROW_COUNT_MAX, TABLE_BODY_BYTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::schema::v1::{CpuidRowV1, DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};

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
pub(crate) trait StateBody: Sized {
    const KIND: SectionKind;
    const BYTES_MAX: u64 = TABLE_BODY_BYTES_MAX;

    fn check(&self) -> Result<(), Flaw>;

    /// Writes the fields in their order.
    fn write(&self, to: &mut Writer);

    /// Reads the fields in their order.
    fn read(from: &mut Reader<'_>) -> Result<Self, Unread>;
}

/// Why a body cannot be read.
pub(crate) enum Unread {
    Broken,
    Flaw(Flaw),
}

impl From<Broken> for Unread {
    fn from(Broken: Broken) -> Self {
        Self::Broken
    }
}

impl From<Flaw> for Unread {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

fn to_bytes<T: StateBody>(value: &T) -> Vec<u8> {
    let mut writer = Writer::default();
    value.write(&mut writer);
    writer.finish()
}

fn from_bytes<T: StateBody>(bytes: &[u8]) -> Result<T, Unread> {
    let mut reader = Reader::new(bytes);
    let value = T::read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

pub(crate) fn encode_body<T: StateBody>(value: &T) -> Result<Vec<u8>, EncodeError> {
    value.check()?;
    let body = to_bytes(value);
    check_count("body length in bytes", body.len(), T::BYTES_MAX)?;
    Ok(body)
}

pub(crate) fn decode_body<T: StateBody>(body: &Body<'_>) -> Result<T, DecodeError> {
    let bytes = body.body();
    let refuse = |flaw: Flaw| body.error(flaw.into(), 0);
    check_version(body)?;
    check_count("body length in bytes", bytes.len(), T::BYTES_MAX).map_err(refuse)?;
    let value: T = from_bytes(bytes).map_err(|unread| match unread {
        Unread::Broken => codec_error(body),
        Unread::Flaw(flaw) => refuse(flaw),
    })?;
    value.check().map_err(refuse)?;
    if to_bytes(&value) != bytes {
        return Err(refuse(Flaw::Invalid("canonical form")));
    }
    Ok(value)
}

/// A body, whose hash was checked, is none of the codec's.
pub(crate) fn codec_error(body: &Body<'_>) -> DecodeError {
    let (kind, instance) = (body.section().kind, body.section().instance);
    body.error(Kind::Codec { kind, instance }, 0)
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

fn column<T>(rows: &[T], field: impl Fn(&T) -> u64) -> Vec<u64> {
    rows.iter().map(field).collect()
}

fn narrow<T: TryFrom<u64>>(values: Vec<u64>) -> Result<Vec<T>, Broken> {
    let narrow = |value| T::try_from(value).map_err(|_| Broken);
    values.into_iter().map(narrow).collect()
}

/// A list of keys and byte strings.
fn write_values<K: Copy + Into<u64>>(to: &mut Writer, key: Int, rows: &[(K, Vec<u8>)]) {
    to.len(rows.len());
    to.ints(key, &column(rows, |row| row.0.into()));
    to.strings(rows.iter().map(|row| row.1.as_slice()));
}

/// The length of a list, refused before anything is allocated for it.
fn count_of(from: &mut Reader<'_>, what: &'static str, limit: u64) -> Result<usize, Unread> {
    let count = from.len()?;
    check_count(what, count, limit)?;
    Ok(count)
}

fn read_values<K: TryFrom<u64>>(
    from: &mut Reader<'_>,
    (what, limit): (&'static str, u64),
    key: Int,
) -> Result<Vec<(K, Vec<u8>)>, Unread> {
    let count = count_of(from, what, limit)?;
    let keys = narrow(from.ints(key, count)?)?;
    Ok(keys.into_iter().zip(from.strings(count)?).collect())
}

/// A list of keys and numbers.
fn read_pairs<K: TryFrom<u64>>(
    from: &mut Reader<'_>,
    what: &'static str,
    key: Int,
    value: Int,
) -> Result<Vec<(K, u64)>, Unread> {
    let count = count_of(from, what, ROW_COUNT_MAX)?;
    let keys = narrow(from.ints(key, count)?)?;
    Ok(keys.into_iter().zip(from.ints(value, count)?).collect())
}

/// The fields of a row, in their order.
const CPUID_FIELDS: [fn(&mut CpuidRowV1) -> &mut u32; 7] = [
    |row| &mut row.function,
    |row| &mut row.index,
    |row| &mut row.flags,
    |row| &mut row.eax,
    |row| &mut row.ebx,
    |row| &mut row.ecx,
    |row| &mut row.edx,
];

fn read_cpuid(from: &mut Reader<'_>) -> Result<Vec<CpuidRowV1>, Unread> {
    let empty = CpuidRowV1 {
        function: 0,
        index: 0,
        flags: 0,
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
    };
    let count = count_of(from, "cpuid", ROW_COUNT_MAX)?;
    let first = from.ints(Int::U32, count)?;
    let mut rows = alloc::vec![empty; first.len()];
    let [function, others @ ..] = CPUID_FIELDS;
    let mut fill = |field: fn(&mut CpuidRowV1) -> &mut u32, values: Vec<u64>| {
        for (row, value) in rows.iter_mut().zip(narrow::<u32>(values)?) {
            *field(row) = value;
        }
        Ok::<(), Unread>(())
    };
    fill(function, first)?;
    for field in others {
        fill(field, from.ints(Int::U32, count)?)?;
    }
    Ok(rows)
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

    fn write(&self, to: &mut Writer) {
        to.bytes(&[self.hypervisor]);
        to.text(&self.vendor);
        to.int(Int::U32, self.family);
        to.int(Int::U32, self.model);
        to.int(Int::U32, self.stepping);
        to.text(&self.brand);
        to.len(self.cpuid.len());
        for field in CPUID_FIELDS {
            let values = self
                .cpuid
                .iter()
                .map(|row| u64::from(*field(&mut row.clone())));
            to.ints(Int::U32, &values.collect::<Vec<_>>());
        }
        to.len(self.id_registers.len());
        to.ints(Int::U64, &column(&self.id_registers, |row| row.0));
        to.ints(Int::U64, &column(&self.id_registers, |row| row.1));
        to.len(self.msr_indexes.len());
        to.ints(Int::U32, &column(&self.msr_indexes, |row| (*row).into()));
        to.int(Int::U32, self.xsave_bytes);
        to.option(Int::U32, self.tsc_khz.map(u64::from));
        to.option(Int::U64, self.counter_hz);
        to.len(self.capabilities.len());
        to.ints(Int::U32, &column(&self.capabilities, |row| row.0.into()));
        let answers = column(&self.capabilities, |row| row.1.cast_unsigned());
        to.ints(Int::I64, &answers);
        to.text(&self.kernel);
        to.bytes(&[self.page_size_log2]);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unread> {
        Ok(Self {
            hypervisor: from.byte()?,
            vendor: from.text()?,
            family: from.int(Int::U32)?,
            model: from.int(Int::U32)?,
            stepping: from.int(Int::U32)?,
            brand: from.text()?,
            cpuid: read_cpuid(from)?,
            id_registers: read_pairs(from, "id_registers", Int::U64, Int::U64)?,
            msr_indexes: {
                let count = count_of(from, "msr_indexes", ROW_COUNT_MAX)?;
                narrow(from.ints(Int::U32, count)?)?
            },
            xsave_bytes: from.int(Int::U32)?,
            tsc_khz: from.option(Int::U32)?,
            counter_hz: from.option(Int::U64)?,
            capabilities: {
                let rows = read_pairs::<u32>(from, "capabilities", Int::U32, Int::I64)?;
                let signed = |(key, answer): (u32, u64)| (key, answer.cast_signed());
                rows.into_iter().map(signed).collect()
            },
            kernel: from.text()?,
            page_size_log2: from.byte()?,
        })
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

    fn write(&self, to: &mut Writer) {
        to.bytes(&[self.arch]);
        to.bytes(&[self.hypervisor]);
        write_values(to, Int::U32, &self.items);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unread> {
        Ok(Self {
            arch: from.byte()?,
            hypervisor: from.byte()?,
            items: read_values(from, ("items", ITEM_COUNT_MAX), Int::U32)?,
        })
    }
}

impl StateBody for VcpuV1 {
    const KIND: SectionKind = crate::VCPU;

    fn check(&self) -> Result<(), Flaw> {
        check_rows("items", &self.items, |row| row.0, ITEM_COUNT_MAX)?;
        check_rows("msrs", &self.msrs, |row| row.0, ROW_COUNT_MAX)?;
        check_rows("regs", &self.regs, |row| row.0, ROW_COUNT_MAX)
    }

    fn write(&self, to: &mut Writer) {
        to.int(Int::U32, self.index);
        write_values(to, Int::U32, &self.items);
        to.len(self.msrs.len());
        to.ints(Int::U32, &column(&self.msrs, |row| row.0.into()));
        to.ints(Int::U64, &column(&self.msrs, |row| row.1));
        write_values(to, Int::U64, &self.regs);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unread> {
        Ok(Self {
            index: from.int(Int::U32)?,
            items: read_values(from, ("items", ITEM_COUNT_MAX), Int::U32)?,
            msrs: read_pairs(from, "msrs", Int::U32, Int::U64)?,
            regs: read_values(from, ("regs", ROW_COUNT_MAX), Int::U64)?,
        })
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

    fn write(&self, to: &mut Writer) {
        to.text(&self.kind);
        to.int(Int::U32, self.instance);
        to.int(Int::U16, self.version);
        to.strings([self.bytes.as_slice()].into_iter());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unread> {
        Ok(Self {
            kind: from.text()?,
            instance: from.int(Int::U32)?,
            version: from.int(Int::U16)?,
            bytes: from.strings(1)?.pop().ok_or(Broken)?,
        })
    }
}

impl StateBody for MetadataV1 {
    const KIND: SectionKind = crate::META;

    fn check(&self) -> Result<(), Flaw> {
        Ok(())
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.json);
        to.option(Int::U32, self.token_ttl_seconds.map(u64::from));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Unread> {
        Ok(Self {
            json: from.text()?,
            token_ttl_seconds: from.option(Int::U32)?,
        })
    }
}
