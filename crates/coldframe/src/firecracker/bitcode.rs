//! The start of a bitcode 0.6 body as serde fills it: what Firecracker writes since 1.15.
//!
//! Values of one field are packed together as a column; columns come in the order in which serde
//! met their fields. A body can be read from its start as far as the types are known.

/// A body that is read from its start; `None` of a method means that it is not what was expected.
pub struct Columns<'a> {
    rest: &'a [u8],
}

impl<'a> Columns<'a> {
    /// From the first column on.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    /// `count` numbers of 64 bits. A leading byte says how many bytes each has, and whether the
    /// least of them was taken off all.
    pub fn u64s(&mut self, count: usize) -> Option<Vec<u64>> {
        if count == 0 {
            return Some(Vec::new());
        }
        let packing = self.byte()?;
        let base = match packing % 2 {
            0 => 0,
            _ => u64::from_le_bytes(self.bytes(8)?.try_into().ok()?),
        };
        let width = match packing.div_ceil(2) {
            0 => 8,
            1 => 4,
            2 => 2,
            3 => {
                let bytes = self.u8s(count)?.into_iter();
                return Some(bytes.map(|value| base.wrapping_add(value.into())).collect());
            }
            _ => return None,
        };
        let values = self.bytes(count.checked_mul(width)?)?.chunks_exact(width);
        let values = values.map(|bytes| {
            let mut value = [0; 8];
            value[..width].copy_from_slice(bytes);
            base.wrapping_add(u64::from_le_bytes(value))
        });
        Some(values.collect())
    }

    /// `count` bytes: enum variants, short lengths. One or two stand as they are; before more
    /// stands how many values a byte holds, and whether the least was taken off all.
    pub fn u8s(&mut self, count: usize) -> Option<Vec<u8>> {
        if count <= 2 {
            return Some(self.bytes(count)?.to_vec());
        }
        let packing = self.byte()?;
        let base = match packing % 2 {
            0 => 0,
            _ => self.byte()?,
        };
        let factor = match packing.div_ceil(2) {
            0 => return Some(self.bytes(count)?.to_vec()),
            1 => 16,
            2 => 6,
            3 => 4,
            4 => 3,
            5 => 2,
            _ => return None,
        };
        let values = self.arithmetic(count, factor)?.into_iter();
        Some(values.map(|value| base.wrapping_add(value)).collect())
    }

    /// `count` truth values, eight to a byte.
    pub fn bools(&mut self, count: usize) -> Option<Vec<bool>> {
        let values = self.arithmetic(count, 2)?.into_iter();
        Some(values.map(|value| value != 0).collect())
    }

    /// Values below `factor`, as many to a byte as fit, the first in the lowest place.
    fn arithmetic(&mut self, count: usize, factor: u8) -> Option<Vec<u8>> {
        let per_byte = match factor {
            2 => 8,
            3 => 5,
            4 => 4,
            6 => 3,
            _ => 2,
        };
        let packed = self.bytes(count.div_ceil(per_byte))?;
        let values = packed.iter().flat_map(|packed| {
            let mut left = *packed;
            (0..per_byte).map(move |_| {
                let value = left % factor;
                left /= factor;
                value
            })
        });
        Some(values.take(count).collect())
    }

    /// `count` lengths: bytes, of which 255 means a longer one that follows.
    pub fn lens(&mut self, count: usize) -> Option<Vec<usize>> {
        let small = self.u8s(count)?;
        let large = small.iter().filter(|len| **len == u8::MAX).count();
        let mut large = self.u64s(large)?.into_iter();
        let lens = small.into_iter().map(|len| match len {
            u8::MAX => usize::try_from(large.next()?).ok(),
            len => Some(len.into()),
        });
        lens.collect()
    }

    /// `count` texts, one behind the other after their lengths.
    pub fn texts(&mut self, count: usize) -> Option<Vec<&'a [u8]>> {
        let lens = self.lens(count)?;
        lens.into_iter().map(|len| self.bytes(len)).collect()
    }

    /// A single value of each kind.
    pub fn u64(&mut self) -> Option<u64> {
        self.u64s(1)?.pop()
    }

    pub fn bool(&mut self) -> Option<bool> {
        self.bools(1)?.pop()
    }

    pub fn variant(&mut self) -> Option<u8> {
        self.u8s(1)?.pop()
    }

    pub fn len(&mut self) -> Option<usize> {
        self.lens(1)?.pop()
    }

    pub fn text(&mut self) -> Option<&'a [u8]> {
        self.texts(1)?.pop()
    }

    /// An optional text: which of the two it is, then the text if there is one.
    pub fn optional_text(&mut self) -> Option<Option<&'a [u8]>> {
        match self.variant()? {
            0 => Some(None),
            1 => Some(Some(self.text()?)),
            _ => None,
        }
    }
}
