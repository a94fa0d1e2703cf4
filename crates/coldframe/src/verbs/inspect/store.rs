//! The files of a chunk store among what is inspected: their tables, not the chunks.

use std::collections::BTreeMap;

use coldframe_chunkfile::{
    Compression, CondemnedFile, INDEX_LIMITS, Index, IndexOrigin, Ledger, PACK_LIMITS, Pack,
    TagFile, TagKind,
};
use coldframe_envelope::HEADER_LEN;
use coldframe_storage::PreadSource;
use serde::Serialize;

use super::report::{FileReport, range, text, whole};
use crate::human::size;
use crate::output;

/// A pack.
#[derive(Serialize)]
pub struct PackReport {
    pub chunks: usize,
    /// Bytes of its chunks, before compression and after.
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// Chunks by how they are compressed.
    pub compression: BTreeMap<&'static str, u64>,
}

/// A chunk index.
#[derive(Serialize)]
pub struct IndexReport {
    /// The length of the image.
    pub size: u64,
    pub blocks: u64,
    /// Blocks that it names as chunks, as zeros, and as made of parts; all others are as in its
    /// origin.
    pub chunk_blocks: u64,
    pub zero_blocks: u64,
    pub part_blocks: u64,
    pub pages: u64,
    pub parent: Option<String>,
    pub base: Option<String>,
}

/// A tag.
#[derive(Serialize)]
pub struct TagReport {
    pub kind: &'static str,
    pub root: String,
    /// The identity of a disk.
    pub disk: Option<String>,
    /// The log that may have changes of the disk.
    pub log: Option<LogReport>,
}

/// A log that a tag names.
#[derive(Serialize)]
pub struct LogReport {
    pub id: String,
    pub host: String,
    pub path: String,
}

/// The ledger of a store's collector.
#[derive(Serialize)]
pub struct LedgerReport {
    pub rounds: usize,
    pub condemned_packs: usize,
    pub condemned_roots: usize,
    pub damaged_chunks: usize,
    pub known_tags: usize,
}

impl FileReport {
    pub(super) fn read_pack(&mut self, source: &PreadSource) -> Result<(), String> {
        let header = range(source, 0, HEADER_LEN)?;
        let (at, len) = Pack::table_range(&header, PACK_LIMITS).map_err(text)?;
        let table = range(source, at.get(), len.get())?;
        let (at, len) = Pack::tail_range(&header, &table, PACK_LIMITS).map_err(text)?;
        let tail = range(source, at.get(), len.get())?;
        let pack = Pack::from_parts(&header, &tail, at, PACK_LIMITS).map_err(text)?;
        let chunks = pack.chunks();
        let mut compression = BTreeMap::new();
        for chunk in chunks {
            *compression.entry(name_of(chunk.compression)).or_insert(0) += 1;
        }
        self.pack = Some(PackReport {
            chunks: chunks.len(),
            raw_bytes: chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum(),
            stored_bytes: chunks.iter().map(|chunk| u64::from(chunk.stored_len)).sum(),
            compression,
        });
        Ok(())
    }

    pub(super) fn read_index(&mut self, source: &PreadSource) -> Result<(), String> {
        let header = range(source, 0, HEADER_LEN)?;
        let (at, len) = Index::table_range(&header, INDEX_LIMITS).map_err(text)?;
        let table = range(source, at.get(), len.get())?;
        let (at, len) = Index::tail_range(&header, &table, INDEX_LIMITS).map_err(text)?;
        let tail = range(source, at.get(), len.get())?;
        let index = Index::from_parts(&header, &tail, at, INDEX_LIMITS).map_err(text)?;
        let (mut chunk_blocks, mut zero_blocks) = (0, 0);
        for page in index.pages() {
            let bytes = range(source, page.offset.get(), page.len.get())?;
            for row in index.decode_page(&page, &bytes).map_err(text)?.rows() {
                match row.chunk {
                    Some(_) => chunk_blocks += 1,
                    None => zero_blocks += u64::from(row.count),
                }
            }
        }
        let parts = index.parts();
        let parts = parts.chunk_by(|one, next| one.block == next.block);
        let part_blocks = parts.count() as u64;
        let (parent, base) = match index.origin() {
            IndexOrigin::None => (None, None),
            IndexOrigin::Parent { root, .. } => (Some(root.to_string()), None),
            IndexOrigin::Base { id, .. } => (None, Some(id.to_string())),
        };
        self.index = Some(IndexReport {
            size: index.size().get(),
            blocks: index.block_count(),
            chunk_blocks,
            zero_blocks,
            part_blocks,
            pages: index.pages().count() as u64,
            parent,
            base,
        });
        Ok(())
    }

    pub(super) fn read_tag(&mut self, source: &PreadSource) -> Result<(), String> {
        let TagFile { tag, place } = TagFile::decode(&whole(source)?).map_err(text)?;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let log = tag.log.zip(place).map(|(id, place)| LogReport {
            id: id.to_string(),
            host: lossy(place.host()),
            path: lossy(place.path()),
        });
        self.tag = Some(TagReport {
            kind: match tag.kind {
                TagKind::Index => "disk",
                TagKind::Snapshot => "snapshot",
            },
            root: tag.root.to_string(),
            disk: tag.disk.map(|id| id.to_string()),
            log,
        });
        Ok(())
    }

    pub(super) fn read_ledger(&mut self, source: &PreadSource) -> Result<(), String> {
        let ledger = Ledger::decode(&whole(source)?).map_err(text)?;
        let files = ledger.condemned.keys();
        let packs = files.filter(|file| matches!(file, CondemnedFile::Pack(_)));
        let condemned_packs = packs.count();
        self.ledger = Some(LedgerReport {
            rounds: ledger.rounds.len(),
            condemned_packs,
            condemned_roots: ledger.condemned.len() - condemned_packs,
            damaged_chunks: ledger.damaged.len(),
            known_tags: ledger.names.len(),
        });
        Ok(())
    }

    /// Prints what of these the file is.
    pub(super) fn print_store(&self) {
        let say = |name: &str, value: String| {
            output::say(format_args!("  {name:<12} {value}"));
        };
        if let Some(pack) = &self.pack {
            let (raw, stored) = (size(pack.raw_bytes), size(pack.stored_bytes));
            say("chunks", format!("{}, {raw} in {stored}", pack.chunks));
            for (name, count) in &pack.compression {
                say(name, format!("{count} chunks"));
            }
        }
        if let Some(index) = &self.index {
            let (chunks, zeros) = (index.chunk_blocks, index.zero_blocks);
            say("image", size(index.size));
            say(
                "holds",
                format!("{chunks} chunks, {zeros} zero, of {} blocks", index.blocks),
            );
            for (name, origin) in [("parent", &index.parent), ("base", &index.base)] {
                if let Some(origin) = origin {
                    say(name, origin.clone());
                }
            }
        }
        if let Some(tag) = &self.tag {
            say("points to", format!("{} {}", tag.kind, tag.root));
            if let Some(disk) = &tag.disk {
                say("disk", disk.clone());
            }
            if let Some(log) = &tag.log {
                let (host, path) = (&log.host, &log.path);
                say("log", format!("{path} on host {host}: may have changes"));
            }
        }
        if let Some(ledger) = &self.ledger {
            let (packs, roots) = (ledger.condemned_packs, ledger.condemned_roots);
            say("condemned", format!("{packs} packs, {roots} files"));
            say("damaged", format!("{} chunks", ledger.damaged_chunks));
            say("known", format!("{} tags", ledger.known_tags));
        }
    }
}

const fn name_of(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}
