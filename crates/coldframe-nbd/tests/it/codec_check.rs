//! What holds for the codec on any bytes; shared by the tests and the fuzz target.

use coldframe_nbd::proto::{
    BlockSizes, Catalog, Command, Errno, ExportInfo, Extents, Negotiator, OPTION_DATA_BYTES_MAX,
    OptionHeader, PAYLOAD_BYTES_MAX, Request, Session, Step, TlsPolicy,
};

/// Two exports: an odd one, and a read-only one with blocks.
pub struct Two;

impl Catalog for Two {
    fn names(&self) -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        let index = match name {
            "" | "a" => 0,
            "b" => 1,
            _ => return None,
        };
        let is_b = index == 1;
        let blocks = BlockSizes::new(512, 4096)?;
        Some(ExportInfo {
            index,
            name: if is_b { "b" } else { "a" }.into(),
            description: "d".into(),
            size: if is_b { 1 << 40 } else { 1_000_003 },
            is_read_only: is_b,
            has_fast_zero: !is_b,
            block_sizes: if is_b { blocks } else { BlockSizes::BYTES },
        })
    }
}

/// The most that one option is answered with.
const ANSWER_BYTES_MAX: usize = 512;

/// Gives `bytes` to the codec, once as they are, and once with the magics put right.
pub fn check(bytes: &[u8]) {
    for policy in [TlsPolicy::Absent, TlsPolicy::Offered, TlsPolicy::Required] {
        for is_mended in [false, true] {
            check_stream(bytes, policy, is_mended);
        }
    }
    for (export, is_structured, has_block_status) in
        [("a", false, false), ("a", true, true), ("b", true, true)]
    {
        let session = Session {
            export: Two.find(export).unwrap(),
            is_structured,
            has_block_status,
        };
        check_requests(bytes, &session, true);
    }
    check_extents(bytes);
}

fn check_stream(bytes: &[u8], policy: TlsPolicy, is_mended: bool) {
    let mut negotiator = Negotiator::new(&Two, policy);
    let Some((flags, mut rest)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let flags = if is_mended {
        [0, 0, 0, flags[3] & 3]
    } else {
        *flags
    };
    if negotiator.client_flags(flags).is_err() {
        return;
    }
    while let Some((front, behind)) = rest.split_first_chunk::<{ OptionHeader::LEN }>() {
        let mut front = *front;
        if is_mended {
            front[..8].copy_from_slice(b"IHAVEOPT");
            // Mostly options that exist, and data that is there.
            front[8..11].fill(0);
            front[12..15].fill(0);
        }
        let Ok(header) = OptionHeader::decode(&front) else {
            return;
        };
        let mut out = Vec::new();
        let step = if header.data_len > OPTION_DATA_BYTES_MAX {
            negotiator.oversized(header, &mut out)
        } else {
            let Some((data, behind)) = behind.split_at_checked(header.data_len as usize) else {
                return;
            };
            rest = behind;
            negotiator.option(header.code, data, &mut out)
        };
        assert!(out.len() <= ANSWER_BYTES_MAX);
        match step {
            Step::Continue if header.data_len > OPTION_DATA_BYTES_MAX => return,
            Step::Continue => assert!(!out.is_empty()),
            Step::StartTls => {
                assert_ne!(policy, TlsPolicy::Absent);
                negotiator.tls_started();
            }
            Step::Transmit(session) => return check_requests(rest, &session, is_mended),
            Step::Close => return,
        }
    }
}

fn check_requests(bytes: &[u8], session: &Session, is_mended: bool) {
    for chunk in bytes.chunks_exact(Request::LEN) {
        let mut header: [u8; Request::LEN] = chunk.try_into().unwrap();
        if is_mended {
            header[..4].copy_from_slice(&[0x25, 0x60, 0x95, 0x13]);
            header[6] = 0;
            header[7] %= 10;
        }
        let Ok(request) = Request::decode(&header) else {
            continue;
        };
        check_request(&request, session);
    }
}

/// What is carried out lies within the export, and within what was agreed upon.
pub fn check_request(request: &Request, session: &Session) {
    assert!(request.payload_len() == 0 || request.command == 1);
    let Ok(command) = request.check(session) else {
        return;
    };
    let (writes, payload, range) = match command {
        Command::Disconnect | Command::Flush => return,
        Command::Read { offset, len, .. } => (false, len, (offset, len)),
        Command::Write { offset, len, .. } => (true, len, (offset, len)),
        Command::Trim { offset, len, .. } => (true, 0, (offset, len)),
        Command::Cache { offset, len } => (false, 0, (offset, len)),
        Command::WriteZeroes {
            offset,
            len,
            is_fast_only,
            ..
        } => {
            assert!(!is_fast_only || session.export.has_fast_zero);
            (true, 0, (offset, len))
        }
        Command::BlockStatus { offset, len, .. } => {
            assert!(session.has_block_status && len > 0);
            (false, 0, (offset, len))
        }
    };
    assert!(!writes || !session.export.is_read_only);
    assert!(payload <= PAYLOAD_BYTES_MAX);
    let end = range.0.checked_add(u64::from(range.1)).unwrap();
    assert!(end <= session.export.size);
    let minimum = u64::from(session.export.block_sizes.minimum());
    assert!(range.0.is_multiple_of(minimum) && end.is_multiple_of(minimum));
}

/// Extents stay consecutive, whatever an export says.
fn check_extents(bytes: &[u8]) {
    use coldframe_nbd::Allocation::{Data, Hole, Zero};
    let len = bytes.len() as u32 * 100;
    let mut extents = Extents::new(len, 8);
    for byte in bytes {
        let kind = [Data, Zero, Hole][usize::from(byte % 3)];
        let long = if byte & 0x80 == 0 {
            0
        } else {
            u64::MAX >> (byte & 63)
        };
        extents.push(u64::from(byte >> 2) | long, kind);
    }
    let told = extents.as_slice();
    assert!(told.len() <= 8 && told.iter().all(|extent| extent.len > 0));
    assert!(
        told.windows(2)
            .all(|pair| pair[0].allocation != pair[1].allocation)
    );
    let sum: u64 = told.iter().map(|extent| u64::from(extent.len)).sum();
    assert_eq!(sum + u64::from(extents.left()), u64::from(len));
    let message = String::from_utf8_lossy(bytes);
    let reply = coldframe_nbd::proto::reply::error(true, 1, Errno::Io, &message);
    assert!((26..=26 + 256).contains(&reply.len()));
}
