//! Enumeration of the directories that a power cut may leave.
//!
//! The model: what was written to a file lasts from its sync on, a name from the sync of its
//! directory on; a mode from a sync that is not of data alone. All else is there or not in any
//! combination, names of one directory too, but each rename as a whole.

use std::path::PathBuf;

use crate::crash::fates::{Fate, Fates, Kind};
use crate::crash::states::{by_sector, left_by};
use crate::crash::trace::{Entry, HostOp, Names, Node, NodeId, Trace, Tree};

#[derive(Clone, Debug)]
enum Piece {
    Op(HostOp),
    Data {
        node: NodeId,
        offset: u64,
        bytes: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
struct Disk {
    nodes: Vec<Node>,
    names: Names,
}

/// The directories, one after the other.
#[derive(Debug)]
pub(crate) struct TreeStates<'a> {
    trace: &'a Trace,
    durable: Disk,
    pieces: Vec<(usize, Piece)>,
    fates: Fates,
}

impl<'a> TreeStates<'a> {
    pub fn new(trace: &'a Trace, moment: usize, sector: usize, seed: u64, budget: usize) -> Self {
        let past = &trace.ops[..moment.min(trace.ops.len())];
        let mut durable = Disk {
            nodes: trace.nodes.clone(),
            names: trace.names.clone(),
        };
        let mut pieces = Vec::new();
        for (number, op) in past.iter().enumerate() {
            if is_durable(op, &past[number + 1..]) {
                durable.apply(op);
            } else if let HostOp::Write {
                node,
                offset,
                bytes,
            } = op
            {
                for (at, bytes) in by_sector(*offset as usize, bytes, sector) {
                    let (node, offset, bytes) = (*node, at as u64, bytes.to_vec());
                    let piece = Piece::Data {
                        node,
                        offset,
                        bytes,
                    };
                    pieces.push((number, piece));
                }
            } else if !matches!(op, HostOp::Sync { .. }) {
                pieces.push((number, Piece::Op(op.clone())));
            }
        }
        let kinds = pieces.iter().map(|(_, piece)| match piece {
            Piece::Data { bytes, .. } => Kind::Data(bytes.len()),
            Piece::Op(HostOp::SetLen { .. } | HostOp::SetMode { .. }) => Kind::Attribute,
            Piece::Op(_) => Kind::Name,
        });
        let fates = Fates::new(kinds.collect(), seed, budget);
        Self {
            trace,
            durable,
            pieces,
            fates,
        }
    }

    pub fn next_fates(&mut self) -> Option<Vec<Fate>> {
        self.fates.next()
    }

    /// The directory that these fates leave.
    pub fn tree(&self, fates: &[Fate]) -> Tree {
        let mut disk = self.durable.clone();
        for ((_, piece), fate) in self.pieces.iter().zip(fates) {
            match piece {
                Piece::Op(op) if *fate == Fate::Written => disk.apply(op),
                Piece::Op(_) => {}
                Piece::Data {
                    node,
                    offset,
                    bytes,
                } => {
                    let content = &mut disk.nodes[*node].content;
                    let there = content.at(*offset, bytes.len());
                    let (skipped, left) = left_by(*fate, bytes, &there);
                    content.write(*offset + skipped as u64, &left);
                }
            }
        }
        disk.tree()
    }

    /// What got lost, a line for each piece.
    pub fn losses(&self, fates: &[Fate]) -> Vec<String> {
        let lost = self.pieces.iter().zip(fates);
        lost.filter(|(_, fate)| **fate != Fate::Written)
            .map(|((number, piece), fate)| match piece {
                Piece::Op(op) => format!("operation {number}: {}", self.trace.describe(op)),
                Piece::Data { offset, bytes, .. } => {
                    let len = bytes.len();
                    format!("of operation {number}: {len} bytes at {offset:#x}: {fate:?}")
                }
            })
            .collect()
    }
}

impl Trace {
    /// The directory if nothing is lost.
    pub(crate) fn latest(&self) -> Tree {
        let mut disk = Disk {
            nodes: self.nodes.clone(),
            names: self.names.clone(),
        };
        for op in &self.ops {
            disk.apply(op);
        }
        disk.tree()
    }
}

/// Whether one of the later calls made this one last.
fn is_durable(op: &HostOp, later: &[HostOp]) -> bool {
    let synced = |wanted: NodeId, with_mode: bool| {
        later.iter().any(|op| match op {
            HostOp::Sync { node, data_only } => *node == wanted && !(with_mode && *data_only),
            _ => false,
        })
    };
    match op {
        HostOp::Name { dir, .. } | HostOp::Remove { dir, .. } => synced(*dir, false),
        HostOp::Rename { from, to, .. } => synced(from.0, false) || synced(to.0, false),
        HostOp::Write { node, .. } | HostOp::SetLen { node, .. } => synced(*node, false),
        HostOp::SetMode { node, .. } => synced(*node, true),
        HostOp::Sync { .. } => true,
    }
}

impl Disk {
    fn apply(&mut self, op: &HostOp) {
        match op {
            HostOp::Name { dir, name, node } => {
                self.names.insert((*dir, name.clone()), *node);
            }
            HostOp::Rename { from, to, node } => {
                if self.names.get(from) == Some(node) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *node);
            }
            HostOp::Remove { dir, name, node } => {
                let place = (*dir, name.clone());
                if self.names.get(&place) == Some(node) {
                    self.names.remove(&place);
                }
            }
            HostOp::Write {
                node,
                offset,
                bytes,
            } => self.nodes[*node].content.write(*offset, bytes),
            HostOp::SetLen { node, len } => self.nodes[*node].content.set_len(*len),
            HostOp::SetMode { node, mode } => self.nodes[*node].mode = *mode,
            HostOp::Sync { .. } => {}
        }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        self.list(0, PathBuf::new(), &mut tree);
        tree
    }

    fn list(&self, dir: NodeId, path: PathBuf, tree: &mut Tree) {
        let from = (dir, String::new());
        for ((_, name), node) in self.names.range(from..).take_while(|((d, _), _)| *d == dir) {
            let path = path.join(name);
            let found = &self.nodes[*node];
            if found.is_dir {
                tree.0.insert(path.clone(), Entry::Dir(found.mode));
                self.list(*node, path, tree);
            } else {
                let entry = Entry::File(found.mode, found.content.clone());
                tree.0.insert(path, entry);
            }
        }
    }
}
