//! Clones of one template.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::mpsc::channel;

use coldframe_fault::{LazyEvent, PageOrigin, Template, TemplateClone};
use coldframe_uffd::{HostAddr, Mapping, Sharing, host_page};
use coldframe_units::{BLOCK_BYTES, ByteLen, PageIndex, PageRun};
use nix::errno::Errno;

use crate::lazy::{
    BLOCK, Behaviour, LONG, Pattern, Shared, options, page, read_by_the_kernel, until, word_at,
};

const BLOCKS: u64 = 8;

fn template(pattern: &Arc<Pattern>) -> Option<Arc<Template<Shared>>> {
    options()?;
    let ram = vec![ByteLen::new(BLOCKS * BLOCK_BYTES)];
    Some(Template::new(ram, Shared(Arc::clone(pattern))).unwrap())
}

fn clone_of(template: &Arc<Template<Shared>>) -> TemplateClone<Shared> {
    let options = options().unwrap();
    template.clone_memory(options, |_| ()).unwrap()
}

fn memory(clone: &TemplateClone<Shared>) -> Arc<Mapping> {
    Arc::clone(&clone.memory()[0])
}

#[test]
fn what_one_clone_has_read_the_others_find_without_an_event() {
    let pattern = Pattern::new(BLOCKS, &[(3, Behaviour::Zero)]);
    let Some(template) = template(&pattern) else {
        return;
    };
    let (first, second) = (clone_of(&template), clone_of(&template));
    for clone in [&first, &second] {
        for block in [0, 3, 5] {
            let offset = block * BLOCK + 16;
            let expected = if block == 3 { 0 } else { word_at(offset) };
            assert_eq!(memory(clone).load(offset), expected);
        }
    }
    assert_eq!(pattern.reads(), [1, 0, 0, 1, 0, 1, 0, 0]);
    assert_eq!(first.lazy().counts().faults, 3);
    // The zeros are each clone's own.
    assert_eq!(second.lazy().counts().faults, 1);
    assert_eq!(template.filled(), 2);
    let kept = template.descriptor().unwrap().metadata().unwrap().blocks() * 512;
    assert_eq!(kept, 2 * BLOCK_BYTES);
}

#[test]
fn what_a_clone_writes_is_its_own() {
    let pattern = Pattern::new(BLOCKS, &[]);
    let Some(template) = template(&pattern) else {
        return;
    };
    let (first, second) = (clone_of(&template), clone_of(&template));
    memory(&first).store(8, 1);
    memory(&second).store(8, 2);
    assert_eq!((memory(&first).load(8), memory(&second).load(8)), (1, 2));
    assert_eq!(memory(&clone_of(&template)).load(8), word_at(8));
    assert_eq!(pattern.reads()[0], 1);
}

#[test]
fn what_a_clone_has_written_without_a_fault_is_not_the_sources() {
    let Some(template) = template(&Pattern::new(BLOCKS, &[])) else {
        return;
    };
    let (first, second) = (clone_of(&template), clone_of(&template));
    assert_eq!(memory(&first).load(0), word_at(0));
    until(|| template.filled() == 1);
    memory(&second).store(0, 7);
    assert_eq!(second.lazy().counts().faults, 0);
    let per_block = BLOCK_BYTES / host_page().bytes();
    let pages = PageRun::new(PageIndex::new(0), per_block + 1).unwrap();
    let origins = second.lazy().origins(pages);
    assert_eq!(origins.first(), Some(&Some(PageOrigin::Memory)));
    assert_eq!(origins.last(), Some(&Some(PageOrigin::Source)));
}

#[test]
fn many_clones_at_once_have_each_block_read_once() {
    let pattern = Pattern::new(BLOCKS, &[]);
    let Some(template) = template(&pattern) else {
        return;
    };
    let clones: Vec<_> = (0..16).map(|_| clone_of(&template)).collect();
    let readers: Vec<_> = clones
        .iter()
        .map(|clone| {
            let memory = memory(clone);
            std::thread::spawn(move || {
                for block in 0..usize::try_from(BLOCKS).unwrap() {
                    assert_eq!(memory.load(block * BLOCK), word_at(block * BLOCK));
                }
            })
        })
        .collect();
    readers
        .into_iter()
        .for_each(|reader| reader.join().unwrap());
    assert_eq!(pattern.reads(), vec![1; 8]);
    assert_eq!(template.filled(), BLOCKS);
}

#[test]
fn nobody_can_change_a_template() {
    let Some(template) = template(&Pattern::new(BLOCKS, &[])) else {
        return;
    };
    let clone = clone_of(&template);
    assert_eq!(memory(&clone).load(0), word_at(0));
    let file = template.descriptor().unwrap();
    assert_eq!(
        file.write_at(&[1], 0).unwrap_err().raw_os_error(),
        Some(Errno::EBADF as i32)
    );
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    if let Ok(writing) = std::fs::File::options().write(true).read(true).open(path) {
        assert!(writing.write_at(&[1], 0).is_err() && writing.set_len(0).is_err());
        let len = ByteLen::new(BLOCK_BYTES);
        assert!(Mapping::file(&writing, 0, len, Sharing::Shared).is_err());
    }
    assert_eq!(memory(&clone_of(&template)).load(0), word_at(0));
}

#[test]
fn what_a_clone_gives_up_is_zero_for_it_and_for_nobody_else() {
    let pattern = Pattern::new(BLOCKS, &[]);
    let Some(template) = template(&pattern) else {
        return;
    };
    let (first, second) = (clone_of(&template), clone_of(&template));
    let memory_of_first = memory(&first);
    assert_eq!(memory_of_first.load(0), word_at(0));
    memory_of_first.store(page(), 7);
    let len = ByteLen::new(BLOCK_BYTES);
    // One block that is there, and one that is not.
    for block in [0, 1] {
        first
            .discard(0, ByteLen::new(block * BLOCK_BYTES), len)
            .unwrap();
    }
    for offset in [0, page(), BLOCK - 8, BLOCK, 2 * BLOCK - 8] {
        assert_eq!(memory_of_first.load(offset / 8 * 8), 0, "at {offset:#x}");
    }
    assert_eq!(memory(&second).load(0), word_at(0));
    assert_eq!(memory(&second).load(BLOCK), word_at(BLOCK));
    memory_of_first.store(0, 9);
    assert_eq!(memory_of_first.load(0), 9);
}

#[test]
fn a_block_that_fails_fails_in_the_clone_that_needs_it_and_is_tried_for_the_next() {
    let pattern = Pattern::new(BLOCKS, &[(2, Behaviour::FailOnce)]);
    let Some(template) = template(&pattern) else {
        return;
    };
    if options().is_some_and(|options| options.origin == coldframe_uffd::Origin::UserModeOnly) {
        return;
    }
    let (sender, events) = channel();
    let first = template
        .clone_memory(options().unwrap(), move |event| drop(sender.send(event)))
        .unwrap();
    let offset = 2 * BLOCK + 8;
    assert_eq!(
        read_by_the_kernel(&memory(&first), offset),
        Err(Errno::EFAULT)
    );
    let event = events.recv_timeout(LONG).unwrap();
    assert!(
        matches!(
            event,
            LazyEvent::BlockFailed {
                is_poisoned: true,
                ..
            }
        ),
        "{event:?}"
    );
    let host = HostAddr::new(memory(&first).addr().get() + offset as u64);
    assert!(first.lazy().is_failed_at(host));
    let second = clone_of(&template);
    assert_eq!(memory(&second).load(offset), word_at(offset));
    // For the first it stays lost.
    assert_eq!(
        read_by_the_kernel(&memory(&first), offset),
        Err(Errno::EFAULT)
    );
}

#[test]
fn when_the_service_of_a_clone_ends_what_the_template_has_is_still_there() {
    let Some(template) = template(&Pattern::new(BLOCKS, &[])) else {
        return;
    };
    let (first, second) = (clone_of(&template), clone_of(&template));
    assert_eq!(memory(&second).load(BLOCK), word_at(BLOCK));
    until(|| template.filled() == 1);
    let memory = memory(&first);
    drop(first);
    assert_eq!(read_by_the_kernel(&memory, BLOCK), Ok(word_at(BLOCK)));
    assert_eq!(read_by_the_kernel(&memory, 0), Err(Errno::EFAULT));
    assert!(host_page().bytes() <= BLOCK_BYTES);
}
