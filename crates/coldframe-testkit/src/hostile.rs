//! Hostile bytes: a sound file cut short at every length, and with every bit flipped once.
//!
//! The closure decides what is right (an error, or an equal value) and panics otherwise; a panic
//! of the code under test is caught here as well, and either is reported with the position.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Gives every proper prefix of `bytes` to `check`, the empty one first.
///
/// # Panics
/// If `check` does, with the length of the prefix.
#[track_caller]
pub fn check_truncations(bytes: &[u8], check: &mut dyn FnMut(&[u8])) {
    for len in 0..bytes.len() {
        guard(
            || format!("cut to {len} of {} bytes", bytes.len()),
            || check(&bytes[..len]),
        );
    }
}

/// Gives `bytes` to `check` with each of its bits flipped in turn, bit 0 of byte 0 first.
///
/// # Panics
/// If `check` does, with the place of the bit.
#[track_caller]
pub fn check_bit_flips(bytes: &[u8], check: &mut dyn FnMut(&[u8])) {
    let mut damaged = bytes.to_vec();
    for at in 0..damaged.len() {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            guard(
                || format!("bit {bit} of byte {at:#x} flipped"),
                || check(&damaged),
            );
            damaged[at] ^= 1 << bit;
        }
    }
}

#[track_caller]
fn guard(place: impl FnOnce() -> String, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("(no message)");
        panic!("{}: {message}", place());
    }
}
