//! The counters of a machine: one for all its vCPUs, which never steps back.
//!
//! Invariant: what the guest reads after a restore is at least what it could read before, and the
//! same on every vCPU: offsets are computed once, from one reading of the host's counter. An offset
//! for each vCPU, each from a reading of its own, was seen to stall guests.

use alloc::vec::Vec;

use crate::{ItemKind, VmState};

/// Where the guest's counter goes on after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestTime {
    /// Where it stopped: the guest does not see that it was away.
    #[default]
    Continue,
    /// This many nanoseconds further: as if it had run on all the while.
    Advance {
        /// How long the guest was away.
        nanos: u64,
    },
}

/// What the counters showed at one moment, with all vCPUs stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The virtual counter, CNTVCT_EL0.
    pub guest: u64,
    /// The physical counter as the guest reads it, CNTPCT_EL0.
    pub physical: u64,
    /// Their rate in Hz.
    pub hz: u64,
}

impl Counters {
    /// From the host's counter and what is taken from it to make the guest's.
    #[must_use]
    pub const fn new(host: u64, offset: u64, hz: u64) -> Self {
        Self {
            guest: host.wrapping_sub(offset),
            physical: host,
            hz,
        }
    }

    /// Reads what [`Counters::store`] wrote; `None` if it is not there.
    #[must_use]
    pub fn of(vm: &VmState, hz: u64) -> Option<Self> {
        let read = |item: ItemKind| -> Option<u64> {
            let bytes = vm.items.get(&item)?.as_slice();
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        Some(Self {
            guest: read(ItemKind::GUEST_COUNTER)?,
            physical: read(ItemKind::PHYSICAL_COUNTER)?,
            hz,
        })
    }

    /// Adds them to the state of a machine.
    pub fn store(&self, vm: &mut VmState) {
        let bytes = |value: u64| -> Vec<u8> { value.to_le_bytes().to_vec() };
        vm.items.insert(ItemKind::GUEST_COUNTER, bytes(self.guest));
        vm.items
            .insert(ItemKind::PHYSICAL_COUNTER, bytes(self.physical));
    }

    /// What must be taken from the host's counter, which shows `host` now, so that the guest's
    /// goes on as `time` says. It may be negative, in two's complement: after a restart the host's
    /// counter is behind.
    #[must_use]
    pub fn offset_at(&self, host: u64, time: GuestTime) -> u64 {
        host.wrapping_sub(self.guest.wrapping_add(self.ticks(time)))
    }

    /// A compare value of the physical timer for a host whose counter shows `host` now: as far
    /// ahead of it, or behind, as when it was saved, less the time that passed for the guest.
    ///
    /// Only where the physical counter has no offset (Hypervisor.framework).
    #[must_use]
    pub fn physical_compare_at(&self, host: u64, saved: u64, time: GuestTime) -> u64 {
        let ahead = saved.wrapping_sub(self.physical);
        host.wrapping_add(ahead).wrapping_sub(self.ticks(time))
    }

    fn ticks(&self, time: GuestTime) -> u64 {
        const NANOS_PER_SEC: u128 = 1_000_000_000;
        match time {
            GuestTime::Continue => 0,
            GuestTime::Advance { nanos } => {
                let ticks = u128::from(nanos) * u128::from(self.hz) / NANOS_PER_SEC;
                u64::try_from(ticks).unwrap_or(u64::MAX)
            }
        }
    }
}
