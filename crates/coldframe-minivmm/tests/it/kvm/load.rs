//! Other people's programs: flat binaries, ELF images, and what only looks like one.

use std::path::Path;

use coldframe_minivmm::{
    Backing, Config, ElfError, EndReason, Entry, Event, Guest, LoadError, MiniVm, MiniVmError,
    Program, Shape, Stops, Tracking,
};
use coldframe_units::{ByteLen, GuestAddr};

use super::no_kvm;

/// A machine of 64 MiB with `program`.
fn boot(program: Program) -> Result<MiniVm, MiniVmError> {
    MiniVm::boot(&Config {
        ram: ByteLen::new(64 << 20),
        backing: Backing::Anonymous,
        shape: Shape {
            vcpus: 1,
            irqchip: false,
        },
        tracking: Tracking::Off,
        program,
    })
}

/// Boots a flat binary.
fn flat(bytes: &[u8], load_at: u64, entry: Entry) -> Result<MiniVm, MiniVmError> {
    boot(Program::Flat {
        bytes: bytes.to_vec(),
        load_at: GuestAddr::new(load_at),
        entry,
    })
}

/// Why a program was not loaded.
#[track_caller]
fn refusal(booted: Result<MiniVm, MiniVmError>) -> LoadError {
    match booted {
        Err(MiniVmError::Load(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was loaded"),
    }
}

/// A row of the table of program headers.
struct Row {
    offset: u64,
    addr: u64,
    file_len: u64,
    memory_len: u64,
}

/// An ELF image with these rows, and `code` after the table.
fn elf(entry: u64, rows: &[Row], code: &[u8]) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    out.resize(16, 0);
    for half in [2u16, 62] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1u32.to_le_bytes());
    for word in [entry, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    for half in [64, 56, rows.len() as u16, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    for row in rows {
        out.extend(1u32.to_le_bytes());
        out.extend(7u32.to_le_bytes());
        let words = [row.offset, row.addr, row.addr, row.file_len, row.memory_len];
        for word in words.into_iter().chain([0x1000]) {
            out.extend(word.to_le_bytes());
        }
    }
    out.extend(code);
    out
}

/// `mov al, 5; out 0xf4, al`.
const CODE: [u8; 4] = [0xb0, 5, 0xe6, 0xf4];

/// An image that runs `CODE` at 1 MiB, with `change` made to its only row.
fn small(change: impl FnOnce(&mut Row)) -> Vec<u8> {
    let mut row = Row {
        offset: 120,
        addr: 0x10_0000,
        file_len: 4,
        memory_len: 0x1000,
    };
    change(&mut row);
    elf(0x10_0000, &[row], &CODE)
}

#[test]
fn every_mode_of_entry_runs() {
    if no_kvm() {
        return;
    }
    for (load_at, entry) in [
        (0x1000, Entry::Real),
        (0x2_3456, Entry::Real),
        (0x10_0000, Entry::Protected),
        (0x10_0000, Entry::Long),
    ] {
        let mut vm = flat(&CODE, load_at, entry).unwrap();
        let event = vm.run_until_event(Stops::NONE).unwrap();
        assert_eq!(event, Event::Ended(EndReason::Code(5)), "{entry:?}");
    }
    let mut vm = boot(Program::Elf {
        bytes: small(|_| {}),
    })
    .unwrap();
    let event = vm.run_until_event(Stops::NONE).unwrap();
    assert_eq!(event, Event::Ended(EndReason::Code(5)));
}

#[test]
fn flat_binaries_out_of_place_are_refused() {
    let outside = |at, entry| refusal(flat(&CODE, at, entry));
    assert_eq!(refusal(flat(&[], 0x1000, Entry::Real)), LoadError::Empty);
    assert!(matches!(
        outside((64 << 20) - 3, Entry::Long),
        LoadError::OutsideRam { .. }
    ));
    assert!(matches!(
        outside(u64::MAX, Entry::Long),
        LoadError::OutsideRam { .. }
    ));
    assert!(matches!(
        outside(0x9000, Entry::Protected),
        LoadError::OverlapsBoot { .. }
    ));
    assert!(matches!(
        outside(1 << 20, Entry::Real),
        LoadError::OutOfReach { .. }
    ));
}

#[test]
fn hostile_images_are_refused_by_kind() {
    let load = |bytes| refusal(boot(Program::Elf { bytes }));
    let elf_error = |bytes| match load(bytes) {
        LoadError::Elf(error) => error,
        other => panic!("{other}"),
    };
    let segment = ElfError::Segment { index: 0 };
    assert_eq!(elf_error(b"#!/bin/sh".to_vec()), ElfError::BadMagic);
    assert_eq!(elf_error(small(|r| r.offset = u64::MAX)), segment);
    assert_eq!(elf_error(small(|r| r.file_len = 5)), segment);
    assert_eq!(elf_error(small(|r| r.memory_len = 3)), segment);
    assert_eq!(elf_error(small(|r| r.addr = u64::MAX)), segment);
    assert_eq!(elf_error(small(|r| r.memory_len = 0)), ElfError::NoSegments);
    assert!(matches!(
        elf_error(small(|r| r.addr = 0x20_0000)),
        ElfError::Entry { .. }
    ));
    assert!(matches!(
        load(small(|r| r.memory_len = 1 << 40)),
        LoadError::OutsideRam { .. }
    ));
    let row = |addr| Row {
        offset: 176,
        addr,
        file_len: 4,
        memory_len: 0x1000,
    };
    let twice = elf(0x10_0000, &[row(0x10_0000), row(0x10_0800)], &CODE);
    assert!(matches!(load(twice), LoadError::OverlappingSegments { .. }));
    let low = elf(0x7000, &[row(0x7000)], &CODE);
    assert!(matches!(load(low), LoadError::Elf(_)));
}

#[test]
fn cut_and_flipped_images_never_panic() {
    if no_kvm() {
        return;
    }
    let good = small(|_| {});
    let mut try_load = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        drop(boot(Program::Elf { bytes }));
    };
    coldframe_testkit::hostile::check_truncations(&good, &mut try_load);
    coldframe_testkit::hostile::check_bit_flips(&good, &mut try_load);
}

#[test]
fn the_tiny_kernel_prints_its_lines_and_ends() {
    if no_kvm() {
        return;
    }
    let Some(dir) = std::env::var_os("COLDFRAME_TINY_KERNEL") else {
        coldframe_testkit::require::skipped("tiny-kernel", "COLDFRAME_TINY_KERNEL is not set");
        return;
    };
    let home = coldframe_testkit::scratch::on_disk();
    let out = home.path().join("tiny");
    let built = coldframe_testkit::child::command(Path::new(&dir).join("build.sh"))
        .arg(&out)
        .args(["-DROUNDS=256", "-DPAGES=512"])
        .status()
        .unwrap();
    assert!(built.success());
    let bytes = std::fs::read(&out).unwrap();
    let mut vm = boot(Program::Elf { bytes }).unwrap();
    let event = vm.run_until_event(Stops::NONE).unwrap();
    assert_eq!(event, Event::Ended(EndReason::Code(0)));
    let console = String::from_utf8(vm.console()).unwrap();
    let lines: Vec<&str> = console.lines().collect();
    assert_eq!(lines.len(), 33);
    assert_eq!(lines[32], "END");
    let hex = |s: &str, len| s.len() == len && s.bytes().all(|b| b"0123456789abcdef".contains(&b));
    for line in &lines[..32] {
        let (round, hash) = line.split_once(' ').unwrap();
        assert!(hex(round, 6) && hex(hash, 16), "{line}");
    }
}
