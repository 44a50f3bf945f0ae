//! Until when L1 is proven, as the listeners know it and every read asks.
//!
//! A read takes the [`Proof`] *before* it looks into L1. A listener removes what a message names before it extends
//! the proof. So an entry that a read still finds under a proof was not named by any message up to the proof's moment.
//! Looked at in the other order, an entry could be found, then removed, and then served under a proof that came after.
//!
//! What may have been missed voids all that was kept under the view so far: a new generation, in one step however
//! many entries there are. They are left to their own proof, which is when L2 was asked for them.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Mutex, Ordering};

/// What one cache knows of the bus' logs.
#[derive(Debug)]
pub(crate) struct View {
    start: Instant,
    max_staleness: Duration,
    /// Never 0.
    generation: AtomicU64,
    /// Nanoseconds after the start; 0 while there is no proof.
    proven_until: AtomicU64,
    /// Of each log, as of when it is proven.
    proofs: Mutex<Vec<Option<Instant>>>,
}

/// Until when entries of one generation are proven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    pub(crate) generation: u64,
    pub(crate) until: Instant,
}

impl View {
    pub(super) fn new(logs: usize, max_staleness: Duration, now: Instant) -> Self {
        Self {
            start: now,
            max_staleness,
            generation: AtomicU64::new(1),
            proven_until: AtomicU64::new(0),
            proofs: Mutex::new(vec![None; logs]),
        }
    }

    /// The generation that what is read from now on belongs to.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is proven now.
    pub(crate) fn proof(&self) -> Proof {
        // In this order: a generation that is read first may be void by the time that a proof of the next one is read.
        let until = Duration::from_nanos(self.proven_until.load(Ordering::Acquire));
        Proof { generation: self.generation(), until: self.start + until }
    }

    /// As of when all logs are proven.
    pub(crate) fn proven_as_of(&self) -> Option<Instant> {
        self.proofs.lock().iter().copied().min()?
    }

    /// Something may have been missed in a log: nothing that was kept so far is proven any more.
    pub(super) fn void(&self, log: usize) {
        let mut proofs = self.proofs.lock();
        if let Some(proof) = proofs.get_mut(log) {
            *proof = None;
        }
        self.proven_until.store(0, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Everything is to be forgotten, though nothing was missed.
    pub(crate) fn forget(&self) {
        let _proofs = self.proofs.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// All that was in a log at that moment is known and done.
    pub(super) fn prove(&self, log: usize, as_of: Instant) {
        let mut proofs = self.proofs.lock();
        if let Some(proof) = proofs.get_mut(log) {
            *proof = Some(as_of);
        }
        let Some(all) = proofs.iter().copied().min().flatten() else { return };
        let until = (all + self.max_staleness).saturating_duration_since(self.start);
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.proven_until.store(nanos, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_view_is_proven_as_its_latest_log_is() {
        let start = Instant::now();
        let view = View::new(2, 2 * SECOND, start);
        view.prove(0, start + 5 * SECOND);
        assert_eq!(view.proof().until, start);
        view.prove(1, start + 3 * SECOND);
        assert_eq!(view.proof().until, start + 5 * SECOND);
        assert_eq!(view.proven_as_of(), Some(start + 3 * SECOND));
        let before = view.generation();
        view.void(0);
        assert_eq!((view.proof().until, view.generation()), (start, before + 1));
        view.prove(1, start + 9 * SECOND);
        assert_eq!(view.proof().until, start, "the other log is not proven");
    }
}
