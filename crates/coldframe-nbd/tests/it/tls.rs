//! TLS: our server under other people's clients, and against plain ones.

use std::path::Path;
use std::sync::Arc;

use coldframe_nbd::proto::TlsPolicy;
use coldframe_nbd::{ListenAddr, NbdError, NbdServer, TlsConfig};
use coldframe_testkit::scratch;

use crate::certificates::certificates;
use crate::client::*;
use crate::disk::MemDisk;
use crate::handshake::serve;
use crate::tools::{patchwork, run, succeed};

fn config(dir: &Path, asks_clients: bool) -> TlsConfig {
    let roots = dir.join("ca-cert.pem");
    let roots = asks_clients.then_some(roots.as_path());
    let (chain, key) = (dir.join("server-cert.pem"), dir.join("server-key.pem"));
    TlsConfig::from_pem_files(&chain, &key, roots).unwrap()
}

// Spec: NBD-7
#[test]
fn libnbd_copies_over_tls() {
    let dir = scratch::dir();
    if certificates(dir.path()).is_none() {
        return;
    }
    let image = patchwork(9_000_001, 6);
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, &image).unwrap();
    for asks_clients in [false, true] {
        let disk = Arc::new(MemDisk::new(image.len()));
        let server = NbdServer::new(Arc::clone(&disk));
        let server = server.tls(config(dir.path(), asks_clients), TlsPolicy::Required);
        let addr: ListenAddr = "tcp:localhost:0".parse().unwrap();
        let handle = server.listen(addr).unwrap();
        let (plain, secret) = (handle.addr().uri(""), handle.uri(""));
        assert!(secret.starts_with("nbds://localhost:"));
        let uri = format!("{secret}?tls-certificates={}", dir.path().display());
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        if succeed("nbd", "nbdcopy", &["--flush", from, &uri]).is_none() {
            return;
        }
        assert!(disk.durable() == image, "written wrong");
        for connections in ["1", "4"] {
            let args = ["--connections", connections, &uri, to];
            succeed("nbd", "nbdcopy", &args).unwrap();
            assert!(std::fs::read(to).unwrap() == image, "read wrong");
        }
        let refused = run("nbd", "nbdinfo", &["--size", &plain]).unwrap();
        assert!(!refused.status.success());
        handle.stop().unwrap();
    }
}

// Spec: NBD-7
#[test]
fn strangers_are_not_let_in_and_garbage_ends_the_connection() {
    let dir = scratch::dir();
    if certificates(dir.path()).is_none() {
        return;
    }
    let server = NbdServer::new(MemDisk::new(4096));
    let site = serve(server.tls(config(dir.path(), true), TlsPolicy::Offered));
    assert_eq!(Client::simple(&site.path, "").read(0, 4), [0; 4]);
    for garbage in [vec![], vec![0; 3000], b"\x16\x03\x01\xff\xff".to_vec()] {
        let mut client = Client::connect(&site.path);
        assert_eq!(client.option(STARTTLS, &[]), ACK);
        client.send(&garbage);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        // An alert at most, and then the end.
        let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
        assert!(rest.len() < 100);
    }
    let mut other = Client::connect(&site.path);
    assert_eq!(other.option(GO, &info("", &[])), ACK);
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let dir = scratch::dir();
    let path = dir.path().join("empty.pem");
    std::fs::write(&path, b"").unwrap();
    let missing = dir.path().join("missing.pem");
    for key in [&path, &missing] {
        let refused = TlsConfig::from_pem_files(&path, key, None).map(drop);
        assert!(matches!(refused, Err(NbdError::TlsFile { .. })));
    }
}

#[test]
fn certificates_that_cannot_be_used_are_refused_by_name() {
    let dir = scratch::dir();
    if certificates(dir.path()).is_none() {
        return;
    }
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("empty.pem"), b"").unwrap();
    let refused = |chain: &str, key: &str, roots: Option<&str>, named: &str| {
        let roots = roots.map(at);
        let refused = TlsConfig::from_pem_files(&at(chain), &at(key), roots.as_deref());
        let error = refused.map(drop).unwrap_err();
        let (NbdError::TlsFile { path, .. } | NbdError::Tls { path, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(*path, at(named), "{error}");
    };
    let (chain, key) = ("server-cert.pem", "server-key.pem");
    refused("empty.pem", key, None, "empty.pem");
    refused(key, key, None, key);
    refused(chain, "client-key.pem", None, chain);
    // No authority in it: nobody could be let in.
    refused(chain, key, Some("empty.pem"), "empty.pem");
    refused(chain, key, Some("server-key.pem"), "server-key.pem");
    // Nobody ever writes to the FIFO.
    scratch::make_fifo(&at("fifo"));
    std::fs::create_dir(at("dir")).unwrap();
    let long = std::fs::File::create(at("long")).unwrap();
    long.set_len(1 << 40).unwrap();
    for odd in ["fifo", "dir", "long", "missing"] {
        refused(odd, key, None, odd);
        refused(chain, odd, None, odd);
        refused(chain, key, Some(odd), odd);
    }
}
