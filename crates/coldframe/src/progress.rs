//! Progress bars on a terminal (to standard error), nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` bytes.
pub fn bytes(what: &'static str, total: u64) -> ProgressBar {
    bar(
        what,
        total,
        "{msg:12} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )
}

/// A bar over `total` steps.
pub fn steps(what: &'static str, total: u64) -> ProgressBar {
    bar(what, total, "{msg:12} [{bar:32}] {pos}/{len} {elapsed}")
}

fn bar(what: &'static str, total: u64, template: &str) -> ProgressBar {
    // Hidden by itself unless standard error is a terminal.
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
