//! The remote tier as the engine uses it: under one budget, measured, and never an error.
//!
//! Every logical read or write has one [`Budget`] for all its operations together, so a stalled
//! server costs it once and not at each step. The first failure spends the rest.

mod batch;
mod generations;
mod holds;
mod runs;

pub(crate) use self::batch::PIECE;

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join};
use tiered_tiers::{Claim, Fill, Found, Lease, LeaseToken, Progress, RemoteTier, TierError};
use tokio::time::{Instant, timeout};

use crate::{
    meter::{Meter, Op, OpResult, Tier},
    restarts::Restarts,
    sync::Mutex,
    versions::Slot,
};

/// How a look is counted.
fn looked(found: &Option<Found>) -> OpResult {
    if found.is_some() { OpResult::Hit } else { OpResult::Miss }
}

/// How a fill is counted.
fn filled(fill: &Fill) -> OpResult {
    match fill {
        Fill::Stored => OpResult::Stored,
        Fill::Refused => OpResult::Refused,
        Fill::Skipped => OpResult::Skipped,
    }
}

/// How long after a recovery the log keeps quiet about the next failure.
const CALM: Duration = Duration::from_secs(10);

/// The time that one logical operation may spend on L2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(Duration);

impl Budget {
    /// Nothing is left of it.
    pub(crate) const SPENT: Self = Self(Duration::ZERO);

    /// So much for one logical operation.
    pub(crate) fn of(time: Duration) -> Self {
        Self(time)
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.0
    }

    /// Takes off what an operation took; one that failed leaves nothing.
    pub(crate) fn spend(&mut self, took: Duration, is_ok: bool) {
        self.0 = if is_ok { self.0.saturating_sub(took) } else { Duration::ZERO };
    }

    /// Whether a failure or the clock has used it up.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.is_zero()
    }
}

/// A remote tier with its measures.
#[derive(Debug)]
pub(crate) struct L2 {
    tier: Arc<dyn RemoteTier>,
    meter: Arc<Meter>,
    cache: Arc<str>,
    budget: Duration,
    lease_for: Duration,
    restarts: Restarts,
    down: AtomicBool,
    recovered: Mutex<Option<Instant>>,
    /// The longest life that was stored, in milliseconds.
    longest_life: AtomicU64,
    /// The log has said that the server keeps its runs to itself.
    is_untold: AtomicBool,
}

impl L2 {
    pub(crate) fn new(
        tier: Arc<dyn RemoteTier>,
        meter: Arc<Meter>,
        cache: Arc<str>,
        budget: Duration,
        lease_for: Duration,
        restarts: Restarts,
    ) -> Self {
        Self {
            tier,
            meter,
            cache,
            budget,
            lease_for,
            restarts,
            down: AtomicBool::new(false),
            recovered: Mutex::default(),
            longest_life: AtomicU64::new(0),
            is_untold: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.tier.name()
    }

    /// A fresh budget for one logical operation.
    pub(crate) fn budget(&self) -> Budget {
        Budget(self.budget)
    }

    /// The budget of one who has waited for others. While the server fails they have waited for it
    /// too, and that comes off.
    pub(crate) fn budget_after(&self, waited: Duration) -> Budget {
        let is_down = self.down.load(Ordering::Relaxed);
        Budget(if is_down { self.budget.saturating_sub(waited) } else { self.budget })
    }

    /// What it gave for a key was not that key's.
    pub(crate) fn distrust(&self) {
        // A tier of somebody else's making may panic.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.tier.distrust()));
    }

    /// Whether the tier can be cleared by a prefix.
    pub(crate) fn clears(&self) -> bool {
        self.tier.abilities().clears
    }

    /// The longest life of what this process has stored, and may have stored before it restarted.
    pub(crate) fn longest_life(&self) -> Duration {
        Duration::from_millis(self.longest_life.load(Ordering::Relaxed))
    }

    /// Takes note of a life that something may be stored with.
    pub(crate) fn note_life(&self, life: Duration) {
        let life = life.min(self.tier.abilities().longest_life);
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        self.longest_life.fetch_max(millis, Ordering::Relaxed);
    }

    /// How long a lease is granted for.
    pub(crate) fn lease_for(&self) -> Duration {
        self.lease_for
    }

    /// How long the end of a cache waits for what is under way.
    pub(crate) fn grace(&self) -> Duration {
        self.budget
    }

    pub(crate) async fn get(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Found>, TierError> {
        self.run(Op::Get, budget, self.tier.get(key), looked).await
    }

    pub(crate) async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        claim: Claim,
        budget: &mut Budget,
    ) -> Result<Lease, TierError> {
        let seen = |lease: &Lease| match lease {
            Lease::Granted(_) => OpResult::Granted,
            Lease::Held(_) => OpResult::Held,
            Lease::OnHold => OpResult::OnHold,
        };
        self.run(
            Op::Lease,
            budget,
            async { self.tier.lease(key, token, self.lease_for, claim).await },
            seen,
        )
        .await
    }

    /// Lets a lease live on. Says whether its token still stood.
    pub(crate) async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        budget: &mut Budget,
    ) -> Result<bool, TierError> {
        let seen = |stood: &bool| if *stood { OpResult::Granted } else { OpResult::Refused };
        let renew = async { self.tier.renew(key, token, self.lease_for).await };
        self.run(Op::Renew, budget, renew, seen).await
    }

    pub(crate) async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
        budget: &mut Budget,
    ) -> Result<Fill, TierError> {
        self.note_life(life);
        self.run(Op::Fill, budget, async { self.tier.fill(key, token, bytes, life).await }, filled)
            .await
    }

    pub(crate) async fn release(&self, key: &[u8], token: LeaseToken, budget: &mut Budget) {
        // A lease that cannot be given up ends by itself.
        let _ = self
            .run(Op::Release, budget, async { self.tier.release(key, token).await }, |()| {
                OpResult::Ok
            })
            .await;
    }

    /// Stores in one slot of `wire`, and then drops what is in the other: in this order, of two writes
    /// that overlap, one value at most is left.
    pub(crate) async fn set(
        &self,
        wire: &[u8],
        slot: Slot,
        bytes: Bytes,
        life: Duration,
        budget: &mut Budget,
    ) -> Result<Fill, TierError> {
        self.note_life(life);
        let (slot, other) = (slot.key(wire), slot.other().key(wire));
        let set = async {
            let stored = self.tier.set(&slot, bytes, life).await?;
            self.tier.delete(&other).await?;
            Ok(stored)
        };
        self.run(Op::Set, budget, set, filled).await
    }

    /// Drops one slot, by its key.
    pub(crate) async fn drop_slot(&self, key: &[u8], budget: &mut Budget) -> Result<(), TierError> {
        self.run(Op::Delete, budget, self.tier.delete(key), |()| OpResult::Ok).await
    }

    /// Drops both slots of `wire`.
    pub(crate) async fn delete(&self, wire: &[u8], budget: &mut Budget) -> Result<(), TierError> {
        let beside = Slot::Beside.key(wire);
        let delete = async {
            let (main, beside) = join(self.tier.delete(wire), self.tier.delete(&beside)).await;
            main.and(beside)
        };
        self.run(Op::Delete, budget, delete, |()| OpResult::Ok).await
    }

    pub(crate) async fn ping(&self, budget: &mut Budget) -> Result<(), TierError> {
        self.run(Op::Ping, budget, async { self.tier.ping().await }, |()| OpResult::Ok).await
    }

    /// Clears a prefix. Takes as long as it takes: the tier bounds each of its steps.
    pub(crate) async fn clear(
        &self,
        prefix: &[u8],
        progress: Progress<'_>,
    ) -> Result<(), TierError> {
        let mut budget = Budget(Duration::from_secs(600));
        let clear = self.tier.clear(prefix, progress);
        self.run(Op::Clear, &mut budget, clear, |()| OpResult::Ok).await
    }

    async fn run<R>(
        &self,
        op: Op,
        budget: &mut Budget,
        operation: impl Future<Output = Result<R, TierError>>,
        seen: impl FnOnce(&R) -> OpResult,
    ) -> Result<R, TierError> {
        let result = self.bounded(op, budget, operation).await.and_then(|result| result);
        self.count(op, &result, seen);
        if result.is_err() {
            *budget = Budget::SPENT;
        }
        // A tier that cannot do something has not failed.
        if !matches!(result, Err(TierError::Unsupported(_))) {
            self.tell(result.as_ref().err());
        }
        result
    }

    /// Runs an operation on what is left of the budget, and takes its time off it.
    async fn bounded<R>(
        &self,
        op: Op,
        budget: &mut Budget,
        operation: impl Future<Output = R>,
    ) -> Result<R, TierError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(TierError::NoRuntime);
        }
        if budget.is_spent() {
            return Err(TierError::Timeout);
        }
        let start = Instant::now();
        // A tier of somebody else's making may panic; that is no more than one that fails.
        let operation = AssertUnwindSafe(operation).catch_unwind();
        let result = match timeout(budget.0, operation).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(TierError::Protocol("the tier panicked".into())),
            Err(_) => Err(TierError::Timeout),
        };
        let took = start.elapsed();
        self.meter.op_time(op, took);
        budget.spend(took, result.is_ok());
        result
    }

    fn count<R>(&self, op: Op, result: &Result<R, TierError>, seen: impl FnOnce(&R) -> OpResult) {
        let seen = match result {
            Ok(value) => seen(value),
            Err(TierError::Timeout) => OpResult::Timeout,
            Err(_) => OpResult::Error,
        };
        self.meter.op(Tier::L2, op, seen);
    }

    /// Logs the first failure and the recovery, and nothing in between.
    fn tell(&self, error: Option<&TierError>) {
        match error {
            Some(error) if self.is_calm() && !self.down.swap(true, Ordering::Relaxed) => {
                tracing::warn!(cache = &*self.cache, tier = self.name(), %error, "the cache server fails; going on without it");
            }
            None if self.down.load(Ordering::Relaxed)
                && self.down.swap(false, Ordering::Relaxed) =>
            {
                *self.recovered.lock() = Some(Instant::now());
                tracing::info!(
                    cache = &*self.cache,
                    tier = self.name(),
                    "the cache server works again"
                );
            }
            _ => {}
        }
    }

    /// Whether the last recovery is long enough ago for a new line. A server that is out of memory
    /// answers reads and refuses writes, many times a second.
    fn is_calm(&self) -> bool {
        self.down.load(Ordering::Relaxed)
            || self.recovered.lock().is_none_or(|since| since.elapsed() >= CALM)
    }
}
