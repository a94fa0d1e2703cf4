//! `coldframe disk serve`: an NBD server in the foreground.

use std::sync::{Arc, Mutex};

use coldframe_block::{DeviceOptions, DiskView};
use coldframe_nbd::{NbdError, NbdServer};
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;

use crate::cli::disk::Serve;
use crate::exit::Failure;
use crate::human::size;
use crate::verbs::disk::access::Access;
use crate::verbs::disk::advice::Takes;
use crate::verbs::disk::{Device, advice, control, failure, open_device, open_view};
use crate::{output, store};

#[derive(Serialize)]
struct Serving {
    name: String,
    uri: String,
    size_bytes: u64,
    read_only: bool,
}

/// Serves until told to stop.
pub fn run(args: &Serve) -> Result<(), Failure> {
    // Before any thread starts: all of them leave these signals to this one.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    let blocked = signals.thread_block();
    blocked.map_err(|error| Failure::environment("cannot block signals", &error))?;
    let access = Access::prepare(args)?;
    let mut store = store::open_with_memory(&args.which.store, args.cache_size)?;
    if let Some(dir) = &args.cache {
        store = store::with_cache(store, dir, args.cache_dir_size)?;
    }
    if args.read_only {
        let name = &args.which.name;
        let view = open_view(&store, &args.which, args.log.wal.as_deref(), &args.read_log)?;
        let size_bytes = view.size().get();
        let server = match view {
            DiskView::Stored(image) => NbdServer::named(name.as_str(), image),
            DiskView::Logged(disk) => NbdServer::named(name.as_str(), *disk),
        };
        let server = access.guard(server.map_err(cannot_serve)?);
        return serve(args, server, size_bytes, &signals);
    }
    if args.read_log.without_log {
        let text = "--without-log needs --read-only: what is written goes on top of the log";
        return Err(Failure::Usage(text.to_owned()));
    }
    let options = DeviceOptions {
        dirty_bytes_max: args.dirty_size.max(1 << 20),
        ..DeviceOptions::USUAL
    };
    let device = Arc::new(open_device(store, &args.which, &args.log, options)?);
    serve_device(args, &access, device, &signals)
}

fn serve_device(
    args: &Serve,
    access: &Access,
    device: Arc<Device>,
    signals: &SigSet,
) -> Result<(), Failure> {
    let name = &args.which.name;
    let server = NbdServer::named(name.as_str(), Arc::clone(&device)).map_err(cannot_serve)?;
    let server = access.guard(server);
    let size_bytes = device.size().get();
    let shared = Arc::new(Mutex::new(Some(Arc::clone(&device))));
    let socket = match &args.control {
        Some(path) => {
            let store = args.which.store.clone();
            Some(control::start(path, Arc::clone(&shared), store)?)
        }
        None => None,
    };
    let served = serve(args, server, size_bytes, signals);
    drop(socket);
    // Waits for a checkpoint that is being made.
    drop(
        shared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take(),
    );
    let Some(device) = Arc::into_inner(device) else {
        return served;
    };
    let closed = device.close().map_err(|error| {
        let kept = "all that was flushed is in the log";
        failure(
            advice(&args.which, args.log.wal.as_deref(), Takes::Log),
            format!("cannot bring disk {name} into the store, {kept}"),
            &error,
        )
    });
    served.and(closed.map(drop))
}

/// Listens, says so, waits for a signal, and stops.
fn serve(
    args: &Serve,
    server: NbdServer,
    size_bytes: u64,
    signals: &SigSet,
) -> Result<(), Failure> {
    let handle = server.listen(args.listen.clone()).map_err(cannot_serve)?;
    let serving = Serving {
        name: args.which.name.to_string(),
        uri: handle.uri(args.which.name.as_str()),
        size_bytes,
        read_only: args.read_only,
    };
    if args.json {
        output::json(&serving)?;
    } else {
        let (name, uri, all) = (&serving.name, &serving.uri, size(size_bytes));
        let how = match args.read_only {
            true => ", read-only",
            false => ", read-write",
        };
        output::say(format_args!("{name}: {all}{how} at {uri}"));
    }
    let signal = signals.wait();
    let signal = signal.map_err(|error| Failure::environment("cannot wait for signals", &error))?;
    tracing::info!(%signal, "stopping");
    crate::signals::end_by_the_next(*signals)?;
    handle.stop().map_err(cannot_serve)
}

fn cannot_serve(error: NbdError) -> Failure {
    let what = "cannot serve";
    match error {
        NbdError::Address { .. }
        | NbdError::NotLoopback { .. }
        | NbdError::SocketPath { .. }
        | NbdError::NotASocket { .. } => Failure::usage(what, &error),
        error => Failure::environment(what, &error),
    }
}
