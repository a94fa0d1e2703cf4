//! The ring.

mod append;
mod cached;
mod check;
mod crash;
mod damage;
mod drive;
mod fault;
mod files;
mod fuzz;
mod group;
mod model;
mod place;
mod predecessor;
pub mod sample;
mod tail;
mod unproved;
mod world;
