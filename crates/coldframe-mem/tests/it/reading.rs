//! Files that change, shrink or are too many while they are read.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use coldframe_mem::{
    CopyOptions, DamageKind, FilePool, Holes, Layers, MemError, MemoryFile, Target, Verify, diff,
    export_raw, flatten, restore_copy,
};
use coldframe_storage::{ByteSource, MappedFile};

use crate::support::{Files, Guest, PAGE, chain, history, memory, rewrite};

fn writable(file: &MappedFile) -> fs::File {
    fs::set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
    OpenOptions::new().write(true).open(file.path()).unwrap()
}

const VERIFIED: CopyOptions = CopyOptions {
    target: Target::Zeroed,
    verify: Verify::Yes,
};

#[test]
fn a_file_that_is_cut_short_under_an_open_chain_is_an_error() {
    let files = Files::new();
    let layers = history(&files, 64, &[&[(3, 5), (40, 6), (63, 1)], &[(41, 7)]]);
    let (chained, whole) = (chain(&layers), chain(&layers));
    // With the tables read and the pages gone, and with nothing read.
    whole.resolve().unwrap();
    writable(&layers[0]).set_len((2 << 20) + 4096).unwrap();
    for chain in [&chained, &whole] {
        let guest = Guest::anonymous(64 * PAGE);
        let errors = [
            flatten(chain, &rewrite(), &files.create()).map(drop),
            diff(chain, chain, &rewrite(), &files.create()).map(drop),
            export_raw(chain, &files.create(), Holes::None, &mut |_| ()),
            restore_copy(chain, &guest, VERIFIED),
        ];
        for (index, error) in errors.into_iter().enumerate() {
            // A comparison of a chain with itself may read tables only.
            if index == 1 && error.is_ok() {
                continue;
            }
            let error = error.unwrap_err();
            assert!(matches!(error, MemError::ReadSource { .. }), "{error:?}");
        }
        let damages = chain.verify();
        let unreadable = damages.iter().filter(|(layer, damage)| {
            *layer == 0 && matches!(damage.kind, DamageKind::Unreadable(_))
        });
        assert!(unreadable.count() > 0, "{damages:?}");
    }
}

#[test]
fn a_verified_copy_never_has_a_byte_that_was_not_checked() {
    let files = Files::new();
    let all: Vec<(u64, u8)> = (0..64).map(|page| (page, 1 + page as u8)).collect();
    let layers = history(&files, 64, &[&all]);
    let chained = chain(&layers);
    let expected = memory(&chained);
    let file = writable(&layers[0]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let at = (2 << 20) + 6 * PAGE;
            while !stop.load(Ordering::Relaxed) {
                file.write_all_at(&[0xee], at).unwrap();
                file.write_all_at(&[7], at).unwrap();
            }
        });
        for _ in 0..400 {
            let guest = Guest::anonymous(64 * PAGE);
            match restore_copy(&chained, &guest, VERIFIED) {
                Ok(()) => assert!(guest.read() == expected, "bytes that were not checked"),
                Err(error) => assert!(error.is_corrupt(), "{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_chain_longer_than_its_descriptors_is_read_whole() {
    let files = Files::new();
    let steps: Vec<Vec<(u64, u8)>> = (0..40).map(|step| vec![(step, 1 + step as u8)]).collect();
    let steps: Vec<&[(u64, u8)]> = steps.iter().map(Vec::as_slice).collect();
    let layers = history(&files, 64, &steps);
    let expected = memory(&chain(&layers));
    let pool = FilePool::of(3);
    let open = |file: &MappedFile| MemoryFile::open(file.path(), &pool).unwrap();
    let chained = Layers::open(layers.iter().map(|file| open(file)).collect()).unwrap();
    assert!(memory(&chained) == expected);
    assert!(chained.verify().is_empty());
    let flat = files.create();
    flatten(&chained, &rewrite(), &flat).unwrap();
    assert!(memory(&chain(&[Files::map(flat)])) == expected);

    // Another file under the name of one that was closed is not taken for it.
    let path = layers[0].path();
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(&copy, path).unwrap();
    let error = flatten(&chained, &rewrite(), &files.create()).unwrap_err();
    assert!(matches!(error, MemError::ReadSource { .. }), "{error:?}");
}
