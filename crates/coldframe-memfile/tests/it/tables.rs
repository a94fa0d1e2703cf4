//! The rules of extents and block hashes, one by one, on files whose hashes hold.

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error};
use coldframe_memfile::{Encoded, Kind, Piece};
use coldframe_units::{ByteLen, FileOffset, PageIndex, PageSize, RamLayout};

use crate::forge::Forge;
use crate::sample::{diff, full};
use crate::support::{Page, build, builder, layout, open, run};

fn refused(file: &Encoded, edit: impl FnOnce(&mut Forge)) -> DecodeError {
    let mut forge = Forge::new(file);
    edit(&mut forge);
    forge.verify().unwrap_err()
}

#[track_caller]
fn check_invalid(file: &Encoded, field: &'static str, edit: impl FnOnce(&mut Forge)) {
    assert_eq!(refused(file, edit).kind, Error::Invalid { field });
}

/// Row `index` of the extents gets these bytes at `at`.
fn extent(index: usize, at: usize, bytes: impl AsRef<[u8]>) -> impl FnOnce(&mut Forge) {
    move |forge| forge.put(b"EXTN", index * 24 + at, bytes.as_ref())
}

/// Row `index` of the blocks gets these bytes at `at`, and the page hashes are made right.
fn block(index: usize, at: usize, bytes: impl AsRef<[u8]>) -> impl FnOnce(&mut Forge) {
    move |forge| {
        forge.put(b"BLKS", index * 48 + at, bytes.as_ref());
        forge.rehash_blocks();
    }
}

// Spec: MEM-9
#[test]
fn extents_rise_without_overlap_inside_ram() {
    for (file, _) in [full(), diff()] {
        check_invalid(&file, "ram_page", extent(1, 0, 0_u64.to_le_bytes()));
        check_invalid(&file, "page_count", extent(0, 8, 0_u32.to_le_bytes()));
        check_invalid(&file, "ram_page", extent(0, 8, 9_u32.to_le_bytes()));
        check_invalid(&file, "page_count", extent(0, 8, u32::MAX.to_le_bytes()));
        check_invalid(&file, "page_count", extent(0, 0, u64::MAX.to_le_bytes()));
    }
    check_invalid(&full().0, "page_count", extent(4, 8, 3_u32.to_le_bytes()));
}

// Spec: MEM-9, MEM-15
#[test]
fn rows_of_extents_hold_known_codes_and_zeros() {
    let (file, _) = diff();
    check_invalid(&file, "kind", extent(0, 12, [2]));
    for at in 13..16 {
        let error = refused(&file, extent(1, at, [1]));
        assert_eq!(error.kind, Error::ReservedNotZero);
    }
    let body = |f: &mut Forge| f.body(b"EXTN").push(0);
    check_invalid(&file, "section length", body);
}

// Spec: MEM-10
// Parity: F10
#[test]
fn a_full_file_leaves_no_page_out() {
    let (file, _) = full();
    check_invalid(&file, "ram_page", extent(0, 0, 1_u64.to_le_bytes()));
    check_invalid(&file, "ram_page", extent(1, 8, 6_u32.to_le_bytes()));
    let field = "extents, which do not reach the end of RAM";
    check_invalid(&file, field, extent(4, 8, 1_u32.to_le_bytes()));
    check_invalid(&file, field, |f| f.body(b"EXTN").clear());
}

// Spec: MEM-11
// Parity: F11
#[test]
fn zero_and_absent_are_told_apart() {
    let (file, _) = diff();
    let extents = open(&file).extents().unwrap();
    assert_eq!(extents.find(PageIndex::new(0)), None);
    assert!(extents.find(PageIndex::new(2)).unwrap().is_zero());
    assert!(extents.find(PageIndex::new(39)).unwrap().is_zero());
    assert_eq!(extents.find(PageIndex::new(40)), None);
    assert_eq!(extents.holes().count(), 0);
}

// Spec: MEM-12
#[test]
fn neighbours_of_one_kind_are_one_extent() {
    let (file, _) = full();
    let field = "extent that continues the one before";
    // The zeros at 3..10 as 3..5 and 5..10.
    check_invalid(&file, field, |forge| {
        let mut row = forge.body(b"EXTN")[24..48].to_vec();
        row[0] = 5;
        row[8] = 5;
        forge.put(b"EXTN", 24 + 8, &2_u32.to_le_bytes());
        forge.body(b"EXTN").splice(48..48, row);
    });
}

// Spec: MEM-12
#[test]
fn only_a_run_of_2_to_the_32_pages_is_split() {
    let pages = u64::from(u32::MAX) + 6;
    let ram = RamLayout::contiguous(ByteLen::new(pages * 4096)).unwrap();
    for kind in [Kind::Full, Kind::Diff] {
        let mut builder = builder(kind, PageSize::SIZE_4K, &ram);
        builder.push_zero(run(0, 3)).unwrap();
        builder.push_zero(run(3, pages - 3)).unwrap();
        let file = builder.finish([]).unwrap();
        let view = open(&file);
        view.verify_tables().unwrap();
        let runs: Vec<_> = view.extents().unwrap().iter().map(|e| e.run).collect();
        let full = u64::from(u32::MAX);
        assert_eq!(runs, [run(0, full), run(full, 6)]);
        assert_eq!(crate::reencode::rebuild(&view).unwrap(), file);
    }
}

// Spec: MEM-13, MEM-5, MEM-6
#[test]
fn where_data_lies_is_determined() {
    for ((file, _), offset) in [(full(), 0x20_1000_u64), (diff(), 0x2000)] {
        let at = offset.to_le_bytes();
        check_invalid(&file, "file_offset", extent(0, 16, at));
        check_invalid(&file, "file_offset", extent(1, 16, at));
    }
    let (file, _) = diff();
    let offsets: Vec<u64> = open(&file)
        .extents()
        .unwrap()
        .iter()
        .filter_map(|e| e.file_offset_of(e.run.start(), PageSize::SIZE_4K))
        .map(FileOffset::get)
        .collect();
    assert_eq!(offsets, [0x1000, 0x2000, 0x4000]);
}

// Spec: MEM-14
#[test]
fn the_data_section_is_as_long_as_the_extents_say() {
    let (file, _) = diff();
    let field = "length of the data section";
    check_invalid(&file, field, extent(3, 8, 3_u32.to_le_bytes()));
}

// Spec: MEM-15
#[test]
fn no_extent_is_seen_before_the_hash_of_all_held() {
    let (mut file, _) = diff();
    let row = file.tail.len() - 6 * 64 - 32 - 2 * 48 - 24;
    file.tail[row] ^= 1;
    let view = open(&file);
    assert_eq!(view.extents().unwrap_err().kind, Error::BodyHash);
}

// Spec: MEM-16
#[test]
fn there_is_one_row_for_each_block_with_data() {
    let (file, _) = diff();
    check_invalid(&file, "block row, against the extents", block(1, 0, [2]));
    check_invalid(&file, "block", block(1, 0, [0]));
    check_invalid(&file, "block", block(1, 0, [4]));
    check_invalid(&file, "block", block(1, 0, u64::MAX.to_le_bytes()));
    check_invalid(&file, "block rows, too few", |forge| {
        forge.body(b"BLKS").truncate(48);
        forge.rehash_blocks();
    });
    check_invalid(&file, "block rows, too many", |forge| {
        let mut row = forge.body(b"BLKS")[..48].to_vec();
        row[0] = 3;
        forge.body(b"BLKS").extend(row);
        forge.rehash_blocks();
    });
    check_invalid(&file, "section length", |forge| {
        forge.body(b"BLKS").push(0);
        forge.rehash_blocks();
    });
}

// Spec: MEM-17
#[test]
fn covers_says_whether_the_block_is_whole() {
    let (file, _) = diff();
    check_invalid(&file, "covers", block(0, 40, [2]));
    check_invalid(&file, "block row, against the extents", block(0, 40, [0]));
    check_invalid(&file, "block row, against the extents", block(1, 40, [1]));
    assert_eq!(
        refused(&file, block(0, 47, [1])).kind,
        Error::ReservedNotZero
    );
    let blocks = open(&file);
    let blocks = blocks.blocks().unwrap();
    assert_eq!(blocks.get(0).unwrap().unwrap().chunk_id(), None);
    assert!(blocks.get(1).unwrap().unwrap().chunk_id().is_some());
}

// Spec: MEM-18
#[test]
fn a_whole_block_is_hashed_as_the_guest_sees_it_and_another_by_its_data() {
    let (file, pages) = diff();
    let view = open(&file);
    let (extents, blocks) = (view.extents().unwrap(), view.blocks().unwrap());
    let plans: Vec<_> = extents.block_plans().collect();
    let data = |at, pages: u64| Piece::Data {
        file_offset: FileOffset::new(at),
        len: ByteLen::new(pages * 4096),
    };
    assert_eq!(plans[0].pieces(), [data(0x1000, 3)]);
    let zeros = ByteLen::new(12 * 4096);
    assert_eq!(
        plans[1].pieces(),
        [data(0x4000, 4), Piece::Zeros { len: zeros }]
    );
    let part = [vec![0x44; 4096], vec![0x55; 2 * 4096]].concat();
    let whole = [vec![0x66; 4 * 4096], vec![0; 12 * 4096]].concat();
    for (plan, bytes) in plans.iter().zip([part, whole]) {
        let row = blocks.get(plan.block()).unwrap().unwrap();
        assert_eq!(row.hash, *blake3::hash(&bytes).as_bytes());
        let mut stored = pages.block(plan);
        assert_eq!(row.matches(plan, &stored), Ok(true));
        stored[4095] ^= 0x80;
        assert_eq!(row.matches(plan, &stored), Ok(false));
    }
}

/// A Diff of every other block, so that the block table has three pages.
fn scattered() -> Encoded {
    let size = PageSize::SIZE_64K;
    let model: Vec<Page> = (0..4200)
        .map(|page| match page % 2 {
            0 => Page::Absent,
            _ => Page::Data(7),
        })
        .collect();
    build(Kind::Diff, size, &layout(size, &[4200]), &model).0
}

// Spec: MEM-19
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn one_hash_stands_for_each_1024_rows() {
    let file = scattered();
    let mut forge = Forge::new(&file);
    assert_eq!(forge.body(b"BPAG").len(), 3 * 32);
    let first = *blake3::hash(&forge.body(b"BLKS")[..48 * 1024]).as_bytes();
    assert_eq!(forge.body(b"BPAG")[..32], first);
    let field = "length of the block pages";
    check_invalid(&file, field, |f| f.body(b"BPAG").truncate(64));
    check_invalid(&file, field, |f| f.body(b"BPAG").extend([0; 32]));
    let error = refused(&file, |f| f.put(b"BPAG", 70, &[1, 2, 3]));
    assert_eq!(error.kind, Error::BodyHash);
}

// Spec: MEM-20
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn only_the_page_that_holds_the_answer_is_checked() {
    let file = scattered();
    let mut forge = Forge::new(&file);
    // One bit of a hash in the second page of the table; its page hash stays as it was.
    forge.body(b"BLKS")[1500 * 48 + 20] ^= 1;
    let offset = {
        forge.seal();
        forge.find(b"BLKS").0.offset + 1024 * 48
    };
    let damaged = DecodeError::new(Error::BodyHash, offset);
    let seen = forge.open(|view| {
        let blocks = view.blocks()?;
        assert_eq!((blocks.len(), blocks.is_empty()), (2100, false));
        for block in [1, 2, 2047, 4097, 4098, 4199, 4200] {
            let row = blocks.get(block)?;
            assert_eq!(row.is_some(), block % 2 == 1, "{block}");
        }
        // 2048 is absent, but its right neighbour lies in the damaged page.
        for block in [2048, 2049, 3001, 4095, 4096] {
            assert_eq!(blocks.get(block).unwrap_err(), damaged, "{block}");
        }
        let rows = blocks.iter_verified().take_while(Result::is_ok).count();
        assert_eq!(rows, 1024);
        Ok(())
    });
    assert_eq!(seen, Ok(()));
    // All the same the table says that it is damaged as a whole.
    let mut forge = Forge::new(&file);
    forge.body(b"BLKS")[1500 * 48 + 20] ^= 1;
    assert!(forge.verify().is_err());
}

// Spec: MEM-22
#[test]
fn gaps_are_all_the_zeros_that_no_hash_covers() {
    let (file, _) = full();
    let view = open(&file);
    let gaps: Vec<_> = view
        .gaps(&view.extents().unwrap())
        .map(|(at, len)| (at.get(), len.get()))
        .collect();
    let data = 2 << 20;
    let zeros = [(data + 3 * 4096, 7 * 4096), (data + 16 * 4096, 2 * 4096)];
    assert_eq!(gaps, [(160, data - 160), zeros[0], zeros[1]]);
    let (file, _) = diff();
    let view = open(&file);
    let gaps: Vec<_> = view.gaps(&view.extents().unwrap()).collect();
    assert_eq!(gaps, [(FileOffset::new(160), ByteLen::new(4096 - 160))]);
}
