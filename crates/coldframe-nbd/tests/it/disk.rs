//! A disk in memory that remembers what was asked of it, in which order, and can be slow.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use coldframe_nbd::{Allocation, BlockSizes, Errno, Export, ExportError, Extents, ZeroMode};

/// Granularity of holes.
pub const BLOCK: usize = 4096;

/// What a client made the disk do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Read(u64, usize),
    Write(u64, usize),
    Flush,
    Trim(u64, u64),
    Zero(u64, u64, ZeroMode),
    Cache(u64, u64),
}

struct State {
    bytes: Vec<u8>,
    blocks: Vec<Allocation>,
    events: Vec<Event>,
    /// What a power cut would leave.
    durable: Vec<u8>,
    gate_is_shut: bool,
}

pub struct MemDisk {
    state: Mutex<State>,
    gate: Condvar,
    /// Calls so far, those under way too.
    begun: AtomicUsize,
    pub read_only: bool,
    pub fast_zero: bool,
    pub blocks: BlockSizes,
    pub delay: Duration,
    /// Every call fails with it.
    pub error: Option<Errno>,
}

impl MemDisk {
    /// All holes.
    pub fn new(len: usize) -> Self {
        Self {
            state: Mutex::new(State {
                bytes: vec![0; len],
                blocks: vec![Allocation::Hole; len.div_ceil(BLOCK)],
                events: Vec::new(),
                durable: vec![0; len],
                gate_is_shut: false,
            }),
            gate: Condvar::new(),
            begun: AtomicUsize::new(0),
            read_only: false,
            fast_zero: true,
            blocks: BlockSizes::BYTES,
            delay: Duration::ZERO,
            error: None,
        }
    }

    /// Holds these bytes.
    pub fn holding(bytes: &[u8]) -> Self {
        let disk = Self::new(bytes.len());
        disk.write_at(bytes, 0).unwrap();
        disk.state.lock().unwrap().events.clear();
        disk.begun.store(0, Ordering::Relaxed);
        disk
    }

    /// How many calls there were, those under way too.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().bytes.clone()
    }

    pub fn durable(&self) -> Vec<u8> {
        self.state.lock().unwrap().durable.clone()
    }

    pub fn events(&self) -> Vec<Event> {
        self.state.lock().unwrap().events.clone()
    }

    /// Reads wait from now on.
    pub fn shut_gate(&self) {
        self.state.lock().unwrap().gate_is_shut = true;
    }

    pub fn open_gate(&self) {
        self.state.lock().unwrap().gate_is_shut = false;
        self.gate.notify_all();
    }

    fn begin(&self, event: Event) -> Result<std::sync::MutexGuard<'_, State>, ExportError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.delay);
        let mut state = self.state.lock().unwrap();
        state.events.push(event);
        match self.error {
            Some(errno) => Err(ExportError::new(errno, "told to fail")),
            None => Ok(state),
        }
    }
}

impl State {
    fn mark(&mut self, offset: u64, len: usize, allocation: Allocation) {
        let start = offset as usize;
        for index in start / BLOCK..(start + len).div_ceil(BLOCK) {
            let is_whole = start <= index * BLOCK && (index + 1) * BLOCK <= start + len;
            self.blocks[index] = if is_whole {
                allocation
            } else {
                Allocation::Data
            };
        }
    }
}

impl Export for MemDisk {
    fn size(&self) -> u64 {
        self.state.lock().unwrap().bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        let state = self.begin(Event::Read(offset, buf.len()))?;
        let gate = self.gate.wait_while(state, |state| state.gate_is_shut);
        buf.copy_from_slice(&gate.unwrap().bytes[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        let mut state = self.begin(Event::Write(offset, data.len()))?;
        state.bytes[offset as usize..][..data.len()].copy_from_slice(data);
        state.mark(offset, data.len(), Allocation::Data);
        let touched = offset as usize / BLOCK..(offset as usize + data.len()).div_ceil(BLOCK);
        state.blocks[touched].fill(Allocation::Data);
        Ok(())
    }

    fn flush(&self) -> Result<(), ExportError> {
        let mut state = self.begin(Event::Flush)?;
        state.durable = state.bytes.clone();
        Ok(())
    }

    fn trim(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        let mut state = self.begin(Event::Trim(offset, len))?;
        state.bytes[offset as usize..][..len as usize].fill(0);
        state.mark(offset, len as usize, Allocation::Hole);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<(), ExportError> {
        let mut state = self.begin(Event::Zero(offset, len, mode))?;
        state.bytes[offset as usize..][..len as usize].fill(0);
        let kind = if mode.may_punch {
            Allocation::Hole
        } else {
            Allocation::Zero
        };
        state.mark(offset, len as usize, kind);
        Ok(())
    }

    fn cache(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        self.begin(Event::Cache(offset, len)).map(drop)
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        let state = self.state.lock().unwrap();
        let mut at = offset as usize;
        while extents.wants_more() {
            let end = (at / BLOCK + 1) * BLOCK;
            extents.push((end - at) as u64, state.blocks[at / BLOCK]);
            at = end;
        }
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn has_fast_zero(&self) -> bool {
        self.fast_zero
    }

    fn block_sizes(&self) -> BlockSizes {
        self.blocks
    }

    fn description(&self) -> String {
        "a disk in memory".into()
    }
}
