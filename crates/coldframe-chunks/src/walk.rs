//! What tags need, one tag after the other: each file is read once for all of them.
//!
//! Invariant: what is in memory grows with the chunks of the store and not with its tags. A chunk
//! is known by a number; the references of a file are kept as such numbers, up to a bound behind
//! which files are read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coldframe_chunkfile::{INDEX_FORMAT, Tag, TagKind};
use coldframe_units::{ChunkId, RootHash};

use crate::StoreError;
use crate::backend::Backend;
use crate::catalog::IdMap;
use crate::store::PackStore;
use crate::trace::{Reference, Tracer, trace};
use crate::verify::Finding;

/// References that are kept of files that were read: 64 MiB of them.
const KEPT_MAX: usize = 8 << 20;

/// The references of a file, as far as it can be read.
#[derive(Default)]
struct References {
    roots: Vec<RootHash>,
    /// The numbers of chunks, and the bytes of the image that each is.
    chunks: Vec<(u32, u32)>,
}

/// Follows references.
pub(crate) struct Walker<'a, B: Backend> {
    store: &'a PackStore<B>,
    tracers: &'a [&'a dyn Tracer<B>],
    numbers: IdMap<u32>,
    ids: Vec<ChunkId>,
    kept: HashMap<RootHash, Arc<References>>,
    kept_count: usize,
    /// Of images that were looked at: how many blocks have pages that are lost.
    lost: BTreeMap<RootHash, u64>,
    /// Files that cannot be read to their end, and why.
    pub unread: BTreeMap<RootHash, StoreError>,
}

impl<'a, B: Backend> Walker<'a, B> {
    pub fn new(store: &'a PackStore<B>, tracers: &'a [&'a dyn Tracer<B>]) -> Self {
        Self {
            store,
            tracers,
            numbers: IdMap::default(),
            ids: Vec::new(),
            kept: HashMap::new(),
            kept_count: 0,
            lost: BTreeMap::new(),
            unread: BTreeMap::new(),
        }
    }

    /// The chunks that were met so far, by their numbers.
    pub fn ids(&self) -> &[ChunkId] {
        &self.ids
    }

    /// Calls `each` for every reference to a chunk that a file has, by whatever way, with the
    /// chunk's number and the bytes that it is; returns how many files cannot be read.
    pub fn walk(&mut self, root: RootHash, each: &mut dyn FnMut(usize, ChunkId, u64)) -> u64 {
        let mut seen = BTreeSet::new();
        let mut queue = vec![root];
        let mut unread = 0;
        while let Some(root) = queue.pop() {
            if !seen.insert(root) {
                continue;
            }
            let references = self.references(root);
            unread += u64::from(self.unread.contains_key(&root));
            for (number, len) in &references.chunks {
                let number = *number as usize;
                each(number, self.ids[number], (*len).into());
            }
            queue.extend(&references.roots);
        }
        unread
    }

    /// The images that a tag is: the disk, or the disks of a snapshot. One that cannot be read is
    /// left out: it is among the unread.
    pub fn images(&mut self, tag: Tag) -> Vec<RootHash> {
        if tag.kind == TagKind::Index {
            return vec![tag.root];
        }
        let roots = self.references(tag.root).roots.clone();
        let format = |root: &RootHash| self.store.root_header(*root).map(|header| header.format);
        let is_index = |root: &RootHash| format(root).is_ok_and(|it| it == INDEX_FORMAT.id());
        roots.into_iter().filter(is_index).collect()
    }

    /// Tells of each image of a tag whose pages are lost for good, once; returns how many blocks of
    /// the tag have such pages.
    pub fn lost_pages(&mut self, tag: Tag, findings: &mut Vec<Finding>) -> u64 {
        let mut count = 0;
        for root in self.images(tag) {
            let lost = self.lost.entry(root).or_insert_with(|| {
                let lost = self.store.image(root).and_then(|image| image.lost_pages());
                // Why an index cannot be read is told of its file.
                let lost = lost.unwrap_or_default();
                if let Some(&(block, _)) = lost.first() {
                    let pages = lost
                        .iter()
                        .map(|(_, pages)| u64::from(pages.count_ones()))
                        .sum();
                    let error = StoreError::LostPages { block };
                    findings.push(Finding::Pages { root, pages, error });
                }
                lost.len() as u64
            });
            count += *lost;
        }
        count
    }

    fn references(&mut self, root: RootHash) -> Arc<References> {
        if let Some(known) = self.kept.get(&root) {
            return Arc::clone(known);
        }
        let mut found = References::default();
        let (numbers, ids) = (&mut self.numbers, &mut self.ids);
        let traced = trace(
            self.store,
            self.tracers,
            root,
            &mut |reference| match reference {
                Reference::Root(root) => found.roots.push(root),
                Reference::Chunk(id, len) => {
                    let number = *numbers.entry(id).or_insert_with(|| {
                        ids.push(id);
                        u32::try_from(ids.len() - 1).expect("memory holds fewer chunks")
                    });
                    let len = u32::try_from(len).unwrap_or(u32::MAX);
                    found.chunks.push((number, len));
                }
            },
        );
        if let Err(error) = traced {
            self.unread.entry(root).or_insert(error);
        }
        let found = Arc::new(found);
        let count = found.chunks.len() + 4 * found.roots.len();
        if self.kept_count + count <= KEPT_MAX {
            self.kept_count += count;
            self.kept.insert(root, Arc::clone(&found));
        }
        found
    }
}
