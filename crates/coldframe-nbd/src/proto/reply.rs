//! Replies to requests, encoded. Invariants: a reply to a read is structured exactly if that was
//! agreed upon; an error's message is at most 256 bytes; the last chunk, and no other, says DONE.

use super::values::{BASE_ALLOCATION_ID, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk};
use super::wire::{Put, be16, be32, be64, join};
use super::{Errno, Extent};

/// Bytes of a simple reply, without its data.
pub const SIMPLE_LEN: usize = 16;

/// Bytes in front of a structured chunk's payload.
pub const CHUNK_HEADER_LEN: usize = 20;

/// Bytes in front of the data of a data chunk.
pub const DATA_HEADER_LEN: usize = 28;

/// Bytes of a hole chunk.
pub const HOLE_LEN: usize = 32;

const MESSAGE_BYTES_MAX: usize = 256;

/// Success: all of the reply to what returns no data, in either style, and the front of the data
/// that a read returns in the simple style.
#[must_use]
pub fn success(cookie: u64) -> [u8; SIMPLE_LEN] {
    simple(cookie, 0)
}

/// An error; its message reaches the client only in the structured style.
#[must_use]
pub fn error(is_structured: bool, cookie: u64, errno: Errno, message: &str) -> Vec<u8> {
    if !is_structured {
        return simple(cookie, errno.code()).to_vec();
    }
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    let message = message.get(..end).unwrap_or_default();
    let message_len = u16::try_from(message.len()).unwrap_or_default();
    let len = u32::from(message_len).saturating_add(6);
    let mut out = chunk_header(true, chunk::ERROR, cookie, len).to_vec();
    out.put_u32(errno.code());
    out.put_u16(message_len);
    out.extend_from_slice(message.as_bytes());
    out
}

/// The chunk that ends a structured reply and holds nothing else.
#[must_use]
pub fn done(cookie: u64) -> [u8; CHUNK_HEADER_LEN] {
    chunk_header(true, chunk::NONE, cookie, 0)
}

/// The front of a data chunk of `len` bytes (at most 32 MiB, not 0) at `offset`.
#[must_use]
pub fn data_header(is_last: bool, cookie: u64, offset: u64, len: u32) -> [u8; DATA_HEADER_LEN] {
    let len = len.saturating_add(8);
    let header = chunk_header(is_last, chunk::OFFSET_DATA, cookie, len);
    join(&[&header, &be64(offset)])
}

/// A chunk that says: `len` bytes (not 0) at `offset` are zeros.
#[must_use]
pub fn hole(is_last: bool, cookie: u64, offset: u64, len: u32) -> [u8; HOLE_LEN] {
    let header = chunk_header(is_last, chunk::OFFSET_HOLE, cookie, 12);
    join(&[&header, &be64(offset), &be32(len)])
}

/// How a range is stored; `extents` is not empty, and short of 2^20.
#[must_use]
pub fn block_status(cookie: u64, extents: &[Extent]) -> Vec<u8> {
    let count = u32::try_from(extents.len()).unwrap_or(u32::MAX);
    let len = count.saturating_mul(8).saturating_add(4);
    let mut out = chunk_header(true, chunk::BLOCK_STATUS, cookie, len).to_vec();
    out.put_u32(BASE_ALLOCATION_ID);
    for extent in extents {
        out.put_u32(extent.len);
        out.put_u32(extent.allocation.flags());
    }
    out
}

fn simple(cookie: u64, error: u32) -> [u8; SIMPLE_LEN] {
    join(&[&be32(SIMPLE_REPLY_MAGIC), &be32(error), &be64(cookie)])
}

fn chunk_header(is_last: bool, kind: u16, cookie: u64, len: u32) -> [u8; CHUNK_HEADER_LEN] {
    let flags = if is_last { chunk::DONE } else { 0 };
    join(&[
        &be32(STRUCTURED_REPLY_MAGIC),
        &be16(flags),
        &be16(kind),
        &be64(cookie),
        &be32(len),
    ])
}
