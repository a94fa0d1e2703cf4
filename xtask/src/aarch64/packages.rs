//! Debian's arm64 kernel and a static busybox, by apt, without adding an architecture to the
//! system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What the virtual machine boots from.
pub struct Kernel {
    /// The kernel's image.
    pub image: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

/// Finds both in `cache`, or downloads them.
pub fn fetch(cache: &Path) -> Result<Kernel> {
    let root = cache.join("root");
    if let Some(kernel) = find(&root) {
        return Ok(kernel);
    }
    println!(
        "downloading Debian's arm64 kernel and busybox into {}",
        cache.display()
    );
    for folder in ["lists/partial", "apt/archives/partial", "root"] {
        fs::create_dir_all(cache.join(folder))?;
    }
    run(&mut apt(cache, "apt-get", &["update", "-qq"]))?;
    let depends = apt(cache, "apt-cache", &["depends", "linux-image-cloud-arm64"])
        .output()
        .context("starting apt-cache")?;
    let depends = String::from_utf8_lossy(&depends.stdout);
    let image = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image"))
        .context("linux-image-cloud-arm64 depends on no kernel")?;
    run(&mut apt(
        cache,
        "apt-get",
        &["download", "-qq", "busybox-static", image],
    ))?;
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&root))?;
            fs::remove_file(&path)?;
        }
    }
    find(&root).context("the packages hold no kernel or no busybox")
}

fn find(root: &Path) -> Option<Kernel> {
    let boot = fs::read_dir(root.join("boot")).ok()?;
    let mut images = boot.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("vmlinuz-")
    });
    let image = images.next()?;
    // Where Debian puts it has changed.
    let places = ["usr/bin/busybox", "bin/busybox"].map(|place| root.join(place));
    let busybox = places.into_iter().find(|place| place.is_file())?;
    Some(Kernel { image, busybox })
}

/// apt for arm64 alone, with all that it keeps in the cache.
fn apt(cache: &Path, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    let options = [
        "APT::Architecture=arm64".to_owned(),
        "APT::Architectures=arm64".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::State::lists={}", cache.join("lists").display()),
        format!("Dir::Cache={}", cache.join("apt").display()),
    ];
    for option in options {
        command.arg("-o").arg(option);
    }
    command.args(args).current_dir(cache);
    command.env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command.stdin(std::process::Stdio::null()).status();
    let status = status.with_context(|| format!("starting {}", program.display()))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
