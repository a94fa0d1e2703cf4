//! TLS: our server under other people's clients, and against plain ones.

use std::path::Path;
use std::sync::Arc;

use coldframe_nbd::proto::TlsPolicy;
use coldframe_nbd::{NbdError, NbdServer, TlsConfig};

use crate::client::*;
use crate::disk::MemDisk;
use crate::handshake::serve;
use crate::tools::{patchwork, run, succeed};

/// A CA, a certificate for localhost and one for a client, as libnbd wants to find them.
fn certificates(dir: &Path) -> Option<()> {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    let ca = at("ca-cert.pem");
    let ca_key = at("ca-key.pem");
    let mut args = vec![
        "req", "-x509", "-subj", "/CN=ca", "-keyout", &ca_key, "-out", &ca,
    ];
    args.extend(key);
    succeed("nbd", "openssl", &args)?;
    for (name, subject) in [("server", "/CN=localhost"), ("client", "/CN=client")] {
        let (cert, private) = (
            at(&format!("{name}-cert.pem")),
            at(&format!("{name}-key.pem")),
        );
        let mut args = vec![
            "req", "-x509", "-subj", subject, "-CA", &ca, "-CAkey", &ca_key,
        ];
        args.extend(["-keyout", &private, "-out", &cert, "-addext"]);
        args.extend(["subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        args.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
        args.extend(key);
        succeed("nbd", "openssl", &args)?;
    }
    Some(())
}

fn config(dir: &Path, asks_clients: bool) -> TlsConfig {
    let roots = dir.join("ca-cert.pem");
    let roots = asks_clients.then_some(roots.as_path());
    let (chain, key) = (dir.join("server-cert.pem"), dir.join("server-key.pem"));
    TlsConfig::from_pem_files(&chain, &key, roots).unwrap()
}

// Spec: NBD-7
#[test]
fn libnbd_copies_over_tls() {
    let dir = tempfile::tempdir().unwrap();
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
        let handle = server
            .listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
            .unwrap();
        let plain = handle.uri("");
        let secret = plain.replace("nbd://127.0.0.1", "nbds://localhost");
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
    let dir = tempfile::tempdir().unwrap();
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
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.pem");
    std::fs::write(&path, b"").unwrap();
    let missing = dir.path().join("missing.pem");
    for key in [&path, &missing] {
        let refused = TlsConfig::from_pem_files(&path, key, None).map(drop);
        assert!(matches!(refused, Err(NbdError::TlsFile { .. })));
    }
}
