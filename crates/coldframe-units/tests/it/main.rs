//! Behaviour of the units: what cannot be built, and what converts to what.
#![allow(clippy::unwrap_used)]

mod id;
mod layout;
mod page;
