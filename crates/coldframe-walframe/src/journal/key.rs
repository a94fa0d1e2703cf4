//! What a part's records are checked with: 128 bits of XXH3 with a secret that only this part has.

use core::fmt;

use twox_hash::XxHash3_128;

use super::PartId;

const CONTEXT: &str = "coldframe journal record v1";
const SECRET_LEN: usize = 192;

/// The key of a part's checks, derived from its id once.
#[derive(Clone)]
pub struct PartKey {
    seed: u64,
    secret: [u8; SECRET_LEN],
}

impl fmt::Debug for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartKey(..)")
    }
}

impl PartKey {
    /// The key of the part of this id.
    #[must_use]
    pub fn new(part: PartId) -> Self {
        let mut stream = blake3::Hasher::new_derive_key(CONTEXT)
            .update(&part.0)
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
