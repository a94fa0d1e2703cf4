//! The virtual machine: an initramfs made on the spot, booted once, read until it powers off.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Program;
use super::packages::Kernel;

/// How long all of it may take: emulation is slow, and a stuck guest says nothing.
const TIME_MAX: Duration = Duration::from_secs(900);
/// The line before a step's exit status.
const STATUS: &str = "COLDFRAME-STATUS";

/// One command to run inside.
pub struct Step<'a> {
    /// Its name in the report.
    pub name: &'a str,
    /// The command, for a shell in the folder of the programs.
    pub command: &'a str,
}

/// Mounts what the programs need, runs the steps, powers off.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t devtmpfs d /dev
mount -t proc p /proc
mount -t sysfs s /sys
mount -t tmpfs t /tmp
dmesg -n 1
cd /test
sh ./steps
poweroff -f
";

/// Boots, runs the steps, and says how each ended.
pub fn run(kernel: &Kernel, programs: &[Program], steps: &[Step<'_>], work: &Path) -> Result<bool> {
    let initrd = pack(kernel, programs, steps, work)?;
    let log = work.join("console.log");
    let mut command = Command::new("qemu-system-aarch64");
    command
        .args(["-M", "virt,virtualization=on,gic-version=3", "-cpu", "max"])
        .args([
            "-smp",
            "2",
            "-m",
            "1024",
            "-nographic",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .args(["-append", "console=ttyAMA0 quiet panic=-1"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd);
    println!("{command:?}");
    let console = fs::File::create(&log)?;
    let mut qemu = command
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .spawn()
        .context("starting qemu-system-aarch64")?;
    let start = Instant::now();
    while qemu.try_wait()?.is_none() {
        if start.elapsed() > TIME_MAX {
            qemu.kill()?;
            qemu.wait()?;
        }
        thread::sleep(Duration::from_millis(200));
    }
    let output = String::from_utf8_lossy(&fs::read(&log)?).replace('\r', "");
    print!("{output}");
    Ok(report(&output, steps, start.elapsed()))
}

/// Prints a line for each step; false if one failed or did not come to its end.
fn report(output: &str, steps: &[Step<'_>], time: Duration) -> bool {
    let mut is_good = true;
    for (step, (good, verdict)) in steps.iter().zip(outcomes(output, steps)) {
        is_good &= good;
        println!("aarch64: {}: {verdict}", step.name);
    }
    println!("aarch64: {} s in the virtual machine", time.as_secs());
    is_good
}

/// Whether each step ended well, and what to say of it.
pub fn outcomes(output: &str, steps: &[Step<'_>]) -> impl Iterator<Item = (bool, String)> {
    steps.iter().enumerate().map(move |(index, step)| {
        let prefix = format!("{STATUS} {index} ");
        let status = output.lines().find_map(|line| line.strip_prefix(&prefix));
        let verdict = match status {
            // The demonstration ends well only if all that was thawed is identical.
            Some("0") if step.command.contains("coldframe demo") => "verdict identical".to_owned(),
            Some("0") => "ok".to_owned(),
            Some(status) => format!("FAILED, exit status {status}"),
            None => "FAILED, did not come to its end".to_owned(),
        };
        (status == Some("0"), verdict)
    })
}

/// An initramfs with busybox, the programs without symbols, and the steps.
fn pack(
    kernel: &Kernel,
    programs: &[Program],
    steps: &[Step<'_>],
    work: &Path,
) -> Result<std::path::PathBuf> {
    let root = work.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for folder in ["bin", "proc", "sys", "dev", "tmp", "test"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(&kernel.busybox, root.join("bin/busybox"))?;
    for program in programs {
        let mut strip = Command::new("aarch64-linux-gnu-strip");
        strip.arg("-o").arg(root.join("test").join(program.name));
        if !strip.arg(&program.path).status()?.success() {
            bail!(
                "aarch64-linux-gnu-strip failed on {}",
                program.path.display()
            );
        }
    }
    let mut script = String::new();
    for (index, step) in steps.iter().enumerate() {
        let (name, command) = (step.name, step.command);
        // Not on the console itself: a progress bar would be drawn there.
        writeln!(script, "echo \"== {name}: {command}\"")?;
        writeln!(script, "({command}) > /tmp/out 2>&1 < /dev/null; status=$?")?;
        writeln!(script, "cat /tmp/out; echo \"{STATUS} {index} $status\"")?;
    }
    fs::write(root.join("test/steps"), script)?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let initrd = work.join("initrd.gz");
    let pipe = format!(
        "find . | cpio --quiet -o -H newc | gzip -1 > '{}'",
        initrd.display()
    );
    let packed = Command::new("sh")
        .args(["-ec", &pipe])
        .current_dir(&root)
        .status()?;
    if !packed.success() {
        bail!("cpio or gzip failed");
    }
    Ok(initrd)
}
