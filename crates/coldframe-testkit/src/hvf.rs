//! A model of Hypervisor.framework: vCPUs, the GIC's blob, stage-2 protection, the virtual timer.
//!
//! It answers with the framework's codes and enforces its rules of order, and it knows nothing of
//! the adapter that is tested on it. Its guest is a small program ([`GUEST_LOOP`] steps), whose end
//! depends on every byte of memory and register that it ever had.
//!
//! Where Apple's documentation does not say which code is returned, the model's choice says so.
//! Invariant: what the guest reads and writes goes through stage 2; when `hv_vm_protect` returns,
//! no access by the older permissions is under way.

mod calls;
mod cpu;
mod gic;
mod memory;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use cpu::{DEVICE, Exit, GUEST_LOOP, Reason};
pub use memory::{ModelRam, PAGE_BYTES};

use cpu::Vcpu;
use gic::Gic;
use memory::Mapping;

/// `HV_ERROR`.
pub const HV_ERROR: i32 = code(1);
/// `HV_BUSY`.
pub const HV_BUSY: i32 = code(2);
/// `HV_BAD_ARGUMENT`.
pub const HV_BAD_ARGUMENT: i32 = code(3);
/// `HV_NO_DEVICE`.
pub const HV_NO_DEVICE: i32 = code(6);
/// `HV_DENIED`.
pub const HV_DENIED: i32 = code(7);
/// `HV_UNSUPPORTED`.
pub const HV_UNSUPPORTED: i32 = code(15);

const fn code(low: u32) -> i32 {
    (0xfae9_4000 | low).cast_signed()
}

/// What an operation that failed answers.
pub type Answer<T> = Result<T, i32>;

/// What is particular to one host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Build of the operating system: another one does not take the GIC's blob.
    pub build: String,
    /// What the host's counter shows at first.
    pub counter: u64,
    /// Whether the physical timer can be reached.
    pub has_physical_timer: bool,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            build: "24A335".to_owned(),
            counter: 1_000_000,
            has_physical_timer: true,
        }
    }
}

/// The framework in one process: at most one machine.
#[derive(Clone, Debug)]
pub struct Framework {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    host: Host,
    clock: AtomicU64,
    memory: RwLock<BTreeMap<u64, Mapping>>,
    rams: Mutex<Vec<Arc<ModelRam>>>,
    machine: Mutex<Machine>,
    protects: AtomicU64,
}

#[derive(Debug, Default)]
struct Machine {
    exists: bool,
    gic: Option<Gic>,
    vcpus: Vec<Arc<Vcpu>>,
    has_run: bool,
}

/// A panic in a test leaves nothing half-done behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Framework {
    /// A process on this host, without a machine.
    #[must_use]
    pub fn new(host: Host) -> Self {
        let clock = AtomicU64::new(host.counter);
        Self {
            inner: Arc::new(Inner {
                host,
                clock,
                memory: RwLock::new(BTreeMap::new()),
                rams: Mutex::new(Vec::new()),
                machine: Mutex::new(Machine::default()),
                protects: AtomicU64::new(0),
            }),
        }
    }

    /// Memory that this process has, and that can so be mapped.
    pub fn add_ram(&self, ram: &Arc<ModelRam>) {
        lock(&self.inner.rams).push(ram.clone());
    }

    /// `hv_vm_create`.
    ///
    /// # Errors
    /// `HV_BUSY` if there is a machine.
    pub fn vm_create(&self) -> Answer<()> {
        let mut machine = lock(&self.inner.machine);
        if std::mem::replace(&mut machine.exists, true) {
            return Err(HV_BUSY);
        }
        Ok(())
    }

    /// `hv_gic_create`; `layout` has the base addresses.
    ///
    /// # Errors
    /// `HV_NO_DEVICE` without a machine; `HV_BUSY` (the model's choice) once there is a vCPU or a
    /// GIC.
    pub fn gic_create(&self, layout: u64) -> Answer<()> {
        let mut machine = lock(&self.inner.machine);
        if !machine.exists {
            return Err(HV_NO_DEVICE);
        }
        if !machine.vcpus.is_empty() || machine.gic.is_some() {
            return Err(HV_BUSY);
        }
        machine.gic = Some(Gic::new(layout, self.inner.host.build.clone()));
        Ok(())
    }

    /// `hv_vcpu_create`, by the thread that will run it.
    ///
    /// # Errors
    /// `HV_NO_DEVICE` without a machine.
    pub fn vcpu_create(&self) -> Answer<u64> {
        let mut machine = lock(&self.inner.machine);
        if !machine.exists {
            return Err(HV_NO_DEVICE);
        }
        let id = machine.vcpus.len() as u64;
        machine.vcpus.push(Arc::new(Vcpu::new(id)));
        Ok(id)
    }

    /// `hv_vcpus_exit`: a vCPU that does not run leaves its next run at once.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT` for a number of no vCPU.
    pub fn vcpus_exit(&self, ids: &[u64]) -> Answer<()> {
        ids.iter().try_for_each(|id| {
            self.find(*id)?.cancel();
            Ok(())
        })
    }

    /// `mach_absolute_time`. It goes on by one for each step of a guest, and by [`Self::pass`].
    #[must_use]
    pub fn absolute_time(&self) -> u64 {
        self.inner.clock.load(Ordering::SeqCst)
    }

    /// Lets time pass.
    pub fn pass(&self, ticks: u64) {
        self.inner.clock.fetch_add(ticks, Ordering::SeqCst);
    }

    /// How often `hv_vm_protect` was called.
    #[must_use]
    pub fn protect_count(&self) -> u64 {
        self.inner.protects.load(Ordering::SeqCst)
    }

    /// `hv_gic_state_create`, `hv_gic_state_get_size`, `hv_gic_state_get_data`.
    ///
    /// # Errors
    /// `HV_NO_DEVICE` without a GIC.
    pub fn gic_state(&self) -> Answer<Vec<u8>> {
        let machine = lock(&self.inner.machine);
        machine.gic.as_ref().map(Gic::state).ok_or(HV_NO_DEVICE)
    }

    /// `hv_gic_set_state`: the redistributors get their state by affinity, the CPU interfaces of
    /// all vCPUs are reset.
    ///
    /// # Errors
    /// `HV_NO_DEVICE` without a GIC; `HV_DENIED` (the model's choice) once a vCPU has run;
    /// `HV_BAD_ARGUMENT` for a blob of another size, layout or build, or if a vCPU that it speaks
    /// of is not there or has no affinity yet.
    pub fn gic_set_state(&self, blob: &[u8]) -> Answer<()> {
        let mut machine = lock(&self.inner.machine);
        let has_run = machine.has_run;
        let vcpus = machine.vcpus.clone();
        let gic = machine.gic.as_mut().ok_or(HV_NO_DEVICE)?;
        if has_run {
            return Err(HV_DENIED);
        }
        let affinities: Option<Vec<u64>> = vcpus.iter().map(|vcpu| vcpu.affinity()).collect();
        let affinities = affinities.filter(|list| !list.is_empty());
        gic.set_state(blob, &affinities.ok_or(HV_BAD_ARGUMENT)?)?;
        drop(machine);
        vcpus.iter().for_each(|vcpu| vcpu.reset_interface());
        Ok(())
    }

    /// `hv_gic_set_redistributor_reg` of GICR_ISENABLER0.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT` without the vCPU or its affinity.
    pub fn gic_enable(&self, id: u64, interrupts: u32) -> Answer<()> {
        let affinity = self.find(id)?.affinity().ok_or(HV_BAD_ARGUMENT)?;
        let mut machine = lock(&self.inner.machine);
        let gic = machine.gic.as_mut().ok_or(HV_NO_DEVICE)?;
        gic.redistributor(affinity).enabled = interrupts;
        Ok(())
    }

    fn find(&self, id: u64) -> Answer<Arc<Vcpu>> {
        let machine = lock(&self.inner.machine);
        let found = machine.vcpus.get(id as usize);
        found.cloned().ok_or(HV_BAD_ARGUMENT)
    }

    /// Whether another vCPU has this affinity.
    fn is_taken(&self, id: u64, affinity: u64) -> bool {
        let machine = lock(&self.inner.machine);
        let mut others = machine.vcpus.iter().filter(|vcpu| vcpu.id != id);
        others.any(|vcpu| vcpu.affinity() == Some(affinity))
    }
}
