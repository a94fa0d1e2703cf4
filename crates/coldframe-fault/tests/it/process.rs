//! The memory of another process, which sends its userfaultfd and is killed.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::channel;

use coldframe_fault::{Geometry, Lazy, LazyEvent, Region};
use coldframe_testkit::{child, scratch};
use coldframe_uffd::{Features, Mapping, Modes, Sharing, Uffd, host_page, pidfd_of};
use coldframe_units::{BLOCK_BYTES, ByteLen, RamOffset};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::lazy::{Behaviour, LONG, Pattern, Shared, options, word_at};
use crate::raw;

/// Names the socket that this program, started again, is to connect to.
const SOCKET: &str = "COLDFRAME_FAULT_SOCKET";
const BLOCKS: u64 = 8;

/// What the other process does, if it is the other process: it reads a word for each offset that it
/// is sent, gives up the page of an odd one, and answers with what it has read.
#[test]
fn the_other_process_sends_its_userfaultfd_and_reads_what_it_is_told_to() {
    let Ok(path) = std::env::var(SOCKET) else {
        return;
    };
    let mut socket = UnixStream::connect(path).unwrap();
    let origin = options().unwrap().origin;
    let uffd = Uffd::open(Features::EVENT_REMOVE, origin).unwrap();
    let memory = Mapping::anonymous(ByteLen::new(BLOCKS * BLOCK_BYTES)).unwrap();
    uffd.register(&memory, Modes::MISSING).unwrap();
    let uffd = uffd.into_fd();
    let addr = memory.addr().get().to_le_bytes();
    let fd = [uffd.as_raw_fd()];
    let (parts, rights) = ([IoSlice::new(&addr)], [ControlMessage::ScmRights(&fd)]);
    sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
    let mut told = [0; 8];
    while socket.read_exact(&mut told).is_ok() {
        let offset = usize::try_from(u64::from_le_bytes(told)).unwrap();
        let page = host_page().bytes();
        if offset % 2 == 1 {
            let start = ByteLen::new(offset as u64 / page * page);
            memory
                .discard(start, ByteLen::new(page), Sharing::Private)
                .unwrap();
        }
        let word = memory.load(offset / 8 * 8);
        socket.write_all(&word.to_le_bytes()).unwrap();
    }
}

fn received(socket: &UnixStream) -> (u64, OwnedFd) {
    let mut addr = [0; 8];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let fd = {
        let mut parts = [IoSliceMut::new(&mut addr)];
        let (raw, flags) = (socket.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
        let message = recvmsg::<()>(raw, &mut parts, Some(&mut space), flags).unwrap();
        let mut rights = message.cmsgs().unwrap();
        match rights.next() {
            Some(ControlMessageOwned::ScmRights(fds)) => fds[0],
            other => panic!("{other:?}"),
        }
    };
    (u64::from_le_bytes(addr), raw::received(fd))
}

struct Other {
    process: child::Running,
    socket: UnixStream,
    lazy: Lazy<Shared>,
    events: std::sync::mpsc::Receiver<LazyEvent<crate::lazy::NotToBeHad>>,
    _dir: tempfile::TempDir,
}

fn start(pattern: &std::sync::Arc<Pattern>) -> Option<Other> {
    let options = options()?;
    let dir = scratch::dir();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let name = "process::the_other_process_sends_its_userfaultfd_and_reads_what_it_is_told_to";
    let mut command = child::command(std::env::current_exe().unwrap());
    command.args(["--exact", name]).env(SOCKET, &path);
    let process = child::Running::start(command.stdout(std::process::Stdio::null()));
    let (socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let (host, fd) = received(&socket);
    let region = Region {
        host,
        ram: RamOffset::ZERO,
        len: ByteLen::new(BLOCKS * BLOCK_BYTES),
    };
    let geometry = Geometry::new(vec![region], host_page()).unwrap();
    let (sender, events) = channel();
    let lazy = Lazy::serve(
        Uffd::adopt(fd).unwrap(),
        Some(pidfd_of(process.id()).unwrap()),
        geometry,
        Shared(std::sync::Arc::clone(pattern)),
        options,
        move |event| drop(sender.send(event)),
    );
    Some(Other {
        process,
        socket,
        lazy: lazy.unwrap(),
        events,
        _dir: dir,
    })
}

impl Other {
    fn ask(&mut self, offset: u64) -> u64 {
        self.socket.write_all(&offset.to_le_bytes()).unwrap();
        let mut word = [0; 8];
        self.socket.read_exact(&mut word).unwrap();
        u64::from_le_bytes(word)
    }
}

#[test]
fn another_process_reads_what_the_source_has_and_zeros_where_it_gave_memory_up() {
    let Some(mut other) = start(&Pattern::new(BLOCKS, &[(2, Behaviour::Zero)])) else {
        return;
    };
    for block in 0..BLOCKS {
        let offset = block * BLOCK_BYTES + 64;
        let expected = if block == 2 {
            0
        } else {
            word_at(usize::try_from(offset).unwrap())
        };
        assert_eq!(other.ask(offset), expected);
    }
    assert_eq!(other.ask(5 * BLOCK_BYTES + 65), 0);
    assert_eq!(other.ask(5 * BLOCK_BYTES + 64), 0);
    assert_eq!(other.lazy.counts().removed_pages, 1);
}

#[test]
fn the_end_of_the_other_process_is_told_also_while_it_waits_for_a_block() {
    let pattern = Pattern::new(BLOCKS, &[(1, Behaviour::Wait)]);
    let Some(mut other) = start(&pattern) else {
        return;
    };
    other.ask(0);
    other.socket.write_all(&BLOCK_BYTES.to_le_bytes()).unwrap();
    while other.lazy.waiting().is_empty() {
        std::thread::yield_now();
    }
    other.process.kill().unwrap();
    other.process.wait().unwrap();
    let event = other.events.recv_timeout(LONG).unwrap();
    assert!(matches!(event, LazyEvent::ProcessGone), "{event:?}");
    pattern.open();
}

#[test]
fn another_process_that_reads_a_block_that_failed_is_stopped_by_a_signal() {
    use std::os::unix::process::ExitStatusExt as _;

    let pattern = Pattern::new(BLOCKS, &[(3, Behaviour::Fail)]);
    let Some(mut other) = start(&pattern) else {
        return;
    };
    other.ask(0);
    other
        .socket
        .write_all(&(3 * BLOCK_BYTES).to_le_bytes())
        .unwrap();
    let event = other.events.recv_timeout(LONG).unwrap();
    let LazyEvent::BlockFailed {
        block, is_poisoned, ..
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(block.get(), 3);
    if is_poisoned {
        let status = other.process.wait().unwrap();
        assert_eq!(status.signal(), Some(nix::libc::SIGBUS));
    }
}
