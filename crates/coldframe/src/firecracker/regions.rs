//! Where Firecracker has put the guest's RAM, out of its state file (`MicrovmState.vm_info` and
//! `GuestMemoryState.regions`).
//!
//! Invariant: what is returned is what the state says, and it agrees with itself: regions in rising
//! order, whole pages, and as much DRAM as `mem_size_mib`. Nothing is derived from the length of
//! the memory file, whose layout differs between releases: the hole below 4 GiB had 768 MiB up to
//! 1.12 and has 1 GiB since 1.13, when a second one from 256 GiB on came; hotpluggable memory lies
//! behind that since 1.14.
//!
//! | format | release | codec | regions |
//! |---|---|---|---|
//! | 1.x to 4.x | 1.7 to 1.10 | bincode | right behind `vm_info`, with a file offset |
//! | 5.x | 1.11 | bincode | right behind `vm_info` |
//! | 6.x | 1.12 | bincode | behind `kvm_state` |
//! | 8.x | 1.13, 1.14 | bincode | behind `kvm_state`; of 1.14 with a type and plugged slots |
//! | 9.x to 11.x | 1.15 to 1.17 | bitcode | as 1.14 |

use coldframe_units::{Arch, ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout};

use super::bitcode::Columns;

/// Releases have at most four: three of DRAM and one of hotpluggable memory.
const REGIONS_MAX: usize = 64;

/// The most RAM that Firecracker gives an aarch64 guest, whatever was asked for.
const AARCH64_DRAM_MAX: u64 = 1022 << 30;

/// Why the RAM layout cannot be read from a state file that is sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionsError {
    /// A format that this release does not know.
    #[error(
        "snapshot format {version} of Firecracker is not known (known: 1 to 6 and 8 to 11, of \
         Firecracker 1.7 to 1.17), so neither is the RAM layout: say it with --ram ADDR+LEN for \
         each region"
    )]
    UnknownVersion {
        /// What the file says.
        version: String,
    },
    /// The regions are not where the format has them, or make no sense.
    #[error(
        "no RAM layout in the state: {what} (snapshot format {version}); a fork of Firecracker \
         may have another layout under this version"
    )]
    NoRegions {
        /// What was expected.
        what: &'static str,
        /// What the file says.
        version: String,
    },
    /// The memory file is not that of the state.
    #[error(
        "the state has {expected} bytes of guest memory ({regions}), the memory file has {found}"
    )]
    MemoryLength {
        /// The regions of the state.
        regions: String,
        /// Their length.
        expected: ByteLen,
        /// The length of the file.
        found: ByteLen,
    },
    /// What the user says is not what the state says.
    #[error("--ram says {stated}, but the state has {found}")]
    Stated {
        /// The user's regions.
        stated: String,
        /// Those of the state.
        found: String,
    },
}

/// The regions of a layout, readable.
pub fn list(layout: &RamLayout) -> String {
    let regions = layout.regions().iter();
    let regions = regions.map(|region| format!("{}+{:#x}", region.addr(), region.len().get()));
    regions.collect::<Vec<_>>().join(", ")
}

/// The RAM of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    /// All regions, those of hotpluggable memory too: the memory file holds them back to back.
    pub layout: RamLayout,
}

/// A region as it is stored.
struct Row {
    base: u64,
    size: u64,
    is_hotpluggable: bool,
}

/// What stands before the regions, as far as it is of use, and they.
struct Found {
    mem_size_mib: u64,
    rows: Vec<Row>,
}

impl Regions {
    /// From all of a state from its magic on.
    pub fn decode(body: &[u8], is_bitcode: bool, arch: Arch) -> Result<Self, RegionsError> {
        let (version, found) = if is_bitcode {
            decode_bitcode(body)?
        } else {
            decode_bincode(body)?
        };
        let mut agreeing = found
            .iter()
            .map(|found| found.check(arch))
            .collect::<Vec<_>>();
        agreeing.dedup();
        let (sound, refused): (Vec<_>, Vec<_>) = agreeing.into_iter().partition(Result::is_ok);
        match (sound.into_iter().flatten().collect::<Vec<_>>(), refused) {
            (mut one, _) if one.len() == 1 => Ok(Self {
                layout: one.remove(0),
            }),
            (none, refused) if none.is_empty() => {
                let what = refused.into_iter().find_map(Result::err);
                let what = what.unwrap_or("the regions are not where this format has them");
                Err(RegionsError::NoRegions { what, version })
            }
            _ => {
                let what = "the regions can be read in two ways";
                Err(RegionsError::NoRegions { what, version })
            }
        }
    }
}

impl Found {
    /// The layout, if it agrees with itself and with the size that was configured.
    fn check(&self, arch: Arch) -> Result<RamLayout, &'static str> {
        let mut dram = self.rows.iter().filter(|row| !row.is_hotpluggable);
        let dram = dram.try_fold(0_u64, |sum, row| sum.checked_add(row.size));
        let mut configured = self.mem_size_mib.checked_mul(1 << 20);
        if arch == Arch::Aarch64 {
            configured = configured.map(|len| len.min(AARCH64_DRAM_MAX));
        }
        if dram.is_none() || dram != configured {
            return Err("the regions are not as long as the configured memory");
        }
        let regions: Result<Vec<_>, _> = self
            .rows
            .iter()
            .map(|row| GuestRegion::new(GuestAddr::new(row.base), ByteLen::new(row.size)))
            .collect();
        let layout = regions.and_then(RamLayout::new);
        let layout = layout.and_then(|layout| {
            layout.check_pages(PageSize::SIZE_4K)?;
            Ok(layout)
        });
        layout.map_err(|_| "the regions make no RAM layout")
    }
}

const fn major(version: &[u8]) -> u8 {
    match *version {
        [digit @ b'1'..=b'9', b'.', ..] => digit - b'0',
        [b'1', digit @ b'0'..=b'9', b'.', ..] => 10 + digit - b'0',
        _ => 0,
    }
}

fn shown(version: &[u8]) -> String {
    let shown: String = version.iter().take(32).copied().map(char::from).collect();
    shown.escape_default().to_string()
}

/// The version and what can be read by it: nothing if the regions are not where they belong.
type Decoded = Result<(String, Vec<Found>), RegionsError>;

fn unknown(version: Option<&[u8]>) -> RegionsError {
    let version = version.map_or("(cut off)".to_owned(), shown);
    RegionsError::UnknownVersion { version }
}

fn decode_bitcode(body: &[u8]) -> Decoded {
    let mut columns = Columns::new(body.get(8..).unwrap_or_default());
    let text = columns.text();
    let version = text.filter(|version| matches!(major(version), 9..=11));
    let version = version.ok_or_else(|| unknown(text))?;
    let found = bitcode_regions(&mut columns);
    Ok((shown(version), found.into_iter().collect()))
}

fn bitcode_regions(columns: &mut Columns<'_>) -> Option<Found> {
    let mem_size_mib = columns.u64()?;
    let _smt = columns.bool()?;
    let _cpu_template = columns.variant()?;
    let _kernel = columns.text()?;
    let _initrd = columns.optional_text()?;
    let _boot_args = columns.optional_text()?;
    let _huge_pages = columns.variant()?;
    let capabilities = columns.len()?;
    if capabilities > 0 {
        columns.texts(capabilities)?;
    }
    let count = columns.len().filter(|count| *count <= REGIONS_MAX)?;
    let bases = columns.u64s(count)?;
    let sizes = columns.u64s(count)?;
    let kinds = columns.u8s(count)?;
    let rows = bases.into_iter().zip(sizes).zip(kinds);
    let rows = rows.map(|((base, size), kind)| Row::new(base, size, kind.into()));
    Some(Found {
        mem_size_mib,
        rows: rows.collect::<Option<_>>()?,
    })
}

fn decode_bincode(body: &[u8]) -> Decoded {
    let mut fields = Fields { rest: body };
    let text = fields.u64().and_then(|_magic| fields.text());
    let version = text.ok_or_else(|| unknown(None))?;
    let rows: &[RowForm] = match major(version) {
        1..=4 => &[RowForm::WithFileOffset],
        5 | 6 => &[RowForm::Plain],
        // 1.13 and 1.14 have one number for two forms.
        8 => &[RowForm::Plain, RowForm::Typed],
        _ => return Err(unknown(Some(version))),
    };
    let has_kvm_state = major(version) >= 6;
    let found = rows.iter().filter_map(|form| {
        let mut fields = Fields { rest: fields.rest };
        fields.regions(*form, has_kvm_state)
    });
    Ok((shown(version), found.collect()))
}

/// What a region's row has behind base and size.
#[derive(Clone, Copy)]
enum RowForm {
    Plain,
    WithFileOffset,
    Typed,
}

impl Row {
    const fn new(base: u64, size: u64, kind: u64) -> Option<Self> {
        match kind {
            0 | 1 => Some(Self {
                base,
                size,
                is_hotpluggable: kind == 1,
            }),
            _ => None,
        }
    }
}

/// Fields of bincode with fixed integers, one behind the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = tail;
        Some(head)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// A byte that is 0 or 1.
    fn flag(&mut self) -> Option<bool> {
        match self.bytes(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.u64()?;
        self.bytes(len)
    }

    fn optional_text(&mut self) -> Option<()> {
        if self.flag()? {
            self.text()?;
        }
        Some(())
    }

    fn regions(&mut self, form: RowForm, has_kvm_state: bool) -> Option<Found> {
        let mem_size_mib = self.u64()?;
        let _smt = self.flag()?;
        let _cpu_template = self.u32()?;
        let _kernel = self.text()?;
        // The initrd, then the boot arguments.
        self.optional_text()?;
        self.optional_text()?;
        let _huge_pages = self.u32()?;
        if has_kvm_state {
            for _capability in 0..self.u64()? {
                self.text()?;
            }
        }
        let count = self.u64()?;
        if count > REGIONS_MAX as u64 {
            return None;
        }
        let rows = (0..count).map(|_| self.row(form));
        Some(Found {
            mem_size_mib,
            rows: rows.collect::<Option<_>>()?,
        })
    }

    fn row(&mut self, form: RowForm) -> Option<Row> {
        let (base, size) = (self.u64()?, self.u64()?);
        let kind = match form {
            RowForm::Plain => 0,
            RowForm::WithFileOffset => {
                let _file_offset = self.u64()?;
                0
            }
            RowForm::Typed => {
                let kind = self.u32()?;
                let slots = self.u64()?;
                let plugged = self.bytes(slots)?;
                if plugged.iter().any(|flag| *flag > 1) {
                    return None;
                }
                kind.into()
            }
        };
        Row::new(base, size, kind)
    }
}
