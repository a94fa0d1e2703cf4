//! Any bytes: what decodes is the same after being encoded again. Shared with the fuzz target.

use coldframe_envelope::{Container, ContainerBuilder, Format, Header, Limits, SectionKind};

const LIMITS: Limits = Limits {
    sections_max: 64,
    section_bytes_max: 1 << 16,
    file_bytes_max: 1 << 20,
};

/// Checks one input.
///
/// # Panics
/// If it decodes to something that does not survive.
pub fn check(file: &[u8]) {
    if let Ok(header) = Header::peek(file) {
        assert_eq!(&header.encode()[..], &file[..160]);
        let known = Format::new(
            header.format.bytes(),
            header.version.major,
            header.version.minor,
        );
        let known = known.with_flags(u32::MAX).with_codec(header.codec);
        assert_eq!(Header::decode(file, known), Ok(header));
        if let Ok(container) = Container::decode(file, known, LIMITS) {
            rebuild(&container, known);
        }
    }
    let _ = Container::peek(file, LIMITS);
}

fn rebuild(container: &Container<'_>, format: Format) {
    let header = container.header();
    let mut builder = ContainerBuilder::new(format, header.producer).with_flags(header.flags);
    if let Some(arch) = header.arch {
        builder = builder.with_arch(arch);
    }
    if let Some(page_size) = header.page_size {
        builder = builder.with_page_size(page_size);
    }
    for body in container.bodies() {
        let row = body.section();
        let bytes = body.body().to_vec();
        builder.section(row.kind, row.instance, row.version, row.flags, bytes);
    }
    let (file, root) = builder.finish().expect("what was read can be written");
    let again = Container::decode(&file, format, Limits::SMALL_FILE);
    let again = again.expect("what was written can be read");
    assert_eq!(again.root(), root);
    let bodies = |container: &Container<'_>| -> Vec<(SectionKind, u32, Vec<u8>)> {
        let parts = container.bodies().map(|body| {
            let section = body.section();
            (section.kind, section.instance, body.body().to_vec())
        });
        parts.collect()
    };
    assert_eq!(bodies(&again), bodies(container));
}
