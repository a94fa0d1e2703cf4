//! Requests, taken apart and judged. Invariant: a [`Command`] lies within the export, keeps to its
//! block sizes and to what was agreed upon, and asks for at most [`PAYLOAD_BYTES_MAX`] bytes.

use super::values::{REQUEST_MAGIC, cmd, cmd_flag};
use super::wire::{Reader, Short};
use super::{Errno, PAYLOAD_BYTES_MAX, Session, Violation};

/// A request as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Command flags.
    pub flags: u16,
    /// Which command.
    pub command: u16,
    /// The client's name for the request, which the reply repeats.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub len: u32,
}

/// A request that may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read.
    Read {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
        /// Whether holes may be sent as such.
        may_fragment: bool,
    },
    /// Write the payload.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
        /// Whether it must be durable before the reply.
        is_fua: bool,
    },
    /// Finish what is in flight, then close.
    Disconnect,
    /// Make durable what was replied to.
    Flush,
    /// The range is not needed any more.
    Trim {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
        /// Whether it must be durable before the reply.
        is_fua: bool,
    },
    /// The range will be read soon.
    Cache {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
    },
    /// Make the range read as zeros.
    WriteZeroes {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
        /// Whether it must be durable before the reply.
        is_fua: bool,
        /// Whether the range may stop taking space.
        may_punch: bool,
        /// Whether to fail rather than be slow.
        is_fast_only: bool,
    },
    /// Tell how the range is stored.
    BlockStatus {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
        /// Whether one extent is enough.
        is_one: bool,
    },
}

impl Request {
    /// Bytes of an encoded request, without its payload.
    pub const LEN: usize = 28;

    /// Takes a request apart.
    ///
    /// # Errors
    /// [`Violation::RequestMagic`]: where the next request begins is unknown.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, Violation> {
        let (found, request) = fields(&mut Reader::new(bytes)).unwrap_or_default();
        if found == REQUEST_MAGIC {
            Ok(request)
        } else {
            Err(Violation::RequestMagic { found })
        }
    }

    /// Bytes that follow the request on the wire, whether it is carried out or not.
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        if self.command == cmd::WRITE {
            self.len
        } else {
            0
        }
    }

    /// Judges the request.
    ///
    /// # Errors
    /// What the client is to be told: see the table in `specs/nbd.md`.
    pub fn check(&self, session: &Session) -> Result<Command, Errno> {
        self.check_flags(session)?;
        let Self { offset, len, .. } = *self;
        let is_fua = self.has(cmd_flag::FUA);
        match self.command {
            cmd::READ => {
                self.check_payload(session, Errno::Invalid)?;
                let may_fragment = session.is_structured && !self.has(cmd_flag::DF);
                Ok(Command::Read {
                    offset,
                    len,
                    may_fragment,
                })
            }
            cmd::WRITE => {
                check_writable(session)?;
                self.check_payload(session, Errno::NoSpace)?;
                Ok(Command::Write {
                    offset,
                    len,
                    is_fua,
                })
            }
            cmd::DISC => Ok(Command::Disconnect),
            cmd::FLUSH if offset == 0 && len == 0 => Ok(Command::Flush),
            cmd::TRIM => {
                check_writable(session)?;
                session.check_range(offset, len, Errno::Invalid)?;
                Ok(Command::Trim {
                    offset,
                    len,
                    is_fua,
                })
            }
            cmd::CACHE => {
                session.check_range(offset, len, Errno::Invalid)?;
                Ok(Command::Cache { offset, len })
            }
            cmd::WRITE_ZEROES => {
                check_writable(session)?;
                session.check_range(offset, len, Errno::NoSpace)?;
                Ok(Command::WriteZeroes {
                    offset,
                    len,
                    is_fua,
                    may_punch: !self.has(cmd_flag::NO_HOLE),
                    is_fast_only: self.has(cmd_flag::FAST_ZERO),
                })
            }
            cmd::BLOCK_STATUS if session.has_block_status && len > 0 => {
                session.check_range(offset, len, Errno::Invalid)?;
                Ok(Command::BlockStatus {
                    offset,
                    len,
                    is_one: self.has(cmd_flag::REQ_ONE),
                })
            }
            _ => Err(Errno::Invalid),
        }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn check_flags(&self, session: &Session) -> Result<(), Errno> {
        let known = match self.command {
            cmd::READ if session.is_structured => cmd_flag::DF,
            cmd::WRITE_ZEROES if session.export.has_fast_zero => {
                cmd_flag::NO_HOLE | cmd_flag::FAST_ZERO
            }
            cmd::WRITE_ZEROES => cmd_flag::NO_HOLE,
            cmd::BLOCK_STATUS => cmd_flag::REQ_ONE,
            // A client that leaves is let go, whatever it says.
            cmd::DISC => u16::MAX,
            _ => 0,
        };
        // Known clients set FUA on commands that write nothing: it has no effect there.
        if self.flags & !(known | cmd_flag::FUA) == 0 {
            Ok(())
        } else {
            Err(Errno::Invalid)
        }
    }

    fn check_payload(&self, session: &Session, past: Errno) -> Result<(), Errno> {
        if self.len > PAYLOAD_BYTES_MAX {
            return Err(Errno::Invalid);
        }
        session.check_range(self.offset, self.len, past)
    }
}

fn fields(reader: &mut Reader<'_>) -> Result<(u32, Request), Short> {
    let magic = reader.u32()?;
    let request = Request {
        flags: reader.u16()?,
        command: reader.u16()?,
        cookie: reader.u64()?,
        offset: reader.u64()?,
        len: reader.u32()?,
    };
    Ok((magic, request))
}

fn check_writable(session: &Session) -> Result<(), Errno> {
    if session.export.is_read_only {
        Err(Errno::NotPermitted)
    } else {
        Ok(())
    }
}
