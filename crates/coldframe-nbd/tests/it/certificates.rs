//! Certificates made by openssl(1), under the names that libnbd and QEMU look for.

use std::path::Path;

use coldframe_testkit::child::command;
use coldframe_testkit::require;

const KEY: [&str; 7] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
];

/// Makes a CA, a certificate for localhost and one for a client; none (after a word about it) if
/// there is no openssl.
#[track_caller]
pub fn certificates(dir: &Path) -> Option<()> {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (ca, ca_key) = (at("ca-cert.pem"), at("ca-key.pem"));
    request(&["-subj", "/CN=ca", "-keyout", &ca_key, "-out", &ca])?;
    for (name, subject) in [("server", "/CN=localhost"), ("client", "/CN=client")] {
        let certificate = at(&format!("{name}-cert.pem"));
        let private = at(&format!("{name}-key.pem"));
        let mut args = vec!["-subj", subject, "-CA", &ca, "-CAkey", &ca_key];
        args.extend(["-keyout", &private, "-out", &certificate, "-addext"]);
        args.extend(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext"]);
        args.push("basicConstraints=critical,CA:FALSE");
        request(&args)?;
    }
    Some(())
}

#[track_caller]
fn request(args: &[&str]) -> Option<()> {
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509"]).args(KEY).args(args);
    let output = match openssl.output() {
        Ok(output) => output,
        Err(error) => {
            require::skipped("nbd", &format!("openssl: {error}"));
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {errors}");
    Some(())
}
