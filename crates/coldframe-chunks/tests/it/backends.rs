//! What every place must keep of what [`Backend`] promises: one suite for all of them.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use coldframe_chunks::{Backend, FileId, Folder, Key};
use coldframe_testkit::rng::Rng;
use coldframe_units::{ByteLen, FileOffset, RootHash};

use crate::places::{Place, places};
use crate::support::name;

const fn pack(number: u64) -> Key {
    Key::Pack(FileId::new(number))
}

fn tag(text: &str) -> Key {
    Key::Tag(name(text))
}

fn each(check: impl Fn(&Place)) {
    for place in places() {
        println!("{}", place.name);
        check(&place);
    }
}

// Spec: STORE-23
// Parity: F42
#[test]
fn a_key_is_made_once_and_keeps_its_bytes() {
    each(|place| {
        let (one, other) = (place.open(), place.open());
        assert!(one.create(&pack(7), &[b"pa", b"", b"rts"]).unwrap());
        assert!(!other.create(&pack(7), &[b"other"]).unwrap());
        let whole = other.read(&pack(7), ByteLen::new(9)).unwrap().unwrap();
        assert_eq!(&whole[..], b"parts");
        assert!(
            one.create(&pack(7), &[b"parts"])
                .is_ok_and(|is_new| !is_new)
        );
    });
}

// Spec: STORE-3
#[test]
fn a_range_is_whole_or_an_error() {
    each(|place| {
        let place = place.open();
        place.create(&pack(1), &[b"0123456789"]).unwrap();
        let range = |at, len| place.read_range(&pack(1), FileOffset::new(at), ByteLen::new(len));
        assert_eq!(&range(0, 10).unwrap().unwrap()[..], b"0123456789");
        assert_eq!(&range(3, 4).unwrap().unwrap()[..], b"3456");
        assert!(range(10, 0).unwrap().unwrap().is_empty());
        for (at, len) in [(5, 6), (10, 1), (11, 5), (0, 1 << 24)] {
            let error = range(at, len).unwrap_err();
            assert!(error.is_unexpected_end(), "{at} {len}: {error:?}");
        }
        let none = place.read_range(&pack(2), FileOffset::ZERO, ByteLen::new(1));
        assert_eq!(none.unwrap(), None);
    });
}

// Parity: D28
#[test]
fn a_file_longer_than_allowed_is_not_read() {
    each(|place| {
        let place = place.open();
        assert_eq!(place.read(&Key::Store, ByteLen::new(9)).unwrap(), None);
        place.create(&Key::Store, &[b"0123456789"]).unwrap();
        assert!(place.read(&Key::Store, ByteLen::new(9)).is_err());
        assert!(place.read(&Key::Store, ByteLen::new(10)).unwrap().is_some());
    });
}

// Spec: STORE-8, STORE-23
#[test]
fn a_swap_compares_what_is_there_wherever_it_is() {
    each(|place| {
        let place = place.open();
        let key = tag("a");
        let swap = |old: Option<&[u8]>, new: Option<&[u8]>| place.replace(&key, old, new).unwrap();
        let read = || place.read(&key, ByteLen::new(9)).unwrap();
        assert!(!swap(Some(b"x"), Some(b"y")));
        assert!(swap(None, Some(b"x")));
        assert!(!swap(None, Some(b"y")));
        assert!(swap(Some(b"x"), Some(b"y")));
        assert!(!swap(Some(b"x"), None));
        assert!(!swap(None, None));
        assert_eq!(&read().unwrap()[..], b"y");
        assert!(swap(Some(b"y"), None));
        assert_eq!(read(), None);
        assert!(place.list(Folder::Tags).unwrap().is_empty());
        // A name may be given again, and is made once again.
        assert!(!swap(Some(b"y"), Some(b"z")));
        assert!(swap(None, Some(b"z")));
        assert!(!swap(None, Some(b"y")));
        assert_eq!(&read().unwrap()[..], b"z");
        assert_eq!(place.list(Folder::Tags).unwrap().len(), 1);
    });
}

#[test]
fn odd_tag_names_come_back_from_a_list() {
    each(|place| {
        let place = place.open();
        let names = ["a", "A.b_c@d+e=f:g-h", "0", &"x".repeat(128)];
        for text in names {
            assert!(place.replace(&tag(text), None, Some(b"t")).unwrap());
        }
        let listed = place.list(Folder::Tags).unwrap();
        let keys: BTreeSet<Key> = listed.into_iter().map(|file| file.key).collect();
        assert_eq!(keys, names.map(tag).into());
    });
}

// More than a service lists in one page.
// Spec: STORE-25
// Parity: M11
#[test]
fn a_list_of_many_pages_is_whole() {
    each(|place| {
        let place = place.open();
        let count = 2100;
        std::thread::scope(|scope| {
            for part in 0..12 {
                let place = &place;
                scope.spawn(move || {
                    for number in (part..count).step_by(12) {
                        let root = RootHash::from_bytes([7; 32]);
                        let key = Key::Root(root, FileId::new(number));
                        assert!(place.create(&key, &[b"xyz"]).unwrap());
                    }
                });
            }
        });
        let listed = place.list(Folder::Roots).unwrap();
        assert_eq!(listed.len() as u64, count);
        assert!(listed.iter().all(|file| file.len.get() == 3));
        assert!(
            listed
                .iter()
                .all(|file| file.age < Duration::from_secs(600))
        );
        assert!(place.list(Folder::Packs).unwrap().is_empty());
    });
}

// Spec: STORE-23
#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    each(|place| {
        let place = place.open();
        for number in [1, 2, 11] {
            place.create(&pack(number), &[b"x"]).unwrap();
        }
        assert!(place.remove(&pack(1)).unwrap());
        assert!(!place.remove(&pack(1)).unwrap());
        assert_eq!(place.read(&pack(1), ByteLen::new(9)).unwrap(), None);
        let left: Vec<Key> = place
            .list(Folder::Packs)
            .unwrap()
            .into_iter()
            .map(|file| file.key)
            .collect();
        assert_eq!(BTreeSet::from_iter(left), [pack(2), pack(11)].into());
    });
}

// Failure mode 5: of those who write at once, one succeeds.
// Spec: STORE-23
// Parity: M5
#[test]
fn of_many_that_create_or_swap_at_once_one_succeeds() {
    each(|place| {
        if !place.is_atomic() {
            return;
        }
        for round in 0..8_u64 {
            let barrier = Barrier::new(8);
            let winners = |act: &(dyn Fn(u8) -> bool + Sync)| -> Vec<u8> {
                std::thread::scope(|scope| {
                    let racers = (1..=8_u8).map(|who| {
                        let barrier = &barrier;
                        scope.spawn(move || {
                            barrier.wait();
                            act(who).then_some(who)
                        })
                    });
                    let racers: Vec<_> = racers.collect();
                    let won = racers.into_iter().filter_map(|racer| racer.join().unwrap());
                    won.collect()
                })
            };
            let place = place.open();
            let key = tag(&format!("t{round}"));
            let first = winners(&|who| place.replace(&key, None, Some(&[who])).unwrap());
            let [first] = first[..] else {
                panic!("{first:?} have all created it");
            };
            assert_eq!(
                place.read(&key, ByteLen::new(9)).unwrap().unwrap(),
                vec![first]
            );
            let second = winners(&|who| {
                let new = [who, who];
                place.replace(&key, Some(&[first]), Some(&new)).unwrap()
            });
            let [second] = second[..] else {
                panic!("{second:?} have all swapped it");
            };
            let found = place.read(&key, ByteLen::new(9)).unwrap().unwrap();
            assert_eq!(found, vec![second, second]);
            // The same bytes from all: still one of them has written them.
            let third = winners(&|_| {
                place
                    .replace(&key, Some(&[second, second]), Some(b"s"))
                    .unwrap()
            });
            assert_eq!(third.len(), 1, "{third:?}");
        }
    });
}

// A pack of 24 MiB goes in parts where it can.
// Spec: STORE-5, STORE-22
#[test]
fn a_large_file_arrives_whole() {
    each(|place| {
        let place = place.open();
        let bytes = Rng::new(5).bytes(24 << 20);
        let (head, tail) = bytes.split_at(1000);
        assert!(place.create(&pack(1), &[head, tail]).unwrap());
        assert!(!place.create(&pack(1), &[head, tail]).unwrap());
        let listed = place.list(Folder::Packs).unwrap();
        assert_eq!(listed[0].len.get(), bytes.len() as u64);
        for start in [0, (5 << 20) - 7, (10 << 20) - 1, bytes.len() - 4096] {
            let (offset, len) = (FileOffset::new(start as u64), ByteLen::new(4096));
            let range = place.read_range(&pack(1), offset, len).unwrap().unwrap();
            assert_eq!(range, bytes[start..start + 4096]);
        }
        assert_eq!(place.sweep().unwrap(), 0);
    });
}

// Spec: STORE-11, STORE-24
#[test]
fn leases_are_seen_until_they_are_given_back() {
    each(|place| {
        let (one, other) = (place.open(), place.open());
        assert!(one.leases().unwrap().is_empty());
        let (first, second) = (one.lease().unwrap(), other.lease().unwrap());
        assert_eq!(one.leases().unwrap(), [first.id(), second.id()].into());
        assert!(first.is_held() && first.confirm().unwrap());
        drop(first);
        assert_eq!(other.leases().unwrap(), [second.id()].into());
        assert!(second.confirm().unwrap() && second.confirm().unwrap());
    });
}

// Spec: STORE-11, STORE-24
#[test]
fn one_collects_at_a_time() {
    each(|place| {
        let (one, other) = (place.open(), place.open());
        let right = one.exclusive().unwrap().unwrap();
        assert!(other.exclusive().unwrap().is_none());
        assert!(right.confirm().unwrap());
        drop(right);
        let right = other.exclusive().unwrap().unwrap();
        assert!(one.exclusive().unwrap().is_none());
        drop(right);
        assert!(one.exclusive().unwrap().is_some());
    });
}
