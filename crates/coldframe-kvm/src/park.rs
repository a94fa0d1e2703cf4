//! Where the threads of vCPUs come to rest while the machine is frozen or thawed.
//!
//! Invariant: a [`Parked`] exists only while every vCPU's thread is in its seat, out of the kernel,
//! with the exit that it was at completed, and has handed over its vCPU: there is nothing left that
//! it could run.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use coldframe_hv::park::{self, PauseError};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::complete_pending_io;
use crate::error::KvmError;
use crate::sys::kick::{self, Disposition, ImmediateExit};

pub use coldframe_hv::park::Woken;

/// What makes a vCPU leave the guest.
#[derive(Clone, Debug)]
struct Kick {
    thread: libc::pid_t,
    immediate_exit: Arc<ImmediateExit>,
}

/// A seat for each vCPU of a machine. Its clones are the same lot.
///
/// Threads are kicked out of the guest by a signal. Each takes its seat, runs its vCPU, and parks
/// when `KVM_RUN` was interrupted:
///
/// ```
/// # #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use coldframe_kvm::ParkingLot;
/// # if !std::path::Path::new("/dev/kvm").exists() { return Ok(()); }
/// # let vm = kvm_ioctls::Kvm::new()?.create_vm()?;
/// let lot = ParkingLot::new(1)?;
/// let (mut vcpu, seats) = (vm.create_vcpu(0)?, lot.clone());
/// let thread = std::thread::spawn(move || {
///     let seat = seats.seat(0, &vcpu)?;
///     while !seat.is_closed() {
///         match vcpu.run() {
///             Ok(exit) => drop(exit), // serve it
///             // Interrupted: completes the exit, parks if that is wanted, and has the vCPU back.
///             Err(_) => vcpu = seat.park(vcpu, |exit| drop(exit))?,
///         }
///     }
///     Ok::<(), coldframe_kvm::KvmError>(())
/// });
/// let parked = lot.pause(Duration::from_secs(5))?;
/// assert_eq!(parked.vcpus().len(), 1); // for KvmMachine::new
/// parked.resume();
/// lot.close()?;
/// thread.join().expect("no panic")?;
/// # Ok(())
/// # }
/// # #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct ParkingLot {
    lot: park::ParkingLot<Kick, VcpuFd>,
    signal: libc::c_int,
}

impl ParkingLot {
    /// For a machine of so many vCPUs, numbered from 0, that are kicked by SIGRTMIN: it gets a
    /// handler that does nothing.
    ///
    /// # Errors
    /// [`KvmError::SignalTaken`] if this process handles or ignores that signal already;
    /// [`KvmError::SetSignal`].
    pub fn new(vcpus: u32) -> Result<Self, KvmError> {
        let signal = kick::default_signal();
        let before = kick::handle(signal);
        match before.map_err(|source| KvmError::SetSignal { signal, source })? {
            Disposition::Default | Disposition::Ours => Ok(Self::by(vcpus, signal)),
            Disposition::Ignored | Disposition::Handled => Err(KvmError::SignalTaken { signal }),
        }
    }

    /// The same by a signal that the VMM handles itself, by whatever it likes: the handler runs on
    /// the threads of vCPUs, each time that they are kicked.
    ///
    /// # Errors
    /// [`KvmError::SignalUnhandled`] if it has no handler: it would end this process, or not
    /// arrive; [`KvmError::SetSignal`].
    pub fn with_signal(vcpus: u32, signal: libc::c_int) -> Result<Self, KvmError> {
        let found = kick::look_at(signal);
        match found.map_err(|source| KvmError::SetSignal { signal, source })? {
            Disposition::Handled | Disposition::Ours => Ok(Self::by(vcpus, signal)),
            Disposition::Default | Disposition::Ignored => {
                Err(KvmError::SignalUnhandled { signal })
            }
        }
    }

    fn by(vcpus: u32, signal: libc::c_int) -> Self {
        let lot = park::ParkingLot::new(vcpus);
        Self { lot, signal }
    }

    /// The seat of a vCPU, to be taken once by the thread that runs it. The signal is unblocked in
    /// this thread.
    ///
    /// # Errors
    /// [`KvmError::NoSeat`], [`KvmError::MapRun`], [`KvmError::SetSignal`].
    pub fn seat(&self, index: u32, vcpu: &VcpuFd) -> Result<Seat, KvmError> {
        let immediate_exit = ImmediateExit::of(vcpu).map_err(|source| KvmError::MapRun {
            vcpu: index,
            source,
        })?;
        let immediate_exit = Arc::new(immediate_exit);
        let signal = self.signal;
        kick::unblock(signal).map_err(|source| KvmError::SetSignal { signal, source })?;
        let owner = Kick {
            thread: kick::this_thread(),
            immediate_exit: Arc::clone(&immediate_exit),
        };
        let seat = self.lot.seat(index, owner);
        let seat = seat.map_err(|refused| KvmError::NoSeat { vcpu: refused.vcpu })?;
        Ok(Seat {
            seat,
            immediate_exit,
            of_this_thread: PhantomData,
        })
    }

    /// Tells a vCPU that an interrupt came; if it does not [wait](Seat::wait_for_interrupt) now,
    /// its next wait ends at once.
    pub fn wake(&self, index: u32) {
        self.lot.wake(index);
    }

    /// Has all vCPUs park, and waits until they have.
    ///
    /// There is one pause at a time: dropping the first of two would let vCPUs run under the
    /// capture of the second.
    ///
    /// # Errors
    /// [`KvmError::AlreadyPaused`] while an earlier [`Parked`] lives, or is being waited for;
    /// [`KvmError::NotParked`] after `patience`, naming the vCPUs; [`KvmError::VcpuGone`] naming a
    /// vCPU whose thread has ended; [`KvmError::LotClosed`]; [`KvmError::Kick`]. Those that parked
    /// go on then.
    pub fn pause(&self, patience: Duration) -> Result<Parked, KvmError> {
        let parked = self.lot.pause(patience, |owners| self.kick(owners));
        let parked = parked.map_err(|error| match error {
            PauseError::AlreadyPaused => KvmError::AlreadyPaused,
            PauseError::VcpuGone { vcpu } => KvmError::VcpuGone { vcpu },
            PauseError::NotParked { vcpus, patience } => KvmError::NotParked { vcpus, patience },
            PauseError::Kick(source) => KvmError::Kick { source },
            _ => KvmError::LotClosed,
        })?;
        Ok(Parked { parked })
    }

    /// Has the threads end: [`Seat::is_closed`] holds from now on, they are kicked out of the
    /// guest, and whatever they wait for in their seats ends. A machine that is paused goes on to
    /// its end when the [`Parked`] is dropped.
    ///
    /// # Errors
    /// [`KvmError::Kick`].
    pub fn close(&self) -> Result<(), KvmError> {
        let closed = self.lot.close(|owners| self.kick(owners));
        closed.map_err(|source| KvmError::Kick { source })
    }

    /// The byte first: a signal that arrives before the entry into the guest is lost.
    fn kick(&self, owners: &[Kick]) -> io::Result<()> {
        for owner in owners {
            owner.immediate_exit.set(true);
            kick::signal(owner.thread, self.signal)?;
        }
        Ok(())
    }
}

/// The seat of one vCPU, kept by its thread: it cannot be sent to another.
///
/// Dropping it says that the thread has ended, so a thread that panics is named by the next pause.
#[derive(Debug)]
pub struct Seat {
    seat: park::Seat<Kick, VcpuFd>,
    immediate_exit: Arc<ImmediateExit>,
    /// The signal goes to the thread that took the seat.
    of_this_thread: PhantomData<*const ()>,
}

impl Seat {
    /// Number of the vCPU.
    #[must_use]
    pub const fn vcpu(&self) -> u32 {
        self.seat.vcpu()
    }

    /// Whether the machine is to pause: park.
    #[must_use]
    pub fn is_pause_wanted(&self) -> bool {
        self.seat.is_pause_wanted()
    }

    /// Whether the lot was [closed](ParkingLot::close): the thread is to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.is_closed()
    }

    /// If a pause is wanted, completes the exit that `vcpu` is at (`handle` serves what it still
    /// asks for, as [`complete_pending_io`] does) and sits until the machine goes on. Returns at
    /// once if none is wanted.
    ///
    /// To be called whenever `KVM_RUN` was interrupted, for any reason: this is what makes a vCPU
    /// that was kicked enter the guest again.
    ///
    /// # Errors
    /// [`KvmError::CompletePendingIo`], and the vCPU is gone: its state cannot be read.
    pub fn park(
        &self,
        mut vcpu: VcpuFd,
        mut handle: impl FnMut(VcpuExit<'_>),
    ) -> Result<VcpuFd, KvmError> {
        loop {
            // Before the look: a pause that begins after it sets the byte again.
            self.immediate_exit.set(false);
            if !self.seat.is_pause_wanted() {
                return Ok(vcpu);
            }
            complete_pending_io(&mut vcpu, &mut handle)?;
            vcpu = self.seat.sit(vcpu);
        }
    }

    /// Waits until a pause is wanted, then sits until the machine goes on: for a vCPU that is to be
    /// booted or thawed before it runs. `KVM_RUN` is not called: on aarch64 its first call, even if
    /// it returns at once, fixes what a restore has still to set. Returns too when the lot is
    /// closed.
    #[must_use]
    pub fn park_before_first_run(&self, mut vcpu: VcpuFd) -> VcpuFd {
        self.seat.wait_for_pause();
        loop {
            self.immediate_exit.set(false);
            if !self.seat.is_pause_wanted() {
                return vcpu;
            }
            vcpu = self.seat.sit(vcpu);
        }
    }

    /// Waits until a pause is wanted, then parks as [`Seat::park`]: for a vCPU that has come to a
    /// stop. Returns too when the lot is closed.
    ///
    /// # Errors
    /// As [`Seat::park`].
    pub fn park_when_wanted(
        &self,
        vcpu: VcpuFd,
        handle: impl FnMut(VcpuExit<'_>),
    ) -> Result<VcpuFd, KvmError> {
        self.seat.wait_for_pause();
        self.park(vcpu, handle)
    }

    /// Waits for an interrupt on behalf of a guest that has halted, where KVM has no interrupt
    /// controller to wake it; at most until its timer is due.
    #[must_use = "a pause that is wanted must be answered"]
    pub fn wait_for_interrupt(&self, timeout: Option<Duration>) -> Woken {
        self.seat.wait_for_interrupt(timeout)
    }
}

/// A machine all of whose vCPUs are parked. Dropping it lets them go on.
#[derive(Debug)]
#[must_use = "dropping it lets the vCPUs go on"]
pub struct Parked {
    parked: park::Parked<Kick, VcpuFd>,
}

impl Parked {
    /// The vCPUs, in their order.
    #[must_use]
    pub fn vcpus(&self) -> &[VcpuFd] {
        self.parked.held()
    }

    /// The same, where a call needs them mutable.
    #[must_use]
    pub fn vcpus_mut(&mut self) -> &mut [VcpuFd] {
        self.parked.held_mut()
    }

    /// Lets the vCPUs go on.
    pub fn resume(self) {
        drop(self);
    }
}
