//! `coldframe disk import` and `coldframe disk export`.

use coldframe_block::{DiskImage, ImportMode, export as write_image, import as read_image};
use coldframe_storage::{Overwrite, PendingFile};
use serde::Serialize;

use crate::cli::disk::{Export, Import};
use crate::exit::Failure;
use crate::human::size;
use crate::verbs::disk::{base, failure};
use crate::{output, progress, store};

#[derive(Serialize)]
struct Imported {
    name: String,
    root: String,
    size_bytes: u64,
    data_bytes: u64,
    chunks_written: u64,
    chunks_deduplicated: u64,
    stored_bytes: u64,
    lazy: bool,
}

#[derive(Serialize)]
struct Exported {
    path: String,
    size_bytes: u64,
    data_bytes: u64,
}

/// A raw image becomes a disk.
pub fn import(args: &Import) -> Result<(), Failure> {
    let cannot = format!("cannot import {}", args.image.display());
    let len = std::fs::metadata(&args.image);
    let len = len
        .map_err(|error| Failure::environment(&cannot, &error))?
        .len();
    let store = store::create(&args.store)?;
    let mode = if args.lazy {
        ImportMode::Lazy
    } else {
        ImportMode::Now
    };
    let bar = progress::bytes("import", len);
    let made = read_image(&store, &args.image, &args.name, mode, &mut |done| {
        bar.inc(done)
    });
    bar.finish_and_clear();
    let made = made.map_err(|error| failure(&cannot, &error))?;
    let imported = Imported {
        name: args.name.to_string(),
        root: made.root.to_string(),
        size_bytes: made.size.get(),
        data_bytes: made.data_bytes,
        chunks_written: made.chunks.written,
        chunks_deduplicated: made.chunks.deduplicated,
        stored_bytes: made.chunks.stored_bytes,
        lazy: args.lazy,
    };
    if args.json {
        return output::json(&imported);
    }
    let (name, all) = (&imported.name, size(imported.size_bytes));
    if args.lazy {
        let image = args.image.display();
        output::say(format_args!(
            "{name}: {all}, read from {image} when it is used"
        ));
    } else {
        let (data, stored) = (size(imported.data_bytes), size(imported.stored_bytes));
        output::say(format_args!(
            "{name}: {all}, {data} of data, {stored} newly stored"
        ));
    }
    Ok(())
}

/// A disk becomes a raw image.
pub fn export(args: &Export) -> Result<(), Failure> {
    let name = &args.which.name;
    let cannot = format!("cannot export disk {name}");
    let store = store::open(&args.which.store)?;
    let image = DiskImage::open(&store, name, base(args.which.base.as_deref())?);
    let image = image.map_err(|error| failure(&cannot, &error))?;
    let path = args.output.display().to_string();
    let cannot_write = format!("cannot write {path}");
    let file = PendingFile::create(&args.output, Overwrite::Refuse);
    let file = file.map_err(|error| Failure::environment(&cannot_write, &error))?;
    let bar = progress::bytes("export", image.size().get());
    let written = write_image(&image, &file, &mut |done| bar.inc(done));
    bar.finish_and_clear();
    let data_bytes = written.map_err(|error| failure(&cannot, &error))?;
    let published = file.publish();
    published.map_err(|error| Failure::environment(&cannot_write, &error))?;
    let size_bytes = image.size().get();
    if args.json {
        return output::json(&Exported {
            path,
            size_bytes,
            data_bytes,
        });
    }
    let (all, data) = (size(size_bytes), size(data_bytes));
    output::say(format_args!("{path}: {all}, {data} of data"));
    Ok(())
}
