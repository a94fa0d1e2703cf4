//! `coldframe disk resize`.

use coldframe_block::{DeviceOptions, Shrink};
use coldframe_units::ByteLen;
use serde::Serialize;

use crate::cli::disk::Resize;
use crate::exit::Failure;
use crate::human::size;
use crate::verbs::disk::advice::Takes;
use crate::verbs::disk::{advice, default_log, failure, open_device};
use crate::{output, store};

#[derive(Serialize)]
struct Resized {
    name: String,
    root: String,
    size_bytes: u64,
    before_bytes: u64,
}

/// Makes the disk so long, and brings what its log has into the store.
pub fn run(args: &Resize) -> Result<(), Failure> {
    let name = &args.which.name;
    let cannot = format!("cannot resize disk {name}");
    let store = store::open(&args.which.store)?;
    let device = open_device(store, &args.which, &args.log, DeviceOptions::USUAL)?;
    let before_bytes = device.size().get();
    let shrink = if args.shrink {
        Shrink::Allow
    } else {
        Shrink::Refuse
    };
    let resized = device.resize(ByteLen::new(args.size), shrink);
    let usual = default_log(&args.which);
    let wal = args.log.wal.as_deref().or(usual.as_deref());
    let failed = |error| failure(advice(&args.which, wal, Takes::Log), &cannot, &error);
    resized.map_err(failed)?;
    let size_bytes = device.size().get();
    let folded = device.close().map_err(failed)?;
    if args.json {
        return output::json(&Resized {
            name: name.to_string(),
            root: folded.root.to_string(),
            size_bytes,
            before_bytes,
        });
    }
    let (now, before) = (size(size_bytes), size(before_bytes));
    output::say(format_args!("{name}: {now}, was {before}"));
    Ok(())
}
