//! Where the threads of vCPUs come to rest: the protocol of a pause, whatever the hypervisor.
//!
//! For adapters, which wrap it: what makes a vCPU leave the guest (a signal, a call of the
//! hypervisor) and what a resting thread hands over (the vCPU itself, a way to ask for work) are
//! theirs. Needs the standard library: feature `park`.
//!
//! ```
//! use std::time::Duration;
//!
//! use coldframe_hv::park::ParkingLot;
//!
//! let lot: ParkingLot<(), String> = ParkingLot::new(1);
//! let seat = lot.seat(0, ())?;
//! let vcpu = std::thread::spawn(move || {
//!     seat.wait_for_pause(); // or run the guest until it is kicked out
//!     seat.sit("a vCPU".to_owned())
//! });
//! let parked = lot.pause(Duration::from_secs(9), |_kicked| Ok::<(), std::io::Error>(()))?;
//! assert_eq!(parked.held(), ["a vCPU"]); // the machine can be saved
//! drop(parked);
//! assert_eq!(vcpu.join().unwrap(), "a vCPU");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod lot;
/// The lock and the condition: those of `std`. A model checker compiles `lot` with its own.
mod sync {
    pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
}

pub use lot::{OnResume, Parked, ParkingLot, PauseError, Seat, SeatError, Woken};
