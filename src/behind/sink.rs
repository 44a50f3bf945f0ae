//! Where the values go: a sink takes a batch, and says what of it failed.

use std::{any::Any, collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

/// Writes values to the database, a batch at a time.
///
/// Implement it as an `async fn`; its future must be `Send`. A closure that takes the batch is one too.
///
/// A batch holds each key once. It may come again, whole or in part, after it failed, and after a write of
/// which nobody knows the end: write so that the same value twice is as good as once (an upsert).
/// A write that takes longer than
/// [`write_timeout`](super::WriteBehindBuilder::write_timeout) is dropped and counts as failed. If the database
/// goes on with it nevertheless, it may overtake the next one: give it a statement timeout of its own, a
/// shorter one.
pub trait WriteSink<K, V>: Send + Sync + 'static {
    /// Writes the batch, all of it unless it says otherwise.
    ///
    /// # Errors
    /// [`Failed`], with what failed. The `?` of any error says that all of it did.
    fn write(&self, batch: Vec<(K, Arc<V>)>) -> impl Future<Output = Result<(), Failed>> + Send;
}

impl<F, Fut, E, K, V> WriteSink<K, V> for F
where
    F: Fn(Vec<(K, Arc<V>)>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<Failed>,
    K: Send,
    V: Send + Sync,
{
    fn write(&self, batch: Vec<(K, Arc<V>)>) -> impl Future<Output = Result<(), Failed>> + Send {
        let writing = self(batch);
        async move { writing.await.map_err(Into::into) }
    }
}

/// A sink of any kind, so that a handle need not name its type.
pub(super) trait AnySink<K, V>: Send + Sync {
    fn write_boxed(&self, batch: Vec<(K, Arc<V>)>) -> Writing<'_>;
}

type Writing<'a> = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send + 'a>>;

impl<K: Send + 'static, V: Send + Sync + 'static, S: WriteSink<K, V>> AnySink<K, V> for S {
    fn write_boxed(&self, batch: Vec<(K, Arc<V>)>) -> Writing<'_> {
        Box::pin(self.write(batch))
    }
}

/// What a sink says of a batch that it did not write, or not all of.
///
/// ```
/// use tiered::Failed;
///
/// let all = Failed::all("the connection broke");
/// let two = Failed::at([3, 7], "locked").and(Failed::at([5], "no such account").for_good());
/// # let _ = (all, two);
/// ```
#[derive(Debug)]
pub struct Failed {
    all: Option<Cause>,
    at: HashMap<usize, Cause>,
}

/// Why something was not written.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) error: SinkError,
    pub(super) is_final: bool,
}

impl Failed {
    /// Nothing of the batch was written.
    pub fn all<E>(error: E) -> Self
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        let cause = Cause { error: SinkError::new(error), is_final: false };
        Self { all: Some(cause), at: HashMap::new() }
    }

    /// Those at these places of the batch, the first being 0, were not written; the others were.
    pub fn at<E>(places: impl IntoIterator<Item = usize>, error: E) -> Self
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        let cause = Cause { error: SinkError::new(error), is_final: false };
        let at = places.into_iter().map(|place| (place, cause.clone())).collect();
        Self { all: None, at }
    }

    /// To try again would not help: what failed is lost, and reported, at once.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        self.all.iter_mut().chain(self.at.values_mut()).for_each(|cause| cause.is_final = true);
        self
    }

    /// Both. Of a place that both name, the second counts.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.at.extend(other.at);
        self.all = other.all.or(self.all);
        self
    }

    /// Why the entry at a place was not written; `None` if it was.
    pub(super) fn cause(&self, place: usize) -> Option<&Cause> {
        self.at.get(&place).or(self.all.as_ref())
    }
}

impl<E> From<E> for Failed
where
    E: fmt::Display + fmt::Debug + Send + Sync + 'static,
{
    fn from(error: E) -> Self {
        Self::all(error)
    }
}

/// The sink's own error, as the value it was. Its `Display` is that error's own.
#[derive(Clone)]
pub struct SinkError {
    text: Arc<str>,
    value: Arc<dyn Any + Send + Sync>,
}

impl SinkError {
    fn new<E>(error: E) -> Self
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        Self { text: format!("{error:#}").into(), value: Arc::new(error) }
    }

    /// Whether both are clones of one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }

    /// The error, if it is one of type `E`.
    #[must_use]
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        self.value.downcast_ref()
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SinkError").field(&self.text).finish()
    }
}

impl std::error::Error for SinkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sink_says_of_a_place_goes_before_what_it_says_of_all() {
        let failed = Failed::all("all").and(Failed::at([1], "one").for_good());
        let said =
            |place| failed.cause(place).map(|cause| (cause.error.to_string(), cause.is_final));
        assert_eq!(said(0), Some(("all".into(), false)));
        assert_eq!(said(1), Some(("one".into(), true)));
        let failed = Failed::at([1], "one");
        assert!(failed.cause(0).is_none() && failed.cause(1).is_some());
    }

    #[test]
    fn an_error_comes_back_as_the_value_it_was() {
        let failed: Failed = std::io::Error::other("disk").into();
        let error = &failed.cause(9).unwrap().error;
        assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "disk");
    }
}
