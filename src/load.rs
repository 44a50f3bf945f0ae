//! Running a loader: its panic is caught, its time is bounded, its error is kept.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use crate::{
    Error, Key,
    error::LoaderPanicked,
    meter::{LoadResult, Meter},
    request::LoadContext,
    sync::Mutex,
};

/// A loader of any kind. Boxed, so that the walk is compiled once for each value type and not once
/// for each call; the two allocations are paid by misses only.
pub(crate) type Loader<'a, T> = Box<dyn FnOnce(LoadContext) -> Loading<'a, T> + Send + 'a>;
type Loading<'a, T> = Pin<Box<dyn Future<Output = Result<Option<T>, Error>> + Send + 'a>>;

/// What a caller can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A value, or the answer that there is none.
    Any,
    /// A value: a remembered absence counts as nothing.
    Value,
}

pub(crate) fn boxed<'a, T, E, F, Fut>(loader: F) -> Loader<'a, T>
where
    T: 'a,
    E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    F: FnOnce(LoadContext) -> Fut + Send + 'a,
    Fut: Future<Output = Result<Option<T>, E>> + Send + 'a,
{
    Box::new(move |context| Box::pin(async move { loader(context).await.map_err(Error::loader) }))
}

/// A loader of several: called with the places of the keys that are wanted, among those that the call is
/// about. What it does not return does not exist.
pub(crate) type BatchLoader<'a, T> = dyn FnMut(Vec<usize>) -> BatchLoading<'a, T> + Send + 'a;
pub(crate) type BatchLoading<'a, T> =
    Pin<Box<dyn Future<Output = Result<HashMap<Key, T>, Error>> + Send + 'a>>;

/// Runs `loader` to its end, its deadline or its panic.
pub(crate) async fn run<T>(
    loader: Loader<'_, T>,
    context: LoadContext,
    deadline: Option<Duration>,
    meter: &Meter,
) -> Result<Option<T>, Error> {
    // The loader is called inside the future, so a panic on the way to its future is caught too.
    bounded(async { loader(context).await }, deadline, meter, Option::is_some).await
}

/// Runs a batch's `loader` likewise: one load, however many keys it is for.
pub(crate) async fn run_batch<T>(
    loader: &Mutex<&mut BatchLoader<'_, T>>,
    wanted: Vec<usize>,
    deadline: Option<Duration>,
    meter: &Meter,
) -> Result<HashMap<Key, T>, Error> {
    // Called and not awaited under the lock: two loads of one batch may run at once.
    let loading = async {
        let loading = (*loader.lock())(wanted);
        loading.await
    };
    bounded(loading, deadline, meter, |found| !found.is_empty()).await
}

async fn bounded<R>(
    loading: impl Future<Output = Result<R, Error>>,
    deadline: Option<Duration>,
    meter: &Meter,
    has_values: impl FnOnce(&R) -> bool,
) -> Result<R, Error> {
    let start = Instant::now();
    // Unwind safety: after a panic nothing of the loader is used again.
    let loading = AssertUnwindSafe(loading).catch_unwind();
    let ended = match deadline {
        None => Some(loading.await),
        Some(deadline) => tokio::time::timeout(deadline, loading).await.ok(),
    };
    let (result, seen) = match ended {
        None => (Err(Error::Timeout(deadline.unwrap_or_default())), LoadResult::Timeout),
        Some(Err(panic)) => {
            let panicked = LoaderPanicked::from_payload(&*panic);
            tracing::error!(message = %panicked.message, "a loader panicked");
            (Err(Error::loader(panicked)), LoadResult::Panic)
        }
        Some(Ok(Err(error))) => (Err(error), LoadResult::Error),
        Some(Ok(Ok(found))) => {
            let seen = if has_values(&found) { LoadResult::Value } else { LoadResult::Absent };
            (Ok(found), seen)
        }
    };
    meter.load(seen, start.elapsed());
    result
}
