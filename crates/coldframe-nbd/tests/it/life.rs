//! Clients that come, go, die and hang; servers that stop.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use coldframe_nbd::{Errno, Limits, ListenAddr, NbdError, NbdServer};
use coldframe_testkit::{require, scratch};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::*;
use crate::disk::{Event, MemDisk};
use crate::handshake::serve;
use crate::tools::patchwork;

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(10);

/// Waits for what must become true soon.
#[track_caller]
pub fn eventually(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < SOON, "it did not come");
        thread::sleep(Duration::from_millis(2));
    }
}

// Spec: NBD-23
// Parity: D38
#[test]
fn a_thousand_clients_are_served_at_once() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() || hard < 2500 {
        return require::skipped("nbd", "fewer than 2500 open files are allowed");
    }
    let disk = Arc::new(MemDisk::new(MIB));
    let site = serve(NbdServer::new(Arc::clone(&disk)));
    let mut clients: Vec<_> = (0..1000).map(|_| Client::simple(&site.path, "")).collect();
    assert_eq!(site.handle.connection_count(), 1000);
    for (client, at) in clients.iter_mut().zip(0..) {
        client.ask(0, WRITE, at, 1);
        client.send(&[at as u8]);
    }
    for client in &mut clients {
        assert_eq!(client.reply().error(), 0);
    }
    assert!((0..1000).all(|at| disk.bytes()[at] == at as u8));
    let started = Instant::now();
    site.handle.stop().unwrap();
    assert!(started.elapsed() < SOON);
    assert!(clients.iter_mut().all(Client::is_cut_off));
}

// Spec: NBD-23
#[test]
fn clients_beyond_the_limit_are_turned_away_and_the_others_go_on() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let site = serve(NbdServer::new(MemDisk::new(MIB)).limits(limits));
    let mut first = Client::simple(&site.path, "");
    let second = Client::simple(&site.path, "");
    let mut third = UnixStream::connect(&site.path).unwrap();
    assert_eq!(std::io::Read::read(&mut third, &mut [0; 18]).unwrap(), 0);
    assert_eq!(first.read(0, 4), [0; 4]);
    second.hang_up();
    eventually(|| site.handle.connection_count() == 1);
    assert_eq!(Client::simple(&site.path, "").read(0, 4), [0; 4]);
}

// Spec: NBD-28
#[test]
fn a_client_killed_in_a_write_leaves_what_was_there() {
    let disk = Arc::new(MemDisk::holding(&patchwork(MIB, 4)));
    let before = disk.bytes();
    let site = serve(NbdServer::new(Arc::clone(&disk)));
    let mut witness = Client::simple(&site.path, "");
    for sent in [1, 27, 28, 29, 5000, 65535 + 28] {
        let mut client = Client::simple(&site.path, "");
        let bytes = [request(0, WRITE, 1, 0, 65536), vec![0xdd; 65536]].concat();
        client.send(&bytes[..sent]);
        drop(client);
    }
    eventually(|| site.handle.connection_count() == 1);
    assert!(disk.bytes() == before);
    assert_eq!(witness.read(0, 512), before[..512]);
    // And one that does not wait for a reply has written nevertheless.
    let mut client = Client::simple(&site.path, "");
    client.send(&[request(0, WRITE, 1, 0, 3), b"abc".to_vec()].concat());
    drop(client);
    eventually(|| &disk.bytes()[..3] == b"abc");
}

// Spec: NBD-28
// Parity: F39
#[test]
fn clients_in_parallel_and_one_after_the_other_see_one_disk() {
    let disk = Arc::new(MemDisk::new(4 * MIB));
    let site = serve(NbdServer::new(Arc::clone(&disk)));
    thread::scope(|scope| {
        for lane in 0..8_u64 {
            let path = &site.path;
            scope.spawn(move || {
                for round in 0..20_u64 {
                    let mut client = Client::simple(path, "");
                    let at = (round * 8 + lane) * 10_000;
                    let data = vec![(lane * 20 + round) as u8; 10_000];
                    assert_eq!(client.write(0, at, &data), 0);
                    assert_eq!(client.read(at, 10_000), data);
                }
            });
        }
    });
    let mut client = Client::simple(&site.path, "");
    for piece in 0..160_u64 {
        let value = (piece % 8 * 20 + piece / 8) as u8;
        assert_eq!(client.read(piece * 10_000, 10_000), vec![value; 10_000]);
    }
}

// Spec: NBD-24
#[test]
fn a_slow_export_is_asked_for_many_things_at_once() {
    let mut disk = MemDisk::new(MIB);
    disk.delay = Duration::from_millis(50);
    let site = serve(NbdServer::new(disk));
    let mut client = Client::simple(&site.path, "");
    let started = Instant::now();
    let asked: Vec<u8> = (0..64).flat_map(|at| request(0, READ, at, at, 1)).collect();
    client.send(&asked);
    let mut cookies: Vec<u64> = (0..64)
        .map(|_| {
            let reply = client.reply();
            assert_eq!((reply.error(), client.take(1)), (0, vec![0]));
            reply.cookie()
        })
        .collect();
    cookies.sort_unstable();
    assert_eq!(cookies, (0..64).collect::<Vec<_>>());
    assert!(started.elapsed() < Duration::from_millis(64 * 50 / 2));
}

// Spec: NBD-24
#[test]
fn a_request_that_hangs_does_not_stop_those_behind_it() {
    let mut disk = MemDisk::new(MIB);
    disk.delay = Duration::from_millis(100);
    let disk = Arc::new(disk);
    let site = serve(NbdServer::new(Arc::clone(&disk)));
    let mut client = Client::simple(&site.path, "");
    // The first is slow, and the second comes meanwhile: now there is more than one worker.
    client.send(&request(0, FLUSH, 1, 0, 0));
    thread::sleep(Duration::from_millis(30));
    client.send(&request(0, FLUSH, 2, 0, 0));
    assert_eq!((client.reply().cookie(), client.reply().cookie()), (1, 2));
    disk.shut_gate();
    client.send(&request(0, READ, 5, 0, 1));
    eventually(|| disk.events().contains(&Event::Read(0, 1)));
    client.send(&request(0, FLUSH, 6, 0, 0));
    assert_eq!(client.reply().cookie(), 6);
    disk.open_gate();
    assert_eq!(client.reply().cookie(), 5);
}

// Spec: NBD-24, NBD-26
// Parity: F40
#[test]
fn clients_that_do_not_take_replies_keep_neither_others_nor_the_server() {
    let limits = Limits {
        in_flight_bytes_max: 128 << 20,
        stop_grace: Duration::from_millis(200),
        ..Limits::default()
    };
    let disk = Arc::new(MemDisk::new(32 * MIB));
    let site = serve(NbdServer::new(Arc::clone(&disk)).limits(limits));
    let mut hogs: Vec<_> = (0..2).map(|_| Client::simple(&site.path, "")).collect();
    for hog in &mut hogs {
        for _ in 0..20 {
            hog.ask(0, READ, 0, 32 << 20);
        }
    }
    let mut client = Client::simple(&site.path, "");
    assert_eq!(client.read(0, 32 << 20).len(), 32 << 20);
    assert_eq!(client.write(0, 7, b"x"), 0);
    let started = Instant::now();
    drop(site);
    assert!(started.elapsed() < SOON);
    assert_eq!(disk.events().last(), Some(&Event::Flush));
    assert_eq!(disk.durable(), disk.bytes());
}

// Spec: NBD-25
#[test]
fn slow_clients_are_dropped_and_silent_ones_are_not() {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        message_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let site = serve(NbdServer::new(MemDisk::new(32 * MIB)).limits(limits));
    let mut silent = Client::simple(&site.path, "");
    let mut greeted = Client::connect(&site.path);
    let mut half_option = Client::connect(&site.path);
    half_option.send(b"IHAVEOPT\0\0\0\x07\0\0\0\x09");
    let mut half_request = Client::simple(&site.path, "");
    half_request.send(&request(0, READ, 1, 0, 4)[..20]);
    let mut half_payload = Client::simple(&site.path, "");
    half_payload.send(&request(0, WRITE, 1, 0, 400_000));
    let mut hog = Client::simple(&site.path, "");
    hog.ask(0, READ, 0, 32 << 20);
    for client in [
        &mut greeted,
        &mut half_option,
        &mut half_request,
        &mut half_payload,
    ] {
        assert!(client.is_cut_off());
    }
    // A byte at a time does not help.
    let mut dripping = Client::simple(&site.path, "");
    let started = Instant::now();
    for byte in request(0, WRITE, 1, 0, 10_000).into_iter().chain([0; 200]) {
        use std::io::Write;
        if dripping.stream.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(started.elapsed() < Duration::from_secs(3));
    eventually(|| site.handle.connection_count() == 1);
    assert_eq!(silent.read(5, 4), [0; 4]);
}

// Spec: NBD-26
// Parity: F40
#[test]
fn stopping_finishes_what_was_taken_and_flushes_last() {
    let mut disk = MemDisk::new(MIB);
    disk.delay = Duration::from_millis(100);
    let disk = Arc::new(disk);
    let site = serve(NbdServer::new(Arc::clone(&disk)));
    let mut idle = Client::simple(&site.path, "");
    let mut shaking = Client::connect(&site.path);
    let mut busy = Client::simple(&site.path, "");
    busy.send(&[request(0, WRITE, 9, 0, 4), b"last".to_vec()].concat());
    eventually(|| disk.begun() == 1);
    let started = Instant::now();
    site.handle.stop().unwrap();
    assert!(started.elapsed() < SOON);
    assert_eq!((busy.reply().cookie(), busy.is_cut_off()), (9, true));
    assert!(idle.is_cut_off() && shaking.is_cut_off());
    assert_eq!(disk.events(), [Event::Write(0, 4), Event::Flush]);
    assert_eq!(&disk.durable()[..4], b"last");
    assert!(!site.path.exists());
    assert_eq!(Arc::strong_count(&disk), 1);
}

// Spec: NBD-26
#[test]
fn a_flush_that_fails_at_the_end_is_told() {
    let mut disk = MemDisk::new(MIB);
    disk.error = Some(Errno::Io);
    let site = serve(NbdServer::named("bad", disk).unwrap());
    let error = site.handle.stop().unwrap_err();
    let NbdError::FinalFlush { name, source } = error else {
        panic!("{error}");
    };
    assert_eq!((name.as_str(), source.errno()), ("bad", Errno::Io));
}

// Spec: NBD-27
// Parity: D35, F40
#[test]
fn a_live_socket_is_left_alone_and_a_dead_one_is_replaced() {
    let dir = scratch::dir();
    let path = dir.path().join("s");
    let listen = || NbdServer::new(MemDisk::new(512)).listen(path.as_path());
    let in_use = || matches!(listen(), Err(NbdError::SocketInUse { .. }));

    // A foreign server, live and then dead.
    let foreign = UnixListener::bind(&path).unwrap();
    assert!(in_use());
    drop(foreign);
    let first = listen().unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(in_use());
    assert_eq!(Client::simple(&path, "").read(0, 1), [0]);

    // Ours is gone from its path, which another one uses now: that one stays.
    fs::remove_file(&path).unwrap();
    let second = listen().unwrap();
    let inode = fs::symlink_metadata(&path).unwrap().ino();
    drop(first);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
    assert_eq!(Client::simple(&path, "").read(0, 1), [0]);
    drop(second);
    assert!(!path.exists());

    fs::write(&path, b"precious").unwrap();
    assert!(matches!(listen(), Err(NbdError::NotASocket { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    assert!(in_use());
}

// Spec: NBD-27
// Parity: D35
#[test]
fn one_of_many_servers_takes_a_dead_socket() {
    for mode in [0o700, 0o755] {
        let dir = scratch::dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let started: Vec<_> = thread::scope(|scope| {
            let start = || NbdServer::new(MemDisk::new(512)).listen(path.as_path());
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(started.iter().filter(|server| server.is_ok()).count(), 1);
        assert_eq!(Client::simple(&path, "").read(0, 1), [0]);
        drop(started);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

// Spec: NBD-27
#[test]
fn whoever_may_read_the_directory_cannot_keep_a_server_from_starting() {
    let dir = scratch::dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let other = fs::File::open(dir.path()).unwrap();
    other.lock().unwrap();
    let path = dir.path().join("s");
    let server = NbdServer::new(MemDisk::new(512)).listen(path.as_path());
    assert_eq!(Client::simple(&path, "").read(0, 1), [0]);
    server.unwrap().stop().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // Nor is a file that somebody put in the lock's place followed or written to.
    std::os::unix::fs::symlink("elsewhere", dir.path().join(".s.lock")).unwrap();
    let refused = NbdServer::new(MemDisk::new(512)).listen(path.as_path());
    assert!(matches!(refused.map(drop), Err(NbdError::Listen { .. })));
    assert!(!dir.path().join("elsewhere").exists());
}

// Spec: NBD-27
#[test]
fn paths_that_cannot_be_sockets_are_refused() {
    let dir = scratch::dir();
    let listen = |name: &str| {
        let server = NbdServer::new(MemDisk::new(512));
        server.listen(dir.path().join(name)).map(drop).unwrap_err()
    };
    assert!(matches!(
        listen(&"x".repeat(200)),
        NbdError::SocketPath { .. }
    ));
    let missing = listen("no/such/dir");
    assert!(matches!(missing, NbdError::Listen { .. }), "{missing}");
}

#[test]
fn addresses_are_written_as_users_write_them() {
    for text in [
        "unix:/run/a b.sock",
        "tcp:127.0.0.1:10809",
        "tcp:[::1]:0",
        "tcp:localhost:10809",
        "tcp:disk-1.example.org:65535",
    ] {
        assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "unix:",
        "tcp:localhost",
        "tcp:localhost:",
        "tcp:localhost:65536",
        "tcp:localhost:+1",
        "tcp::10809",
        "tcp:::1:10809",
        "tcp:[::1]",
        "tcp:1.2.3:4",
        "tcp:1.2.3.256:4",
        "tcp:a b:4",
        "udp:1.2.3.4:5",
        "/run/sock",
    ] {
        assert!(text.parse::<ListenAddr>().is_err(), "{text}");
    }
    let addr: ListenAddr = "unix:/run/a b.sock".parse().unwrap();
    assert_eq!(addr.uri("x?y"), "nbd+unix:///x%3Fy?socket=/run/a%20b.sock");
    let addr: ListenAddr = "tcp:localhost:5".parse().unwrap();
    assert_eq!(addr.tls_uri("x"), "nbds://localhost:5/x");
}

fn listen_on(text: &str) -> Result<coldframe_nbd::NbdHandle, NbdError> {
    let addr: ListenAddr = text.parse().unwrap();
    let server = NbdServer::new(MemDisk::new(512)).loopback_only();
    server.listen(addr)
}

// Spec: NBD-29
#[test]
fn a_name_is_served_at_all_its_addresses_with_one_port() {
    let handle = listen_on("tcp:localhost:0").unwrap();
    let ListenAddr::TcpName { host, port } = handle.addr() else {
        panic!("{}", handle.addr());
    };
    assert_eq!(host, "localhost");
    let served = handle.addr().socket_addrs().unwrap().into_iter();
    let served = served.filter(|addr| std::net::TcpStream::connect(addr).is_ok());
    assert!(served.count() > 0);
    // Taken, by one of our own.
    let again = listen_on(&format!("tcp:localhost:{port}"));
    assert!(matches!(again.map(drop), Err(NbdError::Listen { .. })));
    handle.stop().unwrap();
    // Longer than a name can be: no server of names is asked.
    let unknown = listen_on(&format!("tcp:{}:0", "x".repeat(300)));
    assert!(matches!(unknown.map(drop), Err(NbdError::Listen { .. })));
}

// Spec: NBD-29
#[test]
fn other_hosts_are_not_let_in_unless_that_is_asked_for() {
    for text in ["tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:192.0.2.1:0"] {
        let refused = listen_on(text).map(drop).unwrap_err();
        assert!(matches!(refused, NbdError::NotLoopback { .. }), "{refused}");
    }
    drop(listen_on("tcp:127.0.0.1:0").unwrap());
    drop(
        listen_on("tcp:127.3.2.1:0")
            .or_else(|_| listen_on("tcp:127.0.0.1:0"))
            .unwrap(),
    );
    let any: ListenAddr = "tcp:0.0.0.0:0".parse().unwrap();
    drop(NbdServer::new(MemDisk::new(512)).listen(any).unwrap());
}

#[test]
fn tcp_serves_the_same() {
    let disk = Arc::new(MemDisk::holding(&patchwork(4 * MIB, 5)));
    let addr: ListenAddr = "tcp:127.0.0.1:0".parse().unwrap();
    let handle = NbdServer::new(Arc::clone(&disk)).listen(addr).unwrap();
    let dir = scratch::dir();
    let copy = dir.path().join("copy");
    let uri = handle.uri("");
    assert!(!uri.ends_with(":0/"));
    let args = [uri.as_str(), copy.to_str().unwrap()];
    if crate::tools::succeed("nbd", "nbdcopy", &args).is_some() {
        assert!(fs::read(&copy).unwrap() == disk.bytes());
    }
    let idle = std::net::TcpStream::connect(handle.addr().to_string().trim_start_matches("tcp:"));
    let started = Instant::now();
    drop(handle);
    assert!(started.elapsed() < SOON);
    drop(idle);
}
