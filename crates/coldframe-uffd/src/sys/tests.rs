//! Numbers and layouts, against linux/userfaultfd.h and linux/fs.h as they are written there.

use std::mem::offset_of;

use linux_raw_sys::general as raw;
use nix::{request_code_none, request_code_read, request_code_readwrite};

use super::UFFDIO;

#[test]
fn numbers_are_those_of_the_kernels_headers() {
    let number = |nr: u32, bytes: usize| request_code_readwrite!(UFFDIO, nr, bytes) as u32;
    assert_eq!(request_code_none!(UFFDIO, 0) as u32, 0xaa00);
    assert_eq!(number(0x3f, size_of::<raw::uffdio_api>()), 0xc018_aa3f);
    assert_eq!(number(0x00, size_of::<raw::uffdio_register>()), 0xc020_aa00);
    assert_eq!(number(0x03, size_of::<raw::uffdio_copy>()), 0xc028_aa03);
    assert_eq!(number(0x04, size_of::<raw::uffdio_zeropage>()), 0xc020_aa04);
    assert_eq!(number(0x05, size_of::<raw::uffdio_move>()), 0xc028_aa05);
    assert_eq!(
        number(0x06, size_of::<raw::uffdio_writeprotect>()),
        0xc018_aa06
    );
    assert_eq!(number(0x07, size_of::<raw::uffdio_continue>()), 0xc020_aa07);
    assert_eq!(number(0x08, size_of::<raw::uffdio_poison>()), 0xc020_aa08);
    let reading = |nr: u32| request_code_read!(UFFDIO, nr, size_of::<raw::uffdio_range>()) as u32;
    assert_eq!(reading(1), 0x8010_aa01);
    assert_eq!(reading(2), 0x8010_aa02);
    let scan = request_code_readwrite!(b'f', 16, size_of::<raw::pm_scan_arg>()) as u32;
    assert_eq!(scan, 0xc060_6610);
    let calls = [
        raw::_UFFDIO_REGISTER,
        raw::_UFFDIO_UNREGISTER,
        raw::_UFFDIO_WAKE,
        raw::_UFFDIO_COPY,
        raw::_UFFDIO_ZEROPAGE,
        raw::_UFFDIO_MOVE,
        raw::_UFFDIO_WRITEPROTECT,
        raw::_UFFDIO_CONTINUE,
        raw::_UFFDIO_POISON,
    ];
    assert_eq!(calls, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn fields_are_where_the_kernels_headers_have_them() {
    assert_eq!(offset_of!(raw::uffdio_api, features), 8);
    assert_eq!(offset_of!(raw::uffdio_api, ioctls), 16);
    assert_eq!(offset_of!(raw::uffdio_register, mode), 16);
    assert_eq!(offset_of!(raw::uffdio_register, ioctls), 24);
    assert_eq!(offset_of!(raw::uffdio_copy, src), 8);
    assert_eq!(offset_of!(raw::uffdio_copy, len), 16);
    assert_eq!(offset_of!(raw::uffdio_copy, mode), 24);
    assert_eq!(offset_of!(raw::uffdio_copy, copy), 32);
    assert_eq!(offset_of!(raw::uffdio_zeropage, zeropage), 24);
    assert_eq!(offset_of!(raw::uffdio_move, move_), 32);
    assert_eq!(offset_of!(raw::uffdio_writeprotect, mode), 16);
    assert_eq!(offset_of!(raw::uffdio_continue, mapped), 24);
    assert_eq!(offset_of!(raw::uffdio_poison, updated), 24);
    assert_eq!(offset_of!(raw::pm_scan_arg, walk_end), 32);
    assert_eq!(offset_of!(raw::pm_scan_arg, vec), 40);
    assert_eq!(offset_of!(raw::pm_scan_arg, max_pages), 56);
    assert_eq!(offset_of!(raw::pm_scan_arg, return_mask), 88);
    assert_eq!(size_of::<raw::page_region>(), 24);
}
