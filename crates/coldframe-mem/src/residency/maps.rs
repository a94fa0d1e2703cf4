//! The mappings of this process, as /proc/self/maps lists them (proc_pid_maps(5)).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::path::PathBuf;

/// The mapping of one range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub range: Range<u64>,
    pub shared: bool,
    /// Whether it may be read; a mapping that may not is a fault to a load.
    pub readable: bool,
    /// What is mapped; `None` for anonymous memory.
    pub file: Option<MappedInode>,
}

/// The file of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedInode {
    pub device: (u64, u64),
    pub inode: u64,
    /// Where in the file the mapping begins, in bytes.
    pub offset: u64,
    /// The name that the kernel shows; it may be of another file since.
    pub path: PathBuf,
}

/// The mappings that overlap one of `ranges`, ascending.
pub(super) fn mappings(ranges: &[Range<u64>]) -> io::Result<Vec<Mapping>> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open("/proc/self/maps")?);
    let mut found = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let text = String::from_utf8_lossy(&line);
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "a line of /proc/self/maps");
        let range = address_range(&text).ok_or_else(odd)?;
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        if ranges.iter().any(overlaps) {
            found.push(parse(&text, range).ok_or_else(odd)?);
        }
    }
}

/// The device and the inode that are mapped at an address.
pub(super) fn inode_at(addr: u64) -> io::Result<Option<((u64, u64), u64)>> {
    let range = addr..addr + 1;
    let found = mappings(std::slice::from_ref(&range))?;
    let file = found.into_iter().find_map(|mapping| mapping.file);
    Ok(file.map(|file| (file.device, file.inode)))
}

/// The mappings that overlap one of `ranges` and are registered with a userfaultfd, ascending
/// (proc_pid_smaps(5), `VmFlags`): for missing pages, for writes or for minor faults.
pub(super) fn registered(ranges: &[Range<u64>]) -> io::Result<Vec<Range<u64>>> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open("/proc/self/smaps")?);
    let mut found = Vec::new();
    let mut current = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(flags) = text.strip_prefix("VmFlags:") {
            let mut flags = flags.split_ascii_whitespace();
            let is_registered = flags.any(|flag| matches!(flag, "um" | "uw" | "ui"));
            found.extend(current.take().filter(|_| is_registered));
        } else if let Some(range) = address_range(&text) {
            let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
            // A mapping without flags: a kernel that does not say.
            if current.is_some() {
                return Err(io::ErrorKind::Unsupported.into());
            }
            current = ranges.iter().any(overlaps).then_some(range);
        }
    }
    match current {
        None => Ok(found),
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn address_range(line: &str) -> Option<Range<u64>> {
    let (start, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    Some(hex(start)?..hex(end)?)
}

/// `start-end perms offset major:minor inode path`.
fn parse(line: &str, range: Range<u64>) -> Option<Mapping> {
    let mut fields = line.trim_end_matches('\n').splitn(6, ' ');
    let _addresses = fields.next()?;
    let permissions = fields.next()?;
    let shared = permissions.ends_with('s');
    let readable = permissions.starts_with('r');
    let offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or_default().trim_start();
    // Private huge pages without a name of their own: a file to the kernel, memory to us.
    let anonymous = inode == 0 || (!shared && path.starts_with("/anon_hugepage"));
    let file = (!anonymous).then_some(MappedInode {
        device: (hex(major)?, hex(minor)?),
        inode,
        offset,
        path: PathBuf::from(path),
    });
    Some(Mapping {
        range,
        shared,
        readable,
        file,
    })
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}
