//! What is and is not a Firecracker state, and where it says that RAM is.
#![allow(clippy::unwrap_used)]

use coldframe_units::{Arch, ByteLen, RamLayout};

use super::regions::list;
use super::{CRC, RegionsError, STATE_BYTES_MAX, State, StateError};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const X86_64: [u8; 8] = [0, 0, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07];
const AARCH64: [u8; 8] = [0, 0, 0xaa, 0xaa, 0x84, 0x19, 0x10, 0x07];

/// A body with its CRC.
fn closed(mut body: Vec<u8>) -> Vec<u8> {
    let crc = CRC.checksum(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    body
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A region: base, size, and whether it is of hotpluggable memory.
type Row = (u64, u64, bool);

/// A state up to 1.14: bincode with fixed integers.
fn bincode(magic: [u8; 8], version: &str, mem_mib: u64, rows: &[Row], typed: bool) -> Vec<u8> {
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    let mut body = magic.to_vec();
    body.extend(text(version));
    body.extend(mem_mib.to_le_bytes());
    body.push(0);
    body.extend(3_u32.to_le_bytes());
    body.extend(text("vmlinux"));
    body.push(0);
    body.push(1);
    body.extend(text("console=ttyS0"));
    body.extend(0_u32.to_le_bytes());
    if major >= 6 {
        body.extend(1_u64.to_le_bytes());
        body.extend(text("!171"));
    }
    body.extend((rows.len() as u64).to_le_bytes());
    let mut file_offset = 0_u64;
    for (base, size, hotpluggable) in rows {
        body.extend(base.to_le_bytes());
        body.extend(size.to_le_bytes());
        if major <= 4 {
            body.extend(file_offset.to_le_bytes());
            file_offset += size;
        }
        if typed {
            body.extend(u32::from(*hotpluggable).to_le_bytes());
            body.extend(2_u64.to_le_bytes());
            body.extend([1, 0]);
        }
    }
    body.extend([5; 300]);
    closed(body)
}

/// A column of 64-bit numbers as bitcode packs up to five of them.
fn u64s(values: &[u64]) -> Vec<u8> {
    let most = values.iter().max().unwrap();
    let (packing, width) = match most {
        0..=0xff => (6, 1),
        0x100..=0xffff => (4, 2),
        0x1_0000..=0xffff_ffff => (2, 4),
        _ => (0, 8),
    };
    let mut bytes = vec![packing];
    if width == 1 {
        let small: Vec<u8> = values.iter().map(|value| *value as u8).collect();
        bytes.extend(u8s(&small));
        return bytes;
    }
    bytes.extend(
        values
            .iter()
            .flat_map(|value| value.to_le_bytes()[..width].to_vec()),
    );
    bytes
}

/// A column of bytes: one or two as they are, more of them behind a byte that says how they are
/// packed: eight to a byte if all are 0 or 1.
fn u8s(values: &[u8]) -> Vec<u8> {
    if values.len() <= 2 {
        return values.to_vec();
    }
    if values.iter().any(|value| *value > 1) {
        return [&[0], values].concat();
    }
    let bits = values.iter().rev().fold(0, |bits, value| bits << 1 | value);
    vec![10, bits]
}

/// A state since 1.15: bitcode.
fn bitcode(magic: [u8; 8], version: &str, mem_mib: u64, rows: &[Row], kernel: &str) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(magic);
    body.push(version.len() as u8);
    body.extend(version.as_bytes());
    body.extend(u64s(&[mem_mib]));
    body.extend([1, 3]);
    if kernel.len() < 255 {
        body.push(kernel.len() as u8);
    } else {
        body.push(255);
        body.extend(u64s(&[kernel.len() as u64]));
    }
    body.extend(kernel.as_bytes());
    body.extend([1, 6]);
    body.extend(b"initrd");
    // No boot arguments, no huge pages, two capabilities of three and four letters.
    body.extend([0, 0, 2, 3, 4]);
    body.extend(b"171!172");
    body.push(rows.len() as u8);
    body.extend(u64s(&rows.iter().map(|row| row.0).collect::<Vec<_>>()));
    body.extend(u64s(&rows.iter().map(|row| row.1).collect::<Vec<_>>()));
    body.extend(u8s(&rows
        .iter()
        .map(|row| u8::from(row.2))
        .collect::<Vec<_>>()));
    body.extend([7; 300]);
    closed(body)
}

fn total(rows: &[Row]) -> ByteLen {
    ByteLen::new(rows.iter().map(|row| row.1).sum())
}

#[track_caller]
fn check(file: &[u8], arch: Arch, rows: &[Row], seen: &str) {
    let state = State::check(file).unwrap();
    assert_eq!(state.arch, arch);
    let layout = state.ram_layout(total(rows), None).unwrap();
    let regions = layout.regions().iter();
    let regions: Vec<_> = regions.map(|r| (r.addr().get(), r.len().get())).collect();
    let expected: Vec<_> = rows.iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(regions, expected, "{seen}");
    // The memory file is that of the state.
    let longer = ByteLen::new(total(rows).get() + 4096);
    let error = state.ram_layout(longer, None).unwrap_err();
    assert!(
        matches!(error, RegionsError::MemoryLength { .. }),
        "{error}"
    );
    // What the user says is compared.
    assert_eq!(state.ram_layout(total(rows), Some(&layout)), Ok(layout));
    let other = RamLayout::contiguous(ByteLen::new(4096)).unwrap();
    let error = state.ram_layout(total(rows), Some(&other)).unwrap_err();
    assert!(matches!(error, RegionsError::Stated { .. }), "{error}");
}

#[test]
fn the_ram_layout_is_that_of_the_state_in_every_format() {
    let old = [
        (0, 3 * GIB + 256 * MIB, false),
        (4 * GIB, 1280 * MIB, false),
    ];
    let new = [(0, 3 * GIB, false), (4 * GIB, 1536 * MIB, false)];
    let large = [
        (0, 3 * GIB, false),
        (4 * GIB, 252 * GIB, false),
        (512 * GIB, 45 * GIB, false),
    ];
    let hotplug = [
        (0, 3 * GIB, false),
        (4 * GIB, 1536 * MIB, false),
        (512 * GIB, 2 * GIB, true),
    ];
    let many = [
        (0, 3 * GIB, false),
        (4 * GIB, 252 * GIB, false),
        (512 * GIB, 45 * GIB, false),
        (1024 * GIB, GIB, true),
    ];
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0", "6.0.0"] {
        let file = bincode(X86_64, version, 4608, &old, false);
        check(&file, Arch::X86_64, &old, version);
    }
    for (rows, mib) in [
        (&new[..], 4608),
        (&large[..], 300 * 1024),
        (&new[..1], 3072),
    ] {
        for typed in [false, true] {
            let file = bincode(X86_64, "8.0.0", mib, rows, typed);
            check(&file, Arch::X86_64, rows, "8.0.0");
        }
    }
    check(
        &bincode(X86_64, "8.0.0", 4608, &hotplug, true),
        Arch::X86_64,
        &hotplug,
        "1.14",
    );
    for version in ["9.0.0", "10.0.0", "11.0.0"] {
        for (rows, mib) in [
            (&new[..], 4608),
            (&large[..], 300 * 1024),
            (&hotplug[..], 4608),
            (&many[..], 300 * 1024),
            (&new[..1], 3072),
        ] {
            for kernel in ["vmlinux".to_owned(), "long/".repeat(60)] {
                let file = bitcode(X86_64, version, mib, rows, &kernel);
                check(&file, Arch::X86_64, rows, version);
            }
        }
    }
}

#[test]
fn the_ram_of_an_aarch64_guest_begins_at_2_gib() {
    let arm = [(2 * GIB, 254 * GIB, false), (512 * GIB, 2 * GIB, false)];
    let mib = 256 * 1024;
    check(
        &bincode(AARCH64, "8.0.0", mib, &arm, true),
        Arch::Aarch64,
        &arm,
        "aarch64",
    );
    check(
        &bitcode(AARCH64, "10.0.0", mib, &arm, "Image"),
        Arch::Aarch64,
        &arm,
        "aarch64",
    );
}

#[test]
fn what_is_not_known_is_refused_with_what_would_do() {
    let rows = [(0, 64 * MIB, false)];
    for file in [
        bincode(X86_64, "7.0.0", 64, &rows, false),
        bincode(X86_64, "9.0.0", 64, &rows, true),
        bitcode(X86_64, "12.0.0", 64, &rows, "vmlinux"),
        bitcode(X86_64, "99.1.0", 64, &rows, "vmlinux"),
        bitcode(X86_64, "8.0.0", 64, &rows, "vmlinux"),
    ] {
        let state = State::check(&file).unwrap();
        let error = state.ram_layout(total(&rows), None).unwrap_err();
        assert!(
            matches!(error, RegionsError::UnknownVersion { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("--ram ADDR+LEN"), "{error}");
        let stated = RamLayout::contiguous(total(&rows)).unwrap();
        let layout = state.ram_layout(total(&rows), Some(&stated)).unwrap();
        assert_eq!(layout, stated);
    }
    // A fork, or damage that the CRC does not know of.
    for file in [
        bincode(X86_64, "6.0.0", 65, &rows, false),
        bincode(X86_64, "8.0.0", 65, &rows, true),
        bitcode(X86_64, "10.0.0", 65, &rows, "vmlinux"),
        bincode(X86_64, "6.0.0", 64, &[(0, 64 * MIB - 1, false)], false),
        bincode(
            X86_64,
            "6.0.0",
            96,
            &[(0, 64 * MIB, false), (MIB, 32 * MIB, false)],
            false,
        ),
        closed([&X86_64[..], &text("6.0.0")].concat()),
        closed([&[0][..], &X86_64, &[6], b"10.0.0"].concat()),
    ] {
        let state = State::check(&file).unwrap();
        let error = state.ram_layout(total(&rows), None).unwrap_err();
        assert!(matches!(error, RegionsError::NoRegions { .. }), "{error}");
    }
    assert_eq!(
        list(&RamLayout::contiguous(ByteLen::new(MIB)).unwrap()),
        "0x0+0x100000"
    );
}

#[test]
fn no_body_however_odd_is_more_than_refused() {
    let rows = [
        (0, 3 * GIB, false),
        (4 * GIB, GIB, false),
        (512 * GIB, GIB, true),
    ];
    for whole in [
        bincode(X86_64, "8.0.0", 4096, &rows, true),
        bitcode(X86_64, "10.0.0", 4096, &rows, "vmlinux"),
    ] {
        for len in 9..whole.len() - 8 {
            let cut = closed(whole[..len].to_vec());
            if let Ok(state) = State::check(&cut) {
                let _ = state.ram_layout(total(&rows), None);
            }
        }
        for at in 9..whole.len().min(200) {
            for value in [0, 1, 2, 3, 5, 7, 11, 0x7f, 0xff] {
                let mut changed = whole[..whole.len() - 8].to_vec();
                changed[at] = value;
                let changed = closed(changed);
                if let Ok(state) = State::check(&changed) {
                    let _ = state.ram_layout(total(&rows), None);
                }
            }
        }
    }
}

#[test]
fn a_state_of_1_6_is_named() {
    let mut magic = X86_64;
    magic[0] = 3;
    let file = closed([&magic[..], &[0; 100]].concat());
    let error = State::check(&file).unwrap_err();
    assert_eq!(error, StateError::Versionize { format: 3 });
    assert!(error.to_string().contains("1.6 or older"), "{error}");
}

#[test]
fn a_sound_state_is_known_by_its_magic() {
    let rows = [(0, MIB, false)];
    let file = bincode(X86_64, "1.0.0", 1, &rows, false);
    assert_eq!(State::check(&file).unwrap().arch, Arch::X86_64);
}

#[test]
fn every_flipped_bit_is_refused() {
    let sound = bincode(X86_64, "1.0.0", 1, &[(0, MIB, false)], false);
    for bit in 0..sound.len() * 8 {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(State::check(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_file_of_zeros_passes_the_crc_and_is_refused_all_the_same() {
    assert_eq!(CRC.checksum(&[0; 64]), 0);
    assert_eq!(State::check(&[0; 64]), Err(StateError::NoMagic));
}

#[test]
fn odd_lengths_are_refused_before_anything_is_read() {
    assert_eq!(State::check(&[]), Err(StateError::Length { len: 0 }));
    let long = vec![0; STATE_BYTES_MAX as usize + 1];
    assert_eq!(
        State::check(&long),
        Err(StateError::Length { len: long.len() })
    );
}
