//! Who may connect to a served disk: TLS, addresses that other hosts reach, and the end of a server
//! that has to wait.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coldframe_testkit::rng::Rng;
use nix::sys::signal::Signal;

use crate::certificates::certificates;
use crate::disk_tools::{run, succeed};
use crate::nbd_client::{Client, READ};
use crate::served::{Place, Server};
use crate::support::{Outcome, coldframe};

const LEN: usize = (4 << 20) + 512;

/// A store with a disk of noise, and its bytes.
fn place() -> (Place, Vec<u8>) {
    let place = Place::new();
    let image = place.at("image");
    let bytes = Rng::new(11).bytes(LEN);
    fs::write(&image, &bytes).unwrap();
    place.import(&image, "root");
    (place, bytes)
}

/// A directory with everybody's certificates, and the arguments of a server that wants them.
fn keys(place: &Place) -> Option<(PathBuf, Vec<String>)> {
    let dir = place.at("keys");
    fs::create_dir(&dir).unwrap();
    certificates(&dir)?;
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let args = [
        "--tls-cert".to_owned(),
        at("server-cert.pem"),
        "--tls-key".to_owned(),
        at("server-key.pem"),
        "--tls-client-ca".to_owned(),
        at("ca-cert.pem"),
    ];
    Some((dir, args.into()))
}

fn texts(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// What `disk serve` says that refuses to start.
fn refused(place: &Place, listen: &str, more: &[&str]) -> Outcome {
    let store = place.store();
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"disk", &"serve", &"root"];
    args.extend([&"--store" as &dyn AsRef<_>, &store, &"--listen", &listen]);
    more.iter().for_each(|arg| args.push(arg));
    coldframe(&args)
}

fn port(server: &Server) -> &str {
    let rest = server.uri.rsplit_once(':').unwrap().1;
    rest.split_once('/').unwrap().0
}

// Spec: NBD-29
#[test]
fn clients_with_a_certificate_use_a_disk_over_tls_and_no_others() {
    let (place, bytes) = place();
    let Some((dir, args)) = keys(&place) else {
        return;
    };
    let server = place.serve_tcp("root", "tcp:localhost:0", &texts(&args));
    assert!(
        server.uri.starts_with("nbds://localhost:"),
        "{}",
        server.uri
    );
    let uri = format!("{}?tls-certificates={}", server.uri, dir.display());
    let Some(size) = succeed("nbd", "nbdinfo", &["--size", &uri]) else {
        return;
    };
    assert_eq!(size.trim(), LEN.to_string());
    // There and back, by libnbd and by QEMU.
    let (other, out) = (place.at("other"), place.at("out"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let changed = Rng::new(12).bytes(LEN);
    fs::write(&other, &changed).unwrap();
    succeed("nbd", "nbdcopy", &[&uri, &text(&out)]).unwrap();
    assert!(fs::read(&out).unwrap() == bytes, "read wrong");
    succeed("nbd", "nbdcopy", &["--flush", &text(&other), &uri]).unwrap();
    let creds = format!(
        "tls-creds-x509,id=tls,dir={},endpoint=client",
        dir.display()
    );
    let export = format!(
        "driver=nbd,server.type=inet,server.host=localhost,server.port={},export=root,\
         tls-creds=tls",
        port(&server)
    );
    let convert = [
        "convert",
        "--object",
        &creds,
        "--image-opts",
        &export,
        "-O",
        "raw",
    ];
    let convert: Vec<&str> = convert.into_iter().chain([out.to_str().unwrap()]).collect();
    if succeed("qemu", "qemu-img", &convert).is_some() {
        assert!(fs::read(&out).unwrap() == changed, "read wrong by QEMU");
    }
    // Without TLS, without a certificate, and with one of another CA.
    let plain = server.uri.replace("nbds:", "nbd:");
    let (bare, foreign) = (place.at("bare"), place.at("foreign"));
    fs::create_dir(&bare).unwrap();
    fs::copy(dir.join("ca-cert.pem"), bare.join("ca-cert.pem")).unwrap();
    fs::create_dir(&foreign).unwrap();
    certificates(&foreign).unwrap();
    fs::copy(dir.join("ca-cert.pem"), foreign.join("ca-cert.pem")).unwrap();
    let with = |dir: &Path| format!("{}?tls-certificates={}", server.uri, dir.display());
    for uri in [plain, with(&bare), with(&foreign)] {
        let output = run("nbd", "nbdinfo", &["--size", &uri]).unwrap();
        assert!(!output.status.success(), "{uri}");
    }
    server.stop();
    assert!(place.export("root") == changed, "written wrong");
}

// Spec: NBD-29
#[test]
fn tls_is_there_on_a_unix_socket_too() {
    let (place, _) = place();
    let Some((dir, args)) = keys(&place) else {
        return;
    };
    let server = place.serve("root", &texts(&args));
    assert!(server.uri.starts_with("nbds+unix:"), "{}", server.uri);
    let uri = format!("{}&tls-certificates={}", server.uri, dir.display());
    // Over a socket file there is no name to verify but the one that the URI gives.
    let uri = format!("{uri}&tls-hostname=localhost");
    if let Some(output) = run("nbd", "nbdinfo", &["--size", &uri]) {
        let said = String::from_utf8_lossy(&output.stderr);
        // Older clients have no way to give the name.
        let is_old = said.contains("tls-hostname") || said.contains("unknown");
        assert!(output.status.success() || is_old, "{said}");
    }
    let plain = server.uri.replace("nbds+", "nbd+");
    if let Some(output) = run("nbd", "nbdinfo", &["--size", &plain]) {
        assert!(!output.status.success());
    }
    server.stop();
}

// Spec: NBD-29
#[test]
fn other_hosts_are_let_in_with_certificates_or_by_name_alone() {
    let (place, _) = place();
    let exposed = [
        "cannot serve at tcp:",
        "--tls-client-ca",
        "--allow-unauthenticated",
    ];
    for listen in ["tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:192.0.2.7:10809"] {
        refused(&place, listen, &[]).fails(2, &exposed);
        refused(&place, listen, &["--read-only"]).fails(2, &exposed);
    }
    let server = place.serve_tcp("root", "tcp:0.0.0.0:0", &["--allow-unauthenticated"]);
    let uri = format!("nbd://127.0.0.1:{}/root", port(&server));
    if let Some(size) = succeed("nbd", "nbdinfo", &["--size", &uri]) {
        assert_eq!(size.trim(), LEN.to_string());
    }
    server.stop();
    let Some((_, args)) = keys(&place) else {
        return;
    };
    // Encrypted, but from anybody.
    refused(&place, "tcp:0.0.0.0:0", &texts(&args[..4])).fails(2, &exposed);
    place
        .serve_tcp("root", "tcp:0.0.0.0:0", &texts(&args))
        .stop();
}

// Spec: NBD-29
#[test]
fn certificates_that_cannot_be_used_are_refused_by_name() {
    let (place, _) = place();
    let empty = place.at("empty.pem").to_str().unwrap().to_owned();
    fs::write(&empty, b"").unwrap();
    let listen = "tcp:localhost:0";
    refused(&place, listen, &["--tls-cert", &empty]).fails(2, &["--tls-key"]);
    refused(&place, listen, &["--tls-key", &empty]).fails(2, &["--tls-cert"]);
    refused(&place, listen, &["--tls-client-ca", &empty]).fails(2, &["--tls-cert"]);
    let both =
        |cert: &str, key: &str| refused(&place, listen, &["--tls-cert", cert, "--tls-key", key]);
    both("/no/such", "/no/such").fails(3, &["/no/such", "cannot serve at tcp:localhost:0"]);
    both(&empty, &empty).fails(3, &[&empty]);
    // Longer than a name can be: no server of names is asked.
    let unknown = format!("tcp:{}:1", "x".repeat(300));
    refused(&place, &unknown, &[]).fails(3, &["cannot serve at tcp:xxx"]);
    for listen in ["tcp:localhost", "tcp:::1:5", "tcp:1.2.3:4"] {
        refused(&place, listen, &[]).fails(2, &["tcp:HOST:PORT"]);
    }
}

#[test]
fn a_second_signal_ends_a_server_that_waits() {
    let (place, _) = place();
    let mut server = place.serve("root", &[]);
    let mut client = Client::simple(&server.socket, "root");
    // More than a socket takes: its reply is waited for.
    client.ask(0, READ, 0, 4 << 20);
    client.take(16);
    while server.is_running() {
        server.tell(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.ended_by(), Some(Signal::SIGTERM));
    // And all is as if it had been killed.
    place.serve("root", &[]).stop();
}
