//! The holds of this process' own writers: while one stands, nothing of its key is put into L1.
//!
//! The server's holds say the same to whoever asks it for a lease. But a cache may have no server, or its server may be
//! silent; and what was loaded before the commit must not be kept after it there either.
//!
//! A writer that was dropped midway leaves its hold to run out: the source may commit yet.
//!
//! It stands beside the fence, and not in it: the fence knows only keys with loads under way, and a hold may outlive
//! them all.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use crate::sync::Mutex;

/// How many holds may run out at once, each of a writer that was dropped; one more, and all keys are held until
/// the last has run out.
const LINGERING: usize = 65_536;

/// The keys, by their hash, that writers of this process hold.
#[derive(Debug, Default)]
pub(crate) struct LocalHolds {
    state: Mutex<State>,
    /// Whether there may be one, for those who only ask.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The writers at each key.
    standing: HashMap<u64, usize>,
    /// Until when those that were dropped hold theirs.
    lingering: HashMap<u64, Instant>,
    /// Until when all keys are held.
    all: Option<Instant>,
}

impl LocalHolds {
    /// Holds a key, until as many have ended it as have begun.
    pub(crate) fn begin(&self, key: u64) {
        let mut state = self.state.lock();
        *state.standing.entry(key).or_default() += 1;
        self.any.store(true, Ordering::Release);
    }

    /// Ends a hold.
    pub(crate) fn end(&self, key: u64, now: Instant) {
        let mut state = self.state.lock();
        state.end(key);
        state.sweep(now);
        self.any.store(!state.is_empty(), Ordering::Release);
    }

    /// Lets a hold run out by itself.
    pub(crate) fn linger(&self, key: u64, now: Instant, until: Instant) {
        let mut state = self.state.lock();
        state.end(key);
        if state.lingering.len() >= LINGERING {
            state.sweep(now);
        }
        if state.lingering.len() < LINGERING {
            let end = state.lingering.entry(key).or_insert(until);
            *end = until.max(*end);
        } else {
            state.all = state.all.max(Some(until));
        }
    }

    /// Whether somebody holds the key.
    pub(crate) fn stands(&self, key: u64, now: Instant) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let state = self.state.lock();
        state.standing.contains_key(&key)
            || state.lingering.get(&key).is_some_and(|until| now < *until)
            || state.all.is_some_and(|until| now < until)
    }
}

impl State {
    fn end(&mut self, key: u64) {
        if let Some(writers) = self.standing.get_mut(&key) {
            *writers -= 1;
            if *writers == 0 {
                self.standing.remove(&key);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        if !self.lingering.is_empty() {
            self.lingering.retain(|_, until| now < *until);
        }
        self.all = self.all.filter(|until| now < *until);
    }

    fn is_empty(&self) -> bool {
        self.standing.is_empty() && self.lingering.is_empty() && self.all.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_is_held_until_its_last_writer_has_ended() {
        let (holds, now) = (LocalHolds::default(), Instant::now());
        holds.begin(1);
        holds.begin(1);
        holds.end(1, now);
        assert!(holds.stands(1, now) && !holds.stands(2, now));
        holds.end(1, now);
        assert!(!holds.stands(1, now) && !holds.any.load(Ordering::Relaxed));
    }

    #[test]
    fn a_hold_that_lingers_runs_out_and_is_swept() {
        let (holds, now) = (LocalHolds::default(), Instant::now());
        holds.begin(1);
        holds.linger(1, now, now + SECOND);
        assert!(holds.stands(1, now) && !holds.stands(1, now + SECOND));
        holds.begin(2);
        holds.end(2, now + SECOND);
        assert!(holds.state.lock().is_empty());
    }

    #[test]
    fn too_many_that_linger_hold_every_key() {
        let (holds, now) = (LocalHolds::default(), Instant::now());
        for key in 0..=LINGERING as u64 {
            holds.begin(key);
            holds.linger(key, now, now + SECOND);
        }
        assert!(holds.stands(u64::MAX, now) && !holds.stands(u64::MAX, now + SECOND));
        assert_eq!(holds.state.lock().lingering.len(), LINGERING);
    }
}
