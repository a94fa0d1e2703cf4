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
        let refused = |condition| {
            // 501: a header is not implemented, and these writes have no other special one.
            move |failure| match failure {
                Failure::Answered { status: 501, .. } => Failure::Unconditional(condition),
                failure => failure,
            }
        };
        let (absent, matching) = ("If-None-Match", "If-Match");
        let created = self.create(path, vec![text(b"first")]).await;
        if !created.map_err(refused(absent))? {
            return Err(Failure::Contended(1));
        }
        let again = self.create(path, vec![text(b"again")]).await;
        if again.map_err(refused(absent))? {
            return Err(Failure::Unconditional(absent));
        }
        let Some(old) = self.head(path).await? else {
            return Err(Failure::Contended(1));
        };
        let swapped = self.swap(path, b"first", text(b"second")).await;
        if !swapped.map_err(refused(matching))? {
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
