//! A server is killed under write load, again and again: what was flushed is there.
//!
//! `COLDFRAME_KILLS` says how often; 6 times without it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use coldframe_chunks::{Backend, CollectOptions, Folder, LocalStore};
use coldframe_testkit::rng::Rng;

use crate::nbd_client::{Client, FLUSH, FUA, WRITE, be32, request};
use crate::served::Place;

const PAGES: u64 = 1024;
const PAGE: usize = 4096;
const WRITERS: u64 = 3;

/// What a page holds that was written for the n-th time.
fn page(number: u64, version: u64) -> Vec<u8> {
    let mut bytes = Rng::new(number << 32 | version).bytes(PAGE);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..16].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The versions of one page: the newest that was flushed, and the newest that was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Versions {
    flushed: u64,
    sent: u64,
}

type Book = BTreeMap<u64, Versions>;

fn call(stream: &mut UnixStream, flags: u16, command: u16, at: u64, data: &[u8]) -> io::Result<()> {
    let len = u32::try_from(data.len()).unwrap();
    stream.write_all(&[&request(flags, command, 7, at, len)[..], data].concat())?;
    let mut reply = [0; 16];
    stream.read_exact(&mut reply)?;
    assert_eq!(be32(&reply[4..]), 0, "a request failed");
    Ok(())
}

/// Writes its own pages until the server is gone, and notes what it was promised.
fn write_on(mut stream: UnixStream, writer: u64, mut book: Book, seed: u64) -> Book {
    let mut rng = Rng::new(seed * 8 + writer);
    let mut unflushed: BTreeMap<u64, u64> = BTreeMap::new();
    loop {
        let number = rng.below(PAGES / WRITERS) * WRITERS + writer;
        let versions = book.entry(number).or_default();
        versions.sent += 1;
        let version = versions.sent;
        let is_fua = rng.below(16) == 0;
        let flags = if is_fua { FUA } else { 0 };
        let at = number * PAGE as u64;
        if call(&mut stream, flags, WRITE, at, &page(number, version)).is_err() {
            return book;
        }
        unflushed.insert(number, version);
        if is_fua || rng.below(12) == 0 {
            if !is_fua && call(&mut stream, 0, FLUSH, 0, &[]).is_err() {
                return book;
            }
            // A flush, and our FUA, covers all that returned before.
            for (number, version) in std::mem::take(&mut unflushed) {
                book.entry(number).or_default().flushed = version;
            }
        }
    }
}

#[track_caller]
fn check(bytes: &[u8], books: &mut [Book], kills: u64) {
    for book in books {
        for (number, versions) in book {
            let at = usize::try_from(*number).unwrap() * PAGE;
            let found = &bytes[at..at + PAGE];
            let version = u64::from_le_bytes(found[8..16].try_into().unwrap());
            assert!(
                (versions.flushed..=versions.sent).contains(&version),
                "kill {kills}: page {number} has version {version}, {versions:?}"
            );
            let is_whole = version == 0 || found == page(*number, version);
            assert!(is_whole, "kill {kills}: page {number} is torn");
            // What is there now is what the next server begins with.
            versions.flushed = version;
        }
    }
}

/// Every chunk sound; what nobody needs goes, and the disk stays.
fn check_store(place: &Place) -> u64 {
    let store = LocalStore::open(&place.store()).unwrap();
    let verified = store.verify(&[]).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let at_once = CollectOptions {
        grace: Duration::ZERO,
        garbage_percent: 50,
        dry_run: false,
    };
    let packs = || store.backend().list(Folder::Packs).unwrap().len();
    let before = packs();
    let mut deleted = 0;
    for _ in 0..2 {
        deleted += store.collect(at_once, &[]).unwrap().deleted_packs;
    }
    assert!(packs() <= before);
    let stat = store.stat_all(&[]).unwrap();
    let live: u64 = stat.tags.values().map(|tag| tag.missing_chunks).sum();
    assert_eq!(live, 0, "{stat:?}");
    assert!(store.verify(&[]).unwrap().is_sound());
    deleted
}

// Parity: D37b, F36
#[test]
fn what_was_flushed_is_there_however_often_the_server_is_killed() {
    let kills = std::env::var("COLDFRAME_KILLS").ok();
    let kills: u64 = kills.map_or(6, |kills| kills.parse().unwrap());
    let place = Place::new();
    let image = std::fs::File::create(place.at("a.img")).unwrap();
    image.set_len(PAGES * PAGE as u64).unwrap();
    place.import(&place.at("a.img"), "a");
    let mut books = vec![Book::new(); WRITERS as usize];
    let mut rng = Rng::new(kills);
    let (mut flushed, mut deleted, mut folded) = (0, 0, 0);
    for kill in 0..kills {
        let server = place.serve("a", &["--wal-size", "1MiB", "--dirty-size", "1MiB"]);
        let socket = server.socket.clone();
        let mut client = Client::simple(&socket, "a");
        let bytes = client.read(0, u32::try_from(PAGES * PAGE as u64).unwrap());
        check(&bytes, &mut books, kill);
        drop(client);
        let before: u64 = books
            .iter()
            .flat_map(Book::values)
            .map(|page| page.flushed)
            .sum();
        // Connected before the clock runs: a kill in a handshake would say nothing.
        let streams: Vec<_> = (0..WRITERS)
            .map(|_| Client::simple(&socket, "a").stream)
            .collect();
        let time = Duration::from_millis(5 + rng.below(400));
        books = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..)
                .zip(books)
                .zip(streams)
                .map(|((writer, book), stream)| {
                    scope.spawn(move || write_on(stream, writer, book, kill))
                })
                .collect();
            std::thread::sleep(time);
            server.kill();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        });
        let after: u64 = books
            .iter()
            .flat_map(Book::values)
            .map(|page| page.flushed)
            .sum();
        flushed += after - before;
        if kill % 10 == 5 {
            deleted += check_store(&place);
            folded += 1;
        }
    }
    let server = place.serve("a", &[]);
    let mut client = Client::simple(&server.socket, "a");
    let bytes = client.read(0, u32::try_from(PAGES * PAGE as u64).unwrap());
    check(&bytes, &mut books, kills);
    server.stop();
    deleted += check_store(&place);
    assert!(place.export("a") == bytes, "after the last collection");
    println!("{kills} kills, {flushed} flushed writes, {deleted} packs collected, {folded} checks");
    assert!(flushed > kills, "{flushed} writes were flushed only");
}
