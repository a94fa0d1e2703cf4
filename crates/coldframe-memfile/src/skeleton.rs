//! A file without its pages: what is left when they are kept elsewhere, block by block.
//!
//! Invariant: skeleton and pages determine the file, byte for byte: between header and pages, and
//! where a Full file has zero pages, there are zeros and nothing else.

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, HEADER_LEN, Limits};

use crate::{MemFile, table_range, tail_range};

impl<'a> MemFile<'a> {
    /// Opens a skeleton: the file's header, and behind it all that stands behind the data. Offsets
    /// in errors are those of the whole file.
    ///
    /// # Errors
    /// As [`MemFile::open`].
    ///
    /// Spec: MEM-25.
    pub fn open_skeleton(skeleton: &'a [u8], limits: Limits) -> Result<Self, DecodeError> {
        let have = u64::try_from(skeleton.len()).unwrap_or(u64::MAX);
        let (_, table_len) = table_range(skeleton, limits)?;
        let need = HEADER_LEN.saturating_add(table_len.get());
        let truncated = DecodeError::new(Error::Truncated { need, have }, have);
        let table = usize::try_from(table_len.get())
            .ok()
            .and_then(|len| skeleton.len().checked_sub(len))
            .and_then(|start| skeleton.get(start..))
            .ok_or(truncated)?;
        let (tail_offset, _) = tail_range(skeleton, table, limits)?;
        let header_len = usize::try_from(HEADER_LEN).map_err(|_| truncated)?;
        let (header, tail) = skeleton.split_at_checked(header_len).ok_or(truncated)?;
        Self::from_parts(header, tail, tail_offset, limits)
    }
}
