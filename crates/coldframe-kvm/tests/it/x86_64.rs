//! Machines on x86_64.

mod dirty;
mod machine;
mod park;
mod state;
