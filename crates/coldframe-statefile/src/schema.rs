//! The section bodies, one module of frozen structures for each version.

pub mod v1;
