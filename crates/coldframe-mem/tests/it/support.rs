//! Guests of a few pages or many, and files to put them into.
//!
//! # Safety
//! A [`Guest`] maps its regions itself, keeps them until it is dropped, and goes through raw
//! pointers.
#![allow(unsafe_code)]

use std::fs::{File, Permissions};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use coldframe_dirty::DirtyPages;
use coldframe_envelope::Producer;
use coldframe_mem::{
    CaptureSpec, CopyOptions, GuestRam, Layers, MapOptions, MemRoot, MemoryFile, MergeBudget,
    RamRegion, Rewrite, Target, Verify, capture_diff, capture_full, restore_copy, restore_map,
};
use coldframe_storage::{FileStorage, MappedFile};
use coldframe_units::{
    Arch, ByteLen, GuestAddr, GuestRegion, PageIndex, PageRun, PageSize, RootHash,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

pub const PAGE: u64 = 4096;

/// What the memory of a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    Anonymous,
    Memfd,
    /// A memfd that is not told to the capture.
    HiddenMemfd,
    /// Shared memory without a name: to the kernel a file, which the VMM has no descriptor of.
    SharedAnonymous,
    /// Private huge pages of 2 MiB, out of the host's pool.
    Huge,
}

pub struct Region {
    region: GuestRegion,
    host: *mut u8,
    file: Option<File>,
    hint: bool,
}

/// Memory of a guest that never runs.
pub struct Guest {
    pub regions: Vec<Region>,
}

// SAFETY: the memory is reached through raw pointers only.
unsafe impl Send for Guest {}
// SAFETY: as above.
unsafe impl Sync for Guest {}

// SAFETY: mapped from `new` to `drop`, each region on its own, never borrowed.
unsafe impl GuestRam for Guest {
    fn regions(&self) -> Vec<RamRegion<'_>> {
        let regions = self.regions.iter();
        regions
            .map(|region| RamRegion {
                file: region
                    .file
                    .as_ref()
                    .filter(|_| region.hint)
                    .map(AsFd::as_fd),
                ..RamRegion::new(region.region, region.host)
            })
            .collect()
    }
}

impl Guest {
    /// Regions of so many bytes, apart from each other in the guest.
    pub fn new(regions: &[(u64, Backing)]) -> Self {
        Self::try_new(regions).unwrap()
    }

    pub fn try_new(regions: &[(u64, Backing)]) -> nix::Result<Self> {
        let mut addr = 0;
        let regions = regions.iter().map(|(len, backing)| {
            let region = GuestRegion::new(GuestAddr::new(addr), ByteLen::new(*len)).unwrap();
            addr = (addr + len).next_multiple_of(2 << 20) + (2 << 20);
            let len = NonZeroUsize::new(usize::try_from(*len).unwrap()).unwrap();
            let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let (host, file) = match backing {
                Backing::Anonymous => {
                    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
                    // SAFETY: a new mapping where the kernel likes.
                    (unsafe { mmap_anonymous(None, len, prot, flags) }, None)
                }
                Backing::SharedAnonymous => {
                    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
                    // SAFETY: a new mapping where the kernel likes.
                    (unsafe { mmap_anonymous(None, len, prot, flags) }, None)
                }
                Backing::Huge => {
                    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB;
                    // SAFETY: a new mapping where the kernel likes.
                    (unsafe { mmap_anonymous(None, len, prot, flags) }, None)
                }
                Backing::Memfd | Backing::HiddenMemfd => {
                    let flags = nix::sys::memfd::MFdFlags::empty();
                    let file = File::from(nix::sys::memfd::memfd_create("guest", flags).unwrap());
                    file.set_len(len.get() as u64).unwrap();
                    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
                    // SAFETY: a new mapping where the kernel likes.
                    (
                        unsafe { mmap(None, len, prot, flags, &file, 0) },
                        Some(file),
                    )
                }
            };
            Ok(Region {
                region,
                host: host?.as_ptr().cast(),
                file,
                hint: *backing == Backing::Memfd,
            })
        });
        let regions: nix::Result<_> = regions.collect();
        Ok(Self { regions: regions? })
    }

    pub fn anonymous(len: u64) -> Self {
        Self::new(&[(len, Backing::Anonymous)])
    }

    pub fn len(&self) -> u64 {
        let lens = self.regions.iter().map(|region| region.region.len().get());
        lens.sum()
    }

    /// Writes at a RAM offset, inside one region.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        write(self, offset, bytes);
    }

    pub fn read(&self) -> Vec<u8> {
        read(self)
    }

    /// Pages that the kernel has given to the guest.
    pub fn resident_pages(&self) -> u64 {
        let regions = self.regions.iter();
        regions
            .map(|region| match &region.file {
                Some(file) => {
                    use std::os::unix::fs::MetadataExt;
                    file.metadata().unwrap().blocks() * 512 / PAGE
                }
                None => anonymous_pages(region.host, region.region.len().get()),
            })
            .sum()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for region in &self.regions {
            let host = ptr::NonNull::new(region.host.cast()).unwrap();
            // SAFETY: mapped by `new`, and nobody borrows the guest any more.
            unsafe { munmap(host, usize::try_from(region.region.len().get()).unwrap()) }.unwrap();
        }
    }
}

/// Pages present or swapped, by the entries of /proc/self/pagemap.
fn anonymous_pages(host: *mut u8, len: u64) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut entries = vec![0; usize::try_from(len / PAGE * 8).unwrap()];
    let offset = host.addr() as u64 / PAGE * 8;
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    pagemap.read_exact_at(&mut entries, offset).unwrap();
    let entries = entries.chunks_exact(8);
    entries.filter(|entry| entry[7] & 0xc0 != 0).count() as u64
}

/// Reads all of a guest's memory.
pub fn read<R: GuestRam>(ram: &R) -> Vec<u8> {
    let mut bytes = Vec::new();
    for region in ram.regions() {
        let len = usize::try_from(region.region.len().get()).unwrap();
        let mut part = vec![0; len];
        // SAFETY: the region is mapped and nobody writes to it in a test that reads it.
        unsafe { ptr::copy_nonoverlapping(region.host, part.as_mut_ptr(), len) };
        bytes.append(&mut part);
    }
    bytes
}

/// Writes at a RAM offset, inside one region.
pub fn write<R: GuestRam>(ram: &R, offset: u64, bytes: &[u8]) {
    let mut start = 0;
    for region in ram.regions() {
        let len = region.region.len().get();
        if offset >= start && offset + bytes.len() as u64 <= start + len {
            let host = region
                .host
                .wrapping_add(usize::try_from(offset - start).unwrap());
            // SAFETY: inside the region, which is mapped writable.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), host, bytes.len()) };
            return;
        }
        start += len;
    }
    panic!("{offset:#x} is not in the guest");
}

/// A directory of memory files.
pub struct Files {
    dir: tempfile::TempDir,
    next: std::cell::Cell<u32>,
}

impl Files {
    pub fn new() -> Self {
        Self {
            dir: coldframe_testkit::scratch::on_disk(),
            next: std::cell::Cell::new(0),
        }
    }

    /// A new empty file.
    pub fn create(&self) -> FileStorage {
        FileStorage::create(&self.path()).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.dir.path().join(format!("{}", self.next.get()))
    }

    /// Makes a file read-only and maps it.
    pub fn map(file: FileStorage) -> Arc<MappedFile> {
        use coldframe_storage::Storage;
        let path = file.path().to_path_buf();
        drop(file);
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        Arc::new(MappedFile::open_published(&path).unwrap())
    }

    pub fn full<R: GuestRam>(&self, ram: &R, spec: &CaptureSpec) -> (Arc<MappedFile>, MemRoot) {
        let file = self.create();
        let root = capture_full(ram, spec, &file)
            .unwrap()
            .finish(&file)
            .unwrap();
        (Self::map(file), root)
    }

    pub fn diff<R: GuestRam>(
        &self,
        ram: &R,
        dirty: &DirtyPages,
        parent: RootHash,
        spec: &CaptureSpec,
    ) -> (Arc<MappedFile>, MemRoot) {
        let file = self.create();
        let captured = capture_diff(ram, dirty, parent, spec, &file).unwrap();
        let root = captured.finish(&file).unwrap();
        (Self::map(file), root)
    }
}

pub fn spec(page_size: PageSize) -> CaptureSpec {
    CaptureSpec {
        arch: Arch::X86_64,
        page_size,
        producer: Producer::new("tests", "1").unwrap(),
        merge: MergeBudget::NONE,
    }
}

/// Dirty pages of 4 KiB.
pub fn dirty(ram: u64, pages: &[u64]) -> DirtyPages {
    let runs = pages
        .iter()
        .map(|page| PageRun::new(PageIndex::new(*page), 1).unwrap());
    DirtyPages::from_runs(ByteLen::new(ram), PageSize::SIZE_4K, runs).unwrap()
}

/// The bytes of a page that was written with `tag`; zeros for 0.
pub fn page(tag: u8) -> Vec<u8> {
    let mut bytes = vec![0; PAGE as usize];
    if tag != 0 {
        // Some pages are zero but for their end.
        let from = if tag.is_multiple_of(3) {
            bytes.len() - 1
        } else {
            0
        };
        bytes[from..].fill(tag);
    }
    bytes
}

/// A file as it is read.
pub fn opened(file: &MappedFile) -> MemoryFile {
    MemoryFile::of_mapped(file).unwrap()
}

/// Files as they are read.
pub fn all_opened(files: &[Arc<MappedFile>]) -> Vec<MemoryFile> {
    files.iter().map(|file| opened(file)).collect()
}

pub fn chain(files: &[Arc<MappedFile>]) -> Layers {
    Layers::open(all_opened(files)).unwrap()
}

pub fn rewrite() -> Rewrite {
    Rewrite {
        producer: Producer::new("tests", "1").unwrap(),
        verify: Verify::Yes,
    }
}

/// A guest of `pages` pages of which `writes` are written, its Full file, and for each further
/// list of writes a Diff.
pub fn history(files: &Files, pages: u64, steps: &[&[(u64, u8)]]) -> Vec<Arc<MappedFile>> {
    let guest = Guest::anonymous(pages * PAGE);
    let mut layers = Vec::new();
    let mut parent = None;
    for writes in steps {
        for (index, tag) in *writes {
            guest.write(index * PAGE, &page(*tag));
        }
        let touched: Vec<u64> = writes.iter().map(|(index, _)| *index).collect();
        let spec = spec(PageSize::SIZE_4K);
        let (file, made) = match parent {
            None => files.full(&guest, &spec),
            Some(parent) => files.diff(&guest, &dirty(guest.len(), &touched), parent, &spec),
        };
        parent = Some(made.root);
        layers.push(file);
    }
    layers
}

/// The memory of a chain, by copy and by map, which must agree.
pub fn memory(chain: &Layers) -> Vec<u8> {
    let mapped = restore_map(chain, MapOptions::default()).unwrap();
    let memory = read(&mapped);
    let regions: Vec<_> = chain
        .layout()
        .regions()
        .iter()
        .map(|r| r.len().get())
        .collect();
    let regions: Vec<_> = regions
        .into_iter()
        .map(|len| (len, Backing::Anonymous))
        .collect();
    let guest = Guest::new(&regions);
    if guest.regions().len() == 1 {
        let options = CopyOptions {
            target: Target::Zeroed,
            verify: Verify::Yes,
        };
        restore_copy(chain, &guest, options).unwrap();
        assert!(guest.read() == memory, "copy and map differ");
    }
    memory
}
