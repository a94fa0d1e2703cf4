//! What the user is told while a verb runs: a line on standard error for what takes unexpectedly
//! long or is left undone, whatever `COLDFRAME_LOG` says.

use std::fmt::{self, Write as _};

use coldframe_chunks::RETRYING;
use coldframe_snapshot::CHILD_NOT_NOTED;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::complain;

/// A layer that prints the events which are for the user.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let is_notice =
        |metadata: &Metadata<'_>| [RETRYING, CHILD_NOT_NOTED].contains(&metadata.target());
    Notices.with_filter(filter_fn(is_notice))
}

struct Notices;

impl<S: Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        complain(&message.0);
    }
}

/// The message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
