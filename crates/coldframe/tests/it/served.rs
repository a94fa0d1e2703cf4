//! A `disk serve` in a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coldframe_testkit::child::Running;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::nbd_client::Client;
use crate::support::{Outcome, coldframe, command};

/// A store with disks, in a directory that is gone afterwards.
pub struct Place(pub crate::support::Home);

impl Place {
    pub fn new() -> Self {
        Self(crate::support::Home::new())
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.at(name)
    }

    pub fn store(&self) -> PathBuf {
        self.at("store")
    }

    /// Imports an image under a name.
    #[track_caller]
    pub fn import(&self, image: &Path, name: &str) -> Value {
        let args: [&dyn AsRef<std::ffi::OsStr>; 8] = [
            &"disk",
            &"import",
            &image,
            &"--store",
            &self.store(),
            &"--name",
            &name,
            &"--json",
        ];
        coldframe(&args).done().json()
    }

    /// The bytes of a disk.
    #[track_caller]
    pub fn export(&self, name: &str) -> Vec<u8> {
        let out = self.at(&format!("{name}.out"));
        let _ = std::fs::remove_file(&out);
        coldframe(&[
            &"disk",
            &"export",
            &name,
            &"--store",
            &self.store(),
            &"-o",
            &out,
        ])
        .done();
        std::fs::read(out).unwrap()
    }

    #[track_caller]
    pub fn serve(&self, name: &str, more: &[&str]) -> Server {
        let socket = self.at(&format!("{name}.sock"));
        let listen = format!("unix:{}", socket.display());
        Server::start(&self.store(), name, (&listen, &socket), more)
    }

    /// Serves at a TCP address.
    #[track_caller]
    pub fn serve_tcp(&self, name: &str, listen: &str, more: &[&str]) -> Server {
        Server::start(&self.store(), name, (listen, Path::new("")), more)
    }
}

pub struct Server {
    child: Running,
    pub uri: String,
    pub socket: PathBuf,
    pub said: Value,
}

impl Server {
    #[track_caller]
    pub fn start(store: &Path, name: &str, at: (&str, &Path), more: &[&str]) -> Self {
        let (listen, socket) = at;
        let mut serve = command(&[&"disk", &"serve", &name, &"--store", &store, &"--json"]);
        serve.args(["--listen", listen]).args(more);
        match Self::try_start(&mut serve, socket) {
            Ok(server) => server,
            Err(outcome) => panic!("the server did not start: {outcome:?}"),
        }
    }

    /// How it ended, if it does not serve; it is asked to print JSON.
    pub fn try_start(serve: &mut Command, socket: &Path) -> Result<Self, Outcome> {
        serve.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running::start(serve);
        let mut text = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            text += &line;
            if line == "}" {
                break;
            }
        }
        let Ok(said) = serde_json::from_str::<Value>(&text) else {
            return Err(child.output().into());
        };
        Ok(Self {
            child,
            uri: said["uri"].as_str().unwrap().to_owned(),
            socket: socket.to_path_buf(),
            said,
        })
    }

    /// A client of its disk, whose name is that of the socket.
    pub fn client(&self) -> Client {
        let name = self.socket.file_stem().unwrap();
        Client::simple(&self.socket, name.to_str().unwrap())
    }

    /// SIGTERM: it flushes, and ends well.
    #[track_caller]
    pub fn stop(self) {
        let ended = self.signal(Signal::SIGTERM);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    }

    pub fn signal(self, signal: Signal) -> Outcome {
        self.tell(signal);
        self.child.output().into()
    }

    /// Sends it a signal.
    pub fn tell(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The signal that ended it, if one did.
    pub fn ended_by(&mut self) -> Option<Signal> {
        let signal = self.child.wait().unwrap().signal();
        signal.map(|number| Signal::try_from(number).unwrap())
    }

    /// SIGKILL: it gets to do nothing more.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
