//! Requests: what is carried out, what is refused, and how.

use std::sync::Arc;

use coldframe_nbd::{Errno, Export, ExportError, NbdServer, ReadOnly, ZeroMode};
use coldframe_testkit::scratch;

use crate::client::*;
use crate::disk::{Event, MemDisk};
use crate::exports::{Plain, Sharing};
use crate::handshake::{Site, serve};
use crate::tools::{nbdsh, patchwork};

pub const MIB: u64 = 1 << 20;

fn served(disk: MemDisk) -> (Arc<MemDisk>, Site) {
    let disk = Arc::new(disk);
    let site = serve(NbdServer::new(Arc::clone(&disk)));
    (disk, site)
}

// Spec: NBD-13, NBD-14, NBD-19
// Parity: D26, F35
#[test]
fn odd_requests_are_answered_and_change_nothing() {
    let (disk, site) = served(MemDisk::new(MIB as usize));
    for mut client in [
        Client::simple(&site.path, ""),
        Client::structured(&site.path, ""),
    ] {
        for command in [READ, TRIM, CACHE, STATUS, ZEROES] {
            let past = if command == ZEROES { ENOSPC } else { EINVAL };
            for (offset, len) in [
                (MIB - 512, 4096),
                (MIB, 1),
                (u64::MAX, 1),
                (u64::MAX, 0),
                (u64::MAX - 5, 6),
                (0, u32::MAX),
                (1 << 63, u32::MAX),
            ] {
                let got = client.error_of(0, command, offset, len);
                let no_context = command == STATUS && (got == EINVAL);
                assert!(
                    got == past || no_context,
                    "{command} {offset:#x}+{len:#x}: {got}"
                );
            }
            assert_eq!(client.error_of(1 << 15, command, 0, 512), EINVAL);
            for flag in [NO_HOLE, DF, REQ_ONE, FAST_ZERO, 1 << 5] {
                let known = match command {
                    READ => flag == DF,
                    STATUS => flag == REQ_ONE,
                    ZEROES => flag == NO_HOLE || flag == FAST_ZERO,
                    _ => false,
                };
                if !known {
                    assert_eq!(client.error_of(flag, command, 0, 512), EINVAL);
                }
            }
        }
        for (flags, offset, len, error) in [
            (0, MIB - 512, 4096, ENOSPC),
            (0, u64::MAX, 4096, ENOSPC),
            (DF, 0, 4096, EINVAL),
            (1 << 15, 0, 4096, EINVAL),
            (0, 0, 33 << 20, EINVAL),
        ] {
            assert_eq!(client.write(flags, offset, &vec![9; len]), error);
        }
        assert_eq!(client.error_of(0, READ, 0, 33 << 20), EINVAL);
        assert_eq!(client.error_of(0, FLUSH, 1, 0), EINVAL);
        assert_eq!(client.error_of(0, FLUSH, 0, 1), EINVAL);
        for command in [8, 9, 77, u16::MAX] {
            assert_eq!(client.error_of(0, command, 0, 0), EINVAL);
        }
        for command in [READ, WRITE, TRIM, CACHE, ZEROES] {
            assert_eq!(client.error_of(0, command, MIB, 0), 0);
        }
        assert_eq!(client.error_of(0, STATUS, 0, 0), EINVAL);
    }
    assert_eq!(disk.events(), []);
}

// Spec: NBD-8, NBD-13
// Parity: D36
#[test]
fn a_read_only_export_cannot_be_written() {
    let disk = Arc::new(MemDisk::holding(&patchwork(MIB as usize, 3)));
    let before = disk.bytes();
    let site = serve(NbdServer::new(ReadOnly(Arc::clone(&disk))));
    let mut client = Client::structured(&site.path, "");
    assert_eq!(client.write(FUA, 0, &[1; 4096]), EPERM);
    assert_eq!(client.error_of(0, TRIM, 0, 4096), EPERM);
    assert_eq!(client.error_of(0, ZEROES, 0, 4096), EPERM);
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    assert_eq!(client.error_of(0, CACHE, 0, 4096), 0);
    assert_eq!(disk.bytes(), before);
    assert_eq!(disk.events(), [Event::Cache(0, 4096)]);
    let direct = ReadOnly(Arc::clone(&disk));
    assert_eq!(direct.write_at(&[1], 0), Err(Errno::NotPermitted.into()));
    drop(site);
    assert!(!disk.events().contains(&Event::Flush));
}

// Spec: NBD-14
#[test]
fn long_reads_send_holes_as_such_unless_told_not_to() {
    let (disk, site) = served(MemDisk::new(4 * MIB as usize));
    disk.write_at(&[5; 8192], MIB).unwrap();
    let mut client = Client::structured(&site.path, "");
    client.ask(0, READ, 0, 4 << 20);
    let hole = |offset: u64, len: u64| (2, [be(offset, 8), be(len, 4)].concat());
    let data = |offset: u64, bytes: &[u8]| (1, [&be(offset, 8), bytes].concat());
    assert_eq!(
        client.chunks(),
        [
            hole(0, MIB),
            data(MIB, &[5; 8192]),
            hole(MIB + 8192, 3 * MIB - 8192)
        ]
    );
    for flags in [DF, DF | FUA] {
        client.ask(flags, READ, 0, 4 << 20);
        assert_eq!(client.chunks(), [data(0, &disk.bytes())]);
    }
    client.ask(0, READ, 4096, 512);
    assert_eq!(client.chunks(), [data(4096, &[0; 512])]);
    client.ask(0, READ, 0, 0);
    assert_eq!(client.chunks(), [(0, vec![])]);
}

// Spec: NBD-14
#[test]
fn a_read_of_too_many_pieces_is_whole_nevertheless() {
    let (disk, site) = served(MemDisk::new(4 * MIB as usize));
    for block in (0..1024).step_by(2) {
        disk.write_at(&[block as u8 | 1; 4096], block * 4096)
            .unwrap();
    }
    let mut client = Client::structured(&site.path, "");
    client.ask(0, READ, 1000, (4 << 20) - 1000);
    let chunks = client.chunks();
    assert!((100..=128).contains(&chunks.len()));
    let mut bytes = vec![0xee; 4 << 20];
    for (kind, body) in chunks {
        let (offset, body) = (be64(&body) as usize, &body[8..]);
        if kind == 1 {
            bytes[offset..][..body.len()].copy_from_slice(body);
        } else {
            bytes[offset..][..be32(body) as usize].fill(0);
        }
    }
    assert!(bytes[1000..] == disk.bytes()[1000..]);
}

// Spec: NBD-20
#[test]
fn block_status_merges_clips_and_honours_one() {
    let (disk, site) = served(MemDisk::new(MIB as usize));
    disk.write_at(&[1; 8192], 8192).unwrap();
    let mode = ZeroMode {
        may_punch: false,
        is_fast_only: false,
    };
    disk.write_zeroes(16384, 4096, mode).unwrap();
    let mut client = Client::structured(&site.path, "");
    let mut status = |flags, offset, len| {
        client.ask(flags, STATUS, offset, len);
        let chunks = client.chunks();
        assert_eq!((chunks.len(), chunks[0].0, be32(&chunks[0].1)), (1, 5, 1));
        let rows = chunks[0].1[4..].chunks(8);
        rows.map(|row| (be32(row), be32(&row[4..])))
            .collect::<Vec<_>>()
    };
    assert_eq!(status(0, 0, 16384), [(8192, 3), (8192, 0)]);
    assert_eq!(
        status(0, 0, 1 << 20),
        [(8192, 3), (8192, 0), (4096, 2), ((1 << 20) - 20480, 3)]
    );
    assert_eq!(status(REQ_ONE, 0, 1 << 20), [(8192, 3)]);
    assert_eq!(status(REQ_ONE, 9000, 100), [(100, 0)]);
    assert_eq!(status(0, 8191, 2), [(1, 3), (1, 0)]);
}

// Spec: NBD-17, NBD-18
// Parity: F37
#[test]
fn trim_cache_and_zeroing_reach_the_export() {
    let (disk, site) = served(MemDisk::new(MIB as usize));
    let mut client = Client::simple(&site.path, "");
    assert_eq!(client.error_of(0, TRIM, 512, 8192), 0);
    assert_eq!(client.error_of(0, CACHE, 0, 1 << 20), 0);
    assert_eq!(client.error_of(0, ZEROES, 0, 4096), 0);
    assert_eq!(client.error_of(NO_HOLE, ZEROES, 0, 4096), 0);
    assert_eq!(client.error_of(FAST_ZERO, ZEROES, 0, 4096), 0);
    let mode = |may_punch, is_fast_only| ZeroMode {
        may_punch,
        is_fast_only,
    };
    assert_eq!(
        disk.events(),
        [
            Event::Trim(512, 8192),
            Event::Cache(0, MIB),
            Event::Zero(0, 4096, mode(true, false)),
            Event::Zero(0, 4096, mode(false, false)),
            Event::Zero(0, 4096, mode(true, true)),
        ]
    );
}

// Spec: NBD-8, NBD-13, NBD-17, NBD-18, NBD-20, NBD-22
#[test]
fn a_plain_export_zeroes_by_writing_and_is_all_data() {
    let disk = MemDisk::holding(&[7; MIB as usize]);
    let site = serve(NbdServer::new(Plain(disk)));
    let mut client = Client::structured(&site.path, "");
    assert_eq!(client.error_of(FAST_ZERO, ZEROES, 0, 4096), EINVAL);
    assert_eq!(client.error_of(0, ZEROES, 1, (MIB - 2) as u32), 0);
    assert_eq!(client.error_of(0, TRIM, 0, 4096), 0);
    client.ask(0, STATUS, 0, 1 << 20);
    assert_eq!(
        client.chunks(),
        [(5, [be(1, 4), be(MIB, 4), be(0, 4)].concat())]
    );
    client.ask(0, READ, 0, 1 << 20);
    let body = client.chunks().remove(0).1;
    assert_eq!(
        (body[8], body[9], body[body.len() - 2], body[body.len() - 1]),
        (7, 0, 0, 7)
    );
    // It panics, and goes on.
    assert_eq!(client.error_of(0, READ, 13, 1), EIO);
    assert_eq!(client.error_of(0, READ, 14, 1), 0);
}

// Spec: NBD-14, NBD-22
#[test]
fn what_an_export_shares_is_sent_as_it_is() {
    let bytes: Vec<u8> = (0..MIB).map(|at| (at * 31 / 7) as u8).collect();
    let site = serve(NbdServer::new(Sharing(MemDisk::holding(&bytes))));
    let mut simple = Client::simple(&site.path, "");
    assert!(simple.read(0, 1 << 20) == bytes);
    assert!(simple.read(77, 100_000) == bytes[77..100_077]);
    let mut structured = Client::structured(&site.path, "");
    for flags in [0, DF] {
        structured.ask(flags, READ, 3, 400_000);
        let chunks = structured.chunks();
        assert_eq!(chunks.len(), 1);
        assert!(chunks[0].1 == [&be(3, 8), &bytes[3..400_003]].concat());
    }
    for client in [&mut simple, &mut structured] {
        assert_eq!(client.error_of(0, READ, MIB / 2 + 1, 100_000), EIO);
        assert_eq!(client.error_of(0, READ, 0, 100_000), 0);
    }
}

// Spec: NBD-11, NBD-14, NBD-22
#[test]
fn errors_of_the_export_reach_the_client() {
    for (errno, number) in [
        (Errno::NotPermitted, EPERM),
        (Errno::Io, EIO),
        (Errno::NoMemory, 12),
        (Errno::Invalid, EINVAL),
        (Errno::NoSpace, ENOSPC),
        (Errno::Overflow, 75),
        (Errno::NotSupported, EINVAL),
        (Errno::Shutdown, 108),
    ] {
        let mut disk = MemDisk::new(MIB as usize);
        disk.error = Some(errno);
        let (_, site) = served(disk);
        let mut simple = Client::simple(&site.path, "");
        let mut structured = Client::structured(&site.path, "");
        for command in [READ, TRIM, CACHE, ZEROES] {
            assert_eq!(simple.error_of(0, command, 0, 65536), number);
            assert_eq!(structured.error_of(0, command, 0, 9), number);
        }
        assert_eq!(simple.error_of(0, FLUSH, 0, 0), number);
        assert_eq!(simple.write(0, 0, &[1]), number);
        structured.ask(0, FLUSH, 0, 0);
        let message = [&be(number.into(), 4), &be(12, 2)[..], b"told to fail"].concat();
        assert_eq!(structured.chunks(), [(0x8001, message)]);
        let fast = if errno == Errno::NotSupported {
            ENOTSUP
        } else {
            number
        };
        assert_eq!(simple.error_of(FAST_ZERO, ZEROES, 0, 4096), fast);
    }
    let kinds = [
        (std::io::ErrorKind::StorageFull, Errno::NoSpace),
        (std::io::ErrorKind::QuotaExceeded, Errno::NoSpace),
        (std::io::ErrorKind::FileTooLarge, Errno::NoSpace),
        (std::io::ErrorKind::ReadOnlyFilesystem, Errno::NotPermitted),
        (std::io::ErrorKind::OutOfMemory, Errno::NoMemory),
        (std::io::ErrorKind::ConnectionReset, Errno::Io),
    ];
    for (kind, errno) in kinds {
        assert_eq!(ExportError::from(std::io::Error::from(kind)).errno(), errno);
    }
}

// Spec: NBD-12, NBD-21
#[test]
fn replies_come_before_the_end() {
    let (disk, site) = served(MemDisk::new(MIB as usize));
    for end in [
        request(0, DISC, 1, 0, 0),
        request(0xffff, DISC, 1, 5, 5),
        vec![0x25; 28],
    ] {
        let mut client = Client::simple(&site.path, "");
        let write = [request(0, WRITE, 1, 0, 4), b"abcd".to_vec()].concat();
        client.send(
            &[
                write,
                request(0, FLUSH, 2, 0, 0),
                end,
                request(0, TRIM, 3, 0, 1),
            ]
            .concat(),
        );
        assert_eq!((client.reply().cookie(), client.reply().cookie()), (1, 2));
        assert!(client.is_cut_off());
    }
    assert!(!disk.events().contains(&Event::Trim(0, 1)));
}

// Spec: NBD-15, NBD-16
#[test]
fn fua_and_flush_are_durable_before_their_reply() {
    let (disk, site) = served(MemDisk::new(MIB as usize));
    let mut client = Client::simple(&site.path, "");
    assert_eq!(client.write(0, 0, &[1; 512]), 0);
    assert_eq!(disk.events(), [Event::Write(0, 512)]);
    assert_eq!(client.write(FUA, 512, &[2; 512]), 0);
    assert_eq!(disk.durable(), disk.bytes());
    assert_eq!(client.error_of(FUA, ZEROES, 0, 4096), 0);
    assert_eq!(disk.durable(), disk.bytes());
    assert_eq!(client.error_of(FUA, TRIM, 4096, 4096), 0);
    assert_eq!(disk.events().last(), Some(&Event::Flush));
    // A flush through one connection covers writes through another.
    let mut other = Client::simple(&site.path, "");
    assert_eq!(other.write(0, 9000, &[3; 100]), 0);
    assert_ne!(disk.durable(), disk.bytes());
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    assert_eq!(disk.durable(), disk.bytes());
    // FUA on what writes nothing has no effect.
    let count = disk.events().len();
    assert_eq!(client.error_of(FUA, CACHE, 0, 512), 0);
    assert_eq!(disk.events().len(), count + 1);
}

// Spec: NBD-13, NBD-14, NBD-18, NBD-19, NBD-20
#[test]
fn libnbd_without_its_own_checks_gets_the_same_answers() {
    let (_, site) = served(MemDisk::new(8 * MIB as usize));
    let dir = scratch::dir();
    let script = dir.path().join("odd.py");
    std::fs::write(&script, include_str!("odd_requests.py")).unwrap();
    if let Some(text) = nbdsh(&script, &site.handle.uri("")) {
        assert_eq!(text.trim(), "all as they should be");
    }
}
