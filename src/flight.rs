//! Single flight: one walk at a time for each key, whoever cancels or panics.
//!
//! The first caller *leads* and walks; later ones *wait*. A leader that is dropped before it landed
//! leaves the flight vacant, and one waiter takes over with its own loader: a borrowed loader dies
//! with its caller, so it cannot be handed on. Three interleavings that must be right:
//!
//! 1. The leader lands between a waiter's look at the state and its sleep: the waiter registers
//!    with the signal before it looks.
//! 2. The waiter that was woken to take over is dropped before it runs: the signal passes on to the
//!    next one (`tokio::sync::Notify` promises that).
//! 3. An invalidation detaches the flight while it is under way: those who wait get its result,
//!    those who come later start a new flight.
//!
//! Spawning every load would make cancellation simpler, but loaders could then not borrow.

use std::{
    collections::{HashMap, hash_map},
    fmt::Debug,
    hash::{BuildHasher, Hash, RandomState},
    pin::pin,
};

use tokio::sync::Notify;

use crate::sync::{Arc, Mutex};

const SHARDS: usize = 64;

/// The flights of one cache: for each key of type `K` one for every `S` (a value type, say), each
/// ending in an `R` that all its callers share.
#[derive(Debug)]
pub(crate) struct Flights<K, S, R> {
    shards: Vec<Mutex<Shard<K, S, R>>>,
    hasher: RandomState,
}

type Shard<K, S, R> = HashMap<K, Vec<(S, Arc<Flight<R>>)>>;

#[derive(Debug)]
struct Flight<R> {
    state: Mutex<State<R>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<R> {
    phase: Phase<R>,
    seats: usize,
}

#[derive(Debug)]
enum Phase<R> {
    Flying,
    Vacant,
    Landed(R),
}

impl<R> Flight<R> {
    /// A flight with its leader in it.
    fn new() -> Arc<Self> {
        let state = Mutex::new(State { phase: Phase::Flying, seats: 1 });
        Arc::new(Self { state, changed: Notify::new() })
    }
}

/// What a caller is in a flight.
#[derive(Debug)]
pub(crate) enum Role<K: Key, S: Key, R> {
    /// It must walk and then land.
    Lead(Leader<K, S, R>),
    /// Somebody else walks.
    Wait(Waiter<K, S, R>),
}

/// How waiting ended.
#[derive(Debug)]
pub(crate) enum Waited<K: Key, S: Key, R> {
    /// The leader landed.
    Landed(R),
    /// The leader was dropped, and the waiter is the leader now.
    Lead(Leader<K, S, R>),
}

/// What keys and sub-keys must be.
pub(crate) trait Key: Hash + Eq + Clone + Debug {}
impl<T: Hash + Eq + Clone + Debug> Key for T {}

impl<K: Key, S: Key, R: Clone> Flights<K, S, R> {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// Joins the flight of (`key`, `sub`), or starts it.
    pub(crate) fn join(self: &Arc<Self>, key: &K, sub: &S) -> Role<K, S, R> {
        let mut shard = self.shard(key).lock();
        let flights = shard.entry(key.clone()).or_default();
        if let Some((_, flight)) = flights.iter().find(|(known, _)| known == sub) {
            let flight = Arc::clone(flight);
            let mut state = flight.state.lock();
            state.seats += 1;
            let vacant = matches!(state.phase, Phase::Vacant);
            if vacant {
                state.phase = Phase::Flying;
            }
            drop(state);
            let seat = self.seat(key, sub, flight);
            return if vacant { Role::Lead(Leader { seat }) } else { Role::Wait(Waiter { seat }) };
        }
        let flight = Flight::new();
        flights.push((sub.clone(), Arc::clone(&flight)));
        Role::Lead(Leader { seat: self.seat(key, sub, flight) })
    }

    /// Starts a flight that nobody can join.
    pub(crate) fn solo(self: &Arc<Self>, key: &K, sub: &S) -> Leader<K, S, R> {
        Leader { seat: self.seat(key, sub, Flight::new()) }
    }

    /// Takes all flights of `key` out of sight: later callers start new ones.
    pub(crate) fn detach(&self, key: &K) {
        self.shard(key).lock().remove(key);
    }

    /// As [`detach`](Self::detach), for all keys that are `meant`.
    pub(crate) fn detach_where(&self, meant: impl Fn(&K) -> bool) {
        for shard in &self.shards {
            shard.lock().retain(|key, _| !meant(key));
        }
    }

    /// The number of flights that can be joined.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().map(Vec::len).sum::<usize>()).sum()
    }

    fn seat(self: &Arc<Self>, key: &K, sub: &S, flight: Arc<Flight<R>>) -> Seat<K, S, R> {
        Seat { flights: Arc::clone(self), key: key.clone(), sub: sub.clone(), flight }
    }
}

impl<K: Key, S: Key, R> Flights<K, S, R> {
    fn shard(&self, key: &K) -> &Mutex<Shard<K, S, R>> {
        // The remainder is below the length.
        &self.shards[(self.hasher.hash_one(key) % SHARDS as u64) as usize]
    }

    /// Removes `flight` unless it was detached and another one has its place.
    fn remove(&self, key: &K, sub: &S, flight: &Arc<Flight<R>>, only_if: impl FnOnce() -> bool) {
        let mut shard = self.shard(key).lock();
        let hash_map::Entry::Occupied(mut entry) = shard.entry(key.clone()) else { return };
        let same =
            |(known, other): &(S, Arc<Flight<R>>)| known == sub && Arc::ptr_eq(other, flight);
        let Some(place) = entry.get().iter().position(same) else { return };
        if only_if() {
            entry.get_mut().swap_remove(place);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }
}

/// A place in a flight. The last one to leave removes it.
#[derive(Debug)]
struct Seat<K: Key, S: Key, R> {
    flights: Arc<Flights<K, S, R>>,
    key: K,
    sub: S,
    flight: Arc<Flight<R>>,
}

impl<K: Key, S: Key, R> Drop for Seat<K, S, R> {
    fn drop(&mut self) {
        let mut state = self.flight.state.lock();
        state.seats -= 1;
        let last = state.seats == 0;
        drop(state);
        if last {
            // Somebody may have joined since: asked again under the shard's lock.
            let empty = || self.flight.state.lock().seats == 0;
            self.flights.remove(&self.key, &self.sub, &self.flight, empty);
        }
    }
}

/// The caller that walks. Dropped without landing, it leaves the flight to a waiter.
#[derive(Debug)]
pub(crate) struct Leader<K: Key, S: Key, R> {
    seat: Seat<K, S, R>,
}

impl<K: Key, S: Key, R> Leader<K, S, R> {
    /// A waiter of this very flight.
    pub(crate) fn waiter(&self) -> Waiter<K, S, R> {
        let Seat { flights, key, sub, flight } = &self.seat;
        flight.state.lock().seats += 1;
        let (flights, flight) = (Arc::clone(flights), Arc::clone(flight));
        Waiter { seat: Seat { flights, key: key.clone(), sub: sub.clone(), flight } }
    }

    /// What the flight is about, besides its key.
    pub(crate) fn course(&self) -> S {
        self.seat.sub.clone()
    }

    /// Ends the flight: every waiter gets `result`, and later callers start a new flight.
    pub(crate) fn land(self, result: R) {
        let flight = Arc::clone(&self.seat.flight);
        flight.state.lock().phase = Phase::Landed(result);
        self.seat.flights.remove(&self.seat.key, &self.seat.sub, &flight, || true);
        flight.changed.notify_waiters();
    }
}

impl<K: Key, S: Key, R> Drop for Leader<K, S, R> {
    fn drop(&mut self) {
        let mut state = self.seat.flight.state.lock();
        if matches!(state.phase, Phase::Landed(_)) {
            return;
        }
        state.phase = Phase::Vacant;
        drop(state);
        self.seat.flight.changed.notify_one();
    }
}

/// A caller that waits for another's walk. Dropping it affects nobody else.
#[derive(Debug)]
pub(crate) struct Waiter<K: Key, S: Key, R> {
    seat: Seat<K, S, R>,
}

impl<K: Key, S: Key, R: Clone> Waiter<K, S, R> {
    /// Waits until the flight lands or needs a new leader. Cancel-safe.
    pub(crate) async fn wait(self) -> Waited<K, S, R> {
        loop {
            let flight = &self.seat.flight;
            let mut signal = pin!(flight.changed.notified());
            signal.as_mut().enable();
            {
                let mut state = flight.state.lock();
                match &state.phase {
                    Phase::Landed(result) => return Waited::Landed(result.clone()),
                    Phase::Vacant => {
                        state.phase = Phase::Flying;
                        break;
                    }
                    Phase::Flying => {}
                }
            }
            signal.await;
        }
        Waited::Lead(Leader { seat: self.seat })
    }
}
