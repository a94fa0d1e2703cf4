//! `coldframe import raw` and `coldframe import firecracker`.

use std::fs;
use std::path::Path;

use coldframe_envelope::SectionKind;
use coldframe_snapshot::Snapshot;
use coldframe_snapshot::import::{self, OpaqueState, Source};
use coldframe_units::{Arch, ByteLen, PageSize, RamLayout};

use crate::cli::{ImportFirecracker, ImportRaw, ImportTarget};
use crate::exit::Failure;
use crate::output::producer;
use crate::search::{failure, open};
use crate::verbs::made;
use crate::{firecracker, progress};

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
    let len = memory_len(&args.file)?;
    let ram = RamLayout::contiguous(len)
        .map_err(|error| Failure::wanting(args.file.display(), &error))?;
    import(&args.file, &args.target, arch, ram, page_size, None)
}

/// From Firecracker's pair.
pub fn firecracker(args: &ImportFirecracker) -> Result<(), Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::environment(format!("cannot read {}", args.state.display()), error)
    };
    let state_len = fs::metadata(&args.state)
        .map_err(|error| cannot(&error))?
        .len();
    if state_len > firecracker::STATE_BYTES_MAX {
        let len = usize::try_from(state_len).unwrap_or(usize::MAX);
        let error = firecracker::StateError::Length { len };
        return Err(Failure::wanting(args.state.display(), &error));
    }
    let state = fs::read(&args.state).map_err(|error| cannot(&error))?;
    let arch = firecracker::check_state(&state)
        .map_err(|error| Failure::wanting(args.state.display(), &error))?;
    let ram = firecracker::ram_layout(arch, memory_len(&args.mem)?)
        .map_err(|error| Failure::wanting(args.mem.display(), &error))?;
    let opaque = OpaqueState {
        kind: FIRECRACKER_STATE,
        version: 1,
        bytes: state,
    };
    import(
        &args.mem,
        &args.target,
        arch,
        ram,
        PageSize::SIZE_4K,
        Some(opaque),
    )
}

fn memory_len(path: &Path) -> Result<ByteLen, Failure> {
    let metadata = fs::metadata(path)
        .map_err(|error| Failure::environment(format!("cannot read {}", path.display()), &error))?;
    if !metadata.is_file() {
        return Err(Failure::Usage(format!("{} is not a file", path.display())));
    }
    Ok(ByteLen::new(metadata.len()))
}

fn import(
    file: &Path,
    target: &ImportTarget,
    arch: Arch,
    ram: RamLayout,
    page_size: PageSize,
    state: Option<OpaqueState>,
) -> Result<(), Failure> {
    let parent: Option<Snapshot> = target.parent.as_deref().map(open).transpose()?;
    let bar = progress::bytes("import", ram.total().get());
    let source = Source {
        file,
        arch,
        ram,
        page_size,
        parent: parent.as_ref(),
        state,
    };
    let snapshot = import::import(source, &target.output, producer(), &mut |bytes| {
        bar.inc(bytes)
    })
    .map_err(|error| failure(format!("cannot import {}", file.display()), &error))?;
    bar.finish_and_clear();
    made::print(&snapshot, target.json)
}
