//! Whether the service honours conditional writes: without them, two writers overwrite each other
//! and both are told that they succeeded.
//!
//! Invariant: a probe is an object of a random name, removed again whatever it found; what a
//! process that died leaves is swept by the collector.

use bytes::Bytes;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::remote::failure::Failure;
use crate::remote::objects::{Objects, new_mark};

/// The folder of probes.
pub(crate) const PROBES: &str = "probes";

impl Objects {
    /// Creates an object twice, swaps it, and swaps it once more over its old version: the second
    /// and the last must be refused.
    pub async fn probe(&self) -> Result<(), Failure> {
        let path = self.path(&format!("{PROBES}/{}", new_mark()?));
        let done = self.probe_at(&path).await;
        if let Err(failure) = self.delete(&path).await {
            tracing::warn!(object = %path, %failure, "probe left behind");
        }
        done
    }

    async fn probe_at(&self, path: &Path) -> Result<(), Failure> {
        let text = |text: &'static [u8]| Bytes::from_static(text);
        let (absent, matching) = ("If-None-Match", "If-Match");
        if !self.create(path, vec![text(b"first")]).await? {
            return Err(Failure::Contended(1));
        }
        if self.create(path, vec![text(b"again")]).await? {
            return Err(Failure::Unconditional(absent));
        }
        let old = self.written(path).await?;
        if !self.swap(path, b"first", text(b"second")).await? {
            return Err(Failure::Unconditional(absent));
        }
        let once = || self.overwrite(path, &old);
        match self.retried(once).await {
            Ok(()) => Err(Failure::Unconditional(matching)),
            Err(failure) if failure.is_refused() => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn overwrite(&self, path: &Path, old: &ObjectMeta) -> Result<(), Failure> {
        let new = Bytes::from_static(b"third");
        self.update(path, old, new, &new_mark()?).await.map(drop)
    }
}
