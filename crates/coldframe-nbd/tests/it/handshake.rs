//! The handshake, with good and with hostile clients.

use std::path::PathBuf;
use std::sync::Arc;

use coldframe_nbd::{BlockSizes, NbdError, NbdHandle, NbdServer, ReadOnly};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;

use crate::client::*;
use crate::disk::MemDisk;

pub struct Site {
    pub path: PathBuf,
    pub handle: NbdHandle,
    _dir: tempfile::TempDir,
}

/// Serves at a socket in a directory of its own.
pub fn serve(server: NbdServer) -> Site {
    let _dir = scratch::dir();
    let path = _dir.path().join("nbd.sock");
    let handle = server.listen(path.as_path()).unwrap();
    Site { path, handle, _dir }
}

fn two_exports() -> Site {
    let disk = Arc::new(MemDisk::new(1 << 20));
    let server = NbdServer::named("first", Arc::clone(&disk)).unwrap();
    serve(server.export("second", ReadOnly(disk)).unwrap())
}

const FLAGS_WRITABLE: u64 = 0b1101_0110_1101;
const FLAGS_READ_ONLY: u64 = 0b0101_0000_1111;
const FLAG_DF: u64 = 1 << 7;

// Spec: NBD-1
#[test]
fn unknown_client_flags_end_the_connection() {
    let site = two_exports();
    for flag in [4, 1 << 31] {
        assert!(Client::greet(&site.path, 3 | flag).is_cut_off());
    }
}

// Spec: NBD-2, NBD-4, NBD-8
// Parity: F34
#[test]
fn plain_newstyle_clients_may_name_an_export_only() {
    let site = two_exports();
    let mut client = Client::greet(&site.path, 0);
    client.send_option(EXPORT_NAME, b"second");
    let expected = [be(1 << 20, 8), be(FLAGS_READ_ONLY, 2), vec![0; 124]].concat();
    assert_eq!(client.take(134), expected);
    assert_eq!(client.read(0, 8), [0; 8]);
    let mut client = Client::greet(&site.path, 2);
    client.send_option(EXPORT_NAME, b"");
    assert_eq!(
        client.take(10),
        [be(1 << 20, 8), be(FLAGS_WRITABLE, 2)].concat()
    );
    assert_eq!(client.write(0, 0, b"abc"), 0);
    for code in [ABORT, LIST, INFO, GO, STRUCTURED, 99] {
        let mut client = Client::greet(&site.path, 2);
        client.send_option(code, &[]);
        assert!(client.is_cut_off());
    }
}

// Spec: NBD-3, NBD-4
// Parity: D28b, F35
#[test]
fn options_of_hostile_length_are_refused() {
    let site = two_exports();
    for code in (0..12).chain([u32::MAX]) {
        let mut client = Client::connect(&site.path);
        client.send_option(code, &vec![b'a'; (64 << 10) + 1]);
        if code == EXPORT_NAME {
            assert!(client.is_cut_off());
        } else {
            assert_eq!(client.take_replies(code).last().unwrap().0, ERR_TOO_BIG);
            assert_eq!(client.option(LIST, &[]), ACK);
        }
        for len in [(1 << 20) + 1, u32::MAX] {
            let mut client = Client::connect(&site.path);
            let header = [be(code.into(), 4), be(len.into(), 4)].concat();
            client.send(&[b"IHAVEOPT", &header[..]].concat());
            assert!(client.is_cut_off());
        }
    }
    let mut client = Client::connect(&site.path);
    client.send(b"IHAVEOPS\0\0\0\x03\0\0\0\0");
    assert!(client.is_cut_off());
}

// Spec: NBD-4, NBD-5, NBD-6
// Parity: F34
#[test]
fn malformed_options_are_invalid_and_the_handshake_goes_on() {
    let site = two_exports();
    let mut client = Client::connect(&site.path);
    assert_eq!(client.option(STRUCTURED, &[]), ACK);
    let long = "x".repeat(4097);
    for code in [INFO, GO, LIST_META, SET_META] {
        let count_len = if code == INFO || code == GO { 2 } else { 4 };
        for data in [
            vec![],
            vec![0; 3],
            be(u32::MAX.into(), 4),
            [be(1, 4), be(0, count_len)].concat(),
            [named("first"), be(1, count_len)].concat(),
            [named("first"), be(u32::MAX.into(), count_len)].concat(),
            [named("first"), be(0, count_len), vec![0]].concat(),
            [named("fi\0rst"), be(0, count_len)].concat(),
            [named(&long), be(0, count_len)].concat(),
            [be(2, 4), vec![0xff, 0xfe], be(0, count_len)].concat(),
        ] {
            assert_eq!(client.option(code, &data), ERR_INVALID, "{code} {data:?}");
        }
        let unknown = [named("third"), be(0, count_len)].concat();
        assert_eq!(client.option(code, &unknown), ERR_UNKNOWN);
    }
    for code in [LIST_META, SET_META] {
        assert_eq!(
            client.option(code, &contexts("first", &["no colon"])),
            ERR_INVALID
        );
        let cut = [named("first"), be(1, 4), be(99, 4), b"base:".to_vec()].concat();
        assert_eq!(client.option(code, &cut), ERR_INVALID);
    }
    for code in [LIST, STRUCTURED] {
        assert_eq!(client.option(code, &[0]), ERR_INVALID);
    }
    for code in [0, 4, 11, 77, u32::MAX] {
        assert_eq!(client.option(code, b"whatever"), ERR_UNSUP);
    }
    assert_eq!(client.option(STARTTLS, &[]), ERR_POLICY);
    assert_eq!(client.option(ABORT, b"ignored"), ACK);
    assert!(client.is_cut_off());
    for name in ["third", "fi\0rst", &long] {
        let mut client = Client::connect(&site.path);
        client.send_option(EXPORT_NAME, name.as_bytes());
        assert!(client.is_cut_off());
    }
}

// Spec: NBD-4, NBD-5, NBD-8, NBD-9
// Parity: F34
#[test]
fn exports_are_listed_and_described() {
    let site = two_exports();
    let mut client = Client::connect(&site.path);
    let list = client.replies(LIST, &[]);
    assert_eq!(
        list,
        [(2, named("first")), (2, named("second")), (ACK, vec![])]
    );
    let export = |flags: u64| (3, [be(0, 2), be(1 << 20, 8), be(flags, 2)].concat());
    let name = |name: &[u8]| (3, [&be(1, 2), name].concat());
    let description = (3, [&be(2, 2)[..], b"a disk in memory"].concat());
    let sizes = (
        3,
        [be(3, 2), be(1, 4), be(4096, 4), be(32 << 20, 4)].concat(),
    );
    assert_eq!(
        client.replies(INFO, &info("", &[1, 2, 3, 900])),
        [
            export(FLAGS_WRITABLE),
            name(b"first"),
            description,
            sizes,
            (ACK, vec![])
        ]
    );
    let bare = client.replies(INFO, &info("second", &[]));
    assert_eq!(bare, [export(FLAGS_READ_ONLY), (ACK, vec![])]);
    assert_eq!(client.option(STRUCTURED, &[]), ACK);
    let with_df = client.replies(GO, &info("second", &[]));
    assert_eq!(with_df, [export(FLAGS_READ_ONLY | FLAG_DF), (ACK, vec![])]);
}

// Spec: NBD-9, NBD-13
#[test]
fn clients_must_ask_for_block_sizes_that_are_not_usual() {
    let mut disk = MemDisk::new(1 << 20);
    disk.blocks = BlockSizes::new(512, 4096).unwrap();
    let site = serve(NbdServer::new(disk));
    let mut client = Client::connect(&site.path);
    assert_eq!(client.option(GO, &info("", &[])), ERR_BLOCK_SIZE_REQD);
    assert_eq!(client.option(GO, &info("", &[3])), ACK);
    assert_eq!(client.error_of(0, READ, 1, 512), EINVAL);
    assert_eq!(client.error_of(0, ZEROES, 512, 511), EINVAL);
    assert_eq!(client.write(0, 512, &[1; 512]), 0);
    let mut client = Client::connect(&site.path);
    client.send_option(EXPORT_NAME, &[]);
    assert!(client.is_cut_off());
    for (minimum, preferred) in [
        (0, 4096),
        (3, 4096),
        (1 << 17, 1 << 20),
        (1, 256),
        (1, 1 << 26),
    ] {
        assert_eq!(BlockSizes::new(minimum, preferred), None);
    }
}

// Spec: NBD-6, NBD-10
#[test]
fn the_context_counts_for_the_export_it_was_set_for() {
    let site = two_exports();
    let context = |id| (4, [&be(id, 4)[..], b"base:allocation"].concat());
    let status = |client: &mut Client| client.error_of(0, STATUS, 0, 4096);
    let mut client = Client::connect(&site.path);
    let early = contexts("first", &["base:allocation"]);
    assert_eq!(client.option(SET_META, &early), ERR_INVALID);
    assert_eq!(client.option(STRUCTURED, &[]), ACK);
    for queries in [&[][..], &["base:"], &["x:y", "base:allocation"]] {
        let listed = client.replies(LIST_META, &contexts("", queries));
        assert_eq!(listed, [context(0), (ACK, vec![])]);
    }
    let ignored = client.replies(SET_META, &contexts("", &["base:", "qemu:x", "base:other"]));
    assert_eq!(ignored, [(ACK, vec![])]);
    let set = client.replies(SET_META, &contexts("", &["base:allocation"]));
    assert_eq!(set, [context(1), (ACK, vec![])]);
    assert_eq!(client.option(GO, &info("first", &[])), ACK);
    assert_eq!(status(&mut client), 0);

    for spoil in [
        contexts("second", &["base:allocation"]),
        contexts("third", &[]),
        vec![1],
    ] {
        let mut client = Client::connect(&site.path);
        assert_eq!(client.option(STRUCTURED, &[]), ACK);
        assert_eq!(client.option(SET_META, &early), ACK);
        client.option(SET_META, &spoil);
        assert_eq!(client.option(GO, &info("first", &[])), ACK);
        assert_eq!(status(&mut client), EINVAL);
    }
}

// Spec: NBD-3, NBD-28
#[test]
fn garbage_instead_of_a_handshake_harms_nobody() {
    let site = two_exports();
    let mut witness = Client::simple(&site.path, "first");
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut client = Client::greet(&site.path, (seed % 4) as u32);
        let len = rng.below(3000) as usize;
        let mut garbage = rng.bytes(len);
        if seed % 3 == 0 {
            garbage.splice(0..0, *b"IHAVEOPT\0\0\0\x07\0\0\x01\0");
        }
        use std::io::Write;
        // The server may have had enough before all is sent.
        let _ = client.stream.write_all(&garbage);
    }
    assert_eq!(witness.read(0, 4), [0; 4]);
    assert_eq!(Client::simple(&site.path, "second").read(0, 4), [0; 4]);
}

// Spec: NBD-5
#[test]
fn names_that_cannot_be_told_apart_are_refused() {
    let disk = Arc::new(MemDisk::new(512));
    for name in ["a", "n\0l", &"x".repeat(4097)] {
        let server = NbdServer::named("a", Arc::clone(&disk)).unwrap();
        let refused = server.export(name, Arc::clone(&disk)).map(drop);
        assert!(matches!(refused, Err(NbdError::ExportName { .. })));
    }
}
