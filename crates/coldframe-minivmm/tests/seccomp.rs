//! Freeze and thaw under a filter of system calls: exactly those of `specs/system-calls.md`.
//!
//! Each phase runs in a process of its own that has done the phases before it, so that the filter
//! is that of one phase. Any other call ends the process, and its name is in the failure.
//!
//! # Safety
//! `prctl`, `sigaction` and the BPF program are used in the child alone, which does nothing else
//! at that time; the program lives until the call has copied it.
#![allow(unsafe_code, clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use coldframe_envelope::Producer;
use coldframe_minivmm::{
    Config, Guest, MiniVm, RamSource, SimVm, Stops, Tracking, Workload, check_kvm,
};
use coldframe_snapshot::{DirtyTracker, Freezer, Kind, Snapshot, Thaw};
use coldframe_testkit::child;
use coldframe_units::ByteLen;

const PHASES: [&str; 4] = ["prepare", "pause", "publish", "thaw"];
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs/system-calls.md");
const PHASE: &str = "COLDFRAME_TEST_SECCOMP_PHASE";
const DIR: &str = "COLDFRAME_TEST_SECCOMP_DIR";
const BACKEND: &str = "COLDFRAME_TEST_SECCOMP_BACKEND";
/// The root of a jail to go into first.
const JAIL: &str = "COLDFRAME_TEST_SECCOMP_JAIL";

/// What the page allows in one phase.
#[derive(Debug, Default)]
struct Allowed {
    calls: BTreeSet<i64>,
    ioctls: BTreeSet<u32>,
}

/// The rows of the page's tables: a name, then a mark for each phase.
fn allowed(phase: &str) -> Allowed {
    let column = 1 + PHASES.iter().position(|one| *one == phase).unwrap();
    let numbers: BTreeMap<&str, i64> = NUMBERS.iter().copied().collect();
    let mut allowed = Allowed::default();
    let page = std::fs::read_to_string(PAGE).unwrap();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() < 5 || cells[column] != "yes" {
            continue;
        }
        let mut words = cells[0].split_ascii_whitespace();
        let name = words.next().unwrap().trim_matches('`');
        match words.next() {
            // An ioctl has its number beside its name.
            Some(number) => {
                let digits = number.trim_start_matches("0x");
                allowed
                    .ioctls
                    .insert(u32::from_str_radix(digits, 16).unwrap());
            }
            None => {
                let number = numbers.get(name);
                allowed
                    .calls
                    .insert(*number.unwrap_or_else(|| panic!("{name}: no such call")));
            }
        }
    }
    allowed
}

macro_rules! numbers {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), paste_number!($name))),*]
    };
}
macro_rules! paste_number {
    (brk) => {
        libc::SYS_brk
    };
    (clone3) => {
        libc::SYS_clone3
    };
    (close) => {
        libc::SYS_close
    };
    (dup) => {
        libc::SYS_dup
    };
    (eventfd2) => {
        libc::SYS_eventfd2
    };
    (exit) => {
        libc::SYS_exit
    };
    (exit_group) => {
        libc::SYS_exit_group
    };
    (fallocate) => {
        libc::SYS_fallocate
    };
    (fchmod) => {
        libc::SYS_fchmod
    };
    (fcntl) => {
        libc::SYS_fcntl
    };
    (fdatasync) => {
        libc::SYS_fdatasync
    };
    (flock) => {
        libc::SYS_flock
    };
    (fstat) => {
        libc::SYS_fstat
    };
    (fstatfs) => {
        libc::SYS_fstatfs
    };
    (fsync) => {
        libc::SYS_fsync
    };
    (ftruncate) => {
        libc::SYS_ftruncate
    };
    (futex) => {
        libc::SYS_futex
    };
    (getcwd) => {
        libc::SYS_getcwd
    };
    (getdents64) => {
        libc::SYS_getdents64
    };
    (getpid) => {
        libc::SYS_getpid
    };
    (getrandom) => {
        libc::SYS_getrandom
    };
    (gettid) => {
        libc::SYS_gettid
    };
    (ioctl) => {
        libc::SYS_ioctl
    };
    (kill) => {
        libc::SYS_kill
    };
    (link) => {
        libc::SYS_link
    };
    (linkat) => {
        libc::SYS_linkat
    };
    (lseek) => {
        libc::SYS_lseek
    };
    (lstat) => {
        libc::SYS_lstat
    };
    (madvise) => {
        libc::SYS_madvise
    };
    (mincore) => {
        libc::SYS_mincore
    };
    (mkdir) => {
        libc::SYS_mkdir
    };
    (mkdirat) => {
        libc::SYS_mkdirat
    };
    (mmap) => {
        libc::SYS_mmap
    };
    (mprotect) => {
        libc::SYS_mprotect
    };
    (mremap) => {
        libc::SYS_mremap
    };
    (munmap) => {
        libc::SYS_munmap
    };
    (newfstatat) => {
        libc::SYS_newfstatat
    };
    (openat) => {
        libc::SYS_openat
    };
    (poll) => {
        libc::SYS_poll
    };
    (prctl) => {
        libc::SYS_prctl
    };
    (pread64) => {
        libc::SYS_pread64
    };
    (process_vm_readv) => {
        libc::SYS_process_vm_readv
    };
    (pwrite64) => {
        libc::SYS_pwrite64
    };
    (pwritev) => {
        libc::SYS_pwritev
    };
    (pwritev2) => {
        libc::SYS_pwritev2
    };
    (read) => {
        libc::SYS_read
    };
    (readlink) => {
        libc::SYS_readlink
    };
    (readlinkat) => {
        libc::SYS_readlinkat
    };
    (rename) => {
        libc::SYS_rename
    };
    (renameat) => {
        libc::SYS_renameat
    };
    (renameat2) => {
        libc::SYS_renameat2
    };
    (rmdir) => {
        libc::SYS_rmdir
    };
    (rseq) => {
        libc::SYS_rseq
    };
    (rt_sigaction) => {
        libc::SYS_rt_sigaction
    };
    (rt_sigprocmask) => {
        libc::SYS_rt_sigprocmask
    };
    (rt_sigreturn) => {
        libc::SYS_rt_sigreturn
    };
    (sched_getaffinity) => {
        libc::SYS_sched_getaffinity
    };
    (sched_yield) => {
        libc::SYS_sched_yield
    };
    (set_robust_list) => {
        libc::SYS_set_robust_list
    };
    (sigaltstack) => {
        libc::SYS_sigaltstack
    };
    (statx) => {
        libc::SYS_statx
    };
    (sync_file_range) => {
        libc::SYS_sync_file_range
    };
    (sysinfo) => {
        libc::SYS_sysinfo
    };
    (tgkill) => {
        libc::SYS_tgkill
    };
    (uname) => {
        libc::SYS_uname
    };
    (unlink) => {
        libc::SYS_unlink
    };
    (unlinkat) => {
        libc::SYS_unlinkat
    };
    (write) => {
        libc::SYS_write
    };
}

#[rustfmt::skip]
const NUMBERS: &[(&str, i64)] = numbers![
    brk, clone3, close, dup, eventfd2, exit, exit_group, fallocate, fchmod, fcntl, fdatasync,
    flock, fstat, fstatfs, fsync, ftruncate, futex, getcwd, getdents64, getpid, getrandom, gettid,
    ioctl, kill, link, linkat, lseek, lstat, madvise, mincore, mkdir, mkdirat, mmap, mprotect,
    mremap, munmap, newfstatat, openat, poll, prctl, pread64, process_vm_readv, pwrite64, pwritev,
    pwritev2, read, readlink, readlinkat, rename, renameat, renameat2, rmdir, rseq, rt_sigaction,
    rt_sigprocmask, rt_sigreturn, sched_getaffinity, sched_yield, set_robust_list, sigaltstack,
    statx, sync_file_range, sysinfo, tgkill, uname, unlink, unlinkat, write,
];

const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// The filter: the architecture is not asked, since the child makes calls of its own alone.
fn program(allowed: &Allowed) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    /// Offsets in `struct seccomp_data`: the number, and the lower half of the second argument.
    const NUMBER: u32 = 0;
    const REQUEST: u32 = 24;
    let pass = instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let mut program = vec![instruction(LOAD, NUMBER, 0, 0)];
    for call in allowed
        .calls
        .iter()
        .filter(|call| **call != libc::SYS_ioctl)
    {
        program.push(instruction(EQUAL, u32::try_from(*call).unwrap(), 0, 1));
        program.push(pass);
    }
    let rest = u8::try_from(1 + 2 * allowed.ioctls.len()).unwrap();
    program.push(instruction(EQUAL, libc::SYS_ioctl as u32, 0, rest));
    program.push(instruction(LOAD, REQUEST, 0, 0));
    for request in &allowed.ioctls {
        program.push(instruction(EQUAL, *request, 0, 1));
        program.push(pass);
    }
    program.push(instruction(RETURN, libc::SECCOMP_RET_TRAP, 0, 0));
    program
}

/// Says which call it was, and ends the process. Only calls that every phase allows.
extern "C" fn caught(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid context to a handler of SA_SIGINFO.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let register = |at: i32| context.uc_mcontext.gregs[usize::try_from(at).unwrap_or(0)];
    let text = format!(
        "not in the page: call {} ({:#x})\n",
        register(libc::REG_RAX),
        register(libc::REG_RSI)
    );
    let _ = info;
    // SAFETY: the text lives through the call.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    // SAFETY: ends the process.
    unsafe { libc::_exit(99) };
}

fn install(phase: &str) {
    let mut program = program(&allowed(phase));
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: zeros are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = caught as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the structure is valid, and the handler makes only calls that are allowed.
    let set = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    // SAFETY: takes numbers alone.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) };
    assert_eq!(set, 0);
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the program lives through the call, which copies it.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    assert_eq!(set, 0);
}

fn end() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// Runs the phases up to `phase`, that one under its filter.
fn child<G: Guest>(phase: &str, dir: &Path, mut guest: G, restore: impl FnOnce(&Thaw)) -> !
where
    G::Written: 'static,
{
    guest.run_until_event(Stops::MARKS).unwrap();
    let at = |name: &str| {
        if name == phase {
            install(phase);
        }
    };
    let leave = |name: &str| {
        if name == phase {
            end();
        }
    };
    at("prepare");
    let producer = Producer::new("tests", "1").unwrap();
    let mut tracker = DirtyTracker::new(guest.dirty().clone(), guest.written(), None);
    let capture = Freezer::new(dir, producer).begin(Kind::Full).unwrap();
    leave("prepare");
    at("pause");
    let copied = capture.copy(guest.memory(), &mut tracker, &guest);
    let frozen = copied.unwrap();
    leave("pause");
    at("publish");
    frozen.publish().unwrap();
    leave("publish");
    at("thaw");
    restore(&Snapshot::open(dir).unwrap().thaw(&[]).unwrap());
    end();
}

fn restore(mut guest: impl Guest, thaw: &Thaw) {
    let accepted = guest.compare(thaw.machine()).accept(&[]).unwrap();
    let thawed = guest.restore(&accepted);
    let _generation = thawed.unwrap().generation();
    // Taking the machine down is the VMM's own affair.
    std::mem::forget(guest);
}

/// The child's side: does nothing in an ordinary run of the tests.
#[test]
fn inner() {
    let Ok(phase) = std::env::var(PHASE) else {
        return;
    };
    let dir = std::env::var(DIR).unwrap();
    let dir = Path::new(&dir);
    if let Ok(root) = std::env::var(JAIL) {
        enter(&root);
    }
    let config = Config::for_workload(Workload::Hash, ByteLen::new(16 << 20), 7);
    if std::env::var(BACKEND).unwrap() == "kvm" {
        child(&phase, dir, MiniVm::boot(&config).unwrap(), |thaw| {
            let ram = thaw.memory(RamSource::Map).unwrap();
            let guest = MiniVm::for_state(thaw.machine(), Tracking::Log, ram).unwrap();
            restore(guest, thaw);
        });
    }
    child(&phase, dir, SimVm::boot(&config).unwrap(), |thaw| {
        let ram = thaw.memory(RamSource::Copy).unwrap();
        let shape = coldframe_minivmm::Shape::of(thaw.machine());
        restore(SimVm::with_memory(shape, ram).unwrap(), thaw);
    });
}

#[track_caller]
fn check(backend: &str) {
    for phase in PHASES {
        let home = coldframe_testkit::scratch::on_disk();
        let mut command = child::command(std::env::current_exe().unwrap());
        command.args(["--exact", "inner", "--nocapture", "--test-threads=1"]);
        command.env(PHASE, phase).env(BACKEND, backend);
        command.env(DIR, home.path().join("snapshot"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{backend}, {phase}: {text}");
    }
}

#[test]
fn a_simulated_guest_is_frozen_and_thawed_with_the_calls_of_the_page() {
    check("simulated");
}

#[test]
fn a_guest_on_kvm_is_frozen_and_thawed_with_the_calls_of_the_page() {
    match check_kvm() {
        Ok(()) => check("kvm"),
        Err(error) => coldframe_testkit::require::skipped("kvm", &error.to_string()),
    }
}

/// Makes `root` the root of this process.
fn enter(root: &str) {
    let path = std::ffi::CString::new(root).unwrap();
    // SAFETY: the path lives through the call.
    let entered = unsafe { libc::chroot(path.as_ptr()) };
    assert_eq!(entered, 0);
    std::env::set_current_dir("/").unwrap();
    assert!(!Path::new("/proc").exists());
}

/// A device node for KVM in a jail; false where none can be made or opened.
fn make_node(dev: &Path) -> bool {
    std::fs::create_dir(dev).unwrap();
    let path = dev.join("kvm");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let number = libc::makedev(10, 232);
    // SAFETY: the path lives through the call.
    let made = unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o600, number) };
    made == 0
        && std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .is_ok()
}

#[test]
fn a_jail_without_proc_is_enough() {
    // SAFETY: takes nothing.
    let user = unsafe { libc::geteuid() };
    if user != 0 {
        coldframe_testkit::require::skipped("root", "a jail takes the right to make one");
        return;
    }
    for backend in ["simulated", "kvm"] {
        let home = coldframe_testkit::scratch::on_disk();
        if backend == "kvm" && (check_kvm().is_err() || !make_node(&home.path().join("dev"))) {
            coldframe_testkit::require::skipped("kvm", "no /dev/kvm in a jail");
            return;
        }
        let mut command = child::command(std::env::current_exe().unwrap());
        command.args(["--exact", "inner", "--nocapture", "--test-threads=1"]);
        command.env(PHASE, "all").env(BACKEND, backend);
        command.env(DIR, "/snapshot").env(JAIL, home.path());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{backend}: {text}");
        assert!(home.path().join("snapshot").is_dir());
    }
}

#[test]
fn a_call_that_is_not_in_the_page_ends_the_process() {
    let mut allowed = allowed("pause");
    assert!(!allowed.calls.contains(&libc::SYS_linkat));
    assert!(program(&allowed).len() > 20);
    allowed.calls.clear();
    // Nothing but the jump to ioctl and the end is left.
    let ioctls = allowed.ioctls.len();
    assert_eq!(program(&allowed).len(), 4 + 2 * ioctls);
}
