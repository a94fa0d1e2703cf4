//! Files and memory against a plain vector, over random calls.

use coldframe_storage::{FileStorage, MemStorage, RawPart, Storage};
use coldframe_testkit::scratch;
use coldframe_units::{ByteLen, FileOffset};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Read(u16, u16),
    Write(u16, Vec<u8>),
    WriteRaw(u16, Vec<Vec<u8>>),
    SetLen(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..5000_u16;
    let bytes = vec(any::<u8>(), 0..600);
    prop_oneof![
        (at.clone(), 0..1000_u16).prop_map(|(at, len)| Step::Read(at, len)),
        (at.clone(), bytes.clone()).prop_map(|(at, bytes)| Step::Write(at, bytes)),
        (at.clone(), vec(bytes, 0..6)).prop_map(|(at, parts)| Step::WriteRaw(at, parts)),
        at.prop_map(Step::SetLen),
    ]
}

fn model_write(model: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        model.resize(model.len().max(at + bytes.len()), 0);
        model[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn check(storage: &dyn Storage, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = Vec::new();
    for step in steps {
        match step {
            Step::Read(at, len) => {
                let mut buf = vec![0xaa; usize::from(*len)];
                let read = storage.read_at(FileOffset::new(u64::from(*at)), &mut buf);
                let (at, len) = (usize::from(*at), usize::from(*len));
                match model.get(at..at + len) {
                    Some(expected) => {
                        prop_assert!(read.is_ok());
                        prop_assert_eq!(&buf[..], expected);
                    }
                    None if len == 0 => prop_assert!(read.is_ok()),
                    None => prop_assert!(read.unwrap_err().is_unexpected_end()),
                }
            }
            Step::Write(at, bytes) => {
                storage
                    .write_at(FileOffset::new(u64::from(*at)), bytes)
                    .unwrap();
                model_write(&mut model, usize::from(*at), bytes);
            }
            Step::WriteRaw(at, parts) => {
                let raw: Vec<_> = parts.iter().map(|part| RawPart::from(&part[..])).collect();
                storage
                    .write_raw_at(FileOffset::new(u64::from(*at)), &raw)
                    .unwrap();
                model_write(&mut model, usize::from(*at), &parts.concat());
            }
            Step::SetLen(len) => {
                storage.set_len(ByteLen::new(u64::from(*len))).unwrap();
                model.resize(usize::from(*len), 0);
            }
        }
        prop_assert_eq!(storage.len().unwrap().get(), model.len() as u64);
    }
    let mut bytes = vec![0; model.len()];
    storage.read_at(FileOffset::ZERO, &mut bytes).unwrap();
    prop_assert_eq!(bytes, model);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn memory_equals_a_vector(steps in vec(step(), 0..40)) {
        check(&MemStorage::new(), &steps)?;
    }

    #[test]
    fn a_file_equals_a_vector(steps in vec(step(), 0..40)) {
        let dir = scratch::on_disk();
        check(&FileStorage::create(&dir.path().join("x")).unwrap(), &steps)?;
    }
}
