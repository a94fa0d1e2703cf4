//! The handshake. Invariants: every option gets exactly one final reply, or the connection is
//! closed; a metadata context counts only for the export that it was chosen for; nothing agreed
//! upon before TLS survives it.

use super::option::{ContextQuery, InfoQuery, Malformed, OptionHeader, string};
use super::values::{BASE_ALLOCATION, BASE_ALLOCATION_ID, OPTION_REPLY_MAGIC};
use super::values::{client_flag, info, opt, rep};
use super::wire::{Put, Reader};
use super::{Catalog, ExportInfo, PAYLOAD_BYTES_MAX, Session, Violation};

/// Whether the connection can, or must, be upgraded to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// There is none.
    Absent,
    /// The client may upgrade.
    Offered,
    /// Nothing else is served before the client upgrades.
    Required,
}

/// What the driver does after an option's reply has been sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the next option.
    Continue,
    /// Upgrade to TLS, call [`Negotiator::tls_started`], read the next option.
    StartTls,
    /// Serve requests.
    Transmit(Session),
    /// Close the connection.
    Close,
}

/// The server's side of one handshake.
pub struct Negotiator<'a> {
    catalog: &'a dyn Catalog,
    tls: TlsPolicy,
    is_encrypted: bool,
    client_flags: u32,
    is_structured: bool,
    /// Index of the export for which the client chose `base:allocation`.
    context_of: Option<usize>,
}

impl<'a> Negotiator<'a> {
    /// What a server sends first: both magics, fixed newstyle, no zeroes.
    pub const GREETING: [u8; 18] = *b"NBDMAGICIHAVEOPT\x00\x03";

    /// A handshake that offers the exports of `catalog`.
    #[must_use]
    pub fn new(catalog: &'a dyn Catalog, tls: TlsPolicy) -> Self {
        Self {
            catalog,
            tls,
            is_encrypted: false,
            client_flags: 0,
            is_structured: false,
            context_of: None,
        }
    }

    /// Takes the client's answer to the greeting.
    ///
    /// # Errors
    /// [`Violation::ClientFlags`]: a bit that was not offered.
    pub fn client_flags(&mut self, bytes: [u8; 4]) -> Result<(), Violation> {
        let flags = Reader::new(&bytes).u32().unwrap_or_default();
        if flags & !(client_flag::FIXED_NEWSTYLE | client_flag::NO_ZEROES) != 0 {
            return Err(Violation::ClientFlags { flags });
        }
        self.client_flags = flags;
        Ok(())
    }

    /// TLS is up: all that was agreed upon before is forgotten.
    pub fn tls_started(&mut self) {
        self.is_encrypted = true;
        self.is_structured = false;
        self.context_of = None;
    }

    /// Answers an option whose data was longer than
    /// [`OPTION_DATA_BYTES_MAX`](super::OPTION_DATA_BYTES_MAX), and passed over.
    pub fn oversized(&mut self, header: OptionHeader, out: &mut Vec<u8>) -> Step {
        let is_fixed = self.client_flags & client_flag::FIXED_NEWSTYLE != 0;
        if header.code == opt::EXPORT_NAME || !is_fixed {
            return Step::Close;
        }
        if header.code == opt::SET_META_CONTEXT {
            self.context_of = None;
        }
        error(out, header.code, rep::ERR_TOO_BIG, "option is too long")
    }

    /// Answers one option; the reply is appended to `out`.
    pub fn option(&mut self, code: u32, data: &[u8], out: &mut Vec<u8>) -> Step {
        let is_fixed = self.client_flags & client_flag::FIXED_NEWSTYLE != 0;
        if !is_fixed && code != opt::EXPORT_NAME {
            return Step::Close;
        }
        let is_open = self.is_encrypted || self.tls != TlsPolicy::Required;
        if !is_open && code == opt::EXPORT_NAME {
            return Step::Close;
        }
        if !is_open && !matches!(code, opt::STARTTLS | opt::ABORT) {
            return error(out, code, rep::ERR_TLS_REQD, "start TLS first");
        }
        match code {
            opt::EXPORT_NAME => self.export_name(data, out),
            opt::ABORT => {
                reply(out, code, rep::ACK, &[]);
                Step::Close
            }
            opt::LIST => self.list(data, out),
            opt::STARTTLS => self.start_tls(data, out),
            opt::INFO | opt::GO => self.info(code, data, out),
            opt::STRUCTURED_REPLY if data.is_empty() => {
                self.is_structured = true;
                ack(out, code)
            }
            opt::STRUCTURED_REPLY => invalid(out, code),
            opt::LIST_META_CONTEXT => self.list_contexts(data, out),
            opt::SET_META_CONTEXT => self.set_contexts(data, out),
            _ => error(out, code, rep::ERR_UNSUP, "unknown option"),
        }
    }

    fn session(&self, export: ExportInfo) -> Session {
        Session {
            has_block_status: self.is_structured && self.context_of == Some(export.index),
            is_structured: self.is_structured,
            export,
        }
    }

    fn export_name(&self, data: &[u8], out: &mut Vec<u8>) -> Step {
        let export = string(data).ok().and_then(|name| self.catalog.find(name));
        // This option has no way to tell the client about block sizes, nor of an error.
        let Some(export) = export.filter(|export| export.block_sizes.minimum() == 1) else {
            return Step::Close;
        };
        let session = self.session(export);
        out.put_u64(session.export.size);
        out.put_u16(session.flags());
        if self.client_flags & client_flag::NO_ZEROES == 0 {
            out.extend_from_slice(&[0; 124]);
        }
        Step::Transmit(session)
    }

    fn list(&self, data: &[u8], out: &mut Vec<u8>) -> Step {
        if !data.is_empty() {
            return invalid(out, opt::LIST);
        }
        for name in self.catalog.names() {
            let mut body = Vec::new();
            body.put_u32(u32::try_from(name.len()).unwrap_or(u32::MAX));
            body.extend_from_slice(name.as_bytes());
            reply(out, opt::LIST, rep::SERVER, &body);
        }
        ack(out, opt::LIST)
    }

    fn start_tls(&self, data: &[u8], out: &mut Vec<u8>) -> Step {
        if self.tls == TlsPolicy::Absent {
            return error(out, opt::STARTTLS, rep::ERR_POLICY, "TLS is not set up");
        }
        if self.is_encrypted || !data.is_empty() {
            return invalid(out, opt::STARTTLS);
        }
        reply(out, opt::STARTTLS, rep::ACK, &[]);
        Step::StartTls
    }

    fn info(&self, code: u32, data: &[u8], out: &mut Vec<u8>) -> Step {
        let Ok(InfoQuery { name, wanted }) = InfoQuery::decode(data) else {
            return invalid(out, code);
        };
        let Some(export) = self.catalog.find(name) else {
            return error(out, code, rep::ERR_UNKNOWN, "no such export");
        };
        let session = self.session(export);
        let export = &session.export;
        let must_know_sizes = export.block_sizes.minimum() > 1;
        let mut body = Vec::new();
        body.put_u16(info::EXPORT);
        body.put_u64(export.size);
        body.put_u16(session.flags());
        reply(out, code, rep::INFO, &body);
        if wanted.contains(&info::NAME) {
            reply_text(out, code, info::NAME, &export.name);
        }
        if wanted.contains(&info::DESCRIPTION) && !export.description.is_empty() {
            reply_text(out, code, info::DESCRIPTION, &export.description);
        }
        if must_know_sizes || wanted.contains(&info::BLOCK_SIZE) {
            let mut body = Vec::new();
            body.put_u16(info::BLOCK_SIZE);
            body.put_u32(export.block_sizes.minimum());
            body.put_u32(export.block_sizes.preferred());
            body.put_u32(PAYLOAD_BYTES_MAX);
            reply(out, code, rep::INFO, &body);
        }
        if must_know_sizes && !wanted.contains(&info::BLOCK_SIZE) {
            let why = "ask for the block sizes, and keep to them";
            return error(out, code, rep::ERR_BLOCK_SIZE_REQD, why);
        }
        reply(out, code, rep::ACK, &[]);
        if code == opt::GO {
            Step::Transmit(session)
        } else {
            Step::Continue
        }
    }

    fn list_contexts(&self, data: &[u8], out: &mut Vec<u8>) -> Step {
        let code = opt::LIST_META_CONTEXT;
        let Ok(query) = ContextQuery::decode(data) else {
            return invalid(out, code);
        };
        if self.catalog.find(query.name).is_none() {
            return error(out, code, rep::ERR_UNKNOWN, "no such export");
        }
        let mut queries = query.queries.iter();
        if query.queries.is_empty() || queries.any(|q| *q == "base:" || *q == BASE_ALLOCATION) {
            reply_context(out, code, 0);
        }
        ack(out, code)
    }

    fn set_contexts(&mut self, data: &[u8], out: &mut Vec<u8>) -> Step {
        let code = opt::SET_META_CONTEXT;
        self.context_of = None;
        let query = match ContextQuery::decode(data) {
            Ok(query) if self.is_structured => query,
            Ok(_) | Err(Malformed) => return invalid(out, code),
        };
        let Some(export) = self.catalog.find(query.name) else {
            return error(out, code, rep::ERR_UNKNOWN, "no such export");
        };
        if query.queries.contains(&BASE_ALLOCATION) {
            self.context_of = Some(export.index);
            reply_context(out, code, BASE_ALLOCATION_ID);
        }
        ack(out, code)
    }
}

fn reply(out: &mut Vec<u8>, code: u32, kind: u32, body: &[u8]) {
    out.put_u64(OPTION_REPLY_MAGIC);
    out.put_u32(code);
    out.put_u32(kind);
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(body);
}

fn reply_text(out: &mut Vec<u8>, code: u32, kind: u16, text: &str) {
    let mut body = Vec::new();
    body.put_u16(kind);
    body.extend_from_slice(text.as_bytes());
    reply(out, code, rep::INFO, &body);
}

fn reply_context(out: &mut Vec<u8>, code: u32, id: u32) {
    let mut body = Vec::new();
    body.put_u32(id);
    body.extend_from_slice(BASE_ALLOCATION.as_bytes());
    reply(out, code, rep::META_CONTEXT, &body);
}

fn ack(out: &mut Vec<u8>, code: u32) -> Step {
    reply(out, code, rep::ACK, &[]);
    Step::Continue
}

fn error(out: &mut Vec<u8>, code: u32, kind: u32, why: &str) -> Step {
    reply(out, code, kind, why.as_bytes());
    Step::Continue
}

fn invalid(out: &mut Vec<u8>, code: u32) -> Step {
    error(out, code, rep::ERR_INVALID, "malformed option")
}
