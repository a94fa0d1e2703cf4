//! The checksum of records: 128 bits of XXH3 with a secret that only this region has.
//!
//! A record copied from another region, and bytes that a guest put into a payload to look like a
//! record, fail it: the secret is derived from the region's random id, which no guest sees.

use core::fmt;

use twox_hash::XxHash3_128;

use crate::ring::RegionId;

const CONTEXT: &str = "coldframe ring wal record v1";
const SECRET_LEN: usize = 192;

/// What a region's records are checked with; derived once for each open.
#[derive(Clone)]
pub struct RecordKey {
    seed: u64,
    secret: [u8; SECRET_LEN],
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(..)")
    }
}

impl RecordKey {
    /// The key of a region.
    #[must_use]
    pub fn new(region: RegionId) -> Self {
        let mut stream = blake3::Hasher::new_derive_key(CONTEXT)
            .update(region.as_bytes())
            .finalize_xof();
        let (mut seed, mut secret) = ([0; 8], [0; SECRET_LEN]);
        stream.fill(&mut seed);
        stream.fill(&mut secret);
        // Short inputs are keyed by the seed, long ones by the secret as well.
        Self {
            seed: u64::from_le_bytes(seed),
            secret,
        }
    }

    /// The digest of `bytes`, little-endian.
    pub(crate) fn digest(&self, bytes: &[u8]) -> [u8; 16] {
        XxHash3_128::oneshot_with_seed_and_secret(self.seed, &self.secret, bytes)
            .expect("192 bytes are more than the shortest secret allowed (136)")
            .to_le_bytes()
    }
}
