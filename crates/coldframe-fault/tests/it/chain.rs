//! A chain of files as a source: what it hands out is what a restore by copying gives, and a byte
//! that is not what was saved is never handed out.

use std::path::{Path, PathBuf};

use coldframe_dirty::DirtyPages;
use coldframe_envelope::Producer;
use coldframe_fault::{BlockReader, BlockSource, ChainSource, Content};
use coldframe_mem::{
    CaptureSpec, FilePool, MemError, MemoryFile, MergeBudget, capture_diff, capture_full,
};
use coldframe_storage::FileStorage;
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::{Arch, BLOCK_BYTES, ByteLen, PageIndex, PageRun, PageSize};
use tempfile::TempDir;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

pub const PAGE: u64 = 4096;
/// Two regions; the second begins in the middle of a block, and the last block is a part of one.
const FIRST: u64 = 37 * PAGE;
const SECOND: u64 = 64 * PAGE;
pub const PAGES: u64 = (FIRST + SECOND) / PAGE;
const SECOND_AT: u64 = 1 << 30;

/// A guest, and the files that were made of it.
pub struct History {
    _dir: TempDir,
    pub paths: Vec<PathBuf>,
    guest: GuestMemoryMmap,
}

fn addr(offset: u64) -> GuestAddress {
    GuestAddress(if offset < FIRST {
        offset
    } else {
        SECOND_AT + offset - FIRST
    })
}

fn spec(page_size: PageSize) -> CaptureSpec {
    CaptureSpec {
        arch: Arch::X86_64,
        page_size,
        producer: Producer::new("tests", "1").unwrap(),
        merge: MergeBudget::NONE,
    }
}

impl History {
    /// A Full file and so many Diffs, of pages chosen by `seed`, zeros among them.
    pub fn new(diffs: usize, seed: u64) -> Self {
        let dir = scratch::dir();
        let ranges = [(0, FIRST), (SECOND_AT, SECOND)];
        let ranges = ranges.map(|(at, len)| (GuestAddress(at), usize::try_from(len).unwrap()));
        let guest = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        let mut rng = Rng::new(seed);
        let mut paths = Vec::new();
        let mut parent = None;
        for number in 0..=diffs {
            let dirty = write(&guest, &mut rng);
            let path = dir.path().join(number.to_string());
            let file = FileStorage::create(&path).unwrap();
            let spec = spec(PageSize::SIZE_4K);
            let captured = match parent {
                None => capture_full(&guest, &spec, &file),
                Some(parent) => capture_diff(&guest, &dirty, parent, &spec, &file),
            };
            parent = Some(captured.unwrap().finish(&file).unwrap().root);
            paths.push(path);
        }
        Self {
            _dir: dir,
            paths,
            guest,
        }
    }

    pub fn source(&self) -> ChainSource {
        let pool = FilePool::default();
        let open = |path: &PathBuf| MemoryFile::open(path, &pool).unwrap();
        ChainSource::open(self.paths.iter().map(open).collect()).unwrap()
    }

    /// What the guest has there.
    pub fn expected(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (page, at) in bytes.chunks_mut(4096).zip((offset..).step_by(4096)) {
            self.guest.read_slice(page, addr(at)).unwrap();
        }
        bytes
    }
}

/// Writes some pages, and says which.
fn write(guest: &GuestMemoryMmap, rng: &mut Rng) -> DirtyPages {
    let mut runs = Vec::new();
    for page in 0..PAGES {
        let bytes = match rng.below(6) {
            0 => vec![0; 4096],
            1 => rng.bytes(4096),
            _ => continue,
        };
        guest.write_slice(&bytes, addr(page * PAGE)).unwrap();
        runs.push(PageRun::new(PageIndex::new(page), 1).unwrap());
    }
    let ram = ByteLen::new(PAGES * PAGE);
    DirtyPages::from_runs(ram, PageSize::SIZE_4K, runs).unwrap()
}

pub fn block_len(block: u64) -> usize {
    let rest = PAGES * PAGE - block * BLOCK_BYTES;
    usize::try_from(rest.min(BLOCK_BYTES)).unwrap()
}

#[test]
fn every_block_of_every_chain_is_what_the_guest_had() {
    for (diffs, seed) in [(0, 1), (1, 2), (3, 3), (9, 4)] {
        let history = History::new(diffs, seed);
        let source = history.source();
        let mut reader = source.reader().unwrap();
        let blocks = (PAGES * PAGE).div_ceil(BLOCK_BYTES);
        // Backwards and again: a reader has no order.
        for block in (0..blocks).rev().chain(0..blocks) {
            let mut buf = vec![0xaa; block_len(block)];
            if reader.read(block, &mut buf).unwrap() == Content::Zero {
                buf.fill(0);
            }
            let expected = history.expected(block * BLOCK_BYTES, buf.len());
            assert!(buf == expected, "block {block} of {diffs} diffs");
        }
    }
}

#[test]
fn a_block_of_zeros_is_said_to_be_zero() {
    let history = History::new(0, 5);
    let source = history.source();
    let mut reader = source.reader().unwrap();
    let zero = (0..).find(|block| {
        let bytes = history.expected(block * BLOCK_BYTES, block_len(*block));
        bytes.iter().all(|byte| *byte == 0) || (block + 1) * BLOCK_BYTES >= PAGES * PAGE
    });
    let block = zero.unwrap();
    let mut buf = vec![0xaa; block_len(block)];
    let is_zero = history
        .expected(block * BLOCK_BYTES, buf.len())
        .iter()
        .all(|b| *b == 0);
    assert_eq!(
        reader.read(block, &mut buf).unwrap() == Content::Zero,
        is_zero
    );
}

/// Every byte of a file, one at a time: a block that is read is right, or there is an error.
#[test]
fn a_byte_that_changes_in_a_file_is_never_handed_out() {
    let history = History::new(2, 6);
    let blocks = (PAGES * PAGE).div_ceil(BLOCK_BYTES);
    let mut is_found = 0;
    for path in &history.paths {
        let len = std::fs::metadata(path).unwrap().len();
        for at in (0..len).step_by(4099) {
            flip(path, at);
            let refused = read_all(&history, blocks);
            is_found += u32::from(refused);
            flip(path, at);
        }
    }
    assert!(is_found > 20, "only {is_found} changes were noticed");
}

/// True if a block, or the chain, was refused.
fn read_all(history: &History, blocks: u64) -> bool {
    let pool = FilePool::default();
    let files = history
        .paths
        .iter()
        .map(|path| MemoryFile::open(path, &pool));
    let Ok(files) = files.collect::<Result<Vec<_>, MemError>>() else {
        return true;
    };
    let Ok(source) = ChainSource::open(files) else {
        return true;
    };
    let Ok(mut reader) = source.reader() else {
        return true;
    };
    let mut is_refused = false;
    for block in 0..blocks {
        let mut buf = vec![0xaa; block_len(block)];
        match reader.read(block, &mut buf) {
            Ok(content) => {
                if content == Content::Zero {
                    buf.fill(0);
                }
                let expected = history.expected(block * BLOCK_BYTES, buf.len());
                assert!(buf == expected, "wrong bytes of block {block}");
            }
            Err(error) => {
                assert!(error.is_corrupt(), "{error:?}");
                is_refused = true;
            }
        }
    }
    is_refused
}

fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt as _;

    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
