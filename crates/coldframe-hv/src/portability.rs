//! Portable by refusal: what differs between two hosts, item by item, and who agreed to it.
//!
//! Invariant: an [`Accepted`] exists only if every item that had to be waived was waived by its own
//! name and none was impossible; only [`Comparison::accept`] makes one. It owns the state, and
//! [`Accepted::check`] refuses it on another host.

mod accepted;
mod compare;
mod cpuid;
mod state;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::HostIdentity;
use crate::aarch64::GicModel;

pub use accepted::{Accepted, Comparison, OtherHost};

/// What a difference means for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Both hosts say the same.
    Same,
    /// They differ, and the guest cannot tell or is served as well.
    Compatible,
    /// The guest may break: somebody must have said that it may.
    MustBeWaived,
    /// It cannot be restored here at all.
    Impossible,
}

impl Verdict {
    /// Its name in lower case, as tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Compatible => "compatible",
            Self::MustBeWaived => "must be waived",
            Self::Impossible => "impossible",
        }
    }
}

impl core::fmt::Display for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// What a host has for a guest: what it is, and what it can make that its identity does not say.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// What it is.
    pub identity: &'a HostIdentity,
    /// The interrupt controllers that it can make (aarch64); `None` if it was not asked.
    pub gics: Option<&'a [GicModel]>,
    /// The vector lengths of SVE that it has, as `KVM_REG_ARM64_SVE_VLS` lists them: bit n is a
    /// length of n + 1 times 128 bits (aarch64); `None` if it was not asked.
    pub sve_lengths: Option<&'a [u8]>,
}

impl<'a> From<&'a HostIdentity> for Offer<'a> {
    /// What is known of a host by its identity alone.
    fn from(identity: &'a HostIdentity) -> Self {
        Self {
            identity,
            gics: None,
            sve_lengths: None,
        }
    }
}

/// One item of a report.
///
/// A leaf of CPUID that is the same is one item (`cpuid.7`, sub-leaf 1 of it `cpuid.7.1`). Of one
/// that differs, each bit that the host lacks is an item (`cpuid.7.ebx.avx512f`, or `bit13` where
/// the bit has no name), each field (`cpuid.80000008.eax.phys_bits`), and each register that does
/// no harm or is neither bits nor fields (`cpuid.7.ebx`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, by which it is waived, such as `cpuid.7.ebx.avx512f` or `tsc.khz`.
    pub item: String,
    /// What the snapshot's host said; empty if it had no such item.
    pub saved: String,
    /// What this host says; empty if it has no such item.
    pub host: String,
    /// What that means.
    pub verdict: Verdict,
}

/// Everything in which two hosts, or a state and a host, were compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortabilityReport {
    differences: Vec<Difference>,
}

/// A report that was not accepted: what stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of the saved host cannot be had here: {}", count(.items), names(.items))]
pub struct Refused {
    /// The items that were not waived or cannot be.
    pub items: Vec<Difference>,
}

impl PortabilityReport {
    pub(crate) const fn new(differences: Vec<Difference>) -> Self {
        Self { differences }
    }

    /// What a guest saved on `saved` could find different on `host`, whatever it uses. For a
    /// survey of hosts; to restore a state, compare that: [`Comparison::of`].
    #[must_use]
    pub fn compare(saved: &HostIdentity, host: &HostIdentity) -> Self {
        Self::new(compare::compare(saved, host, None))
    }

    /// Every item.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// The gravest verdict of all.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.differences.iter().map(|difference| difference.verdict);
        verdicts.max().unwrap_or(Verdict::Same)
    }

    /// Whether the differences named in `waivers` are all that stand in the way.
    ///
    /// # Errors
    /// [`Refused`] with every item that had to be waived and was not, or that is impossible.
    pub fn check(&self, waivers: &[&str]) -> Result<(), Refused> {
        let stands = |difference: &&Difference| match difference.verdict {
            Verdict::Same | Verdict::Compatible => false,
            Verdict::MustBeWaived => !waivers.contains(&difference.item.as_str()),
            Verdict::Impossible => true,
        };
        let items: Vec<_> = self.differences.iter().filter(stands).cloned().collect();
        if items.is_empty() {
            Ok(())
        } else {
            Err(Refused { items })
        }
    }
}

/// The name by which a model-specific register is waived.
#[must_use]
pub fn msr_item(index: u32) -> String {
    alloc::format!("msr.{index:#010x}")
}

fn count(items: &[Difference]) -> String {
    match items.len() {
        1 => "one item".to_string(),
        more => alloc::format!("{more} items"),
    }
}

/// The first few names; a hundred CPUID bits would not be one line.
fn names(items: &[Difference]) -> String {
    const SHOWN_MAX: usize = 6;
    let mut text = String::new();
    for (position, difference) in items.iter().take(SHOWN_MAX).enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        text.push_str(&difference.item);
    }
    if items.len() > SHOWN_MAX {
        text.push_str(", ...");
    }
    text
}
