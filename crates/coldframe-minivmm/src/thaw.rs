//! RAM and shape of a machine out of a snapshot.

use coldframe_dirty::{DirtyBitmap, RegionDirty};
use coldframe_hv::{ItemKind, MachineState};
use coldframe_mem::{
    Chain, CopyOptions, MapOptions, Target, Verify, restore_copy, restore_map_vm_memory,
};
use coldframe_units::PageSize;

use crate::config::{Backing, Shape};
use crate::error::MiniVmError;
use crate::memory::{Ram, allocate_ram};

/// RAM that is mapped from the snapshot's files: a page is read when it is touched, and written to
/// memory of its own.
///
/// # Errors
/// [`MiniVmError::RestoreRam`], [`MiniVmError::TrackRam`].
pub fn map_ram(chain: &Chain) -> Result<Ram, MiniVmError> {
    let dirty = DirtyBitmap::new(chain.layout().total(), PageSize::SIZE_4K)
        .map_err(MiniVmError::TrackRam)?;
    restore_map_vm_memory(chain, MapOptions::DEFAULT, |offset, region| {
        RegionDirty::new(dirty.clone(), offset, region.len())
            .expect("a region of the layout lies inside its total")
    })
    .map_err(MiniVmError::RestoreRam)
}

/// RAM that the snapshot's memory was copied into, each block checked on the way.
///
/// # Errors
/// [`MiniVmError::AllocateRam`], [`MiniVmError::RestoreRam`].
pub fn copy_ram(chain: &Chain) -> Result<Ram, MiniVmError> {
    let ram = allocate_ram(chain.layout(), Backing::Anonymous)?;
    let options = CopyOptions {
        target: Target::Zeroed,
        verify: Verify::Yes,
    };
    restore_copy(chain, &ram, options).map_err(MiniVmError::RestoreRam)?;
    Ok(ram)
}

impl Shape {
    /// The shape of the machine that a state was saved from.
    #[must_use]
    pub fn of(state: &MachineState) -> Self {
        Self {
            vcpus: u8::try_from(state.vcpus.len()).unwrap_or(u8::MAX),
            irqchip: state.vm.items.contains_key(&ItemKind::IOAPIC)
                || state.vm.items.contains_key(&ItemKind::GIC_MODEL)
                || state.vcpus.len() > 1,
        }
    }
}
