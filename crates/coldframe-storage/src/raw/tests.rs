//! Going on after short and interrupted writes, which no file system produces on order.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What one call of the pretended kernel does.
#[derive(Clone, Debug)]
enum Answer {
    Interrupted,
    AtMost(usize),
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Interrupted),
        (1..300_usize).prop_map(Answer::AtMost)
    ]
}

fn gather(parts: &[RawPart<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let mut copy = vec![0; part.len];
        assert_eq!(part.copy_to(&mut copy), part.len);
        bytes.append(&mut copy);
    }
    bytes
}

proptest! {
    #[test]
    fn short_and_interrupted_writes_lose_nothing(
        parts in vec(vec(any::<u8>(), 0..40), 0..60),
        answers in vec(answer(), 0..40),
    ) {
        let raw: Vec<_> = parts.iter().map(|part| RawPart::from(&part[..])).collect();
        let mut answers = answers.into_iter();
        let mut file = Vec::new();
        let result = write_all(7, &raw, &mut |offset, parts| {
            assert_eq!(offset, 7 + file.len() as u64);
            let bytes = gather(parts);
            match answers.next() {
                Some(Answer::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
                Some(Answer::AtMost(most)) => {
                    file.extend_from_slice(&bytes[..most.min(bytes.len())]);
                    Ok(most.min(bytes.len()))
                }
                None => {
                    file.extend_from_slice(&bytes);
                    Ok(bytes.len())
                }
            }
        });
        prop_assert!(result.is_ok());
        prop_assert_eq!(file, parts.concat());
    }
}

#[test]
fn a_call_never_gets_more_parts_than_the_kernel_takes() {
    let raw = vec![RawPart::from(&b"ab"[..]); 3 * PARTS_PER_CALL + 5];
    let mut sizes = Vec::new();
    write_all(0, &raw, &mut |_, parts| {
        sizes.push(parts.len());
        Ok(2 * parts.len())
    })
    .unwrap();
    assert_eq!(sizes, [PARTS_PER_CALL, PARTS_PER_CALL, PARTS_PER_CALL, 5]);
}

#[test]
fn a_write_of_nothing_is_an_error() {
    let error = write_all(0, &[RawPart::from(&b"a"[..])], &mut |_, _| Ok(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}
