//! What is and is not a Firecracker state.

use coldframe_units::Arch;

use super::{CRC, STATE_BYTES_MAX, StateError, check_state};

fn state() -> Vec<u8> {
    let mut file = vec![0, 0, 0, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07, 6];
    file.extend_from_slice(b"12.0.0 and so on");
    let crc = CRC.checksum(&file);
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

#[test]
fn a_sound_state_is_known_by_its_magic() {
    assert_eq!(check_state(&state()), Ok(Arch::X86_64));
}

#[test]
fn every_flipped_bit_is_refused() {
    let sound = state();
    for bit in 0..sound.len() * 8 {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(check_state(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_file_of_zeros_passes_the_crc_and_is_refused_all_the_same() {
    assert_eq!(CRC.checksum(&[0; 64]), 0);
    assert_eq!(check_state(&[0; 64]), Err(StateError::NoMagic));
}

#[test]
fn odd_lengths_are_refused_before_anything_is_read() {
    assert_eq!(check_state(&[]), Err(StateError::Length { len: 0 }));
    let long = vec![0; STATE_BYTES_MAX as usize + 1];
    assert_eq!(
        check_state(&long),
        Err(StateError::Length { len: long.len() })
    );
}
