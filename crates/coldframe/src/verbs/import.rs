//! `coldframe import raw` and `coldframe import firecracker`.

use std::path::Path;

use coldframe_block::not_memory;
use coldframe_envelope::SectionKind;
use coldframe_snapshot::import::{self, DiffHoles, Dump, OpaqueState, Source};
use coldframe_snapshot::{Snapshot, SnapshotError};
use coldframe_storage::StorageError;
use coldframe_units::{Arch, FileOffset, PageSize, RamLayout};

use crate::cli::{ImportFirecracker, ImportRaw, ImportTarget};
use crate::exit::Failure;
use crate::firecracker::{STATE_BYTES_MAX, State, StateError};
use crate::output::producer;
use crate::progress;
use crate::search::{failure, open};
use crate::verbs::made;
use crate::verbs::rm::sweep_beside;

/// The section in which a Firecracker state is kept whole.
pub const FIRECRACKER_STATE: SectionKind = SectionKind::new(*b"fcst");

/// From a raw dump.
pub fn raw(args: &ImportRaw) -> Result<(), Failure> {
    let page_size =
        PageSize::new(args.page_size).map_err(|error| Failure::usage("--page-size", &error))?;
    let max = coldframe_memfile::PAGE_SIZE_MAX;
    if page_size > max {
        return Err(Failure::Usage(format!(
            "--page-size: pages of {page_size} are over {max}, the largest that a file has"
        )));
    }
    let arch = Arch::host().unwrap_or(Arch::X86_64);
    let dump = open_dump(&args.file)?;
    if !args.raw {
        check_plain(&dump, "--raw")?;
    }
    let ram = RamLayout::contiguous(dump.len())
        .map_err(|error| Failure::wanting(args.file.display(), &error))?;
    import(&dump, &args.target, arch, ram, page_size, None)
}

/// From Firecracker's pair.
pub fn firecracker(args: &ImportFirecracker) -> Result<(), Failure> {
    let state = read_state(&args.state)?;
    let wanting =
        |error: &(dyn std::error::Error + 'static)| Failure::wanting(args.state.display(), error);
    let checked = State::check(&state).map_err(|error| wanting(&error))?;
    let stated = match &args.ram[..] {
        [] => None,
        regions => {
            let layout = RamLayout::new(regions.to_vec());
            Some(layout.map_err(|error| Failure::usage("--ram", &error))?)
        }
    };
    let dump = open_dump(&args.mem)?;
    let ram = checked
        .ram_layout(dump.len(), stated.as_ref())
        .map_err(|error| wanting(&error))?;
    let arch = checked.arch;
    let opaque = OpaqueState {
        kind: FIRECRACKER_STATE,
        version: 1,
        bytes: state,
    };
    import(
        &dump,
        &args.target,
        arch,
        ram,
        PageSize::SIZE_4K,
        Some(opaque),
    )
}

/// Opens a dump; what is neither a file nor a block device is wrong usage.
fn open_dump(path: &Path) -> Result<Dump, Failure> {
    Dump::open(path).map_err(|error| {
        let source = std::error::Error::source(&error);
        let storage = source.and_then(|source| source.downcast_ref::<StorageError>());
        match storage {
            Some(StorageError::NotRegular { .. }) => not_a_file(path),
            Some(error @ StorageError::NoLength { .. }) => Failure::usage("cannot import", error),
            Some(storage) => Failure::environment("cannot import", storage),
            None => Failure::environment("cannot import", &error),
        }
    })
}

fn not_a_file(path: &Path) -> Failure {
    let path = path.display();
    Failure::Usage(format!("{path} is not a file (nor a block device)"))
}

/// Refuses what is some other program's container and not memory.
fn check_plain(dump: &Dump, switch: &str) -> Result<(), Failure> {
    let found = not_memory(dump.len().get(), |offset, bytes| {
        dump.read_at(offset, bytes)
    });
    let found = found.map_err(|error| Failure::environment("cannot import", &error))?;
    let Some(format) = found else { return Ok(()) };
    let (path, way) = (dump.path().display(), format.way_out());
    Err(Failure::Usage(format!(
        "{path} is in {format} format, not plain memory: {way}, or take it as it is with {switch}"
    )))
}

/// A whole state file, refused over the limit before it is read.
fn read_state(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = open_dump(path)?;
    if file.len().get() > STATE_BYTES_MAX {
        let len = usize::try_from(file.len().get()).unwrap_or(usize::MAX);
        return Err(Failure::wanting(
            path.display(),
            &StateError::Length { len },
        ));
    }
    let mut state = vec![0; file.len().get() as usize];
    file.read_at(FileOffset::ZERO, &mut state)
        .map_err(|error| Failure::environment("cannot import", &error))?;
    Ok(state)
}

fn import(
    dump: &Dump,
    target: &ImportTarget,
    arch: Arch,
    ram: RamLayout,
    page_size: PageSize,
    state: Option<OpaqueState>,
) -> Result<(), Failure> {
    let parent: Option<Snapshot> = target.parent.as_deref().map(open).transpose()?;
    let bar = progress::bytes("import", ram.total().get());
    let source = Source {
        dump,
        arch,
        ram,
        page_size,
        parent: parent.as_ref(),
        holes: match (target.assume_dense, target.zeros_are_clean) {
            (true, _) => DiffHoles::Assumed,
            (_, true) => DiffHoles::ZerosClean,
            _ => DiffHoles::Proven,
        },
        state,
    };
    let cannot =
        |error: SnapshotError| failure(format!("cannot import {}", dump.path().display()), &error);
    let snapshot = import::import(source, &target.output, producer(), &mut |bytes| {
        bar.inc(bytes)
    })
    .map_err(cannot)?;
    bar.finish_and_clear();
    sweep_beside(&target.output);
    made::print(&snapshot, target.json)
}
