//! The most that a state may hold: the same when written and when read, so that a state that can
//! be written can be read. Normative text: `specs/statefile.md`.

/// The most vCPUs.
pub const VCPU_COUNT_MAX: u64 = 1024;

/// The most devices.
pub const DEVICE_COUNT_MAX: u64 = 1024;

/// The most raw kernel structures of the machine, or of one vCPU.
pub const ITEM_COUNT_MAX: u64 = 1024;

/// The most registers of each sort in one vCPU, and rows of each list of the host.
pub const ROW_COUNT_MAX: u64 = 4096;

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: u64 = 255;

/// The longest name of a device's kind, in bytes.
pub const DEVICE_KIND_BYTES_MAX: u64 = 64;

/// The longest encoded body of `HOST`, `MACH`, `VCPU` and `META`, in bytes.
///
/// The codec may ask for 160 times the encoded length before the counts above can be checked, so
/// this bounds what one hostile body can make a reader allocate.
pub const TABLE_BODY_BYTES_MAX: u64 = 1 << 20;

/// The longest encoded body of `DEVC` and of the VMM's own sections, in bytes.
pub const BODY_BYTES_MAX: u64 = 16 << 20;
