//! Machines on aarch64.

mod dirty;
mod gic;
mod machine;
mod state;
