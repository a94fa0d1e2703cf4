//! What a reader allows a file to ask for, checked before anything is allocated.

/// The most that a reader will take on; a file that asks for more is refused, not attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most sections in the table.
    pub sections_max: u32,
    /// The most bytes in one section that is read whole.
    pub section_bytes_max: u64,
    /// The longest file.
    pub file_bytes_max: u64,
}

impl Limits {
    /// For files that are read whole (manifest, machine state): 4,096 sections of 16 MiB, 256 MiB.
    pub const SMALL_FILE: Self = Self {
        sections_max: 4096,
        section_bytes_max: 16 << 20,
        file_bytes_max: 256 << 20,
    };

    /// For guest-memory files: 64 sections, tables of 16 GiB, files of 64 TiB.
    pub const MEMORY_FILE: Self = Self {
        sections_max: 64,
        section_bytes_max: 16 << 30,
        file_bytes_max: 64 << 40,
    };
}
