//! The clock of the service, which is the only one that leases are told by.
//!
//! Invariant: it is never ahead of the service's: nothing seems older than it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use object_store::{ObjectMeta, ObjectStoreExt as _};

use crate::remote::failure::Failure;
use crate::remote::objects::Objects;

/// The time at the service, as far as its answers tell: never later than it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<(Instant, SystemTime)>>>);

impl Clock {
    /// Learns from an object that was written before now.
    pub fn learn(&self, meta: &ObjectMeta) {
        let written = SystemTime::from(meta.last_modified);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_later = known.is_none_or(|(then, time)| time + then.elapsed() < written);
        if is_later {
            *known = Some((Instant::now(), written));
        }
    }

    pub fn now(&self) -> Option<SystemTime> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.map(|(then, time)| time + then.elapsed())
    }

    /// Asks the service, by writing an object.
    pub async fn ask(&self, objects: &Objects) -> Result<SystemTime, Failure> {
        let path = objects.path("clock");
        let put = || objects.attempt(0, objects.store.put(&path, Bytes::new().into()));
        objects.retried(put).await?;
        let head = || objects.attempt(0, objects.store.head(&path));
        let meta = objects.retried(head).await?;
        Ok(SystemTime::from(meta.last_modified))
    }

    /// How long ago an object was written.
    pub fn age(now: SystemTime, meta: &ObjectMeta) -> Duration {
        let written = SystemTime::from(meta.last_modified);
        now.duration_since(written).unwrap_or_default()
    }
}
