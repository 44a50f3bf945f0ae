//! The time entries are judged by: the machine's monotonic clock, or one that a test moves.
//!
//! An enum behind one struct and not a trait: reading it is on the path of every hit, and there are
//! exactly two clocks anybody needs. Waiting (budgets, timeouts) is tokio's clock, not this one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A monotonic clock. Clones of a manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Manual>);

#[derive(Clone, Debug)]
struct Manual {
    start: Instant,
    elapsed_nanos: Arc<AtomicU64>,
}

impl Clock {
    /// The machine's monotonic clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`advance`](Self::advance) moves it.
    #[must_use]
    pub fn manual() -> Self {
        Self(Some(Manual { start: Instant::now(), elapsed_nanos: Arc::default() }))
    }

    /// The present instant of this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => {
                manual.start + Duration::from_nanos(manual.elapsed_nanos.load(Ordering::Acquire))
            }
        }
    }

    /// Moves a manual clock, and all its clones, forward. Does nothing to the system's clock.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            manual.elapsed_nanos.fetch_add(nanos, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_with_its_clones() {
        let clock = Clock::manual();
        let twin = clock.clone();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        twin.advance(Duration::from_secs(3));
        assert_eq!(clock.now() - start, Duration::from_secs(3));
    }
}
