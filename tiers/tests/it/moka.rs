//! What Moka makes of weights that change: its sum may not drift from what it holds.

use std::{ops::Range, sync::Arc, thread, time::Duration};

use tiered_tiers::{LocalTier, Moka};

use crate::{entry, number};

const LIFE: Duration = Duration::from_secs(600);
const BOUND: u64 = 5_000;

fn insert(tier: &Moka, key: &str, weight: u64) {
    tier.insert(key.as_bytes(), entry(weight), weight, LIFE);
}

fn insert_range(tier: &Moka, range: Range<u64>, weight: u64) {
    for number in range {
        insert(tier, &format!("k{number}"), weight);
    }
}

/// How much of these it holds, by what was inserted, after its maintenance.
fn weight(tier: &Moka, range: Range<u64>) -> u64 {
    tier.entries();
    range.filter_map(|key| tier.get(format!("k{key}").as_bytes())).map(number).sum()
}

/// Replaced by one of another weight, and removed before moka's maintenance.
#[test]
fn a_replaced_and_removed_entry_leaves_no_weight_behind() {
    for (first, second) in [(10, 100), (100, 10), (50, 50)] {
        let tier = Moka::weighted(BOUND);
        insert_range(&tier, 0..40, 100);
        tier.entries();
        for _ in 0..100 {
            insert(&tier, "k", first);
            tier.entries();
            insert(&tier, "k", second);
            tier.remove(b"k");
            tier.entries();
        }
        insert_range(&tier, 40..80, 100);
        let held = weight(&tier, 0..80);
        assert!((BOUND - 1_000..=BOUND).contains(&held), "{first}, {second}: {held}");
        tier.clear();
        tier.entries();
        insert_range(&tier, 100..140, 100);
        assert_eq!(weight(&tier, 100..140), 4_000, "{first}, {second}: after a clear");
    }
}

#[test]
fn the_bound_holds_when_weights_change() {
    let tier = Moka::weighted(BOUND);
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..400_000_u64 {
        insert(&tier, &format!("k{}", random.u64(..1_200)), 1 + number % 100);
        if number % 5 == 0 {
            tier.remove(format!("k{}", random.u64(..1_200)).as_bytes());
        }
    }
    let held = weight(&tier, 0..1_200);
    assert!((BOUND / 2..=BOUND).contains(&held), "{held} under {BOUND}");
}

/// An entry heavier than the whole bound takes the old one away, and is never moka's business.
#[test]
fn a_too_heavy_entry_takes_the_old_one_away() {
    let tier = Moka::weighted(BOUND);
    for heavy in [BOUND + 1, u64::from(u32::MAX) + 7, u64::MAX] {
        insert(&tier, "k", 1);
        insert(&tier, "k", heavy);
        assert!(tier.get(b"k").is_none(), "{heavy}");
        assert_eq!(tier.entries(), 0);
    }
    // Beyond what moka counts for one entry.
    let tier = Moka::weighted(1 << 40);
    insert(&tier, "k", 1 << 40);
    assert!(tier.get(b"k").is_some());
    insert(&tier, "k", (1 << 40) + 1);
    assert!(tier.get(b"k").is_none());
}

/// After heavy entries, changes of weight and removals on four threads, of the same keys and of their own, it
/// keeps what fits.
#[test]
fn it_keeps_what_fits_after_heavy_entries_on_four_threads() {
    for (heavy, shared) in [(BOUND, false), (u64::MAX, false), (BOUND, true), (u64::MAX, true)] {
        let tier = Arc::new(Moka::weighted(BOUND));
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let tier = Arc::clone(&tier);
                thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    let owner = if shared { 0 } else { thread };
                    for number in 0..60_000_u64 {
                        let weight = if number % 30 == 0 { heavy } else { 1 + number % 100 };
                        insert(&tier, &format!("t{owner}k{}", random.u64(..300)), weight);
                        if number % 5 == 0 {
                            let removed = format!("t{owner}k{}", random.u64(..300));
                            tier.remove(removed.as_bytes());
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        // Asked for often, so that moka admits them; and it does its maintenance bit by bit.
        for _ in 0..20 {
            insert_range(&tier, 0..100, 1);
            weight(&tier, 0..100);
        }
        assert_eq!(weight(&tier, 0..100), 100, "heavy {heavy}, shared {shared}");
        tier.clear();
        insert_range(&tier, 0..100, 1);
        assert_eq!(weight(&tier, 0..100), 100, "heavy {heavy}, shared {shared}: after a clear");
    }
}
