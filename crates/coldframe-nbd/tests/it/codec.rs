//! The protocol alone, without sockets.

use std::fs;
use std::path::Path;

use coldframe_nbd::proto::{Catalog, OptionHeader};
use coldframe_nbd::proto::{Negotiator, Request, Session, Step, TlsPolicy, Violation};
use coldframe_testkit::hostile;
use proptest::prelude::*;

use crate::client::*;
use crate::codec_check::{Two, check, check_request};

/// A whole conversation of a client, as it goes over the wire.
fn conversation() -> Vec<u8> {
    let option = |code: u32, data: &[u8]| {
        [
            b"IHAVEOPT",
            &be(code.into(), 4)[..],
            &be(data.len() as u64, 4),
            data,
        ]
        .concat()
    };
    [
        be(3, 4),
        option(LIST, &[]),
        option(STRUCTURED, &[]),
        option(LIST_META, &contexts("a", &[])),
        option(SET_META, &contexts("a", &["base:allocation"])),
        option(INFO, &info("b", &[1, 2, 3])),
        option(GO, &info("a", &[3])),
        request(DF, READ, 1, 0, 4096),
        request(0, STATUS, 2, 0, 1_000_003),
        request(FAST_ZERO | NO_HOLE | FUA, ZEROES, 3, 7, 9),
        request(0, TRIM, 4, 1_000_000, 3),
        request(0, DISC, 5, 0, 0),
    ]
    .concat()
}

// Spec: NBD-3, NBD-6, NBD-12, NBD-13
#[test]
fn no_damage_to_a_conversation_breaks_the_codec() {
    let bytes = conversation();
    check(&bytes);
    hostile::check_bit_flips(&bytes, &mut check);
    for len in 0..bytes.len() {
        check(&bytes[..len]);
    }
}

proptest! {
    // Spec: NBD-6, NBD-13
    #[test]
    fn no_bytes_break_the_codec(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    // Spec: NBD-13
    #[test]
    fn what_passes_lies_within_the_export(
        flags in 0_u16..64,
        command in 0_u16..9,
        offset in prop_oneof![0_u64..1_100_000, any::<u64>(), (1_u64 << 40) - 70_000..1 << 40],
        len in prop_oneof![0_u32..70_000, any::<u32>()],
        name in prop_oneof!["a", "b"],
        is_structured in any::<bool>(),
    ) {
        let export = Two.find(&name).unwrap();
        let session = Session { export, is_structured, has_block_status: is_structured };
        let request = Request { flags, command, cookie: 1, offset, len };
        check_request(&request, &session);
    }
}

/// Every input that fuzzing ever found is replayed.
#[test]
fn fuzz_regressions_stay_fixed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/nbd");
    let mut count = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", dir.display());
}

fn answer(negotiator: &mut Negotiator<'_>, code: u32, data: &[u8]) -> (u32, Step) {
    let mut out = Vec::new();
    let step = negotiator.option(code, data, &mut out);
    let kind = if out.len() < 20 { 0 } else { be32(&out[12..]) };
    (kind, step)
}

// Spec: NBD-7
#[test]
fn nothing_is_told_before_tls_where_it_is_required() {
    let mut negotiator = Negotiator::new(&Two, TlsPolicy::Required);
    negotiator.client_flags([0, 0, 0, 3]).unwrap();
    for code in [0, LIST, INFO, GO, STRUCTURED, LIST_META, SET_META, 11] {
        let refused = (ERR_TLS_REQD, Step::Continue);
        assert_eq!(answer(&mut negotiator, code, &info("a", &[])), refused);
    }
    assert_eq!(answer(&mut negotiator, EXPORT_NAME, b"a"), (0, Step::Close));
    assert_eq!(answer(&mut negotiator, ABORT, &[]), (ACK, Step::Close));
    assert_eq!(answer(&mut negotiator, STARTTLS, &[1]).0, ERR_INVALID);
    assert_eq!(
        answer(&mut negotiator, STARTTLS, &[]),
        (ACK, Step::StartTls)
    );
    negotiator.tls_started();
    assert_eq!(answer(&mut negotiator, STARTTLS, &[]).0, ERR_INVALID);
    assert_eq!(answer(&mut negotiator, LIST, &[]).0, ACK + 1);
    assert!(matches!(
        answer(&mut negotiator, EXPORT_NAME, b"a").1,
        Step::Transmit(_)
    ));
}

// Spec: NBD-7
#[test]
fn what_was_agreed_upon_before_tls_is_forgotten() {
    let mut negotiator = Negotiator::new(&Two, TlsPolicy::Offered);
    negotiator.client_flags([0, 0, 0, 3]).unwrap();
    answer(&mut negotiator, STRUCTURED, &[]);
    let set = contexts("a", &["base:allocation"]);
    assert_eq!(answer(&mut negotiator, SET_META, &set).1, Step::Continue);
    assert_eq!(answer(&mut negotiator, STARTTLS, &[]).1, Step::StartTls);
    negotiator.tls_started();
    let (_, step) = answer(&mut negotiator, GO, &info("a", &[]));
    let Step::Transmit(session) = step else {
        panic!("{step:?}");
    };
    assert!(!session.is_structured && !session.has_block_status);
}

// Spec: NBD-1, NBD-3, NBD-12
#[test]
fn violations_name_what_was_found() {
    let mut negotiator = Negotiator::new(&Two, TlsPolicy::Absent);
    assert_eq!(
        negotiator.client_flags([0, 0, 1, 0]),
        Err(Violation::ClientFlags { flags: 256 })
    );
    assert_eq!(
        OptionHeader::decode(b"IHAVEOPS\0\0\0\x01\0\0\0\0")
            .unwrap_err()
            .to_string(),
        "client sent an option with magic 0x49484156454f5053"
    );
    assert_eq!(
        Request::decode(&[1; 28]),
        Err(Violation::RequestMagic { found: 0x0101_0101 })
    );
}
