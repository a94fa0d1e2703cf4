//! Columns of values, as release 0.6 of bitcode writes them.
//!
//! All values of one field stand one behind the other, before those of the next. The library itself
//! is not linked: this is the part of its format that the bodies use, and the tests hold it against
//! the library. Normative text: `specs/bitcode.md`.
//!
//! Invariant: nothing is allocated before the bytes left are seen to be enough for it.

use alloc::string::String;
use alloc::vec::Vec;

/// The bytes are no such column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// How small values are packed: all below `factor`, `per_byte` of them in a byte. With the least
/// value taken off, the code is one less.
#[derive(Clone, Copy)]
struct Packing {
    factor: u8,
    per_byte: usize,
    code: u8,
}

const fn packing(factor: u8, per_byte: usize, code: u8) -> Packing {
    Packing {
        factor,
        per_byte,
        code,
    }
}

/// By rising factor.
const PACKINGS: [Packing; 5] = [
    packing(2, 8, 10),
    packing(3, 5, 8),
    packing(4, 4, 6),
    packing(6, 3, 4),
    packing(16, 2, 2),
];

/// The factor of bits.
const BITS: Packing = PACKINGS[0];

/// The most values that a byte can have.
const PER_BYTE_MAX: usize = 8;

/// The length that means itself and all longer ones.
const LONG: u8 = 255;

fn packing_above(largest: u8) -> Option<Packing> {
    PACKINGS
        .into_iter()
        .find(|packing| packing.factor > largest)
}

/// The least of 1, 2, 4 and 8 bytes that hold `value`.
const fn width_of(value: u64) -> u8 {
    match value {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// A type of integer of more than one byte.
#[derive(Clone, Copy)]
pub(crate) struct Int {
    width: u8,
    signed: bool,
}

impl Int {
    pub(crate) const U16: Self = Self::unsigned(2);
    pub(crate) const U32: Self = Self::unsigned(4);
    pub(crate) const U64: Self = Self::unsigned(8);
    /// In two's complement, as a u64.
    pub(crate) const I64: Self = Self {
        width: 8,
        signed: true,
    };

    const fn unsigned(width: u8) -> Self {
        let signed = false;
        Self { width, signed }
    }

    /// What orders the values.
    const fn rank(self, value: u64) -> u64 {
        if self.signed {
            value ^ (1 << 63)
        } else {
            value
        }
    }

    /// The code of columns of `width` bytes.
    const fn code(self, width: u8) -> u8 {
        let halvings = self.width.ilog2().saturating_sub(width.ilog2());
        // At most 3.
        halvings.to_le_bytes()[0].saturating_mul(2)
    }
}

/// Writes columns.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// A column of u8.
    pub(crate) fn bytes(&mut self, values: &[u8]) {
        let largest = values.iter().copied().max().unwrap_or(0);
        let least = values.iter().copied().min().unwrap_or(0);
        if values.len() <= 2 {
            self.out.extend_from_slice(values);
            return;
        }
        let plain = packing_above(largest);
        let spread = packing_above(largest.wrapping_sub(least)).filter(|_| values.len() > 5);
        let is_smaller = |spread: &Packing| plain.is_none_or(|plain| spread.factor < plain.factor);
        match (spread.filter(is_smaller), plain) {
            (Some(packing), _) => {
                self.out.push(packing.code.wrapping_sub(1));
                self.out.push(least);
                let less: Vec<u8> = values.iter().map(|v| v.wrapping_sub(least)).collect();
                self.pack(packing, &less);
            }
            (None, Some(packing)) => {
                self.out.push(packing.code);
                self.pack(packing, values);
            }
            (None, None) => {
                self.out.push(0);
                self.out.extend_from_slice(values);
            }
        }
    }

    fn pack(&mut self, packing: Packing, values: &[u8]) {
        for part in values.chunks(packing.per_byte) {
            let add = |sum: u8, value: &u8| sum.wrapping_mul(packing.factor).wrapping_add(*value);
            self.out.push(part.iter().rev().fold(0, add));
        }
    }

    /// A column of integers.
    pub(crate) fn ints(&mut self, int: Int, values: &[u64]) {
        let ranks = || values.iter().map(|value| int.rank(*value));
        let (Some(least), Some(largest)) = (ranks().min(), ranks().max()) else {
            return;
        };
        if let (2, [single]) = (int.width, values) {
            self.narrow(2, [*single].into_iter());
            return;
        }
        let spread = largest.wrapping_sub(least);
        // Ranks are values but for the sign, so taking it off again gives them back.
        let (least, largest) = (int.rank(least), int.rank(largest));
        let is_negative = int.signed && least >> 63 == 1;
        let plain = match is_negative {
            true => int.width,
            false => width_of(largest),
        };
        let narrow = width_of(spread);
        if values.len() > 5 && narrow < plain {
            self.out.push(int.code(narrow).wrapping_sub(1));
            self.narrow(int.width, [least].into_iter());
            self.narrow(narrow, values.iter().map(|value| value.wrapping_sub(least)));
        } else {
            self.out.push(int.code(plain));
            self.narrow(plain, values.iter().copied());
        }
    }

    /// Integers of `width` bytes, which they fit.
    fn narrow(&mut self, width: u8, values: impl Iterator<Item = u64>) {
        let all = values.map(u64::to_le_bytes);
        if width == 1 {
            let bytes: Vec<u8> = all.map(|[low, ..]| low).collect();
            return self.bytes(&bytes);
        }
        for bytes in all {
            self.out.extend(bytes.into_iter().take(width.into()));
        }
    }

    /// One integer.
    pub(crate) fn int(&mut self, int: Int, value: impl Into<u64>) {
        self.ints(int, &[value.into()]);
    }

    /// A column of lengths.
    pub(crate) fn lens(&mut self, lens: impl Iterator<Item = usize> + Clone) {
        let short = |len| u8::try_from(len).unwrap_or(LONG);
        let shorts: Vec<u8> = lens.clone().map(short).collect();
        self.bytes(&shorts);
        let long = lens.filter(|len| *len >= usize::from(LONG));
        let long = long.map(|len| u64::try_from(len).unwrap_or(u64::MAX));
        self.ints(Int::U64, &long.collect::<Vec<u64>>());
    }

    /// The length of one list.
    pub(crate) fn len(&mut self, len: usize) {
        self.lens([len].into_iter());
    }

    /// A column of byte strings.
    pub(crate) fn strings<'s>(&mut self, values: impl Iterator<Item = &'s [u8]> + Clone) {
        self.lens(values.clone().map(<[u8]>::len));
        let all: Vec<u8> = values.flatten().copied().collect();
        self.bytes(&all);
    }

    /// One text.
    pub(crate) fn text(&mut self, text: &str) {
        self.len(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Whether there is a value, and the value.
    pub(crate) fn option(&mut self, int: Int, value: Option<u64>) {
        self.pack(BITS, &[u8::from(value.is_some())]);
        self.ints(int, value.as_slice());
    }
}

/// Reads columns.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// That nothing follows.
    pub(crate) const fn finish(&self) -> Result<(), Broken> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(Broken)
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let (taken, left) = self.left.split_at_checked(len).ok_or(Broken)?;
        self.left = left;
        Ok(taken)
    }

    fn code(&mut self) -> Result<u8, Broken> {
        self.take(1)?.first().copied().ok_or(Broken)
    }

    /// That so many values can be in the bytes that are left.
    fn expect(&self, count: usize) -> Result<(), Broken> {
        match count.div_ceil(PER_BYTE_MAX) <= self.left.len() {
            true => Ok(()),
            false => Err(Broken),
        }
    }

    /// A column of u8.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        self.expect(count)?;
        if count <= 2 {
            return Ok(self.take(count)?.to_vec());
        }
        let code = self.code()?;
        if code == 0 {
            return Ok(self.take(count)?.to_vec());
        }
        // An odd code: the least value comes first, and is taken off the others.
        let (least, even) = match code % 2 {
            1 => (self.code()?, code.wrapping_add(1)),
            _ => (0, code),
        };
        let packing = PACKINGS.into_iter().find(|packing| packing.code == even);
        let mut values = self.unpack(packing.ok_or(Broken)?, count)?;
        for value in &mut values {
            *value = value.wrapping_add(least);
        }
        Ok(values)
    }

    fn unpack(&mut self, packing: Packing, count: usize) -> Result<Vec<u8>, Broken> {
        let Packing {
            factor, per_byte, ..
        } = packing;
        let packed = self.take(count.div_ceil(per_byte))?;
        let digits = packed.iter().flat_map(|byte| {
            let next = move |rest: &u8| rest.checked_div(factor);
            let digits = core::iter::successors(Some(*byte), next);
            digits
                .take(per_byte)
                .map(move |rest| rest.checked_rem(factor).unwrap_or(0))
        });
        Ok(digits.take(count).collect())
    }

    /// A column of integers.
    pub(crate) fn ints(&mut self, int: Int, count: usize) -> Result<Vec<u64>, Broken> {
        self.expect(count)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if (int.width, count) == (2, 1) {
            return self.wide(2, count);
        }
        let code = self.code()?;
        let halvings = u32::from(code).div_ceil(2);
        let width = int.width.checked_shr(halvings).filter(|width| *width > 0);
        let width = width.ok_or(Broken)?;
        let least = match code % 2 {
            1 => self.wide(int.width, 1)?.first().copied().ok_or(Broken)?,
            _ => 0,
        };
        let mut values = self.wide(width, count)?;
        let all =
            u64::MAX.checked_shr(64_u32.saturating_sub(u32::from(int.width).saturating_mul(8)));
        for value in &mut values {
            *value = value.wrapping_add(least) & all.unwrap_or(u64::MAX);
        }
        Ok(values)
    }

    /// Integers of `width` bytes.
    fn wide(&mut self, width: u8, count: usize) -> Result<Vec<u64>, Broken> {
        if width == 1 {
            return Ok(self.bytes(count)?.into_iter().map(u64::from).collect());
        }
        let len = count.checked_mul(width.into()).ok_or(Broken)?;
        let values = self.take(len)?.chunks(width.into()).map(|bytes| {
            let high_first = bytes.iter().rev();
            high_first.fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        });
        Ok(values.collect())
    }

    /// One u8.
    pub(crate) fn byte(&mut self) -> Result<u8, Broken> {
        self.code()
    }

    /// One integer.
    pub(crate) fn int<T: TryFrom<u64>>(&mut self, int: Int) -> Result<T, Broken> {
        let value = self.ints(int, 1)?.first().copied().ok_or(Broken)?;
        T::try_from(value).map_err(|_| Broken)
    }

    /// A column of lengths.
    fn lens(&mut self, count: usize) -> Result<Vec<usize>, Broken> {
        let shorts = self.bytes(count)?;
        let long = shorts.iter().filter(|len| **len == LONG).count();
        let mut long = self.ints(Int::U64, long)?.into_iter();
        let len = |short: u8| match short {
            LONG => usize::try_from(long.next().ok_or(Broken)?).map_err(|_| Broken),
            short => Ok(short.into()),
        };
        shorts.into_iter().map(len).collect()
    }

    /// The length of one list.
    pub(crate) fn len(&mut self) -> Result<usize, Broken> {
        self.lens(1)?.first().copied().ok_or(Broken)
    }

    /// A column of byte strings.
    pub(crate) fn strings(&mut self, count: usize) -> Result<Vec<Vec<u8>>, Broken> {
        let lens = self.lens(count)?;
        let add = |sum: usize, len: &usize| sum.checked_add(*len);
        let total = lens.iter().try_fold(0, add).ok_or(Broken)?;
        let all = self.bytes(total)?;
        let mut left = all.as_slice();
        let next = |len: usize| {
            let (string, rest) = left.split_at_checked(len).ok_or(Broken)?;
            left = rest;
            Ok(string.to_vec())
        };
        lens.into_iter().map(next).collect()
    }

    /// One text.
    pub(crate) fn text(&mut self) -> Result<String, Broken> {
        let len = self.len()?;
        let text = core::str::from_utf8(self.take(len)?).map_err(|_| Broken)?;
        Ok(String::from(text))
    }

    /// Whether there is a value, and the value.
    pub(crate) fn option<T: TryFrom<u64>>(&mut self, int: Int) -> Result<Option<T>, Broken> {
        match self.take(1)? {
            [0] => Ok(None),
            [1] => self.int(int).map(Some),
            _ => Err(Broken),
        }
    }
}
