//! `coldframe disk import` and `coldframe disk export`.

use coldframe_block::{
    BaseFile, BlockError, ImportMode, ImportOptions, export_view as write_view,
    import as read_image,
};
use coldframe_storage::{Overwrite, PendingFile};
use serde::Serialize;

use crate::cli::disk::{Export, Import};
use crate::exit::Failure;
use crate::human::size;
use crate::search::check_output;
use crate::verbs::disk::advice::{Advice, Takes};
use crate::verbs::disk::{advice, failure, open_view};
use crate::verbs::rm::sweep_beside;
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
    /// The log whose changes are in it.
    log: Option<String>,
}

/// A raw image becomes a disk.
pub fn import(args: &Import) -> Result<(), Failure> {
    let cannot = format!("cannot import {}", args.image.display());
    let advice = Advice {
        store: &args.store,
        disk: args.name.as_str(),
        wal: None,
        takes: Takes::Nothing,
    };
    let len = image_len(args).map_err(|error| failure(advice, &cannot, &error))?;
    let store = store::create(&args.store)?;
    let mode = if args.lazy {
        ImportMode::Lazy
    } else {
        ImportMode::Now
    };
    let bar = progress::bytes("import", len);
    let options = ImportOptions {
        mode,
        as_raw: args.raw,
        overwrite: if args.replace {
            Overwrite::Replace
        } else {
            Overwrite::Refuse
        },
    };
    let made = read_image(&store, &args.image, &args.name, options, &mut |done| {
        bar.inc(done)
    });
    bar.finish_and_clear();
    let made = made.map_err(|error| import_failure(advice, &cannot, &error))?;
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

/// How long the image is; before a store is made for what cannot be read.
fn image_len(args: &Import) -> Result<u64, BlockError> {
    BaseFile::open(&args.image).map(|image| image.size().get())
}

/// What is no raw image has a way to become one.
fn import_failure(advice: Advice<'_>, cannot: &str, error: &BlockError) -> Failure {
    match error {
        BlockError::NotRaw { format, .. } => {
            let (text, way) = (crate::exit::line(cannot, error), format.way_out());
            Failure::Usage(format!("{text}; {way}, or take its bytes with --raw"))
        }
        BlockError::Exists { .. } => {
            let text = crate::exit::line(cannot, error);
            Failure::Usage(format!("{text}; overwrite it with --replace"))
        }
        error => failure(advice, cannot, error),
    }
}

/// A disk becomes a raw image.
pub fn export(args: &Export) -> Result<(), Failure> {
    check_output(&args.output)?;
    let name = &args.which.name;
    let cannot = format!("cannot export disk {name}");
    let store = store::open_with(&args.which.store, &args.cache)?;
    let view = open_view(&store, &args.which, args.wal.as_deref(), &args.read_log)?;
    let size_bytes = view.size().get();
    let log = view.log().map(|path| path.display().to_string());
    let path = args.output.display().to_string();
    let cannot_write = format!("cannot write {path}");
    let file = PendingFile::create(&args.output, Overwrite::Refuse);
    let file = file.map_err(|error| Failure::environment(&cannot_write, &error))?;
    let bar = progress::bytes("export", size_bytes);
    let written = write_view(&view, &file, &mut |done| bar.inc(done));
    bar.finish_and_clear();
    let advice = advice(&args.which, args.wal.as_deref(), Takes::ReadLog);
    let data_bytes = written.map_err(|error| failure(advice, &cannot, &error))?;
    let published = file.publish();
    published.map_err(|error| Failure::environment(&cannot_write, &error))?;
    sweep_beside(&args.output);
    if args.json {
        return output::json(&Exported {
            path,
            size_bytes,
            data_bytes,
            log,
        });
    }
    let (all, data) = (size(size_bytes), size(data_bytes));
    let with = log.map_or(String::new(), |log| format!(", with the changes in {log}"));
    output::say(format_args!("{path}: {all}, {data} of data{with}"));
    Ok(())
}
