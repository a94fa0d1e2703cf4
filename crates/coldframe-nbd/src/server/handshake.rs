//! Drives a [`Negotiator`] over a channel. Invariants: the whole handshake ends within its
//! timeout, and holds at most one option's data and its reply in memory.

use std::io;
use std::time::Instant;

use super::Shared;
use super::channel::Channel;
use crate::proto::{Negotiator, OPTION_DATA_BYTES_MAX, OptionHeader, Session, Step};

/// Options with more data than this are not even passed over, in bytes.
const SKIPPED_BYTES_MAX: u32 = 1 << 20;

/// Negotiates; none if the client went away, or was sent away, in order.
pub(super) fn negotiate(
    channel: &mut Channel,
    shared: &Shared,
    deadline: Instant,
) -> io::Result<Option<Session>> {
    let mut negotiator = Negotiator::new(&shared.exports, shared.tls.policy);
    channel.write_all(&[&Negotiator::GREETING], deadline)?;
    let mut flags = [0; 4];
    channel.read_exact(&mut flags, deadline)?;
    negotiator.client_flags(flags).map_err(violation)?;
    loop {
        let mut header = [0; OptionHeader::LEN];
        channel.read_exact(&mut header, deadline)?;
        let header = OptionHeader::decode(&header).map_err(violation)?;
        let mut out = Vec::new();
        let step = if header.data_len > OPTION_DATA_BYTES_MAX {
            skip(channel, header.data_len, deadline)?;
            negotiator.oversized(header, &mut out)
        } else {
            let mut data = vec![0; header.data_len as usize];
            channel.read_exact(&mut data, deadline)?;
            negotiator.option(header.code, &data, &mut out)
        };
        channel.write_all(&[&out], deadline)?;
        match step {
            Step::Continue => {}
            Step::StartTls => {
                start_tls(channel, shared, deadline)?;
                negotiator.tls_started();
            }
            Step::Transmit(session) => return Ok(Some(session)),
            Step::Close => return Ok(None),
        }
    }
}

#[cfg(feature = "tls")]
fn start_tls(channel: &mut Channel, shared: &Shared, deadline: Instant) -> io::Result<()> {
    let config = shared
        .tls
        .config
        .as_ref()
        .ok_or(io::ErrorKind::Unsupported)?;
    let stream = super::tls::TlsStream::accept(config, channel.socket(), deadline)?;
    channel.tls = Some(stream);
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn start_tls(_: &mut Channel, _: &Shared, _: Instant) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn skip(channel: &Channel, len: u32, deadline: Instant) -> io::Result<()> {
    if len > SKIPPED_BYTES_MAX {
        return Err(io::Error::other("an option is absurdly long"));
    }
    let mut left = len as usize;
    let mut scratch = [0; 4096];
    while left > 0 {
        let part = left.min(scratch.len());
        channel.read_exact(&mut scratch[..part], deadline)?;
        left -= part;
    }
    Ok(())
}

fn violation(violation: crate::proto::Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}
