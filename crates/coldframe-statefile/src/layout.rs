//! The names in a state file. Normative text: `specs/statefile.md`.

use coldframe_envelope::{Codec, Format, Layout, SectionKind};

/// The format, its version, and the codec of its bodies.
pub const FORMAT: Format = Format::new(*b"STAT", 1, 0).with_codec(Codec::new(*b"bitcode\0", 0, 6));

/// The minor version of a file whose hypervisor is none of the first three: readers of 1.0 refuse
/// its bodies.
pub(crate) const WITH_ANY_HYPERVISOR: Format =
    Format::new(*b"STAT", 1, 1).with_codec(Codec::new(*b"bitcode\0", 0, 6));

/// The greatest number of a hypervisor that version 1.0 has.
pub(crate) const HYPERVISOR_MAX_OF_1_0: u8 = 3;

/// The host that the machine was saved on; instance 0.
pub const HOST: SectionKind = SectionKind::new(*b"HOST");

/// State that belongs to no vCPU; instance 0.
pub const MACH: SectionKind = SectionKind::new(*b"MACH");

/// One vCPU; the instance is its index.
pub const VCPU: SectionKind = SectionKind::new(*b"VCPU");

/// One device; the instance is its place among the devices, from 0.
pub const DEVC: SectionKind = SectionKind::new(*b"DEVC");

/// The guest's metadata service; instance 0, optional.
pub const META: SectionKind = SectionKind::new(*b"META");

/// Every kind of section that this crate knows.
pub(crate) const KINDS: [SectionKind; 5] = [HOST, MACH, VCPU, DEVC, META];

/// The plain structures of this format: none, all bodies are in the codec.
pub const LAYOUTS: &[Layout] = &[];

/// Whether a section of this kind is the VMM's own: it begins with a lower-case letter.
#[must_use]
pub const fn is_vmm_kind(kind: SectionKind) -> bool {
    let [first, ..] = kind.bytes();
    first.is_ascii_lowercase()
}
