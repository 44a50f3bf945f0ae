//! What a server brings back when it is restarted, or replaced by one that lacks the last writes.
//!
//! A snapshot, or a replica that lags, holds values and leases that were dropped since. So every entry in L2 is
//! *stamped* with the run of the server under which its load or its write began ([`Incarnation`]), every answer of
//! L2 names the run that gave it, and an entry with another stamp is not believed. `A` and `B` are two runs:
//!
//! 1. A value is stored in A, and in a snapshot. An invalidation drops it: `Done`. The server dies, and is B with
//!    that snapshot. The value is there again; its stamp says A: a miss, to everybody.
//! 2. A load leases in A, and the snapshot holds the lease. An invalidation drops it. The server is B now, and the
//!    lease is back: the fill finds its token, and is stored. Its stamp says A, for it was asked before the lease.
//! 3. The run is asked, and is A; the server becomes B; the load leases there, and is stored. Its stamp says A: a
//!    miss, and one more load. A stamp may be older than the run that stores; a newer one never is, and so no run after
//!    it believes what one before it has let through.
//! 4. Were the run asked after the load, 2 would be stamped B. Between the lease and the load would do: what is invalidated before
//!    a load begins is not what it loads. But there it would take time off the lease.
//! 5. A write drops the value, and is stored under a token of its own: as 2, for the run is asked before that.
//! 6. A replica is promoted that lacks a deletion. It is another run, so all that it holds is as in 1. Of a
//!    connection that is still open to the one before, and one that is open to the next, each names its own.
//!
//! Entries that were stamped by none (0) are another run's to a server that names its own. A tier that cannot tell its runs is
//! believed: a [`Memory`](crate::tiers::Memory) or a memcached that starts again is empty.
//!
//! Rejected: to invalidate again what was invalidated lately when a restart is noticed. Who noticed would have to
//! know what everybody else has invalidated.

use tiered_codecs::envelope::Meta;
use tiered_tiers::{Found, Incarnation};

use crate::stack::Stack;

/// What entries are worth that the server held before it was restarted, or replaced by another.
///
/// A server that comes back may bring back what was invalidated: a Redis with a snapshot that is minutes old, a replica
/// that is promoted before the last deletions reached it. Nobody can tell those entries from the others, so the
/// choice is one for all of them. It concerns tiers that can tell their server's runs ([`RemoteTier::incarnation`](crate::tiers::RemoteTier::incarnation)); on others
/// it means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Restarts {
    /// They are misses. An invalidation that was acknowledged stays so, whatever the server forgets; and a
    /// restart or a failover empties the cache, as far as readers see, even if no data was lost. The database sees what it
    /// sees of a cold cache; its loads are still shared and limited.
    #[default]
    Strict,
    /// They are stale from then on, as if their fresh time were over: served when the load fails, and by detached loaders while a
    /// refresh runs behind; for what is left of their life (`fresh_for` and `stale_for` together, so without any
    /// `stale_for` too), until they are loaded anew. A value that was invalidated may be served so. For data of which an
    /// old value is better than none.
    Warm,
}

/// How far an entry out of L2 is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belief {
    /// As it says of itself.
    Full,
    /// As one whose fresh time is over.
    StaleOnly,
    /// Not at all.
    No,
}

impl Restarts {
    /// How far an entry with this stamp is believed, in an answer of that run.
    fn judge(self, answered: Option<Incarnation>, stamp: u64) -> Belief {
        match (answered, self) {
            (None, _) => Belief::Full,
            (Some(run), _) if run.get() == stamp => Belief::Full,
            (Some(_), Self::Strict) => Belief::No,
            (Some(_), Self::Warm) => Belief::StaleOnly,
        }
    }
}

/// How far what L2 has found is believed. What an earlier run has left is counted; it is no damage.
pub(crate) fn believe(stack: &Stack, found: &Found, meta: &Meta) -> Belief {
    let belief = stack.restarts.judge(found.incarnation, meta.incarnation);
    if belief != Belief::Full {
        stack.meter.decode_failure("incarnation");
    }
    belief
}

/// The stamp of what is stored under a lease, or a write, that began in this run.
pub(crate) fn stamp(run: Option<Incarnation>) -> u64 {
    run.map_or(0, Incarnation::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_run_that_answers_is_believed() {
        let run = |number| Some(Incarnation::new(number));
        for (restarts, otherwise) in
            [(Restarts::Strict, Belief::No), (Restarts::Warm, Belief::StaleOnly)]
        {
            for (answered, written, expected) in [
                (run(7), run(7), Belief::Full),
                (run(7), run(8), otherwise),
                (run(7), None, otherwise),
                (None, run(7), Belief::Full),
                (None, None, Belief::Full),
            ] {
                assert_eq!(restarts.judge(answered, stamp(written)), expected);
            }
        }
    }
}
