//! The plans against fakes that know the kernel's rules but not the plans. Those of each
//! architecture are tested on all.

mod aarch64;
mod x86_64;
