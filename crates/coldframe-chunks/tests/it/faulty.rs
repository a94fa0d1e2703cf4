//! Object storage that fails on order: what a service, or the way to it, does wrong.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use coldframe_chunks::{AnyBackend, Options, PackStore, Remote, RemoteOptions};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use crate::places::QUICK;
use crate::support::OPTIONS;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 or 503, and nothing was done.
    Refused,
    /// It was done, and the answer is lost.
    LostAnswer,
    /// 404.
    NotFound,
    /// 403.
    Denied,
    /// 409 or 412, and nothing was done.
    Conflict,
    /// The answer comes after so long.
    Slow(Duration),
    /// The body ends in the middle.
    Cut,
    /// One bit of the body is another.
    Flipped,
    /// The body is a text about an error.
    ErrorBody,
    /// Half of the range that was asked for, and said so.
    ShortRange,
    /// Another range of the same length.
    OtherRange,
    /// Half of a list is left out.
    PartialList,
    /// The client library panics over the answer.
    Panics,
}

/// What is asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    Head,
    Put,
    List,
    Delete,
    Part,
    Complete,
}

#[derive(Debug)]
struct Order {
    /// Calls to let pass before.
    skip: u64,
    /// Calls to spoil then.
    times: u64,
    call: Option<Call>,
    within: &'static str,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    orders: Vec<Order>,
    calls: Vec<(Call, String)>,
}

/// Clones are the same service.
#[derive(Clone, Debug, Default)]
pub struct Faulty {
    pub inner: Arc<InMemory>,
    /// Uploads in parts take no metadata, as those of Azure.
    parts_are_plain: bool,
    state: Arc<Mutex<State>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    /// One that takes no metadata with an upload in parts.
    pub fn with_plain_parts() -> Self {
        Self {
            parts_are_plain: true,
            ..Self::default()
        }
    }

    /// What a process that starts now sees.
    pub fn backend(&self, options: RemoteOptions) -> AnyBackend {
        let (store, parts) = (Arc::new(self.clone()), Some(Arc::new(self.clone()) as _));
        AnyBackend::new(Remote::new(store, parts, "memory://", "p", options).unwrap())
    }

    pub fn store(&self) -> PackStore<AnyBackend> {
        self.store_with(QUICK, OPTIONS)
    }

    pub fn store_with(&self, remote: RemoteOptions, options: Options) -> PackStore<AnyBackend> {
        PackStore::create_at(self.backend(remote), options).unwrap()
    }

    /// Spoils the next `times` of these calls on objects whose path has `within`.
    pub fn spoil(&self, call: Call, within: &'static str, times: u64, fault: Fault) {
        self.order(0, times, Some(call), within, fault);
    }

    /// Spoils all of these calls but the first.
    pub fn spoil_after_first(&self, call: Call, within: &'static str, fault: Fault) {
        self.order(1, u64::MAX, Some(call), within, fault);
    }

    /// Spoils one call of whatever kind, the `nth` from now on.
    pub fn spoil_nth(&self, nth: u64, fault: Fault) {
        self.order(nth - 1, 1, None, "", fault);
    }

    fn order(&self, skip: u64, times: u64, call: Option<Call>, within: &'static str, fault: Fault) {
        self.state.lock().unwrap().orders.push(Order {
            skip,
            times,
            call,
            within,
            fault,
        });
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().orders.clear();
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls.len() as u64
    }

    pub fn count(&self, call: Call, within: &str) -> usize {
        let state = self.state.lock().unwrap();
        let calls = state.calls.iter();
        calls
            .filter(|(made, path)| *made == call && path.contains(within))
            .count()
    }

    fn enter(&self, call: Call, path: &Path) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.calls.push((call, path.to_string()));
        let order = state.orders.iter_mut().find(|order| {
            let is_meant = order.call.is_none_or(|meant| meant == call);
            order.times > 0 && is_meant && path.as_ref().contains(order.within)
        })?;
        if order.skip > 0 {
            order.skip -= 1;
            return None;
        }
        order.times -= 1;
        Some(order.fault)
    }

    /// Lets the call through, or not, as the fault says.
    async fn with<T>(
        &self,
        call: Call,
        path: &Path,
        done: impl Future<Output = Result<T>>,
    ) -> Result<(T, Option<Fault>)> {
        let fault = self.enter(call, path);
        match fault {
            Some(Fault::Refused) => return Err(generic("503 Slow Down")),
            Some(Fault::Panics) => panic!("an answer that names another key"),
            Some(Fault::NotFound) => {
                let (path, source) = (path.to_string(), "404".into());
                return Err(Error::NotFound { path, source });
            }
            Some(Fault::Denied) => {
                let (path, source) = (path.to_string(), "403".into());
                return Err(Error::PermissionDenied { path, source });
            }
            Some(Fault::Conflict) => {
                let (path, source) = (path.to_string(), "409".into());
                return Err(Error::AlreadyExists { path, source });
            }
            Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
            _ => {}
        }
        let done = done.await?;
        match fault {
            Some(Fault::LostAnswer) => Err(generic("connection reset by peer")),
            fault => Ok((done, fault)),
        }
    }
}

fn generic(text: &'static str) -> Error {
    let (store, source) = ("Faulty", text.into());
    Error::Generic { store, source }
}

async fn spoiled(mut result: GetResult, fault: Option<Fault>) -> Result<GetResult> {
    let Some(fault) = fault else {
        return Ok(result);
    };
    let (meta, range, attributes) = (
        result.meta.clone(),
        result.range.clone(),
        result.attributes.clone(),
    );
    let extensions = std::mem::take(&mut result.extensions);
    let mut range = range;
    let mut body = result.bytes().await?.to_vec();
    match fault {
        Fault::Cut => body.truncate(body.len() / 2),
        Fault::Flipped => {
            let middle = body.len() / 2;
            if let Some(byte) = body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Fault::ErrorBody => body = b"<Error><Code>InternalError</Code></Error>".to_vec(),
        Fault::ShortRange => {
            body.truncate(body.len() / 2);
            range.end = range.start + body.len() as u64;
        }
        Fault::OtherRange => range = range.start + 1..range.end + 1,
        _ => {}
    }
    let body = Bytes::from(body);
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream::once(async { Ok(body) }).boxed()),
        meta,
        range,
        attributes,
        extensions,
    })
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts);
        Ok(self.with(Call::Put, location, put).await?.0)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let call = if options.head { Call::Head } else { Call::Get };
        let get = self.inner.get_opts(location, options);
        let (result, fault) = self.with(call, location, get).await?;
        match call {
            Call::Get => spoiled(result, fault).await,
            _ => Ok(result),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = locations.then(move |path| {
            let this = this.clone();
            async move {
                let path = path?;
                let one = stream::once(std::future::ready(Ok(path.clone()))).boxed();
                let delete = async { this.inner.delete_stream(one).next().await.unwrap() };
                Ok(this.with(Call::Delete, &path, delete).await?.0)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move {
            let list = async {
                let found = this.inner.list(Some(&prefix)).collect::<Vec<_>>().await;
                Ok(found)
            };
            let mut found = match this.with(Call::List, &prefix, list).await {
                Err(error) => vec![Err(error)],
                Ok((mut found, Some(Fault::PartialList | Fault::Cut))) => {
                    found.truncate(found.len() / 2);
                    found
                }
                Ok((found, _)) => found,
            };
            found.reverse();
            stream::iter(found)
        };
        stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let begun = self.inner.create_multipart(path);
        Ok(self.with(Call::Part, path, begun).await?.0)
    }

    async fn create_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<MultipartId> {
        if self.parts_are_plain && !opts.attributes.is_empty() {
            let source = "metadata of an upload in parts".into();
            return Err(Error::NotSupported { source });
        }
        let begun = self.inner.create_multipart_opts(path, opts);
        Ok(self.with(Call::Part, path, begun).await?.0)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let put = self.inner.put_part(path, id, part_idx, data);
        Ok(self.with(Call::Part, path, put).await?.0)
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let completed = self.inner.complete_multipart(path, id, parts);
        Ok(self.with(Call::Complete, path, completed).await?.0)
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let aborted = self.inner.abort_multipart(path, id);
        self.with(Call::Part, path, aborted).await.map(|_| ())
    }
}
