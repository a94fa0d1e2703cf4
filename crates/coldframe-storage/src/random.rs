//! Random bytes of the system, for names and ids that must never repeat.
//!
//! # Safety
//! The calls write to a buffer of ours whose length they are told, and to nothing else.
#![allow(unsafe_code)]

use std::io;

/// The most that one call is asked for: getentropy(3) refuses more.
const PART: usize = 256;

/// Fills `bytes` from the system's generator, which is ready once the system has booted.
///
/// # Errors
/// The system's answer.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    bytes.chunks_mut(PART).try_for_each(fill)
}

#[cfg(target_os = "linux")]
fn fill(mut part: &mut [u8]) -> io::Result<()> {
    while !part.is_empty() {
        // SAFETY: the kernel writes at most `part.len()` bytes to `part`, exclusively borrowed.
        let filled = unsafe { libc::getrandom(part.as_mut_ptr().cast(), part.len(), 0) };
        match usize::try_from(filled) {
            Ok(filled) => part = part.get_mut(filled..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn fill(part: &mut [u8]) -> io::Result<()> {
    // SAFETY: the system writes `part.len()` bytes, at most 256, to `part`, exclusively borrowed.
    match unsafe { libc::getentropy(part.as_mut_ptr().cast(), part.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
