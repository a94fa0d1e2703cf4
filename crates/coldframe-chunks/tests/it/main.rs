//! Tests of the chunk store against `specs/chunk-store.md`.
#![allow(clippy::unwrap_used)]

mod backend;
mod collect;
mod compression;
mod crash;
mod damage;
mod directory;
mod faults;
mod image;
mod keep;
mod layers;
mod model;
mod races;
mod roots;
mod store;
mod support;
mod tags;
