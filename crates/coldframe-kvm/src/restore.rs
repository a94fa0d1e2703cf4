//! What every machine does when a state is put into it, whatever its architecture.

use coldframe_hv::{MachineState, Thawed};
use coldframe_units::GenerationId;

use crate::error::KvmError;

/// Before anything is written: the state holds, and is of as many vCPUs, numbered from 0.
pub(crate) fn check(state: &MachineState, vcpus: usize) -> Result<(), KvmError> {
    let checked = state.check();
    checked.map_err(|source| KvmError::CheckState { source })?;
    let saved = state.vcpus.len();
    let are_in_order = (0..)
        .zip(&state.vcpus)
        .all(|(number, vcpu)| vcpu.index == number);
    if saved != vcpus || !are_in_order {
        let here = vcpus;
        return Err(KvmError::MatchVcpus { saved, here });
    }
    Ok(())
}

/// A machine that was restored is a new one to its guest.
pub(crate) fn thawed() -> Result<Thawed, KvmError> {
    let mut id = [0; 16];
    let filled = crate::sys::random(&mut id);
    filled.map_err(|source| KvmError::NewGeneration { source })?;
    Ok(Thawed::new(GenerationId::from_bytes(id)))
}
