//! The host in a few words: enough to see whether two snapshots come from alike hosts.
//!
//! Invariant: each text is printable ASCII and fits its field.

use core::fmt;

use crate::layout::HostBytes;

/// What a manifest says of the host that a snapshot was made on.
///
/// The texts are for people and never interpreted; the whole identity is in the state file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostSummary {
    digest: [u8; 32],
    hypervisor: [u8; 16],
    cpu: [u8; 64],
    kernel: [u8; 80],
}

impl HostSummary {
    /// A summary of these texts, made to fit: longer ones are cut (16, 64 and 80 bytes), and bytes
    /// that are not printable ASCII become `?`.
    ///
    /// `digest` is the BLAKE3 hash of the state file's `HOST` body; equal digests are equal hosts.
    #[must_use]
    pub fn new(digest: [u8; 32], hypervisor: &str, cpu: &str, kernel: &str) -> Self {
        Self {
            digest,
            hypervisor: fit(hypervisor),
            cpu: fit(cpu),
            kernel: fit(kernel),
        }
    }

    /// The BLAKE3 hash of the host's identity.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The hypervisor's name.
    #[must_use]
    pub fn hypervisor(&self) -> &str {
        text_of(&self.hypervisor).unwrap_or_default()
    }

    /// The marketing name of the CPU.
    #[must_use]
    pub fn cpu(&self) -> &str {
        text_of(&self.cpu).unwrap_or_default()
    }

    /// The release of the kernel, or the operating system's build.
    #[must_use]
    pub fn kernel(&self) -> &str {
        text_of(&self.kernel).unwrap_or_default()
    }

    pub(crate) fn to_bytes(self) -> HostBytes {
        let Self {
            digest,
            hypervisor,
            cpu,
            kernel,
        } = self;
        HostBytes {
            digest,
            hypervisor,
            cpu,
            kernel,
        }
    }

    /// `None` if a text is not printable ASCII padded with zero bytes.
    pub(crate) fn from_bytes(raw: &HostBytes) -> Option<Self> {
        text_of(&raw.hypervisor)?;
        text_of(&raw.cpu)?;
        text_of(&raw.kernel)?;
        Some(Self {
            digest: raw.digest,
            hypervisor: raw.hypervisor,
            cpu: raw.cpu,
            kernel: raw.kernel,
        })
    }
}

impl fmt::Debug for HostSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSummary")
            .field(
                "digest",
                &coldframe_units::RootHash::from_bytes(self.digest),
            )
            .field("hypervisor", &self.hypervisor())
            .field("cpu", &self.cpu())
            .field("kernel", &self.kernel())
            .finish()
    }
}

fn fit<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let ascii = text.chars().map(|c| u8::try_from(c).unwrap_or_default());
    let printable = ascii.map(|byte| match (b' '..=b'~').contains(&byte) {
        true => byte,
        false => b'?',
    });
    for (to, from) in bytes.iter_mut().zip(printable) {
        *to = from;
    }
    bytes
}

/// Printable ASCII, then only zero bytes; `None` if it is anything else.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let (text, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len()))?;
    let printable = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    if !printable || rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    core::str::from_utf8(text).ok()
}
