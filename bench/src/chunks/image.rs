//! The image of all contestants: 64 KiB blocks in runs of 1 to 64, of which 40 % are zero, 30 %
//! words that compress by half, 30 % random; and a later version with 5 % of the blocks new.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Bytes in a block.
pub const BLOCK: usize = 64 << 10;
/// Blocks: 1 GiB.
pub const BLOCKS: usize = 16384;

/// The files of the two versions.
pub struct Images {
    pub first: PathBuf,
    pub second: PathBuf,
}

impl Images {
    /// Writes both.
    pub fn write(dir: &Path) -> Result<Self> {
        let (first, second) = (dir.join("v1.img"), dir.join("v2.img"));
        let mut random = Random(20_260_901);
        let words: Vec<Vec<u8>> = (0..4000).map(|_| word(&mut random)).collect();
        let kinds = kinds(&mut random);
        let changed = changed(&mut random);
        let mut one = BufWriter::with_capacity(1 << 20, File::create(&first)?);
        let mut two = BufWriter::with_capacity(1 << 20, File::create(&second)?);
        let mut later = Random(77);
        for (kind, is_changed) in kinds.iter().zip(changed) {
            let block = kind.block(&words, &mut random);
            one.write_all(&block)?;
            if is_changed {
                let new = [Kind::Text, Kind::Random][later.below(2)];
                two.write_all(&new.block(&words, &mut later))?;
            } else {
                two.write_all(&block)?;
            }
        }
        one.flush()?;
        two.flush()?;
        Ok(Self { first, second })
    }
}

/// What is in a block.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Zero,
    Text,
    Random,
}

impl Kind {
    fn block(self, words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK + 4096);
        match self {
            Self::Zero => block.resize(BLOCK, 0),
            Self::Random => {
                block.extend((0..BLOCK / 8).flat_map(|_| random.next().to_le_bytes()));
            }
            Self::Text => {
                while block.len() < BLOCK {
                    for _ in 0..256 {
                        block.extend_from_slice(&words[random.below(words.len())]);
                        block.push(b' ');
                    }
                    block.extend(format!("\n{:#x}\n", random.next() >> 24).bytes());
                }
                block.truncate(BLOCK);
            }
        }
        block
    }
}

fn word(random: &mut Random) -> Vec<u8> {
    let letters = b"etaoinshrdlucmfwypvbgk";
    let len = 2 + random.below(9);
    (0..len)
        .map(|_| letters[random.below(letters.len())])
        .collect()
}

/// Runs, and then as many single blocks turned into others as the exact parts need.
fn kinds(random: &mut Random) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(BLOCKS + 64);
    while kinds.len() < BLOCKS {
        let kind = match random.below(10) {
            0..4 => Kind::Zero,
            4..7 => Kind::Text,
            _ => Kind::Random,
        };
        kinds.resize(kinds.len() + 1 + random.below(64), kind);
    }
    kinds.truncate(BLOCKS);
    let (zeros, texts) = (BLOCKS * 40 / 100, BLOCKS * 30 / 100);
    let wanted = [
        (Kind::Zero, zeros),
        (Kind::Text, texts),
        (Kind::Random, BLOCKS - zeros - texts),
    ];
    let count = |kinds: &[Kind], kind| kinds.iter().filter(|found| **found == kind).count();
    loop {
        let over = wanted
            .iter()
            .find(|(kind, want)| count(&kinds, *kind) > *want);
        let under = wanted
            .iter()
            .find(|(kind, want)| count(&kinds, *kind) < *want);
        let (Some((over, _)), Some((under, want))) = (over, under) else {
            return kinds;
        };
        let surplus = count(&kinds, *over)
            - wanted
                .iter()
                .find(|(kind, _)| kind == over)
                .map_or(0, |(_, want)| *want);
        for _ in 0..surplus.min(want - count(&kinds, *under)) {
            let mut at = random.below(BLOCKS);
            while kinds[at] != *over {
                at = random.below(BLOCKS);
            }
            kinds[at] = *under;
        }
    }
}

/// Which blocks are new in the second version.
fn changed(random: &mut Random) -> Vec<bool> {
    let mut changed = vec![false; BLOCKS];
    for _ in 0..BLOCKS * 5 / 100 {
        let mut at = random.below(BLOCKS);
        while changed[at] {
            at = random.below(BLOCKS);
        }
        changed[at] = true;
    }
    changed
}

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize * end) >> 32
    }
}
