//! [`FaultyBus`]: a bus that loses messages, and more, as a test wants it to.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use tokio::sync::watch;

use crate::{Bus, BusPolled, ConfigError, LogName, TierError, protocol::Position};

/// What befalls the operations of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusFault {
    /// It is not executed, and fails so.
    Error(TierError),
    /// It is executed after so long.
    Delay(Duration),
    /// It waits until this fault is gone, and is executed then.
    Hang,
    /// It is executed, and its answer is lost.
    DropAfterSend,
    /// Each message vanishes out of a poll's answer with this chance in a hundred; the head is the true one.
    LoseMessages(u8),
    /// A poll's answer holds nothing but the true head.
    LoseAll,
    /// An append is answered and not made. Nobody can notice it.
    LoseAppends,
    /// A poll is answered with what the one before it brought, as by a connection that mixes its answers up. Where
    /// that was nothing, nobody can notice it.
    RepeatAnswers,
}

/// A bus around another, whose operations have faults. Clones share them. What is left to chance is drawn from a
/// seed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tiered_tiers::{Bus, LocalBus, LogName, TierError, testing::{BusFault, FaultyBus}};
///
/// let bus = FaultyBus::seeded(LocalBus::new(), 7);
/// let log = LogName { topic: "shop", index: 0 };
/// bus.inject(BusFault::Error(TierError::Timeout));
/// assert!(bus.open(log).await.is_err());
/// bus.heal();
/// assert!(bus.open(log).await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FaultyBus<B> {
    inner: B,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What happens, and to how many operations in a hundred.
    fault: watch::Sender<Option<(BusFault, u8)>>,
    random: Mutex<Rng>,
    operations: AtomicU64,
    lost: AtomicU64,
    /// What the last poll of each log brought.
    before: Mutex<HashMap<(String, usize), BusPolled>>,
}

impl<B> FaultyBus<B> {
    /// A bus that does what `inner` does, until a fault is injected; with a random seed.
    pub fn new(inner: B) -> Self {
        Self::seeded(inner, fastrand::u64(..))
    }

    /// The same, which draws from `seed`.
    pub fn seeded(inner: B, seed: u64) -> Self {
        let shared = Shared {
            fault: watch::channel(None).0,
            random: Mutex::new(Rng::with_seed(seed)),
            operations: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            before: Mutex::default(),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    /// From now on this happens to every operation, until another fault or [`heal`](Self::heal).
    pub fn inject(&self, fault: BusFault) {
        self.inject_some(fault, 100);
    }

    /// The same, to so many operations in a hundred.
    pub fn inject_some(&self, fault: BusFault, percent: u8) {
        self.shared.fault.send_replace(Some((fault, percent)));
    }

    /// From now on nothing happens; what hangs goes on.
    pub fn heal(&self) {
        self.shared.fault.send_replace(None);
    }

    /// Operations so far, failed ones among them.
    pub fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::SeqCst)
    }

    /// Messages that were lost so far, in appends or on the way to a reader; those that another poll brought included.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// The bus within.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The fault of the next operation.
    fn next(&self) -> Option<BusFault> {
        self.shared.operations.fetch_add(1, Ordering::SeqCst);
        let (fault, percent) = self.shared.fault.borrow().clone()?;
        (lock(&self.shared.random).u8(..100) < percent).then_some(fault)
    }

    /// Runs an operation under a fault, as far as that is one of operations of any kind.
    async fn run<R>(
        &self,
        fault: Option<BusFault>,
        operation: impl Future<Output = Result<R, TierError>>,
    ) -> Result<R, TierError> {
        match fault {
            Some(BusFault::Error(error)) => Err(error),
            Some(BusFault::Delay(time)) => {
                tokio::time::sleep(time).await;
                operation.await
            }
            Some(BusFault::Hang) => {
                let mut watched = self.shared.fault.subscribe();
                let is_over = |now: &Option<_>| !matches!(now, Some((BusFault::Hang, _)));
                let _ = watched.wait_for(is_over).await;
                operation.await
            }
            Some(BusFault::DropAfterSend) => {
                let _ = operation.await;
                Err(TierError::Unreachable("the answer was lost".into()))
            }
            _ => operation.await,
        }
    }

    /// What is left of a poll's answer, or what comes instead.
    fn pass(&self, log: LogName<'_>, fault: Option<BusFault>, polled: BusPolled) -> BusPolled {
        let before =
            lock(&self.shared.before).insert((log.topic.to_owned(), log.index), polled.clone());
        let (was, mut polled) = (polled.links.len(), polled);
        match fault {
            Some(BusFault::LoseMessages(percent)) => {
                let mut random = lock(&self.shared.random);
                polled.links.retain(|_| random.u8(..100) >= percent);
            }
            Some(BusFault::LoseAll) => {
                polled.links.clear();
                polled.has_more = false;
            }
            Some(BusFault::RepeatAnswers) => return before.unwrap_or(polled),
            _ => {}
        }
        self.lose(was - polled.links.len());
        polled
    }

    fn lose(&self, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        self.shared.lost.fetch_add(messages, Ordering::SeqCst);
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<B: Bus> Bus for FaultyBus<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn logs(&self) -> usize {
        self.inner.logs()
    }

    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        match self.next() {
            Some(BusFault::LoseAppends) => {
                self.lose(messages.len());
                Ok(())
            }
            fault => self.run(fault, self.inner.append(log, messages)).await,
        }
    }

    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        self.run(self.next(), self.inner.open(log)).await
    }

    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        let fault = self.next();
        let polled = self.run(fault.clone(), self.inner.poll(log, after, wait)).await?;
        Ok(self.pass(log, fault, polled))
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.inner.check()
    }
}
