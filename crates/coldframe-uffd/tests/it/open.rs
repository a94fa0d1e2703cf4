//! The two ways in, what is missing, and descriptors that are handed over.

use std::fs::File;
use std::os::fd::OwnedFd;

use coldframe_testkit::require::skipped;
use coldframe_uffd::{Features, Origin, Support, Uffd, UffdError};

use crate::raw::become_nobody;
use crate::support::{NEED, uffd};

/// Runs `body` in a thread that has given up all privileges.
fn unprivileged<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_nobody();
            body()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_refusal_names_both_ways_and_the_setting() {
    let error = match unprivileged(|| Support::probe(Origin::UserAndKernel)) {
        Ok(_) => return skipped(NEED, "anybody may handle the kernel's faults on this host"),
        Err(error) => error,
    };
    assert!(matches!(error, UffdError::Open { .. }), "{error:?}");
    assert!(error.is_unavailable());
    let text = error.to_string();
    assert!(text.contains("/dev/userfaultfd: "), "{text}");
    assert!(text.contains("userfaultfd(2): "), "{text}");
    assert!(text.contains("vm.unprivileged_userfaultfd"), "{text}");
    assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
}

#[test]
fn without_privileges_faults_of_user_mode_are_handled() {
    match unprivileged(|| Support::probe(Origin::UserModeOnly)) {
        Ok(support) => assert!(!support.features.is_empty()),
        Err(error) => skipped(NEED, &error.to_string()),
    }
}

#[test]
fn what_the_kernel_lacks_is_named_and_no_descriptor_is_used_up() {
    let unknown = Features::from_bits(1 << 63);
    let error = match Uffd::open(unknown | Features::EVENT_REMOVE, Origin::UserModeOnly) {
        Err(error @ UffdError::Open { .. }) => return skipped(NEED, &error.to_string()),
        other => other.unwrap_err(),
    };
    let UffdError::MissingFeatures { missing, present } = error else {
        panic!("{error:?}");
    };
    assert_eq!(missing, unknown);
    assert!(present.contains(Features::EVENT_REMOVE));
    assert_eq!(missing.to_string(), "0x8000000000000000");
}

#[test]
fn features_are_shown_by_name() {
    let some = Features::WP_ASYNC | Features::POISON | Features::from_bits(1 << 40);
    assert_eq!(some.to_string(), "POISON, WP_ASYNC, 0x10000000000");
    assert_eq!(Features::NONE.to_string(), "none");
}

#[test]
fn an_adopted_descriptor_is_checked_to_be_a_userfaultfd() {
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    let error = Uffd::adopt(null).unwrap_err();
    assert!(matches!(&error, UffdError::NotAUserfaultfd { what } if what == "/dev/null"));
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = Uffd::adopt(socket.into()).unwrap_err();
    assert!(matches!(error, UffdError::NotAUserfaultfd { .. }));
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let adopted = Uffd::adopt(uffd.into_fd()).unwrap();
    assert_eq!(adopted.features(), None);
}

#[test]
fn an_adopted_descriptor_that_would_block_is_made_one_that_does_not() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let fd = uffd.into_fd();
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_RDWR)).unwrap();
    let uffd = Uffd::adopt(fd).unwrap();
    let mut buffer = coldframe_uffd::EventBuffer::new(1);
    assert_eq!(uffd.read(&mut buffer).unwrap().len(), 0);
    assert!(!uffd.wait(Some(std::time::Duration::ZERO)).unwrap());
}
