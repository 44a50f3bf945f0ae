//! A load whose every answer is known: each key has one task of its own, which writes, reads and drops it, and
//! knows after each step what it may find.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{Claim, Fill, Lease, LeaseToken, RemoteTier, TierError};
use tokio::task::JoinHandle;

const LIFE: Duration = Duration::from_secs(600);
/// An operation's deadline by default, dial and answers, and wide room for a busy machine.
const DEADLINE: Duration = Duration::from_millis(2_000);

#[derive(Debug)]
pub(crate) struct Load {
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    tier: Arc<dyn RemoteTier>,
    /// Whether an acknowledged write may be lost, as by a replica that is promoted without it.
    forgets: bool,
    ends: AtomicBool,
    done: AtomicU64,
    errors: Mutex<BTreeMap<String, Vec<(&'static str, TierError)>>>,
}

impl Load {
    pub(crate) fn start(tier: Arc<dyn RemoteTier>, keys: Vec<String>, forgets: bool) -> Self {
        let state = Arc::new(State {
            tier,
            forgets,
            ends: AtomicBool::new(false),
            done: AtomicU64::new(0),
            errors: Mutex::default(),
        });
        let tasks = keys.into_iter().map(|key| tokio::spawn(use_key(Arc::clone(&state), key)));
        Self { tasks: tasks.collect(), state }
    }

    /// Operations that have ended.
    pub(crate) fn done(&self) -> u64 {
        self.state.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more have ended.
    pub(crate) async fn goes_on(&self, operations: u64) {
        let (until, start) = (self.done() + operations, Instant::now());
        while self.done() < until {
            assert!(start.elapsed() < Duration::from_secs(20), "the load stands still");
            crate::wait(5).await;
        }
    }

    /// Forgets the errors so far; returns them by key.
    pub(crate) fn errors(&self) -> BTreeMap<String, Vec<(&'static str, TierError)>> {
        std::mem::take(&mut self.state.errors.lock().unwrap())
    }

    /// Ends it; fails if any task has seen a wrong value.
    pub(crate) async fn end(self) -> BTreeMap<String, Vec<(&'static str, TierError)>> {
        self.state.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut self.state.errors.lock().unwrap())
    }
}

/// What a key may hold: one of these numbers, or nothing.
type Possible = Vec<Option<u64>>;

async fn use_key(state: Arc<State>, key: String) {
    let (tier, name) = (&*state.tier, key.as_bytes());
    let text = |number: u64| Bytes::from(format!("{key}={number}"));
    let (mut possible, mut number): (Possible, u64) = (vec![None], 0);
    while !state.ends.load(Ordering::Relaxed) {
        number += 1;
        match number % 4 {
            0 => match state.timed(&key, "delete", tier.delete(name)).await {
                Some(()) => possible = vec![None],
                None => possible.push(None),
            },
            1 => match state.timed(&key, "set", tier.set(name, text(number), LIFE)).await {
                Some(Fill::Stored) => possible = vec![Some(number)],
                Some(other) => assert!(state.forgets, "{other:?} though nobody else writes {key}"),
                None => possible.extend([None, Some(number)]),
            },
            _ => {
                let token = LeaseToken::random();
                let lease = tier.lease(name, token, LIFE, Claim::ByForce);
                let Some(lease) = state.timed(&key, "lease", lease).await else { continue };
                let Lease::Granted(found) = lease else { panic!("not granted by force") };
                state.check(&key, &possible, found.map(|found| found.bytes));
                crate::wait(number % 3).await;
                let fill = tier.fill(name, token, text(number), LIFE);
                match state.timed(&key, "fill", fill).await {
                    Some(Fill::Stored) => possible = vec![Some(number)],
                    Some(other) => {
                        assert!(state.forgets, "{other:?} though nobody else writes {key}")
                    }
                    None => possible.extend([None, Some(number)]),
                }
                if number % 4 == 3 {
                    // Given up twice: the second time it does not stand.
                    let _ = state.timed(&key, "release", tier.release(name, token)).await;
                }
            }
        }
        if let Some(found) = state.timed(&key, "get", tier.get(name)).await {
            state.check(&key, &possible, found.map(|found| found.bytes));
        }
    }
}

impl State {
    async fn timed<R>(
        &self,
        key: &str,
        what: &'static str,
        operation: impl Future<Output = Result<R, TierError>>,
    ) -> Option<R> {
        let (outcome, took) = crate::timed(operation).await;
        assert!(took < DEADLINE, "{what} took {took:?}");
        self.done.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(key, what, error);
                // Not to turn in circles while a server is down.
                crate::wait(5).await;
                None
            }
        }
    }

    fn note(&self, key: &str, what: &'static str, error: TierError) {
        let mut errors = self.errors.lock().unwrap();
        errors.entry(key.to_owned()).or_default().push((what, error));
    }

    fn check(&self, key: &str, possible: &Possible, found: Option<Bytes>) {
        let number = found.map(|bytes| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let (name, number) = text.split_once('=').unwrap();
            assert_eq!(name, key, "another key's value");
            number.parse::<u64>().unwrap()
        });
        assert!(
            self.forgets || possible.contains(&number),
            "{key} is {number:?}, and may be {possible:?}"
        );
    }
}
