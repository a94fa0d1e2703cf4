//! Tests of the KVM adapter, on the real /dev/kvm.
#![allow(clippy::unwrap_used)]
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod plan;
#[cfg(target_arch = "x86_64")]
mod x86_64;
