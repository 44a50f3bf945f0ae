//! What this cache says on the bus, and what it hears there.
//!
//! A change is announced when the server has done it: the delete precedes the message. Then whoever has heard the
//! message and asks the server finds the change, and what was asked before is overtaken by the message's step in the
//! local fence. The other way round a reader could hear, ask, and keep the old value for good.
//!
//! Only changes are announced, never plain fills: those change nothing that anybody has.

mod listen;
mod message;
mod view;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::try_join_all};
use tiered_tiers::{LeaseToken, LogName, TierError};
use tokio::{task::JoinSet, time::timeout};

pub(crate) use self::{
    message::Change,
    view::{Proof, View},
};
use crate::{l2::Budget, stack::Stack, sync::Mutex};

/// How many messages are appended in one step.
const PIECE: usize = 512;
/// What a poll may not take from the time that a proof lasts: a round trip and a pause of this process.
const MARGIN: Duration = Duration::from_millis(200);

/// The bus as one cache uses it.
#[derive(Debug)]
pub(crate) struct Bus {
    bus: Arc<dyn tiered_tiers::Bus>,
    /// The namespace: whoever shares it shares the entries.
    topic: Arc<str>,
    /// Which messages are this cache's own.
    sender: u64,
    max_staleness: Duration,
    pub(crate) view: View,
    is_down: AtomicBool,
    /// The tasks that listen, while they do.
    listeners: Mutex<JoinSet<()>>,
    /// Which of their rounds it is; 0 while nobody listens.
    listening: AtomicU64,
    rounds: AtomicU64,
}

impl Bus {
    pub(crate) fn new(
        bus: Arc<dyn tiered_tiers::Bus>,
        namespace: &str,
        max_staleness: Duration,
        now: Instant,
    ) -> Self {
        let logs = bus.logs().max(1);
        Self {
            view: View::new(logs, max_staleness, now),
            bus,
            topic: namespace.into(),
            sender: sender(),
            max_staleness,
            is_down: AtomicBool::new(false),
            listeners: Mutex::default(),
            listening: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.bus.name()
    }

    /// How long a poll waits for messages: two of them and the margins fit into the time of a proof.
    fn patience(&self) -> Duration {
        (self.max_staleness / 2).saturating_sub(MARGIN).max(Duration::from_millis(10))
    }

    /// The log that a change is announced in.
    pub(crate) fn log_of(&self, change: &Change<'_>) -> usize {
        let logs = self.bus.logs().max(1);
        // The remainder is below the length.
        (change.hash() % logs as u64) as usize
    }

    /// Announces changes. When it returns they are in the log.
    pub(crate) async fn announce(
        &self,
        cache: &str,
        changes: &[Change<'_>],
        budget: &mut Budget,
    ) -> Result<(), TierError> {
        let logs = self.bus.logs().max(1);
        let mut messages = vec![Vec::new(); logs];
        for change in changes {
            if let Some(messages) = messages.get_mut(self.log_of(change)) {
                messages.push(change.encode(self.sender));
            }
        }
        let appends = messages.iter().enumerate().flat_map(|(index, messages)| {
            messages.chunks(PIECE).map(move |piece| self.append(index, piece))
        });
        let start = tokio::time::Instant::now();
        let appended = match timeout(budget.left(), try_join_all(appends)).await {
            Ok(appended) => appended.map(drop),
            Err(_) => Err(TierError::Timeout),
        };
        budget.spend(start.elapsed(), appended.is_ok());
        self.tell(cache, appended.as_ref().err());
        appended
    }

    async fn append(&self, index: usize, messages: &[Bytes]) -> Result<(), TierError> {
        let log = LogName { topic: &self.topic, index };
        // A bus of somebody else's making may panic; that is no more than one that fails.
        let append = AssertUnwindSafe(async { self.bus.append(log, messages).await });
        append.catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Logs the first failure and the recovery, and nothing in between.
    fn tell(&self, cache: &str, error: Option<&TierError>) {
        match error {
            Some(error) if !self.is_down.swap(true, Ordering::Relaxed) => {
                tracing::warn!(cache, bus = self.name(), %error, "the bus fails; L1 is proven by L2 alone");
            }
            None if self.is_down.load(Ordering::Relaxed)
                && self.is_down.swap(false, Ordering::Relaxed) =>
            {
                tracing::info!(cache, bus = self.name(), "the bus works again");
            }
            _ => {}
        }
    }

    /// Starts to listen, if nobody does: in the caller's runtime, if there is one.
    pub(crate) fn listen(stack: &Arc<Stack>) {
        if let Some(bus) = &stack.bus
            && !bus.is_listening()
        {
            listen::start(stack, bus);
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire) != 0
    }

    fn begin_round(&self) -> u64 {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        self.listening.store(round, Ordering::Release);
        round
    }

    /// One of a round's listeners has ended: the next use begins another round, unless one has begun since.
    fn end_round(&self, round: u64) {
        let _ = self.listening.compare_exchange(round, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Ends listening, until the cache is used again. A runtime that stands still is not waited for: what is left of
    /// its listeners ends when it goes on.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let mut listeners = std::mem::take(&mut *self.listeners.lock());
        if timeout(grace, listeners.shutdown()).await.is_err() {
            self.listening.store(0, Ordering::Release);
        }
    }

    pub(crate) fn max_staleness(&self) -> Duration {
        self.max_staleness
    }
}

/// A number of this cache's own, from the operating system: an application may seed its random numbers, and then has
/// the same ones in each of its processes.
fn sender() -> u64 {
    let random = LeaseToken::random();
    random.as_bytes().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn panicked() -> TierError {
    TierError::Protocol("the bus panicked".into())
}
