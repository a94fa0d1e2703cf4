//! Payloads read where they lie.

use coldframe_ring::Sequence;
use coldframe_ring::{RingError, RingPlace};

use super::sample::{create, open, payload};

fn read(log: &super::sample::Log, place: RingPlace, len: usize) -> Result<Vec<u8>, RingError> {
    let mut bytes = vec![0xee; len];
    log.read_payload(place, &mut bytes)?;
    Ok(bytes)
}

// Spec: RING-43
#[test]
fn a_payload_is_read_from_its_place_in_whole_and_in_part_until_it_is_given_up() {
    let log = create(1024);
    // Some of them go round the end of the ring.
    for number in 1..100 {
        let bytes = payload(number, 300);
        let (sequence, place) = log.append_parts(&[&bytes[..7], &[], &bytes[7..]]).unwrap();
        assert_eq!(sequence, Sequence::new(number));
        assert_eq!(read(&log, place, 300).unwrap(), bytes);
        assert_eq!(read(&log, place.plus(100), 150).unwrap(), bytes[100..250]);
        assert!(read(&log, place.plus(300), 0).unwrap().is_empty());
        if number % 2 == 1 {
            continue;
        }
        log.checkpoint(sequence).unwrap();
        let error = read(&log, place, 300).unwrap_err();
        assert!(error.is_passed(), "{error:?}");
    }
}

// Spec: RING-43
#[test]
fn records_say_where_their_payloads_lie() {
    let log = create(4096);
    for number in 1..8 {
        log.append(&payload(number, 20 * number as usize)).unwrap();
    }
    log.checkpoint(Sequence::new(2)).unwrap();
    let log = open(&log.storage().to_vec(), 4096).unwrap();
    let mut records = log.records_after(Sequence::ZERO);
    let mut count = 0;
    while let Some(entry) = records.next().unwrap() {
        let mut bytes = vec![0; entry.payload.len()];
        log.read_payload(entry.place, &mut bytes).unwrap();
        assert_eq!(bytes, entry.payload);
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn a_place_of_another_log_is_refused() {
    let (small, large) = (create(1024), create(4096));
    small.append(b"here").unwrap();
    let (_, place) = large.append_parts(&[&payload(1, 3000)]).unwrap();
    for (place, len) in [
        (place, 3000),
        (place.plus(2000), 1),
        (place.plus(u64::MAX), 1),
    ] {
        let error = read(&small, place, len).unwrap_err();
        assert!(matches!(error, RingError::UnknownPlace { .. }), "{error:?}");
    }
}
