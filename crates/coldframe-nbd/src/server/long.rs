//! Requests that no payload bounds, up to 4 GiB each, in pieces.
//!
//! Invariants: after each piece it is checked whether the request is still wanted; pieces end at
//! multiples of their length, so that they do not cut blocks of the export; the first piece is
//! always carried out.

use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::proto::{Allocation, Errno, Extents};
use crate::{ExportError, ZeroMode};

/// Bytes cached at a time.
const CACHE_BYTES: u64 = 1 << 20;

/// Bytes trimmed or zeroed at a time: as long as a write may be.
const CHANGE_BYTES: u64 = 32 << 20;

/// Bytes whose status is asked for at a time.
const STATUS_BYTES: u64 = 64 << 20;

/// How long the status of a range is collected: a shorter answer is an answer too.
const STATUS_TIME: Duration = Duration::from_secs(1);

/// What ends a request before its end.
#[derive(Clone, Copy)]
enum Unless {
    /// The server stops, or the client sends nothing more: for what changes nothing.
    Leaving,
    /// The client takes no reply any more, which a stopping server sees to after its grace.
    Gone,
}

impl Connection {
    pub(super) fn cache(&self, offset: u64, len: u32) -> Result<(), ExportError> {
        let len = u64::from(len).min(self.export.cache_bytes_max());
        self.in_pieces(offset, len, CACHE_BYTES, Unless::Leaving, |at, len| {
            self.export.cache(at, len)
        })
    }

    pub(super) fn trim(&self, offset: u64, len: u32) -> Result<(), ExportError> {
        self.in_pieces(offset, len.into(), CHANGE_BYTES, Unless::Gone, |at, len| {
            self.export.trim(at, len)
        })
    }

    pub(super) fn write_zeroes(
        &self,
        offset: u64,
        len: u32,
        mode: ZeroMode,
    ) -> Result<(), ExportError> {
        self.in_pieces(offset, len.into(), CHANGE_BYTES, Unless::Gone, |at, len| {
            self.export.write_zeroes(at, len, mode)
        })
    }

    /// How a range is stored, from its start: at least one extent, and all of the range unless
    /// there are too many, or it takes too long.
    pub(super) fn extents(
        &self,
        offset: u64,
        len: u32,
        count_max: usize,
    ) -> Result<Extents, ExportError> {
        let began = Instant::now();
        let mut extents = Extents::new(len, count_max);
        loop {
            let at = offset + u64::from(len - extents.left());
            let piece_len = piece(at, extents.left().into(), STATUS_BYTES);
            let piece_len = u32::try_from(piece_len).unwrap_or(u32::MAX);
            let mut piece = Extents::new(piece_len, count_max);
            self.export.block_status(at, &mut piece)?;
            if piece.wants_more() {
                piece.push(piece.left().into(), Allocation::Data);
            }
            for extent in piece.as_slice() {
                extents.push(extent.len.into(), extent.allocation);
            }
            let is_enough = !extents.wants_more() || began.elapsed() >= STATUS_TIME;
            if is_enough || self.is_unwanted(Unless::Leaving) {
                return Ok(extents);
            }
        }
    }

    fn in_pieces(
        &self,
        offset: u64,
        len: u64,
        piece_bytes: u64,
        unless: Unless,
        mut carry_out: impl FnMut(u64, u64) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            if at > offset && self.is_unwanted(unless) {
                let why = "the request was interrupted: the server stops, or the client left";
                return Err(ExportError::new(Errno::Shutdown, why));
            }
            let len = piece(at, end - at, piece_bytes);
            carry_out(at, len)?;
            at += len;
        }
        Ok(())
    }

    fn is_unwanted(&self, unless: Unless) -> bool {
        match unless {
            Unless::Leaving => self.is_stopping() || self.socket().is_leaving(),
            Unless::Gone => self.socket().is_gone(),
        }
    }
}

/// The length of the next piece.
fn piece(at: u64, left: u64, piece_bytes: u64) -> u64 {
    (piece_bytes - at % piece_bytes).min(left)
}
