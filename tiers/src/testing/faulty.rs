//! [`Faulty`]: a tier that fails as a test wants it to.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;

use crate::{
    Abilities, Claim, ConfigError, Fill, Found, HoldEnd, Incarnation, Lease, LeaseToken, Progress,
    RemoteTier, TierError,
};

/// What befalls an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not executed, and fails so.
    Error(TierError),
    /// It is executed after so long.
    Delay(Duration),
    /// It is not executed, and never ends.
    Hang,
    /// It is executed, and its answer is lost.
    DropAfterSend,
    /// What it reads is another key's value, or has a bit flipped. Operations that read nothing are
    /// left alone.
    WrongValue,
}

/// When it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// Never.
    Never,
    /// At every operation.
    Always(Fault),
    /// Once: at the operation that so many others precede.
    After(u64, Fault),
    /// At so many operations in a hundred, which the seed picks, together with which of the faults it is.
    Seeded {
        /// Equal seeds and operations give equal faults.
        seed: u64,
        /// 0 to 100.
        percent: u8,
        /// One of them.
        faults: Vec<Fault>,
    },
}

/// A remote tier around another, in whose way faults come as planned. Clones share the plan.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tiered_tiers::{Memory, RemoteTier, TierError, testing::{Fault, Faulty, Plan}};
///
/// let tier = Faulty::new(Memory::new());
/// tier.plan(Plan::After(1, Fault::Error(TierError::Timeout)));
/// assert!(tier.get(b"k").await.is_ok());
/// assert_eq!(tier.get(b"k").await, Err(TierError::Timeout));
/// assert!(tier.get(b"k").await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faulty<T> {
    inner: T,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<(Plan, Rng)>,
    operations: AtomicU64,
    /// The last value that was read, and its key: another key's, for a wrong value.
    seen: Mutex<Option<(Vec<u8>, Bytes)>>,
}

impl<T> Faulty<T> {
    /// A tier that does what `inner` does, until something is planned.
    pub fn new(inner: T) -> Self {
        let shared = Shared {
            plan: Mutex::new((Plan::Never, Rng::with_seed(0))),
            operations: AtomicU64::new(0),
            seen: Mutex::new(None),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    /// From now on this plan holds, and no other.
    pub fn plan(&self, plan: Plan) {
        let seed = if let Plan::Seeded { seed, .. } = plan { seed } else { 0 };
        *lock(&self.shared.plan) = (plan, Rng::with_seed(seed));
    }

    /// Operations so far, failed ones among them.
    pub fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::SeqCst)
    }

    /// The tier within.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The fault of the next operation.
    fn next(&self) -> Option<Fault> {
        self.shared.operations.fetch_add(1, Ordering::SeqCst);
        let mut guard = lock(&self.shared.plan);
        let (plan, random) = &mut *guard;
        match plan {
            Plan::Never => None,
            Plan::Always(fault) => Some(fault.clone()),
            Plan::After(0, fault) => {
                let fault = fault.clone();
                *plan = Plan::Never;
                Some(fault)
            }
            Plan::After(left, _) => {
                *left -= 1;
                None
            }
            Plan::Seeded { percent, faults, .. } => {
                let strikes = random.u8(..100) < *percent;
                let fault = random.choice(faults.iter()).cloned();
                fault.filter(|_| strikes)
            }
        }
    }

    /// Runs an operation under the next fault; says whether what it reads is to be wrong.
    async fn run<R>(
        &self,
        operation: impl Future<Output = Result<R, TierError>>,
    ) -> Result<(R, bool), TierError> {
        match self.next() {
            None => operation.await.map(|read| (read, false)),
            Some(Fault::WrongValue) => operation.await.map(|read| (read, true)),
            Some(Fault::Error(error)) => Err(error),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                operation.await.map(|read| (read, false))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::DropAfterSend) => {
                let _ = operation.await;
                Err(TierError::Unreachable("the answer was lost".into()))
            }
        }
    }

    /// What was found under `key`, or something else.
    fn pass(&self, key: &[u8], found: Option<Found>, is_wrong: bool) -> Option<Found> {
        let mut found = found?;
        let mut seen = lock(&self.shared.seen);
        let own = found.bytes.clone();
        if is_wrong {
            found.bytes = match &*seen {
                Some((other, bytes)) if other != key => bytes.clone(),
                _ => flipped(&own),
            };
        }
        *seen = Some((key.to_vec(), own));
        Some(found)
    }
}

/// The same bytes with the lowest bit of the one in the middle flipped.
fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(0),
    }
    bytes.into()
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<T: RemoteTier> RemoteTier for Faulty<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        let (found, is_wrong) = self.run(self.inner.get(key)).await?;
        Ok(self.pass(key, found, is_wrong))
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let (lease, is_wrong) = self.run(self.inner.lease(key, token, life, claim)).await?;
        Ok(match lease {
            Lease::Granted(found) => Lease::Granted(self.pass(key, found, is_wrong)),
            Lease::Held(found) => Lease::Held(self.pass(key, found, is_wrong)),
            Lease::OnHold => Lease::OnHold,
        })
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.run(self.inner.fill(key, token, bytes, life)).await.map(|(fill, _)| fill)
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.run(self.inner.release(key, token)).await.map(drop)
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.run(self.inner.renew(key, token, life)).await.map(|(stands, _)| stands)
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.run(self.inner.hold(key, token, life)).await.map(drop)
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.run(self.inner.renew_hold(key, token, life)).await.map(|(stood, _)| stood)
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.run(self.inner.end_hold(key, token, lease)).await.map(|(end, _)| end)
    }

    /// As it is: no operation, for it asks nobody as a rule.
    async fn incarnation(&self, key: &[u8]) -> Result<Option<Incarnation>, TierError> {
        self.inner.incarnation(key).await
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.run(self.inner.set(key, bytes, life)).await.map(|(fill, _)| fill)
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        self.run(self.inner.delete(key)).await.map(drop)
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.run(self.inner.clear(prefix, progress)).await.map(drop)
    }

    async fn ping(&self) -> Result<(), TierError> {
        self.run(self.inner.ping()).await.map(drop)
    }

    fn distrust(&self) {
        self.inner.distrust();
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.inner.check()
    }
}
