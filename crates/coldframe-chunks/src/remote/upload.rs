//! Large objects, in parts that are sent side by side; and what is left of uploads whose process
//! died.
//!
//! Invariants: an object appears when its upload is completed, and not before. An upload is put
//! down in an object of its own before its first part is sent, so that it can be found without the
//! service listing it. No service completes an upload only if the name is free: such names are
//! random and never used twice, and one that is taken is seen before.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::Error::{NotImplemented, NotSupported};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{Attributes, ObjectMeta, PutMultipartOptions};

use crate::remote::clock::Clock;
use crate::remote::failure::Failure;
use crate::remote::objects::{Author, MultipartStore, Objects, absent, marked, new_mark};
use crate::remote::probe::PROBES;

/// The most bytes of an upload's record.
const RECORD_MAX: u64 = 64 << 10;

/// An upload that was begun.
struct Upload {
    store: MultipartStore,
    path: Path,
    id: String,
    mark: String,
}

impl Objects {
    /// Makes a large object that must not be there yet; `false` if it is.
    pub async fn upload(&self, name: &str, parts: Vec<Bytes>) -> Result<bool, Failure> {
        let path = self.path(name);
        let Some(store) = self.multipart.clone() else {
            return self.create(&path, parts).await;
        };
        if self.head(&path).await?.is_some() {
            return Ok(false);
        }
        let mark = new_mark()?;
        let begin = |attributes: Attributes| {
            let options = PutMultipartOptions {
                attributes,
                ..PutMultipartOptions::default()
            };
            self.attempt(0, store.create_multipart_opts(&path, options))
        };
        let id = match self.retried(|| begin(marked(&mark))).await {
            // Azure takes no metadata here: then the bytes tell whose the object is.
            Err(Failure::Service(NotSupported { .. } | NotImplemented { .. })) => {
                self.retried(|| begin(Attributes::new())).await?
            }
            id => id?,
        };
        let record = self.path(&format!("uploads/{mark}"));
        let text = format!("{name}\n{id}\n");
        self.create(&record, vec![Bytes::from(text)]).await?;
        let upload = Upload {
            store,
            path,
            id,
            mark,
        };
        let limit = self.options.abandoned_after / 2;
        let done = match tokio::time::timeout(limit, self.send(&upload, parts)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::TimedOut(limit)),
        };
        if done.is_err() {
            let aborted = upload.store.abort_multipart(&upload.path, &upload.id);
            if let Err(failure) = self.attempt(0, aborted).await {
                // The record stays, and with it the work for the sweep.
                tracing::warn!(object = %upload.path, %failure, "upload left behind");
                return done;
            }
        }
        if let Err(failure) = self.delete(&record).await {
            tracing::warn!(object = %record, %failure, "record of an upload left behind");
        }
        done
    }

    async fn send(&self, upload: &Upload, parts: Vec<Bytes>) -> Result<bool, Failure> {
        let (store, path, id) = (&upload.store, &upload.path, &upload.id);
        let sent = parts.iter().enumerate().map(|(number, part)| {
            let once = move || {
                let payload = part.clone().into();
                self.attempt(part.len() as u64, store.put_part(path, id, number, payload))
            };
            self.retried(once)
        });
        let sent = futures_util::stream::iter(sent.collect::<Vec<_>>());
        let sent = sent.buffered(self.options.parts_at_once.max(1));
        let ids: Vec<PartId> = sent.try_collect().await?;
        let mut tries = self.tries();
        loop {
            let complete = store.complete_multipart(path, id, ids.clone());
            let failure = match self.attempt(0, complete).await {
                Ok(_) => return Ok(true),
                Err(failure) => failure,
            };
            // A try whose answer was lost has completed it, and the upload is no more.
            match self.author(path, &upload.mark, &parts).await? {
                Author::Ours => return Ok(true),
                Author::Other => return Ok(false),
                Author::Nobody if failure.is_transient() => tries.again(failure).await?,
                Author::Nobody => return Err(failure),
            }
        }
    }

    /// Aborts uploads of processes that died, and returns how many.
    pub async fn sweep(&self, clock: &Clock) -> Result<u64, Failure> {
        let probes = self.list(PROBES).await?;
        if !probes.is_empty() {
            let now = clock.ask(self).await?;
            let is_old = |meta: &&ObjectMeta| Clock::age(now, meta) >= self.options.abandoned_after;
            for meta in probes.iter().filter(is_old) {
                self.delete(&meta.location).await?;
            }
        }
        let Some(store) = self.multipart.clone() else {
            return Ok(0);
        };
        let records = self.list("uploads").await?;
        if records.is_empty() {
            return Ok(0);
        }
        let now = clock.ask(self).await?;
        let mut count = 0;
        for meta in records {
            let age = Clock::age(now, &meta);
            if age < self.options.abandoned_after {
                continue;
            }
            let Some(record) = self.whole(&meta.location, RECORD_MAX).await? else {
                continue;
            };
            let text = String::from_utf8_lossy(&record.bytes).into_owned();
            if let Some((name, id)) = parse(&text) {
                let (store, path) = (Arc::clone(&store), self.path(name));
                let id = id.to_owned();
                let aborted = self.retried(|| self.attempt(0, store.abort_multipart(&path, &id)));
                if let Err(failure) = absent(aborted.await) {
                    tracing::warn!(object = %path, %failure, "upload left behind");
                    continue;
                }
            }
            self.delete(&meta.location).await?;
            count += 1;
        }
        Ok(count)
    }
}

fn parse(record: &str) -> Option<(&str, &str)> {
    let mut lines = record.lines();
    let (name, id) = (lines.next()?, lines.next()?);
    // Whatever the record says, only packs and files of ours are ever sent in parts.
    let is_ours = name.starts_with("packs/") || name.starts_with("roots/");
    (is_ours && lines.next().is_none()).then_some((name, id))
}
