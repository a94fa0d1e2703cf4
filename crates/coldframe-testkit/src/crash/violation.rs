//! What the simulator found: the operations, the cut, and what was wrong after it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// A state that a power cut may leave, and that is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed of the workload: it finds the same again.
    pub seed: u64,
    /// The smallest list of operations that was found, and of how many at first.
    pub steps: (Vec<String>, usize),
    /// When the power was cut, what storage was asked to do before, what of that was lost.
    pub cut: Option<PowerCut>,
    /// What was wrong then.
    pub message: String,
}

/// One power cut.
#[derive(Clone, Debug)]
pub struct PowerCut {
    /// The calls before it.
    pub operations: Vec<String>,
    /// What was asked for and is not on the disk.
    pub losses: Vec<String>,
}

/// So many of the last calls are shown.
const SHOWN: usize = 40;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (steps, before) = &self.steps;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(
            f,
            "smallest list of operations, {} of {before}:",
            steps.len()
        )?;
        for step in steps {
            writeln!(f, "  {step}")?;
        }
        if let Some(cut) = &self.cut {
            let count = cut.operations.len();
            writeln!(f, "power cut behind {count} calls:")?;
            let hidden = count.saturating_sub(SHOWN);
            for (number, operation) in cut.operations.iter().enumerate().skip(hidden) {
                writeln!(f, "  {number}: {operation}")?;
            }
            writeln!(f, "lost:")?;
            for loss in &cut.losses {
                writeln!(f, "  {loss}")?;
            }
        }
        write!(f, "then: {}", self.message)
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; a panic of it is an error that says what and where, and is not printed.
pub(crate) fn attempt<T>(body: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if IS_QUIET.get() {
                let place = info.location().map(ToString::to_string);
                PLACE.replace(place.unwrap_or_default());
            } else {
                loud(info);
            }
        }));
    });
    let was = IS_QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    IS_QUIET.set(was);
    result
}

/// What a panic said, and where.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)");
    PLACE.with_borrow(|place| format!("{message} ({place})"))
}
