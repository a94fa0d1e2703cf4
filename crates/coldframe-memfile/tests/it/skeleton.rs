//! A file without its pages: opened as the file, and the file again with its blocks.

use coldframe_envelope::{DecodeErrorKind, Limits};
use coldframe_memfile::{MemFile, Piece};
use coldframe_testkit::golden::golden;
use coldframe_units::{ChunkId, FileOffset};

use crate::sample::all;
use crate::support::{compact, whole};

const LIMITS: Limits = Limits::MEMORY_FILE;

// Spec: MEM-25
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_skeleton_says_what_the_file_says() {
    for (_, file, pages) in all() {
        let (skeleton, file) = (compact(&file), whole(&file, &pages));
        let (part, all) = (
            MemFile::open_skeleton(&skeleton, LIMITS).unwrap(),
            MemFile::open(&file, LIMITS).unwrap(),
        );
        part.verify_tables().unwrap();
        assert_eq!(part.root(), all.root());
        assert_eq!(part.file_len(), all.file_len());
        assert_eq!(part.tail_offset(), all.tail_offset());
        let at = usize::try_from(all.tail_offset().get()).unwrap();
        assert_eq!(skeleton, [&file[..160], &file[at..]].concat());
        let plans = |view: &MemFile<'_>| view.extents().unwrap().block_plans().collect::<Vec<_>>();
        assert_eq!(plans(&part), plans(&all));
    }
}

// Spec: MEM-26, MEM-18
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn skeleton_and_blocks_by_their_hashes_are_the_file() {
    for (_, file, pages) in all() {
        let (skeleton, file) = (compact(&file), whole(&file, &pages));
        let view = MemFile::open_skeleton(&skeleton, LIMITS).unwrap();
        let mut again = vec![0; file.len()];
        again[..160].copy_from_slice(&skeleton[..160]);
        let at = usize::try_from(view.tail_offset().get()).unwrap();
        again[at..].copy_from_slice(&skeleton[160..]);
        let blocks = view.blocks().unwrap();
        let mut rows = blocks.iter_verified();
        for plan in view.extents().unwrap().block_plans() {
            let row = rows.next().unwrap().unwrap();
            // What a store would have under the row's hash.
            let mut chunk = Vec::new();
            for piece in plan.pieces() {
                match *piece {
                    Piece::Data { file_offset, len } => {
                        let start = usize::try_from(file_offset.get()).unwrap();
                        let end = start + usize::try_from(len.get()).unwrap();
                        chunk.extend_from_slice(&file[start..end]);
                        again[start..end].copy_from_slice(&file[start..end]);
                    }
                    Piece::Zeros { len } => {
                        chunk.resize(chunk.len() + usize::try_from(len.get()).unwrap(), 0);
                    }
                }
            }
            assert_eq!(chunk.len() as u64, plan.hashed_len().get());
            let id = ChunkId::from_bytes(*blake3::hash(&chunk).as_bytes());
            assert_eq!(row.stored_id(), id);
            assert!(row.chunk_id().is_none_or(|whole| whole == id));
        }
        assert_eq!(again, file);
    }
}

// Spec: MEM-25
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_skeleton_cut_short_or_grown_is_refused() {
    for name in ["full", "diff", "diff_empty"] {
        let bytes = golden(format!("tests/golden/v1/{name}.bin"));
        for len in 0..bytes.len() {
            let error = MemFile::open_skeleton(&bytes[..len], LIMITS).unwrap_err();
            assert!(!error.is_unsupported_version(), "{len}: {error}");
        }
        let grown = [&bytes[..], &[0]].concat();
        assert!(MemFile::open_skeleton(&grown, LIMITS).is_err());
    }
}

// Spec: MEM-25
#[test]
fn a_whole_file_is_no_skeleton_and_errors_name_offsets_of_the_file() {
    let (_, file, pages) = all().into_iter().next().unwrap();
    assert!(MemFile::open_skeleton(&whole(&file, &pages), LIMITS).is_err());
    let mut skeleton = compact(&file);
    let last = skeleton.len() - 1;
    skeleton[last] ^= 1;
    let error = MemFile::open_skeleton(&skeleton, LIMITS).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::BodyHash);
    assert!(FileOffset::new(error.offset) >= file.tail_offset);
}
