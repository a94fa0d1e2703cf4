//! Parking: gets all vCPUs out of the guest, and to rest after its end.
//!
//! Invariant: after [`MiniVm::wait_until_parked`] no thread is in KVM_RUN or holds a descriptor.

use std::time::Duration;

use crate::error::MiniVmError;
use crate::guest::Guest;
use crate::kvm::arch::is_resting;
use crate::kvm::control::lock;
use crate::kvm::failed::vcpu_error;
use crate::kvm::kick;
use crate::kvm::vm::MiniVm;

/// How long a kick is given before it is sent again: one can arrive between the look at the flag
/// and the entry into the guest.
const KICK_AGAIN: Duration = Duration::from_millis(1);
/// How often the other vCPUs are let run after the end until they have halted.
const SETTLE_ROUNDS: u32 = 5000;

impl MiniVm {
    /// Kicks those that are still in the guest, until none is.
    pub(super) fn wait_until_parked(&self) -> Result<(), MiniVmError> {
        let mut state = self.control.state();
        while state.parked.contains(&false) {
            for (thread, _) in self.threads.iter().zip(&state.parked).filter(|(_, p)| !**p) {
                kick::kick(thread);
            }
            state = self.control.wait(state, KICK_AGAIN);
            self.check_threads()?;
        }
        Ok(())
    }

    /// Whether all threads are alive.
    pub(super) fn check_threads(&self) -> Result<(), MiniVmError> {
        match (0u8..).zip(&self.threads).find(|(_, t)| t.is_finished()) {
            Some((vcpu, _)) => Err(MiniVmError::ThreadDied { vcpu }),
            None => Ok(()),
        }
    }

    /// After the end: lets the vCPUs that have not halted run until they have.
    pub(super) fn settle(&mut self) -> Result<(), MiniVmError> {
        let mut awake = self.awake()?;
        for _ in 0..SETTLE_ROUNDS {
            if awake.is_empty() {
                return Ok(());
            }
            let mut state = self.control.state();
            self.control.release(&mut state, |index| {
                awake.iter().any(|a| usize::from(*a) == index)
            });
            drop(self.control.wait(state, KICK_AGAIN));
            self.pause()?;
            awake = self.awake()?;
        }
        match awake.first() {
            Some(&vcpu) => Err(MiniVmError::Settle { vcpu }),
            None => Ok(()),
        }
    }

    /// The vCPUs besides the first that are neither halted nor yet to be started.
    fn awake(&self) -> Result<Vec<u8>, MiniVmError> {
        let mut awake = Vec::new();
        for (index, fd) in (0u8..).zip(&self.vcpus).skip(1) {
            let state = lock(fd)
                .get_mp_state()
                .map_err(|e| vcpu_error("KVM_GET_MP_STATE", index, e))?;
            if !is_resting(state.mp_state) {
                awake.push(index);
            }
        }
        Ok(awake)
    }
}
