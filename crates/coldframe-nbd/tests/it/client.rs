//! A client that can say anything. Its numbers are its own, copied from the protocol's document.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const EXPORT_NAME: u32 = 1;
pub const ABORT: u32 = 2;
pub const LIST: u32 = 3;
pub const STARTTLS: u32 = 5;
pub const INFO: u32 = 6;
pub const GO: u32 = 7;
pub const STRUCTURED: u32 = 8;
pub const LIST_META: u32 = 9;
pub const SET_META: u32 = 10;

pub const ACK: u32 = 1;
pub const ERR_UNSUP: u32 = 0x8000_0001;
pub const ERR_POLICY: u32 = 0x8000_0002;
pub const ERR_INVALID: u32 = 0x8000_0003;
pub const ERR_TLS_REQD: u32 = 0x8000_0005;
pub const ERR_UNKNOWN: u32 = 0x8000_0006;
pub const ERR_BLOCK_SIZE_REQD: u32 = 0x8000_0008;
pub const ERR_TOO_BIG: u32 = 0x8000_0009;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const ZEROES: u16 = 6;
pub const STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;
pub const FAST_ZERO: u16 = 16;

pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const ENOTSUP: u32 = 95;

/// One message in reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple {
        error: u32,
        cookie: u64,
    },
    Chunk {
        done: bool,
        kind: u16,
        cookie: u64,
        body: Vec<u8>,
    },
}

impl Reply {
    /// The error it tells, 0 if none.
    pub fn error(&self) -> u32 {
        match self {
            Self::Simple { error, .. } => *error,
            Self::Chunk { kind, body, .. } if kind >> 15 == 1 => be32(body),
            Self::Chunk { .. } => 0,
        }
    }

    pub fn cookie(&self) -> u64 {
        match self {
            Self::Simple { cookie, .. } | Self::Chunk { cookie, .. } => *cookie,
        }
    }
}

pub fn be32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |n, b| n << 8 | u32::from(*b))
}

pub fn be64(bytes: &[u8]) -> u64 {
    u64::from(be32(bytes)) << 32 | u64::from(be32(&bytes[4..]))
}

/// The `len` lowest bytes of a number, the highest first.
pub fn be(value: u64, len: usize) -> Vec<u8> {
    (0..len).rev().map(|at| (value >> (8 * at)) as u8).collect()
}

/// A name and its length, as most options begin.
pub fn named(name: &str) -> Vec<u8> {
    [be(name.len() as u64, 4), name.as_bytes().to_vec()].concat()
}

/// The data of INFO and GO.
pub fn info(name: &str, wanted: &[u16]) -> Vec<u8> {
    let wanted: Vec<u8> = wanted
        .iter()
        .flat_map(|item| be(u64::from(*item), 2))
        .collect();
    [named(name), be(wanted.len() as u64 / 2, 2), wanted].concat()
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let strings: Vec<u8> = queries.iter().flat_map(|query| named(query)).collect();
    [named(name), be(queries.len() as u64, 4), strings].concat()
}

pub fn request(flags: u16, command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    [
        be(0x2560_9513, 4),
        be(flags.into(), 2),
        be(command.into(), 2),
        be(cookie, 8),
        be(offset, 8),
        be(len.into(), 4),
    ]
    .concat()
}

pub struct Client {
    pub stream: UnixStream,
}

impl Client {
    /// Greeted, with these client flags sent.
    pub fn greet(path: &Path, flags: u32) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut client = Self { stream };
        assert_eq!(client.take(18), b"NBDMAGICIHAVEOPT\x00\x03");
        client.send(&be(flags.into(), 4));
        client
    }

    pub fn connect(path: &Path) -> Self {
        Self::greet(path, 3)
    }

    /// In the transmission phase, simple style.
    pub fn simple(path: &Path, name: &str) -> Self {
        let mut client = Self::connect(path);
        assert_eq!(client.option(GO, &info(name, &[])), ACK);
        client
    }

    /// In the transmission phase, structured style with `base:allocation`.
    pub fn structured(path: &Path, name: &str) -> Self {
        let mut client = Self::connect(path);
        assert_eq!(client.option(STRUCTURED, &[]), ACK);
        assert_eq!(
            client.option(SET_META, &contexts(name, &["base:allocation"])),
            ACK
        );
        assert_eq!(client.option(GO, &info(name, &[3])), ACK);
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn try_take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    #[track_caller]
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        self.try_take(len).unwrap()
    }

    /// Whether the server has nothing more to say, having hung up.
    #[track_caller]
    pub fn is_cut_off(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(len) => len == 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => true,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn send_option(&mut self, code: u32, data: &[u8]) {
        let header = [be(code.into(), 4), be(data.len() as u64, 4)].concat();
        self.send(&[b"IHAVEOPT", &header[..], data].concat());
    }

    /// All replies to an option: kinds and bodies.
    #[track_caller]
    pub fn replies(&mut self, code: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send_option(code, data);
        self.take_replies(code)
    }

    #[track_caller]
    pub fn take_replies(&mut self, code: u32) -> Vec<(u32, Vec<u8>)> {
        let mut replies = Vec::new();
        loop {
            let header = self.take(20);
            assert_eq!(be64(&header), 0x0003_e889_0455_65a9);
            assert_eq!(be32(&header[8..]), code);
            let kind = be32(&header[12..]);
            let body = self.take(be32(&header[16..]) as usize);
            replies.push((kind, body));
            if kind == ACK || kind >> 31 == 1 {
                return replies;
            }
        }
    }

    /// The final reply to an option.
    #[track_caller]
    pub fn option(&mut self, code: u32, data: &[u8]) -> u32 {
        self.replies(code, data).last().unwrap().0
    }

    pub fn ask(&mut self, flags: u16, command: u16, offset: u64, len: u32) {
        self.send(&request(flags, command, 7, offset, len));
    }

    /// One reply, without the data of a simple read.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let magic = be32(&self.take(4));
        if magic == 0x6744_6698 {
            let rest = self.take(12);
            let (error, cookie) = (be32(&rest), be64(&rest[4..]));
            return Reply::Simple { error, cookie };
        }
        assert_eq!(magic, 0x668e_33ef);
        let rest = self.take(16);
        let body = self.take(be32(&rest[12..]) as usize);
        Reply::Chunk {
            done: rest[1] & 1 == 1,
            kind: u16::from(rest[2]) << 8 | u16::from(rest[3]),
            cookie: be64(&rest[4..]),
            body,
        }
    }

    /// The chunks of one structured reply: kinds and bodies.
    #[track_caller]
    pub fn chunks(&mut self) -> Vec<(u16, Vec<u8>)> {
        let mut chunks = Vec::new();
        loop {
            let Reply::Chunk {
                done, kind, body, ..
            } = self.reply()
            else {
                panic!("a simple reply");
            };
            chunks.push((kind, body));
            if done {
                return chunks;
            }
        }
    }

    /// Carries out a request without data, and gives its error.
    #[track_caller]
    pub fn error_of(&mut self, flags: u16, command: u16, offset: u64, len: u32) -> u32 {
        self.ask(flags, command, offset, len);
        self.reply().error()
    }

    #[track_caller]
    pub fn write(&mut self, flags: u16, offset: u64, data: &[u8]) -> u32 {
        self.ask(flags, WRITE, offset, data.len() as u32);
        self.send(data);
        self.reply().error()
    }

    /// Reads in the simple style.
    #[track_caller]
    pub fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        assert_eq!(self.error_of(0, READ, offset, len), 0);
        self.take(len as usize)
    }

    pub fn hang_up(&self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}
