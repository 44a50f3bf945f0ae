//! Listening: a task for each log, which follows it and does what it hears.
//!
//! Started by the first use of the cache in a runtime, and again by the next if its runtime ends. It holds the cache
//! weakly, and ends with it. What to make of an answer is decided by [`Follower`].

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tiered_tiers::{
    BusPolled, LeaseToken, LogName, TierError,
    protocol::{Ask, Follower, Step},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Bus, message::Heard, panicked};
use crate::{prefix, stack::Stack, tags};

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// The least time from one poll to the next.
const SHORTEST_POLL: Duration = Duration::from_micros(500);
/// What a bus of somebody else's making may take beyond the wait.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) fn start(stack: &Arc<Stack>, bus: &Bus) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let mut listeners = bus.listeners.lock();
    if bus.is_listening() {
        return;
    }
    // Those of a runtime that has ended, if there are any, end now.
    *listeners = JoinSet::new();
    let round = bus.begin_round();
    for log in 0..bus.bus.logs().max(1) {
        let listener = Listener {
            stack: Arc::downgrade(stack),
            bus: Arc::clone(&bus.bus),
            topic: Arc::clone(&bus.topic),
            log,
            patience: bus.patience(),
            round,
        };
        listeners.spawn_on(listener.run(), &runtime);
    }
}

/// One log's task.
struct Listener {
    stack: Weak<Stack>,
    bus: Arc<dyn tiered_tiers::Bus>,
    topic: Arc<str>,
    log: usize,
    patience: Duration,
    round: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.upgrade()
            && let Some(bus) = &stack.bus
        {
            // What comes now is not heard here.
            bus.view.void(self.log);
            bus.end_round(self.round);
        }
    }
}

impl Listener {
    async fn run(self) {
        let mut follower = Follower::default();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let Some(clock) = self.stack.upgrade().map(|stack| stack.clock.clone()) else { return };
            // Before it is sent: what is proven is proven as of now.
            let sent = clock.now();
            let began = tokio::time::Instant::now();
            let polled = self.poll(&follower).await;
            let Some(stack) = self.stack.upgrade() else { return };
            let Some(bus) = &stack.bus else { return };
            bus.tell(&stack.name, polled.as_ref().err());
            let went_well = match polled {
                Ok(polled) => self.take(&stack, bus, follower.answered(sent, polled)),
                Err(_) => false,
            };
            drop(stack);
            if went_well {
                pause = SHORTEST_PAUSE;
                if began.elapsed() < SHORTEST_POLL {
                    // A bus of somebody else's making that does not wait for messages.
                    sleep(SHORTEST_POLL).await;
                }
            } else {
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn poll(&self, follower: &Follower<LeaseToken>) -> Result<BusPolled, TierError> {
        let log = LogName { topic: &self.topic, index: self.log };
        let asked = AssertUnwindSafe(async {
            match follower.ask() {
                Ask::Open => self.bus.open(log).await,
                Ask::After(at) => self.bus.poll(log, at, self.patience).await,
            }
        });
        match timeout(self.patience + DEADLINE, asked.catch_unwind()).await {
            Ok(Ok(polled)) => polled,
            Ok(Err(_)) => Err(panicked()),
            Err(_) => Err(TierError::Timeout),
        }
    }

    /// Does what an answer comes to, without a pause in between. Says whether something is known now.
    fn take(&self, stack: &Stack, bus: &Bus, step: Step<Bytes, Instant>) -> bool {
        if let Some(why) = step.void {
            stack.meter.bus_void(why);
            bus.view.void(self.log);
        }
        for message in &step.messages {
            match Heard::decode(message, bus.sender) {
                Heard::Key(key) => stack.drop_local(&key),
                Heard::Prefix(prefix) => drop(prefix::forget(stack, &prefix)),
                Heard::Tag(tag) => tags::heard(stack, &tag),
                Heard::All => stack.forget_all(),
                Heard::Own => {}
            }
        }
        // What is counted is done.
        stack.meter.bus_heard(step.messages.len() as u64);
        if let Some(as_of) = step.proven {
            bus.view.prove(self.log, as_of);
        }
        step.proven.is_some() || !step.messages.is_empty()
    }
}
