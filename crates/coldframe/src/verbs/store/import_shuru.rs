//! `coldframe store import-shuru DIR`: a disk out of a shuru-store directory.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coldframe_chunkfile::{IndexBuilder, IndexOrigin, Tag, TagKind};
use coldframe_chunks::{Backend, Block, Chunk, Push, StoreError, is_zero};
use coldframe_storage::{Access, ByteSource, FileStorage, PreadSource, StorageError, open_regular};
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, FileOffset};
use serde::Serialize;

use crate::cli::store::ImportShuru;
use crate::exit::{Failure, line};
use crate::human::size;
use crate::output::producer;
use crate::shuru::{Disk, ShuruError, only_index};
use crate::store::failure;
use crate::{output, progress, store};

/// Blocks that are stored at once: 16 MiB.
const BATCH: usize = 256;

#[derive(Serialize)]
struct Report {
    tag: String,
    /// None if chunks were lost: then there is no tag either.
    root: Option<String>,
    bytes: u64,
    parents: usize,
    blocks: u64,
    zero_blocks: u64,
    /// Blocks that were in the flat image alone.
    base_blocks: u64,
    sent_bytes: u64,
    lost: Vec<Lost>,
}

#[derive(Serialize)]
struct Lost {
    block: u64,
    chunk: String,
    detail: String,
}

/// Imports; chunks that are lost are named, and then there is no tag.
pub fn run(args: &ImportShuru) -> Result<(), Failure> {
    let index = match &args.index {
        Some(index) => index.clone(),
        None => only_index(&args.dir)
            .map_err(|e| refused(args, &e))?
            .ok_or_else(|| {
                let dir = args.dir.display();
                Failure::Usage(format!(
                    "{dir} has not exactly one index: name it with --index"
                ))
            })?,
    };
    let within = (!args.trust_paths).then_some(args.dir.as_path());
    let disk = Disk::open(&index, within).map_err(|error| refused(args, &error))?;
    let chunks = store::open(&args.at.url)?;
    let failed = |error: StoreError| failed(args, &error);
    let before = chunks.tag(&args.name).map_err(failed)?;
    let push = chunks.push().map_err(failed)?;
    let mut import = Import::new(args, &disk, &push)?;
    import.blocks()?;
    let (file, mut report) = import.finish()?;
    if let Some(file) = file {
        let root = push.put_root(&[&file]).map_err(failed)?;
        let is_same = |tag: Tag| tag.kind == TagKind::Index && tag.root == root;
        if before.is_some_and(|tag| !is_same(tag)) && !args.replace {
            let name = &args.name;
            return Err(Failure::Usage(format!(
                "tag {name} points to something else: move it with --replace"
            )));
        }
        if !before.is_some_and(is_same) {
            let new = Tag::disk(root, chunks.new_disk_id().map_err(failed)?);
            push.tag(&args.name, before, new).map_err(failed)?;
        }
        report.root = Some(root.to_string());
    }
    report.sent_bytes = push.finish().map_err(failed)?.raw_bytes;
    if args.json {
        output::json(&report)?;
    } else {
        print(args, &report);
    }
    if report.lost.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn cannot(args: &ImportShuru) -> String {
    format!("cannot import {}", args.dir.display())
}

fn failed(args: &ImportShuru, error: &StoreError) -> Failure {
    failure(cannot(args), error)
}

fn refused(args: &ImportShuru, error: &ShuruError) -> Failure {
    match error {
        ShuruError::Read { .. } => Failure::environment(cannot(args), error),
        ShuruError::Outside { .. } => Failure::usage(cannot(args), error),
        _ => Failure::wanting(cannot(args), error),
    }
}

struct Import<'a, B: Backend> {
    args: &'a ImportShuru,
    disk: &'a Disk,
    push: &'a Push<B>,
    base: Option<PreadSource<FileStorage>>,
    builder: IndexBuilder,
    report: Report,
}

impl<'a, B: Backend> Import<'a, B> {
    fn new(args: &'a ImportShuru, disk: &'a Disk, push: &'a Push<B>) -> Result<Self, Failure> {
        let base = disk.fallback.as_deref().map(PreadSource::open).transpose();
        let base = base.map_err(|error| Failure::environment(cannot(args), &error))?;
        let len = ByteLen::new(disk.size());
        let builder = IndexBuilder::new(len, IndexOrigin::None, producer());
        Ok(Self {
            args,
            disk,
            push,
            base,
            builder: builder.map_err(|error| Failure::wanting(cannot(args), &error))?,
            report: Report {
                tag: args.name.to_string(),
                root: None,
                bytes: disk.size(),
                parents: disk.parents(),
                blocks: disk.blocks(),
                zero_blocks: 0,
                base_blocks: 0,
                sent_bytes: 0,
                lost: Vec::new(),
            },
        })
    }

    fn blocks(&mut self) -> Result<(), Failure> {
        let bar = progress::bytes("import", self.disk.size());
        let mut batch = Vec::with_capacity(BATCH);
        for block in 0..self.disk.blocks() {
            if let Some(bytes) = self.block(block)? {
                batch.push((block, bytes));
            }
            if batch.len() == BATCH || block + 1 == self.disk.blocks() {
                self.store(&batch)?;
                batch.clear();
                bar.set_position((block + 1) * BLOCK_BYTES);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The bytes of a block; `None` if they are lost, and then that was noted.
    fn block(&mut self, block: u64) -> Result<Option<Vec<u8>>, Failure> {
        let len = BLOCK_BYTES.min(self.disk.size() - block * BLOCK_BYTES);
        let mut bytes = match self.disk.chunk(block) {
            None => self.base(block, len)?,
            Some(id) => match read_chunk(&self.args.dir, id) {
                Ok(bytes) => bytes,
                Err(Loss::Host(path, error)) => {
                    let what = format!("cannot read {}", path.display());
                    return Err(Failure::environment(what, &error));
                }
                Err(Loss::Lost(detail)) => {
                    let chunk = id.to_string();
                    self.report.lost.push(Lost {
                        block,
                        chunk,
                        detail,
                    });
                    return Ok(None);
                }
            },
        };
        // A chunk that is shorter than its block ends in zeros.
        bytes.resize(len as usize, 0);
        Ok(Some(bytes))
    }

    /// What the flat image has there, as far as it goes.
    fn base(&mut self, block: u64, len: u64) -> Result<Vec<u8>, Failure> {
        let Some(base) = &self.base else {
            return Ok(Vec::new());
        };
        let start = block * BLOCK_BYTES;
        let len = base.len().get().saturating_sub(start).min(len);
        if len == 0 {
            return Ok(Vec::new());
        }
        let bytes = base.bytes(FileOffset::new(start), ByteLen::new(len));
        let bytes = bytes.map_err(|error| Failure::environment(cannot(self.args), &error))?;
        self.report.base_blocks += 1;
        Ok(bytes.to_vec())
    }

    fn store(&mut self, batch: &[(u64, Vec<u8>)]) -> Result<(), Failure> {
        let data = batch.iter().filter(|(_, bytes)| !is_zero(bytes));
        let blocks: Vec<Block<'_>> = data
            .map(|(_, bytes)| Block {
                bytes,
                expected: None,
            })
            .collect();
        let ids = self.push.put_blocks(&blocks);
        let mut ids = ids.map_err(|error| failed(self.args, &error))?.into_iter();
        for (block, bytes) in batch {
            // A block that was lost has no row: the index is then never finished.
            if !self.report.lost.is_empty() {
                return Ok(());
            }
            let id = if is_zero(bytes) { None } else { ids.next() };
            let pushed = match id {
                Some(id) => self.builder.push_chunk(*block, id),
                None => self.builder.push_zeros(*block, 1),
            };
            self.report.zero_blocks += u64::from(id.is_none());
            pushed.map_err(|error| Failure::wanting(cannot(self.args), &error))?;
        }
        Ok(())
    }

    /// The index, unless chunks are lost.
    fn finish(self) -> Result<(Option<Vec<u8>>, Report), Failure> {
        if !self.report.lost.is_empty() {
            return Ok((None, self.report));
        }
        let index = self.builder.finish();
        let index = index.map_err(|error| Failure::wanting(cannot(self.args), &error))?;
        Ok((Some(index.into_file()), self.report))
    }
}

/// Why a chunk cannot be had.
enum Loss {
    /// It is missing, or its bytes are not its own.
    Lost(String),
    Host(PathBuf, io::Error),
}

/// A chunk by its hash, checked.
fn read_chunk(dir: &Path, id: ChunkId) -> Result<Vec<u8>, Loss> {
    let path = dir.join("chunks").join(id.to_string());
    let file = match open_regular(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => {
            return Err(Loss::Lost("its file is missing".to_owned()));
        }
        Err(StorageError::Open { source, .. }) => return Err(Loss::Host(path, source)),
        Err(error) => return Err(Loss::Lost(error.to_string())),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(BLOCK_BYTES + 1).read_to_end(&mut bytes) {
        return Err(Loss::Host(path, error));
    }
    if bytes.len() as u64 > BLOCK_BYTES {
        return Err(Loss::Lost("its file is too long".to_owned()));
    }
    match Chunk::verify(id, Bytes::from(bytes)) {
        Ok(chunk) => Ok(chunk.bytes().to_vec()),
        Err(error) => Err(Loss::Lost(line("its file is damaged", &error))),
    }
}

fn print(args: &ImportShuru, report: &Report) {
    for lost in &report.lost {
        output::say(format_args!(
            "block {}: chunk {} is lost: {}",
            lost.block, lost.chunk, lost.detail
        ));
    }
    let (name, lost) = (&args.name, report.lost.len());
    if lost > 0 {
        output::say(format_args!("{lost} blocks are lost: no tag {name}"));
        return;
    }
    output::say(format_args!(
        "{name}: a disk of {}, {} of its {} blocks zero, {} new to the store",
        size(report.bytes),
        report.zero_blocks,
        report.blocks,
        size(report.sent_bytes)
    ));
}
