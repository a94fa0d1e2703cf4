//! Random sections against the list that they were made from.

use coldframe_envelope::{Container, ContainerBuilder, Limits, SectionFlags, SectionKind};
use coldframe_units::PageSize;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::sample::{FORMAT, producer, resealed};

// Spec: CONV-4, CONV-7
proptest! {
    #[test]
    fn what_is_written_is_read(
        sections in btree_map(
            (any::<[u8; 4]>(), any::<u32>()),
            (any::<u16>(), any::<bool>(), vec(any::<u8>(), 0..200)),
            0..20,
        ),
        log2 in 12_u8..=30,
    ) {
        let page_size = PageSize::from_log2(log2).unwrap();
        let mut builder = ContainerBuilder::new(FORMAT, producer()).with_page_size(page_size);
        for ((kind, instance), (version, must, body)) in &sections {
            let flags = match must {
                true => SectionFlags::MUST_UNDERSTAND,
                false => SectionFlags::OPTIONAL,
            };
            builder.section(SectionKind::new(*kind), *instance, *version, flags, body.clone());
        }
        let (file, root) = builder.clone().finish().unwrap();
        prop_assert_eq!(&builder.finish().unwrap().0, &file);
        let container = Container::decode(&file, FORMAT, Limits::SMALL_FILE).unwrap();
        prop_assert_eq!(container.root(), root);
        prop_assert_eq!(container.header().page_size, Some(page_size));
        prop_assert_eq!(container.bodies().count(), sections.len());
        for ((kind, instance), (version, must, body)) in &sections {
            let found = container.require(SectionKind::new(*kind), *instance).unwrap();
            prop_assert_eq!(found.body(), &body[..]);
            prop_assert_eq!(found.section().version, *version);
            prop_assert_eq!(found.section().flags.is_must_understand(), *must);
        }
        crate::reencode::check(&file);
    }

    #[test]
    fn a_resealed_header_never_panics(
        changes in vec((12_usize..144, any::<u8>()), 1..8),
    ) {
        let (file, _) = crate::sample::sections();
        let bytes: Vec<(usize, [u8; 1])> = changes.iter().map(|(at, b)| (*at, [*b])).collect();
        let changes: Vec<(usize, &[u8])> = bytes.iter().map(|(at, b)| (*at, &b[..])).collect();
        // A huge count would make the helper itself slow: it stays small here.
        prop_assume!(changes.iter().all(|(at, _)| !(41..44).contains(at)));
        crate::reencode::check(&resealed(&file, &changes));
    }

    #[test]
    fn a_resealed_table_never_panics(
        changes in vec((184_usize..376, any::<u8>()), 1..8),
    ) {
        let (file, _) = crate::sample::sections();
        let bytes: Vec<(usize, [u8; 1])> = changes.iter().map(|(at, b)| (*at, [*b])).collect();
        let changes: Vec<(usize, &[u8])> = bytes.iter().map(|(at, b)| (*at, &b[..])).collect();
        crate::reencode::check(&resealed(&file, &changes));
    }
}
