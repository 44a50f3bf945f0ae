//! Whether an entry may be served: pure functions of its lifetimes and the present.
//!
//! L1 entries carry instants of this process' clock. L2 entries carry durations, and the server
//! says how much of their life remains: two machines' clocks are never compared.

use std::time::{Duration, Instant};

use tiered_codecs::envelope::Meta;
use tiered_tiers::LocalMeta;

use crate::bus::Proof;

/// What may be done with an L1 entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it while a refresh runs behind, or when the load fails.
    Stale,
    /// Its coherence with L2 is not proven any more: ask L2, and serve it only when all else fails.
    Unproven,
    /// Never serve it.
    Expired,
}

/// Until when an L1 entry is proven, by itself or by the bus.
pub(crate) fn proven_until(meta: &LocalMeta, proof: Option<Proof>) -> Instant {
    match proof {
        Some(proof) if proof.generation == meta.generation => meta.proven_until.max(proof.until),
        _ => meta.proven_until,
    }
}

/// Until when an entry may stand in when L2 was asked again and gave no answer: for `last_resort_for` after its proof,
/// but no longer than it was to be fresh.
pub(crate) fn unproven_until(
    meta: &LocalMeta,
    proof: Option<Proof>,
    last_resort_for: Duration,
) -> Instant {
    let fresh_for = meta.fresh_until.saturating_duration_since(meta.born);
    meta.stale_until.min(proven_until(meta, proof) + last_resort_for.min(fresh_for))
}

/// Judges an L1 entry at `now`. The proof was taken before L1 was looked into.
pub(crate) fn judge(
    meta: &LocalMeta,
    now: Instant,
    proof: Option<Proof>,
    last_resort_for: Duration,
) -> Verdict {
    if now >= meta.stale_until {
        Verdict::Expired
    } else if now >= proven_until(meta, proof) {
        let may_stand_in = now < unproven_until(meta, proof, last_resort_for);
        if may_stand_in { Verdict::Unproven } else { Verdict::Expired }
    } else if now >= meta.fresh_until {
        Verdict::Stale
    } else {
        Verdict::Fresh
    }
}

/// The ages of an L2 entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ages {
    /// Time since it was stored.
    pub(crate) age: Duration,
    /// Time until it is stale; zero if it is.
    pub(crate) fresh: Duration,
    /// Time until it must not be served at all; at least `fresh`.
    pub(crate) usable: Duration,
}

/// The ages of an L2 entry of which `remaining` is left by the server's clock.
pub(crate) fn ages(meta: &Meta, remaining: Duration) -> Ages {
    let fresh_for = Duration::from_millis(meta.fresh_ms);
    let life = fresh_for.saturating_add(Duration::from_millis(meta.stale_ms));
    let usable = remaining.min(life);
    let age = life - usable;
    Ages { age, fresh: fresh_for.saturating_sub(age), usable }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_entry_goes_from_fresh_to_stale_to_expired() {
        let born = Instant::now();
        let meta = LocalMeta {
            born,
            fresh_until: born + SECOND,
            stale_until: born + 3 * SECOND,
            proven_until: born + 2 * SECOND,
            generation: 0,
            type_id: TypeId::of::<()>(),
            schema: 0,
            source_version: 0,
        };
        let at = |after| judge(&meta, born + after, None, 10 * SECOND);
        assert_eq!(at(Duration::ZERO), Verdict::Fresh);
        assert_eq!(at(SECOND), Verdict::Stale);
        assert_eq!(at(2 * SECOND), Verdict::Unproven);
        assert_eq!(at(3 * SECOND), Verdict::Expired);
    }

    #[test]
    fn the_bus_proves_what_was_kept_under_its_view_and_nothing_else() {
        let born = Instant::now();
        let meta = LocalMeta {
            born,
            fresh_until: born + 60 * SECOND,
            stale_until: born + 90 * SECOND,
            proven_until: born + 2 * SECOND,
            generation: 4,
            type_id: TypeId::of::<()>(),
            schema: 0,
            source_version: 0,
        };
        let proof = |generation| Some(Proof { generation, until: born + 20 * SECOND });
        let at = |after, proof, resort| judge(&meta, born + after * SECOND, proof, resort * SECOND);
        assert_eq!(at(19, proof(4), 10), Verdict::Fresh);
        assert_eq!(at(20, proof(4), 10), Verdict::Unproven);
        assert_eq!(at(30, proof(4), 10), Verdict::Expired, "ten seconds, and no more");
        assert_eq!(at(20, proof(4), 0), Verdict::Expired, "never, by choice");
        assert_eq!(at(1, proof(5), 10), Verdict::Fresh, "its own proof");
        assert_eq!(at(2, proof(5), 10), Verdict::Unproven);
        assert_eq!(at(12, proof(5), 10), Verdict::Expired);
        let short = LocalMeta { fresh_until: born + 3 * SECOND, ..meta };
        let stands_in = |after| judge(&short, born + after * SECOND, None, 10 * SECOND);
        assert_eq!(stands_in(4), Verdict::Unproven, "as long as it was to be fresh");
        assert_eq!(stands_in(5), Verdict::Expired);
    }

    #[test]
    fn an_l2_entrys_age_comes_from_the_servers_remaining_life() {
        let meta = Meta { fresh_ms: 10_000, stale_ms: 5_000, ..Meta::default() };
        let at = |remaining| ages(&meta, remaining);
        assert_eq!(
            at(15 * SECOND),
            Ages { age: Duration::ZERO, fresh: 10 * SECOND, usable: 15 * SECOND }
        );
        assert_eq!(at(6 * SECOND), Ages { age: 9 * SECOND, fresh: SECOND, usable: 6 * SECOND });
        assert_eq!(
            at(2 * SECOND),
            Ages { age: 13 * SECOND, fresh: Duration::ZERO, usable: 2 * SECOND }
        );
        // A server that lies upward makes nothing live longer than it was told to.
        assert_eq!(at(99 * SECOND).usable, 15 * SECOND);
    }
}
