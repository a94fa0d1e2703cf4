//! Setting a SIMD register, on stable Rust and without C.
//!
//! `hv_vcpu_set_simd_fp_reg` takes its value as a vector, which the calling convention passes in
//! v0. `applevisor-sys` declares it with a `u128` (unless it is built by a nightly compiler), which
//! is passed in x2 and x3: the framework would read whatever v0 happened to hold. So the call is
//! made by hand.
//!
//! # Safety
//! The instruction is a call of a C function with its arguments where the convention wants them.
//! Source: Arm, Procedure Call Standard for the Arm 64-bit Architecture, 6.8.2, stages A to C.
#![allow(unsafe_code)]

use std::arch::aarch64::vld1q_u8;
use std::arch::asm;

use applevisor::vcpu::SimdFpReg;
use applevisor_sys as hv;

pub(super) fn set(vcpu: u64, register: SimdFpReg, value: [u8; 16]) -> hv::hv_return_t {
    // SAFETY: it reads the sixteen bytes of `value`.
    let vector = unsafe { vld1q_u8(value.as_ptr()) };
    let status: u64;
    // SAFETY: the function takes a number in x0, one in w1 and a vector in v0, and answers in w0;
    // the rest that a C function may change is declared. It touches no memory of ours.
    unsafe {
        asm!(
            "bl {function}",
            function = sym hv::hv_vcpu_set_simd_fp_reg,
            inlateout("x0") vcpu => status,
            in("x1") register as u64,
            in("v0") vector,
            clobber_abi("C"),
        );
    }
    // The upper half of x0 is not part of the answer.
    (status as u32).cast_signed()
}
