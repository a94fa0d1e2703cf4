//! NBD servers over one image, each with its own socket.
//!
//! Invariant: a value holds one running server, which is killed with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
#[cfg(feature = "chunk-peers")]
use shuru_store::NbdHandle;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory for chunks that were read: more than the image has, as the others have the page cache.
const CACHE: &str = "2GiB";

/// A log for changes: as for others who copy on write, nothing is brought down meanwhile.
const ROOM: &str = "--wal-size 8GiB";

/// The disk in our store.
const DISK: &str = "disk";

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// `coldframe disk serve`, of a store that holds the image, with room for all that is written.
    Coldframe,
    /// The same with the usual room: changes become chunks meanwhile.
    ColdframeUsual,
    /// nbdkit's file plugin: writes go into the file.
    NbdkitFile,
    /// nbdkit's copy-on-write filter over the same.
    NbdkitCow,
    /// qemu-nbd: writes go into the file.
    QemuNbd,
    /// shuru-store: chunks, taken from the image when they are first read.
    #[cfg(feature = "chunk-peers")]
    Shuru,
}

/// What is served.
pub struct Images {
    /// The command-line tool.
    pub coldframe: PathBuf,
    /// A dense image that nobody changes.
    pub base: PathBuf,
    /// A copy of it, for those who write into the file.
    pub written: PathBuf,
    /// Our store.
    pub store: PathBuf,
    /// Where sockets and the rest go.
    pub dir: PathBuf,
}

impl Images {
    /// A place for them in a directory.
    pub fn new(coldframe: PathBuf, dir: &Path) -> Self {
        Self {
            coldframe,
            base: dir.join("base.img"),
            written: dir.join("written.img"),
            store: dir.join("disk-store"),
            dir: dir.to_path_buf(),
        }
    }

    /// Whatever was written before is gone, for those who copy on write, and no part of it is on
    /// its way to the disk.
    fn renew(&self, who: Who) -> Result<()> {
        if matches!(who, Who::Coldframe | Who::ColdframeUsual) {
            if self.store.exists() {
                fs::remove_dir_all(&self.store)?;
            }
            self.import()?;
        }
        ensure!(Command::new("sync").status()?.success());
        Ok(())
    }

    /// Takes the image into our store.
    fn import(&self) -> Result<()> {
        let mut import = Command::new(&self.coldframe);
        import.args(["disk", "import", "--name", DISK]);
        import.arg("--store").arg(&self.store).arg(&self.base);
        let output = import.output()?;
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "coldframe disk import: {}",
            problem.trim()
        );
        Ok(())
    }
}

/// A running server.
pub struct Server {
    running: Running,
    socket: PathBuf,
}

enum Running {
    Process(Child),
    /// Stops when it is dropped.
    #[cfg(feature = "chunk-peers")]
    Inside(#[expect(dead_code, reason = "held for its drop")] NbdHandle),
}

impl Server {
    /// Starts one, with nothing written yet.
    pub fn start(who: Who, images: &Images) -> Result<Self> {
        let socket = images.dir.join("s");
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        images.renew(who)?;
        let running = start(who, images, &socket)?;
        let server = Self { running, socket };
        let start = Instant::now();
        while !answers(&server.uri())? {
            ensure!(start.elapsed() < PATIENCE, "{who:?} opens no socket");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Its address.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Process(process) => {
                // It may be gone already.
                let _ = process.kill();
                let _ = process.wait();
            }
            #[cfg(feature = "chunk-peers")]
            Running::Inside(_) => {}
        }
    }
}

/// Whether a server is there, and speaks.
fn answers(uri: &str) -> Result<bool> {
    let mut nbdinfo = Command::new("nbdinfo");
    Ok(nbdinfo.args(["--size", uri]).output()?.status.success())
}

fn start(who: Who, images: &Images, socket: &Path) -> Result<Running> {
    let mut command = match who {
        Who::Coldframe | Who::ColdframeUsual => {
            let mut ours = Command::new(&images.coldframe);
            let listen = format!("unix:{}", socket.display());
            ours.args(["disk", "serve", DISK, "--listen", &listen]);
            ours.args(["--cache-size", CACHE]);
            if who == Who::Coldframe {
                ours.args(ROOM.split(' '));
            }
            ours.arg("--store").arg(&images.store);
            ours
        }
        Who::QemuNbd => {
            let mut qemu = Command::new("qemu-nbd");
            qemu.args("-t -e 16 -f raw --cache=writeback --aio=threads -k".split(' '));
            qemu.arg(socket).arg(&images.written);
            qemu
        }
        Who::NbdkitCow => {
            let mut nbdkit = Command::new("nbdkit");
            nbdkit.args(["-f", "-U"]).arg(socket);
            nbdkit.args(["--filter=cow", "file"]).arg(&images.base);
            nbdkit.env("TMPDIR", &images.dir);
            nbdkit
        }
        Who::NbdkitFile => {
            let mut nbdkit = Command::new("nbdkit");
            nbdkit.args(["-f", "-U"]).arg(socket);
            nbdkit.arg("file").arg(&images.written);
            nbdkit
        }
        #[cfg(feature = "chunk-peers")]
        Who::Shuru => return Ok(Running::Inside(shuru(images, socket)?)),
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let process = command.spawn();
    Ok(Running::Process(
        process.with_context(|| format!("{command:?}"))?,
    ))
}

/// Starts shuru-store's server on a thread of this process: it has no program.
#[cfg(feature = "chunk-peers")]
fn shuru(images: &Images, socket: &Path) -> Result<NbdHandle> {
    let dir = images.dir.join("shuru");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir(&dir)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let bytes = fs::metadata(&images.base)?.len();
    shuru_store::start_cas_nbd_server(
        &text(&images.base),
        &text(&dir.join("cas")),
        &text(&dir.join("index")),
        &text(socket),
        bytes,
    )
}
