//! The kernel's calls, with lengths that cannot be wrong.
//!
//! # Safety
//! An ioctl's number carries the length of the structure that the kernel reads or writes
//! (`_IOC_SIZE`, include/uapi/asm-generic/ioctl.h). [`Request`] is built from that length, and the
//! two calls on plain structures ([`read`], [`write`]) refuse a buffer that is shorter. Calls whose
//! structure points elsewhere, or is longer than its number says, have their own function that
//! states what it proves.
#![allow(unsafe_code)]

pub(crate) mod kick;

use std::io;
use std::os::fd::AsRawFd;

use kvm_bindings::{
    kvm_clear_dirty_log, kvm_device_attr, kvm_dirty_log, kvm_userspace_memory_region,
};

/// The number of an ioctl of KVM on a structure without pointers.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    number: libc::Ioctl,
    bytes: usize,
}

const WRITE: u32 = 1;
const READ: u32 = 2;

/// The number is 32 bits long whatever type the C library gives it: glibc has an unsigned long,
/// musl an int.
const fn number(direction: u32, nr: u32, bytes: usize) -> libc::Ioctl {
    const KVMIO: u32 = 0xae;
    assert!(bytes < 1 << 14);
    (direction << 30 | (bytes as u32) << 16 | KVMIO << 8 | nr) as libc::Ioctl
}

impl Request {
    /// `_IOR`: the kernel writes `bytes`.
    pub(crate) const fn read(nr: u32, bytes: usize) -> Self {
        Self {
            number: number(READ, nr, bytes),
            bytes,
        }
    }

    /// `_IOW`: the kernel reads `bytes`.
    pub(crate) const fn write(nr: u32, bytes: usize) -> Self {
        Self {
            number: number(WRITE, nr, bytes),
            bytes,
        }
    }

    /// `_IOWR`: the kernel reads and writes `bytes`.
    pub(crate) const fn read_write(nr: u32, bytes: usize) -> Self {
        Self {
            number: number(READ | WRITE, nr, bytes),
            bytes,
        }
    }

    /// Length of the structure.
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }
}

fn checked(answer: libc::c_int) -> io::Result<u32> {
    u32::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A call that a signal has interrupted is done again: none of these has done a part of its work
/// when it answers EINTR.
fn uninterrupted(call: impl FnMut() -> io::Result<u32>) -> io::Result<u32> {
    bounded(call, |error| error.kind() == io::ErrorKind::Interrupted)
}

/// Has the kernel fill `buffer`, or read and fill it.
pub(crate) fn read(fd: &impl AsRawFd, request: Request, buffer: &mut [u8]) -> io::Result<()> {
    assert!(
        buffer.len() >= request.bytes,
        "the buffer holds the whole structure"
    );
    // SAFETY: the kernel reads and writes `request.bytes` bytes for this number; the buffer has
    // been checked to be that long, and is borrowed exclusively.
    let mut call = || unsafe { libc::ioctl(fd.as_raw_fd(), request.number, buffer.as_mut_ptr()) };
    uninterrupted(|| checked(call())).map(drop)
}

/// Has the kernel read `bytes`.
pub(crate) fn write(fd: &impl AsRawFd, request: Request, bytes: &[u8]) -> io::Result<()> {
    assert!(
        bytes.len() >= request.bytes,
        "the buffer holds the whole structure"
    );
    // SAFETY: the kernel reads `request.bytes` bytes for this number and writes none; the buffer
    // has been checked to be that long.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), request.number, bytes.as_ptr()) };
    uninterrupted(|| checked(call())).map(drop)
}

/// A request without a structure.
pub(crate) fn plain(fd: &impl AsRawFd, nr: u32) -> io::Result<u32> {
    // SAFETY: `_IO` requests take no pointer.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), number(0, nr, 0), 0) };
    uninterrupted(|| checked(call()))
}

/// `KVM_GET_ONE_REG` of a register of 64 bits (api.rst, section of that name).
#[cfg(target_arch = "x86_64")]
pub(crate) fn get_one_reg(fd: &impl AsRawFd, id: u64, value: &mut [u8; 8]) -> io::Result<()> {
    one_reg(fd, 0xab, id, value.as_mut_ptr())
}

/// `KVM_SET_ONE_REG` of a register of 64 bits (api.rst, section of that name).
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_one_reg(fd: &impl AsRawFd, id: u64, value: &[u8; 8]) -> io::Result<()> {
    let mut value = *value;
    one_reg(fd, 0xac, id, value.as_mut_ptr())
}

#[cfg(target_arch = "x86_64")]
fn one_reg(fd: &impl AsRawFd, nr: u32, id: u64, value: *mut u8) -> io::Result<()> {
    /// Bits 52 to 55 of the number: 3 for 8 bytes.
    const SIZE: u64 = 0xf << 52;
    const SIZE_U64: u64 = 3 << 52;
    if id & SIZE != SIZE_U64 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let request = kvm_bindings::kvm_one_reg {
        id,
        addr: value as u64,
    };
    let number = number(WRITE, nr, size_of::<kvm_bindings::kvm_one_reg>());
    // SAFETY: `request` lives through the call; it points to 8 bytes that the two callers above
    // own, and the register's number, checked above, says that it is 8 bytes long.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), number, &raw const request) };
    uninterrupted(|| checked(call())).map(drop)
}

/// One attribute of a vCPU or a device.
#[derive(Clone, Copy)]
pub(crate) struct Attribute {
    /// Group.
    pub(crate) group: u32,
    /// Attribute in the group; of one that is a `u64`, a `u32` (the lower half of one: hosts are
    /// little-endian) or nothing.
    pub(crate) attr: u64,
}

fn attribute(fd: &impl AsRawFd, nr: u32, which: Attribute, value: *mut u64) -> io::Result<()> {
    let request = kvm_device_attr {
        flags: 0,
        group: which.group,
        attr: which.attr,
        addr: value as u64,
    };
    let number = number(WRITE, nr, size_of::<kvm_device_attr>());
    // SAFETY: `request` lives through the call; it points to a live u64 that the three callers
    // below borrow exclusively, and each `Attribute` of this crate is no longer than a u64.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), number, &raw const request) };
    uninterrupted(|| checked(call())).map(drop)
}

/// `KVM_HAS_DEVICE_ATTR` on a vCPU or device (api.rst, section of that name): ENXIO without the
/// attribute, EINVAL or ENOTTY on a kernel without attributes of such a descriptor. Any other
/// answer says nothing of it.
pub(crate) fn has_attribute(fd: &impl AsRawFd, which: Attribute) -> io::Result<bool> {
    let mut unused = 0;
    match attribute(fd, 0xe3, which, &raw mut unused) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENXIO | libc::EINVAL | libc::ENOTTY) => Ok(false),
            _ => Err(error),
        },
    }
}

/// `KVM_GET_DEVICE_ATTR` on a vCPU or device (api.rst, section of that name).
pub(crate) fn get_attribute(fd: &impl AsRawFd, which: Attribute) -> io::Result<u64> {
    let mut value = 0;
    attribute(fd, 0xe2, which, &raw mut value)?;
    Ok(value)
}

/// `KVM_SET_DEVICE_ATTR` on a vCPU or device (api.rst, section of that name).
pub(crate) fn set_attribute(fd: &impl AsRawFd, which: Attribute, mut value: u64) -> io::Result<()> {
    attribute(fd, 0xe1, which, &raw mut value)
}

/// `KVM_SET_USER_MEMORY_REGION` (api.rst, section of that name).
///
/// # Safety
/// The host memory that `region` names must stay mapped for as long as the machine lives.
pub(crate) unsafe fn set_memory_region(
    fd: &impl AsRawFd,
    region: &kvm_userspace_memory_region,
) -> io::Result<()> {
    let number = number(WRITE, 0x46, size_of::<kvm_userspace_memory_region>());
    // SAFETY: the kernel reads the structure, which is borrowed; the memory it names is the
    // caller's promise.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), number, &raw const *region) };
    uninterrupted(|| checked(call())).map(drop)
}

/// `KVM_GET_DIRTY_LOG` (api.rst, section of that name).
///
/// # Safety
/// The slot must have at most `64 * words.len()` pages.
pub(crate) unsafe fn get_dirty_log(
    fd: &impl AsRawFd,
    slot: u32,
    words: &mut [u64],
) -> io::Result<()> {
    let mut request = kvm_dirty_log {
        slot,
        ..Default::default()
    };
    request.__bindgen_anon_1.dirty_bitmap = words.as_mut_ptr().cast();
    let number = number(WRITE, 0x42, size_of::<kvm_dirty_log>());
    // SAFETY: the kernel writes one bit for each page of the slot, rounded up to 64 of them; the
    // caller promises that `words` holds these, and it is borrowed exclusively.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), number, &raw const request) };
    uninterrupted(|| checked(call())).map(drop)
}

/// `KVM_CLEAR_DIRTY_LOG` (api.rst, section of that name): clears the pages whose bit is set in
/// `words`, of `num_pages` from `first_page` on.
pub(crate) fn clear_dirty_log(
    fd: &impl AsRawFd,
    slot: u32,
    first_page: u64,
    num_pages: u32,
    words: &[u64],
) -> io::Result<()> {
    assert!(
        u64::from(num_pages).div_ceil(64) <= words.len() as u64,
        "a bit for each page"
    );
    let mut request = kvm_clear_dirty_log {
        slot,
        num_pages,
        first_page,
        ..Default::default()
    };
    request.__bindgen_anon_1.dirty_bitmap = words.as_ptr().cast_mut().cast();
    let number = number(READ | WRITE, 0xc0, size_of::<kvm_clear_dirty_log>());
    // SAFETY: the kernel only reads the bitmap (copy_from_user), one bit for each of `num_pages`
    // pages rounded up to 64, which `words` was checked to hold.
    let call = || unsafe { libc::ioctl(fd.as_raw_fd(), number, &raw const request) };
    uninterrupted(|| checked(call())).map(drop)
}

/// `KVM_RESET_DIRTY_RINGS` (api.rst, section of that name): how many entries were taken back.
pub(crate) fn reset_dirty_rings(fd: &impl AsRawFd) -> io::Result<u32> {
    plain(fd, 0xc7)
}

/// `KVM_CREATE_VM`, again when a signal has interrupted it: registering the machine's memory
/// notifier answers EINTR while one is pending, whatever its handler is flagged with (Linux
/// mm/mmu_notifier.c, mm_take_all_locks).
pub(crate) fn create_vm(kvm: &kvm_ioctls::Kvm) -> Result<kvm_ioctls::VmFd, kvm_ioctls::Error> {
    bounded(|| kvm.create_vm(), |error| error.errno() == libc::EINTR)
}

/// Does `call` again while it was interrupted, at most so often that a steady stream of signals
/// becomes an error and no endless loop; a little later each time.
fn bounded<T, E>(
    mut call: impl FnMut() -> Result<T, E>,
    is_interrupted: impl Fn(&E) -> bool,
) -> Result<T, E> {
    const TRIES: u32 = 6;
    let mut tried = 1;
    loop {
        match call() {
            Err(error) if tried < TRIES && is_interrupted(&error) => {
                std::thread::sleep(std::time::Duration::from_micros(1 << tried));
                tried += 1;
            }
            other => return other,
        }
    }
}

/// The kernel's release, by uname(2): a jail has no /proc.
pub(crate) fn kernel_release() -> io::Result<String> {
    let mut names = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the kernel fills the structure, which is exclusively borrowed.
    let answer = unsafe { libc::uname(names.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeros are a valid utsname, and the kernel has overwritten them with text.
    let names = unsafe { names.assume_init() };
    // SAFETY: the kernel ends each text with a zero, and the structure outlives this borrow. Not
    // byte by byte: c_char is i8 on x86_64 and u8 on aarch64, so that a cast is idle on one.
    let release = unsafe { std::ffi::CStr::from_ptr(names.release.as_ptr()) };
    Ok(release.to_string_lossy().into_owned())
}

/// Random bytes of the system: getrandom(2), which fills up to 256 at once.
pub(crate) fn random(bytes: &mut [u8; 16]) -> io::Result<()> {
    // SAFETY: the kernel writes at most as many bytes as `bytes` has, exclusively borrowed.
    let mut call = || unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    let filled = uninterrupted(|| match u32::try_from(call()) {
        Ok(filled) => Ok(filled),
        Err(_) => Err(io::Error::last_os_error()),
    })?;
    match filled {
        16 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Bytes of a page of this host.
pub(crate) fn host_page_bytes() -> u64 {
    // SAFETY: sysconf takes a constant and touches no memory of ours.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(answer).unwrap_or(4096)
}

/// Rate of the counters in Hz, as the firmware has told the CPU (CNTFRQ_EL0).
#[cfg(target_arch = "aarch64")]
pub(crate) fn counter_hz() -> u64 {
    let hz: u64;
    // SAFETY: reads a register that EL0 may read on Linux, and touches nothing else.
    unsafe {
        core::arch::asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack));
    }
    hz
}

/// The host's counter (CNTVCT_EL0, whose offset Linux keeps at zero for itself).
#[cfg(target_arch = "aarch64")]
pub(crate) fn host_counter() -> u64 {
    let count: u64;
    // SAFETY: reads a register that EL0 may read on Linux, after all before it, and touches
    // nothing else.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack));
    }
    count
}
