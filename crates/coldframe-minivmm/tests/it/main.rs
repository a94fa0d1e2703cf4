//! The VMM on real KVM: every payload ends the same, whatever happens to it on the way.
#![allow(clippy::unwrap_used)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm;
mod recording;
mod sim;
