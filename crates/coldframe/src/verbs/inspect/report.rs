//! What is said about a file or a snapshot directory, as data; its JSON is the output of `--json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coldframe_envelope::{DecodeError, HEADER_LEN, Header, Limits, SectionTable};
use coldframe_manifest::{ChildNote, Manifest};
use coldframe_memfile::{Content, Kind, MemFile, tail_range};
use coldframe_storage::{ByteSource, FileStorage, PreadSource, StorageError};
use coldframe_units::{ByteLen, FileOffset};
use serde::Serialize;

use super::logs;
use super::machine::StateReport;
use super::store::{IndexReport, LedgerReport, PackReport, TagReport};
use crate::exit::{Failure, line};
use crate::human::listed;
use crate::search::open_chain;
use crate::verbs::journal::JournalReport;
use crate::verbs::wal::WalReport;

/// What was found under the path.
#[derive(Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Report {
    /// A single file.
    File(Box<FileReport>),
    /// A snapshot directory.
    Snapshot(SnapshotReport),
}

/// A snapshot directory: each of its files.
#[derive(Serialize)]
pub struct SnapshotReport {
    pub path: String,
    pub files: BTreeMap<String, FileReport>,
    /// Names in the directory that belong to no snapshot.
    pub strangers: Vec<String>,
    /// Where it and all that it is built on are, the full one first; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Vec<String>>,
    pub problem: Option<String>,
}

/// One file.
#[derive(Default, Serialize)]
pub struct FileReport {
    pub path: String,
    pub file_len: u64,
    pub format: Option<String>,
    pub version: Option<String>,
    pub producer: Option<String>,
    pub arch: Option<String>,
    pub page_size: Option<u64>,
    pub codec: Option<String>,
    pub root: Option<String>,
    pub sections: Vec<SectionReport>,
    pub manifest: Option<ManifestReport>,
    pub state: Option<StateReport>,
    pub memory: Option<MemoryReport>,
    pub wal: Option<WalReport>,
    pub journal: Option<JournalReport>,
    pub pack: Option<PackReport>,
    pub index: Option<IndexReport>,
    pub tag: Option<TagReport>,
    pub ledger: Option<LedgerReport>,
    pub child: Option<ChildReport>,
    /// The first thing that is wrong; absent if nothing is.
    pub problem: Option<String>,
    /// The file begins as a file of ours does, but is shorter than its header.
    #[serde(skip)]
    pub is_cut: bool,
    /// Why nothing is known of it, if it could not be read: that says nothing of what it is.
    #[serde(skip)]
    pub unread: Option<Failure>,
}

/// One row of a section table.
#[derive(Serialize)]
pub struct SectionReport {
    pub kind: String,
    pub instance: u32,
    pub version: u16,
    pub must_understand: bool,
    pub offset: u64,
    pub len: u64,
}

/// What a manifest says.
#[derive(Serialize)]
pub struct ManifestReport {
    pub id: String,
    pub kind: &'static str,
    pub parent_id: Option<String>,
    pub parent_root: Option<String>,
    pub parent_name: Option<String>,
    pub created_unix_seconds: u64,
    pub ram_bytes: u64,
    pub regions: Vec<(u64, u64)>,
    pub memory_root: String,
    pub state_root: Option<String>,
    pub host: Option<String>,
    pub disks: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// What a memory file holds.
#[derive(Serialize)]
pub struct MemoryReport {
    pub kind: &'static str,
    pub parent_root: Option<String>,
    pub ram_bytes: u64,
    pub data_offset: u64,
    pub extents: usize,
    pub data_pages: u64,
    pub zero_pages: u64,
    /// Not plugged in when the memory was frozen; zero in the file.
    pub absent_bytes: u64,
    pub hashed_blocks: usize,
}

impl Report {
    /// The first file that could not be read.
    pub fn unread(self) -> Option<Failure> {
        match self {
            Self::File(file) => file.unread,
            Self::Snapshot(snapshot) => snapshot.files.into_values().find_map(|file| file.unread),
        }
    }

    /// Whether nothing was found wrong.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::File(file) => file.problem.is_none(),
            Self::Snapshot(snapshot) => {
                snapshot.problem.is_none()
                    && snapshot.files.values().all(|file| file.problem.is_none())
            }
        }
    }
}

impl SnapshotReport {
    /// Reads every file of a directory that a snapshot has.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let known = [
            coldframe_snapshot::MANIFEST,
            coldframe_snapshot::STATE,
            coldframe_snapshot::MEMORY,
        ];
        let mut report = Self {
            path: path.display().to_string(),
            files: BTreeMap::new(),
            strangers: Vec::new(),
            chain: None,
            problem: None,
        };
        let cannot = |error: std::io::Error| {
            Failure::environment(format!("cannot list {}", path.display()), &error)
        };
        for entry in std::fs::read_dir(path).map_err(cannot)? {
            let name = entry
                .map_err(cannot)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            if known.contains(&name.as_str()) {
                let file = FileReport::within(&path.join(&name));
                report.files.insert(name, file);
            } else {
                report.strangers.push(name);
            }
        }
        report.strangers.sort();
        report.problem = report.missing_file();
        Ok(report)
    }

    /// Finds its parents.
    pub fn follow(&mut self, path: &Path, search: &[PathBuf]) {
        match open_chain(path, search) {
            Ok(chain) => {
                let paths = chain.links().iter().map(|link| link.path().display());
                self.chain = Some(paths.map(|path| path.to_string()).collect());
            }
            Err(failure) => {
                self.problem.get_or_insert(failure.to_string());
            }
        }
    }

    /// The first file that should be here and is not.
    fn missing_file(&self) -> Option<String> {
        let Some(manifest) = self.files.get(coldframe_snapshot::MANIFEST) else {
            return Some("not a snapshot directory: there is no manifest in it".into());
        };
        let has_state = (manifest.manifest.as_ref()).is_some_and(|it| it.state_root.is_some());
        let mut names = has_state
            .then_some(coldframe_snapshot::STATE)
            .into_iter()
            .chain([coldframe_snapshot::MEMORY]);
        let missing = names.find(|name| !self.files.contains_key(*name))?;
        Some(format!("the file {missing} is missing"))
    }
}

impl FileReport {
    /// Reads a file as far as it can be read.
    ///
    /// # Errors
    /// [`Failure::Usage`] if it is no regular file, [`Failure::Environment`] if nothing of it can
    /// be read.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let source = open(path)?;
        let mut report = Self {
            path: path.display().to_string(),
            file_len: source.len().get(),
            ..Self::default()
        };
        let start = source.len().min(ByteLen::new(HEADER_LEN));
        if let Err(error) = source.bytes(FileOffset::ZERO, start) {
            let cannot = format!("cannot read {}", path.display());
            return Err(Failure::environment(cannot, &error));
        }
        match crate::logs::kind(&source) {
            Some(kind) => logs::read(&mut report, path, kind)?,
            None => report.read(&source),
        }
        Ok(report)
    }

    /// The same for one file of several: that it cannot be read is told of it, and the others are
    /// read.
    fn within(path: &Path) -> Self {
        Self::of(path).unwrap_or_else(|failure| Self {
            path: path.display().to_string(),
            problem: Some(failure.to_string()),
            unread: Some(failure),
            ..Self::default()
        })
    }

    /// Fills in what can be read, and the first problem.
    fn read(&mut self, source: &PreadSource) {
        let result = self.read_header(source).and_then(|header| {
            self.read_sections(source, &header)?;
            match self.format.as_deref() {
                Some("MANI") => self.read_manifest(source),
                Some("STAT") => self.read_state(source),
                Some("MEMF") => self.read_memory(source),
                Some("PACK") => self.read_pack(source),
                Some("CIDX") => self.read_index(source),
                Some("CTAG") => self.read_tag(source),
                Some("LEDG") => self.read_ledger(source),
                Some("STOR") => Ok(()),
                Some("CHLD") => self.read_child(source),
                Some(other) => Err(format!("format {other} is unknown to this release")),
                None => Ok(()),
            }
        });
        self.problem = result.err();
    }

    fn read_header(&mut self, source: &PreadSource) -> Result<Header, String> {
        let len = HEADER_LEN.min(source.len().get());
        let bytes = range(source, 0, len)?;
        let header = Header::peek(&bytes).map_err(|error| {
            self.is_cut = !error.is_foreign();
            text(error)
        })?;
        self.format = Some(header.format.to_string());
        self.version = Some(header.version.to_string());
        self.producer = Some(header.producer.to_string());
        self.arch = header.arch.map(|arch| arch.to_string());
        self.page_size = header.page_size.map(|size| size.bytes());
        self.codec = (!header.codec.name().is_empty())
            .then(|| format!("{} {}", header.codec.name(), header.codec.release()));
        self.root = Some(header.root().to_string());
        if header.file_len != source.len().get() {
            let announced = header.file_len;
            let found = source.len();
            return Err(format!(
                "the header announces {announced} bytes, the file has {found}"
            ));
        }
        Ok(header)
    }

    fn read_sections(&mut self, source: &PreadSource, header: &Header) -> Result<(), String> {
        let limits = Limits::MEMORY_FILE;
        let limits = Limits {
            sections_max: Limits::SMALL_FILE.sections_max,
            ..limits
        };
        let len = SectionTable::len_bytes(header, limits).map_err(text)?;
        let bytes = range(source, header.table_offset, len)?;
        let table = SectionTable::decode(header, &bytes, limits).map_err(text)?;
        let row = |section: &coldframe_envelope::Section| SectionReport {
            kind: section.kind.to_string(),
            instance: section.instance,
            version: section.version,
            must_understand: section.flags.is_must_understand(),
            offset: section.offset,
            len: section.len,
        };
        self.sections = table.sections().iter().map(row).collect();
        Ok(())
    }

    fn read_manifest(&mut self, source: &PreadSource) -> Result<(), String> {
        let (manifest, _) = Manifest::decode(&whole(source)?).map_err(text)?;
        let parent = manifest.parent();
        self.manifest = Some(ManifestReport {
            id: manifest.id.to_string(),
            kind: if parent.is_some() { "diff" } else { "full" },
            parent_id: parent.map(|parent| parent.id.to_string()),
            parent_root: parent.map(|parent| parent.root.to_string()),
            parent_name: (manifest.parent_name.as_deref())
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            created_unix_seconds: manifest.created.seconds,
            ram_bytes: manifest.ram.total().get(),
            regions: (manifest.ram.regions().iter())
                .map(|region| (region.addr().get(), region.len().get()))
                .collect(),
            memory_root: manifest.memory.root.to_string(),
            state_root: manifest.state.map(|state| state.root.to_string()),
            host: (manifest.host)
                .map(|host| listed([host.hypervisor(), host.cpu(), host.kernel()]))
                .filter(|host| !host.is_empty()),
            disks: (manifest.disks.into_iter())
                .map(|disk| (disk.name, disk.index.to_string()))
                .collect(),
            labels: manifest.labels,
        });
        Ok(())
    }

    fn read_memory(&mut self, source: &PreadSource) -> Result<(), String> {
        let limits = Limits::MEMORY_FILE;
        let header = range(source, 0, HEADER_LEN)?;
        let (offset, len) = coldframe_memfile::table_range(&header, limits).map_err(text)?;
        let table = range(source, offset.get(), len.get())?;
        let (offset, len) = tail_range(&header, &table, limits).map_err(text)?;
        let tail = range(source, offset.get(), len.get())?;
        let file = MemFile::from_parts(&header, &tail, offset, limits).map_err(text)?;
        let extents = file.extents().map_err(text)?;
        let pages = |zero: bool| {
            let of_kind = extents
                .iter()
                .filter(|extent| (extent.content == Content::Zero) == zero);
            of_kind.map(|extent| extent.run.count()).sum()
        };
        self.memory = Some(MemoryReport {
            kind: if file.kind() == Kind::Full {
                "full"
            } else {
                "diff"
            },
            parent_root: file.parent_root().map(|root| root.to_string()),
            ram_bytes: file.layout().total().get(),
            data_offset: file.data_offset().get(),
            extents: extents.len(),
            data_pages: pages(false),
            zero_pages: pages(true),
            absent_bytes: file.absent().iter().map(|part| part.len.get()).sum(),
            hashed_blocks: file.blocks().map_err(text)?.len(),
        });
        file.verify_tables().map_err(text)
    }
}

/// A file for reading; what is none is wrong usage.
fn open(path: &Path) -> Result<PreadSource, Failure> {
    PreadSource::<FileStorage>::open(path).map_err(|error| {
        let path = path.display();
        match error {
            StorageError::NotRegular { .. } => {
                Failure::Usage(format!("{path} is neither a file nor a snapshot directory"))
            }
            error => Failure::environment(format!("cannot read {path}"), &error),
        }
    })
}

pub(super) fn text(error: DecodeError) -> String {
    error.to_string()
}

pub(super) fn range(source: &PreadSource, offset: u64, len: u64) -> Result<bytes::Bytes, String> {
    source
        .bytes(FileOffset::new(offset), ByteLen::new(len))
        .map_err(|error| line("cannot be read", &error))
}

/// All of a small file.
pub(super) fn whole(source: &PreadSource) -> Result<bytes::Bytes, String> {
    let limit = Limits::SMALL_FILE.file_bytes_max;
    if source.len().get() > limit {
        return Err(format!(
            "the file has {} bytes, the limit is {limit}",
            source.len()
        ));
    }
    range(source, 0, source.len().get())
}

/// A note of a child in another directory.
#[derive(Serialize)]
pub struct ChildReport {
    pub parent: String,
    pub dir: String,
}

impl FileReport {
    fn read_child(&mut self, source: &PreadSource) -> Result<(), String> {
        let (note, _) = ChildNote::decode(&whole(source)?).map_err(text)?;
        self.child = Some(ChildReport {
            parent: note.parent.to_string(),
            dir: String::from_utf8_lossy(&note.dir).into_owned(),
        });
        Ok(())
    }
}
