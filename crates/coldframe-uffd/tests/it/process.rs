//! The memory of another process: its userfaultfd is sent here, and it ends.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use coldframe_testkit::{child, scratch};
use coldframe_uffd::{Features, Filled, HostAddr, Modes, PagemapScan, ScanFilter, Uffd, Wake};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::raw;
use crate::support::{bytes, filled_with, memory, next_fault, pages, uffd, word};

/// Names the socket that this program, started again, is to connect to.
const SOCKET: &str = "COLDFRAME_UFFD_SOCKET";

/// What the other process does, if it is the other process.
#[test]
fn the_other_process_sends_its_userfaultfd_and_reads_its_memory() {
    let Ok(path) = std::env::var(SOCKET) else {
        return;
    };
    let mut socket = UnixStream::connect(path).unwrap();
    let uffd = uffd(Features::EVENT_REMOVE).unwrap();
    let memory = memory(&uffd, 4, Modes::MISSING);
    let addr = memory.addr().get().to_le_bytes();
    let uffd = uffd.into_fd();
    let fd = [uffd.as_raw_fd()];
    let parts = [IoSlice::new(&addr)];
    let rights = [ControlMessage::ScmRights(&fd)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
    socket.write_all(&memory.load(0).to_le_bytes()).unwrap();
    // Until it is killed.
    let _ = socket.read(&mut [0]);
}

fn received(socket: &UnixStream) -> (HostAddr, OwnedFd) {
    let mut addr = [0; 8];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let fd = {
        let mut parts = [IoSliceMut::new(&mut addr)];
        let raw = socket.as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(raw, &mut parts, Some(&mut space), flags).unwrap();
        let mut rights = message.cmsgs().unwrap();
        match rights.next() {
            Some(ControlMessageOwned::ScmRights(fds)) => fds[0],
            other => panic!("{other:?}"),
        }
    };
    (HostAddr::new(u64::from_le_bytes(addr)), raw::received(fd))
}

#[test]
fn faults_of_another_process_are_answered_until_it_is_gone() {
    if uffd(Features::EVENT_REMOVE).is_none() {
        return;
    }
    let dir = scratch::dir();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let name = "process::the_other_process_sends_its_userfaultfd_and_reads_its_memory";
    let mut command = child::command(std::env::current_exe().unwrap());
    command.args(["--exact", name]).env(SOCKET, &path);
    let mut other = child::Running::start(command.stdout(std::process::Stdio::null()));
    let (mut socket, _) = listener.accept().unwrap();
    let (addr, fd) = received(&socket);

    let uffd = Uffd::adopt(fd).unwrap();
    let fault = next_fault(&uffd);
    assert_eq!(fault.addr, addr);
    let filled = uffd.copy(addr, &filled_with(0x77, 1), Wake::Yes).unwrap();
    assert_eq!(filled, Filled::All);
    let mut seen = [0; 8];
    socket.read_exact(&mut seen).unwrap();
    assert_eq!(u64::from_le_bytes(seen), word(0x77));

    let mut pagemap = PagemapScan::open_process(other.id()).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    let error = uffd.copy(addr, &filled_with(1, 2), Wake::Yes).unwrap_err();
    assert!(error.is_process_gone(), "{error:?}");
    let range = coldframe_uffd::HostRange::new(addr, bytes(1)).unwrap();
    assert!(
        uffd.zeropage(range, Wake::Yes)
            .unwrap_err()
            .is_process_gone()
    );
    // Of its page table nothing is said.
    let mut count = 0;
    let _ = pagemap.scan(range, &ScanFilter::default(), |_| count += 1);
    assert_eq!(count, 0);
}

#[test]
fn a_userfaultfd_is_of_the_process_that_opened_it() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 2, Modes::MISSING);
    // The same file description by another number: the same memory.
    let again = Uffd::adopt(uffd.try_clone().unwrap().into_fd()).unwrap();
    assert_eq!(
        again.zeropage(pages(&memory, 0, 2), Wake::Yes).unwrap(),
        Filled::All
    );
    assert_eq!(memory.load(0), 0);
}
