//! Progress bars on a terminal (to standard error), nothing elsewhere.

use std::time::Duration;

use coldframe_snapshot::store::Progress;
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

/// A sign of life for work whose length nobody knows: how long it has taken.
pub fn wait(what: &'static str) -> ProgressBar {
    bar(what, 0, "{spinner} {msg} {elapsed}")
}

/// A bar over the blocks of a push or a pull: bytes, rate, and how much need not be moved.
pub fn transfer(what: &'static str) -> Transfer {
    let template = "{prefix:6} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
    let bar = bar("", 0, template);
    bar.set_prefix(what);
    Transfer(bar)
}

/// See [`transfer`].
pub struct Transfer(ProgressBar);

impl Transfer {
    /// Shows how far it is.
    pub fn show(&self, now: &Progress) {
        self.0.set_length(now.total_bytes);
        self.0.set_position(now.done_bytes);
        let kept = (now.done_bytes - now.moved_bytes) * 100;
        if let Some(percent) = kept.checked_div(now.done_bytes) {
            self.0.set_message(format!("{percent}% dedup"));
        }
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
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
