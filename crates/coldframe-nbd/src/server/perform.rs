//! Commands carried out on an export. Invariants: each leaves exactly one whole reply; an export
//! that panics costs its client an I/O error, and nobody else anything.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::connection::{Connection, Scratch, Work};
use super::outgoing::Outgoing;
use crate::proto::{Command, Errno, Extents, reply};
use crate::{ExportError, ZeroMode};

/// Reads shorter than this are not asked for holes, in bytes.
const SPARSE_READ_BYTES_MIN: u32 = 64 << 10;

/// Reads shorter than this are copied: that costs less than one more part of a system call. In
/// bytes.
const SHARED_BYTES_MIN: u32 = 32 << 10;

/// Extents of one read that are told apart; the rest is one more piece of data.
const READ_EXTENTS_MAX: usize = 127;

/// Extents in one reply at most; clients ask again from where it ends.
const STATUS_EXTENTS_MAX: usize = 64 << 10;

impl Connection {
    /// Carries a request out, and leaves its reply in `scratch`.
    pub(super) fn perform(&self, work: &Work, scratch: &mut Scratch) {
        scratch.reply.clear();
        let done = catch_unwind(AssertUnwindSafe(|| self.carry_out(work, scratch)));
        let result = done.unwrap_or_else(|_| {
            tracing::error!("an export panicked");
            Err(ExportError::new(Errno::Io, "the export failed badly"))
        });
        if let Err(error) = result {
            self.complain(&error);
            let errno = allowed(error.errno(), &work.command);
            let (structured, cookie) = (self.session.is_structured, work.cookie);
            let bytes = reply::error(structured, cookie, errno, error.message());
            scratch.reply.clear();
            scratch.reply.extend(&bytes);
        }
    }

    fn carry_out(&self, work: &Work, scratch: &mut Scratch) -> Result<(), ExportError> {
        let export = &self.export;
        match work.command? {
            Command::Read {
                offset,
                len,
                may_fragment,
            } => return self.read(work.cookie, offset, len, may_fragment, scratch),
            Command::BlockStatus {
                offset,
                len,
                is_one,
            } => return self.block_status(work.cookie, offset, len, is_one, scratch),
            Command::Write {
                offset,
                len,
                is_fua,
            } => {
                if len > 0 {
                    export.write_at(scratch.payload.as_slice(), offset)?;
                }
                self.flush_if(is_fua)?;
            }
            Command::Flush => self.flush_if(!self.session.export.is_read_only)?,
            Command::Trim {
                offset,
                len,
                is_fua,
            } => {
                self.trim(offset, len)?;
                self.flush_if(is_fua)?;
            }
            Command::Cache { offset, len } => self.cache(offset, len)?,
            Command::WriteZeroes {
                offset,
                len,
                is_fua,
                may_punch,
                is_fast_only,
            } => {
                let mode = ZeroMode {
                    may_punch,
                    is_fast_only,
                };
                self.write_zeroes(offset, len, mode)?;
                self.flush_if(is_fua)?;
            }
            Command::Disconnect => {}
        }
        scratch.reply.extend(&reply::success(work.cookie));
        Ok(())
    }

    fn flush_if(&self, is_wanted: bool) -> Result<(), ExportError> {
        if is_wanted {
            self.export.flush()
        } else {
            Ok(())
        }
    }

    fn read(
        &self,
        cookie: u64,
        offset: u64,
        len: u32,
        may_fragment: bool,
        scratch: &mut Scratch,
    ) -> Result<(), ExportError> {
        let out = &mut scratch.reply;
        if !self.session.is_structured {
            out.extend(&reply::success(cookie));
        } else if len == 0 {
            out.extend(&reply::done(cookie));
        } else if may_fragment && len >= SPARSE_READ_BYTES_MIN {
            return self.read_sparse(cookie, offset, len, scratch);
        } else {
            out.extend(&reply::data_header(true, cookie, offset, len));
        }
        if len > 0 {
            self.read_data(offset, len, out)?;
        }
        Ok(())
    }

    /// Appends bytes of the export: its own where there are many, else a copy.
    fn read_data(&self, offset: u64, len: u32, out: &mut Outgoing) -> Result<(), ExportError> {
        if len >= SHARED_BYTES_MIN
            && let Some(pieces) = self.export.read_shared(len, offset)?
        {
            let found = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            if found != u64::from(len) {
                // The header, which says how many there are, is written already.
                return Err(ExportError::new(
                    Errno::Io,
                    "the export gave too few bytes, or too many",
                ));
            }
            pieces.into_iter().for_each(|piece| out.share(piece));
            return Ok(());
        }
        self.export.read_at(out.grow(len as usize), offset)
    }

    fn read_sparse(
        &self,
        cookie: u64,
        offset: u64,
        len: u32,
        scratch: &mut Scratch,
    ) -> Result<(), ExportError> {
        let extents = self.extents(offset, len, READ_EXTENTS_MAX)?;
        let out = &mut scratch.reply;
        let mut at = offset;
        let mut pieces = pieces(&extents).into_iter().peekable();
        while let Some((piece_len, is_zero)) = pieces.next() {
            let is_last = pieces.peek().is_none();
            if is_zero {
                out.extend(&reply::hole(is_last, cookie, at, piece_len));
            } else {
                out.extend(&reply::data_header(is_last, cookie, at, piece_len));
                self.read_data(at, piece_len, out)?;
            }
            at += u64::from(piece_len);
        }
        Ok(())
    }

    fn block_status(
        &self,
        cookie: u64,
        offset: u64,
        len: u32,
        is_one: bool,
        scratch: &mut Scratch,
    ) -> Result<(), ExportError> {
        let count_max = if is_one { 1 } else { STATUS_EXTENTS_MAX };
        let extents = self.extents(offset, len, count_max)?;
        let bytes = reply::block_status(cookie, extents.as_slice());
        scratch.reply.extend(&bytes);
        Ok(())
    }
}

/// All of a range in pieces that are known to be zero, or not.
fn pieces(extents: &Extents) -> Vec<(u32, bool)> {
    let mut pieces: Vec<(u32, bool)> = Vec::new();
    let told = extents.as_slice().iter();
    let told = told.map(|extent| (extent.len, extent.allocation.is_zero()));
    for (len, is_zero) in told.chain([(extents.left(), false)]) {
        match pieces.last_mut() {
            Some(last) if last.1 == is_zero => last.0 += len,
            _ if len > 0 => pieces.push((len, is_zero)),
            _ => {}
        }
    }
    pieces
}

/// "Not supported" is an answer to fast zeroing alone.
fn allowed(errno: Errno, command: &Result<Command, Errno>) -> Errno {
    let is_fast = matches!(
        command,
        Ok(Command::WriteZeroes {
            is_fast_only: true,
            ..
        })
    );
    if errno == Errno::NotSupported && !is_fast {
        Errno::Invalid
    } else {
        errno
    }
}
