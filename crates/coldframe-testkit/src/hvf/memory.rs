//! Memory of the process, and stage 2, which says what of it the guest sees and may do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::{Answer, Framework, HV_BAD_ARGUMENT, HV_ERROR, HV_NO_DEVICE, lock};

/// The page of the host and of stage 2.
pub const PAGE_BYTES: u64 = 16 << 10;

const READ: u64 = 1;
const WRITE: u64 = 2;

/// Memory that can be written to through its address, by anybody, and read as words.
#[derive(Debug)]
pub struct ModelRam {
    words: Vec<AtomicU64>,
    first: usize,
    len: u64,
}

impl ModelRam {
    /// So many bytes of zeros, a whole number of pages.
    #[must_use]
    pub fn new(len: u64) -> Arc<Self> {
        let words: Vec<AtomicU64> = (0..(len + PAGE_BYTES) / 8)
            .map(|_| AtomicU64::new(0))
            .collect();
        let start = words.as_ptr().addr() as u64;
        let first = (start.next_multiple_of(PAGE_BYTES) - start) / 8;
        Arc::new(Self {
            words,
            first: first as usize,
            len,
        })
    }

    /// Where it begins; a page of the host.
    #[must_use]
    pub fn host(&self) -> *mut u8 {
        self.words[self.first..].as_ptr().cast_mut().cast()
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Always false.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads the word at a byte offset.
    #[must_use]
    pub fn load(&self, offset: u64) -> u64 {
        self.words[self.first + (offset / 8) as usize].load(Ordering::SeqCst)
    }

    /// Writes the word at a byte offset, as a device does: past stage 2.
    pub fn store(&self, offset: u64, value: u64) {
        self.words[self.first + (offset / 8) as usize].store(value, Ordering::SeqCst);
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let words = (0..self.len / 8).map(|word| self.load(word * 8));
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn offset_of(&self, addr: *mut u8) -> Option<u64> {
        let offset = addr.addr().checked_sub(self.host().addr())? as u64;
        (offset < self.len).then_some(offset)
    }
}

/// A page of stage 2.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    ram: Arc<ModelRam>,
    offset: u64,
    flags: u64,
}

/// Why stage 2 does not allow an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Translation,
    Permission,
}

const fn is_whole(ipa: u64, size: u64) -> bool {
    ipa.is_multiple_of(PAGE_BYTES) && size.is_multiple_of(PAGE_BYTES) && size > 0
}

impl Framework {
    /// `hv_vm_map`.
    ///
    /// # Errors
    /// `HV_NO_DEVICE` without a machine; `HV_BAD_ARGUMENT` if it is not whole pages of the host,
    /// or no memory of this process; `HV_ERROR` (the model's choice) over another mapping.
    pub fn vm_map(&self, addr: *mut u8, ipa: u64, size: u64, flags: u64) -> Answer<()> {
        if !lock(&self.inner.machine).exists {
            return Err(HV_NO_DEVICE);
        }
        if !is_whole(ipa, size) || !(addr.addr() as u64).is_multiple_of(PAGE_BYTES) {
            return Err(HV_BAD_ARGUMENT);
        }
        let rams = lock(&self.inner.rams);
        let mut found = rams
            .iter()
            .filter_map(|ram| Some((ram, ram.offset_of(addr)?)));
        let (ram, start) = found.next().ok_or(HV_BAD_ARGUMENT)?;
        if start + size > ram.len {
            return Err(HV_BAD_ARGUMENT);
        }
        let mut pages = self
            .inner
            .memory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if pages.range(ipa..ipa + size).next().is_some() {
            return Err(HV_ERROR);
        }
        for skip in (0..size).step_by(PAGE_BYTES as usize) {
            let (ram, offset) = (ram.clone(), start + skip);
            pages.insert(ipa + skip, Mapping { ram, offset, flags });
        }
        Ok(())
    }

    /// `hv_vm_unmap`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT` if it is not whole pages, or (the model's choice) not all mapped.
    pub fn vm_unmap(&self, ipa: u64, size: u64) -> Answer<()> {
        self.change(ipa, size, |pages, page| {
            pages.remove(&page);
        })
    }

    /// `hv_vm_protect`.
    ///
    /// # Errors
    /// As [`Self::vm_unmap`].
    pub fn vm_protect(&self, ipa: u64, size: u64, flags: u64) -> Answer<()> {
        self.inner.protects.fetch_add(1, Ordering::SeqCst);
        self.change(ipa, size, |pages, page| {
            pages
                .entry(page)
                .and_modify(|mapping| mapping.flags = flags);
        })
    }

    fn change(
        &self,
        ipa: u64,
        size: u64,
        change: impl Fn(&mut std::collections::BTreeMap<u64, Mapping>, u64),
    ) -> Answer<()> {
        if !is_whole(ipa, size) {
            return Err(HV_BAD_ARGUMENT);
        }
        // The accesses that are under way hold the lock for reading.
        let mut pages = self
            .inner
            .memory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if pages.range(ipa..ipa + size).count() as u64 != size / PAGE_BYTES {
            return Err(HV_BAD_ARGUMENT);
        }
        for page in (ipa..ipa + size).step_by(PAGE_BYTES as usize) {
            change(&mut pages, page);
        }
        Ok(())
    }

    /// The guest reads a word.
    pub(super) fn guest_load(&self, ipa: u64) -> Result<u64, Refusal> {
        self.access(ipa, READ, |ram, offset| ram.load(offset))
    }

    /// The guest writes a word: false if stage 2 does not allow it.
    #[must_use]
    pub fn guest_write(&self, ipa: u64, value: u64) -> bool {
        self.guest_store(ipa, value).is_ok()
    }

    pub(super) fn guest_store(&self, ipa: u64, value: u64) -> Result<(), Refusal> {
        self.access(ipa, WRITE, |ram, offset| ram.store(offset, value))
    }

    /// Whether a write would be allowed now.
    pub(super) fn may_store(&self, ipa: u64) -> Result<(), Refusal> {
        self.access(ipa, WRITE, |_, _| ())
    }

    fn access<R>(
        &self,
        ipa: u64,
        wanted: u64,
        then: impl FnOnce(&ModelRam, u64) -> R,
    ) -> Result<R, Refusal> {
        let page = ipa / PAGE_BYTES * PAGE_BYTES;
        let pages = self
            .inner
            .memory
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mapping = pages.get(&page).ok_or(Refusal::Translation)?;
        if mapping.flags & wanted == 0 {
            return Err(Refusal::Permission);
        }
        Ok(then(&mapping.ram, mapping.offset + (ipa - page)))
    }
}
