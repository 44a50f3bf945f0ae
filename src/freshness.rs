//! Whether an entry may be served: pure functions of its lifetimes and the present.
//!
//! L1 entries carry instants of this process' clock. L2 entries carry durations, and the server
//! says how much of their life remains: two machines' clocks are never compared.

use std::time::{Duration, Instant};

use tiered_codecs::envelope::Meta;
use tiered_tiers::LocalMeta;

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

/// Judges an L1 entry at `now`.
pub(crate) fn judge(meta: &LocalMeta, now: Instant) -> Verdict {
    if now >= meta.stale_until {
        Verdict::Expired
    } else if now >= meta.proven_until {
        Verdict::Unproven
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
            type_id: TypeId::of::<()>(),
            schema: 0,
        };
        assert_eq!(judge(&meta, born), Verdict::Fresh);
        assert_eq!(judge(&meta, born + SECOND), Verdict::Stale);
        assert_eq!(judge(&meta, born + 2 * SECOND), Verdict::Unproven);
        assert_eq!(judge(&meta, born + 3 * SECOND), Verdict::Expired);
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
