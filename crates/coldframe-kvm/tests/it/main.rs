//! Tests of the KVM adapter, on the real /dev/kvm.
#![allow(clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod dirty;
mod machine;
mod state;
