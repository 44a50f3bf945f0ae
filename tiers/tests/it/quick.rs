//! What Quick does with the dead, the heavy and the unevenly spread.

use std::time::Duration;

use tiered_tiers::{Clock, LocalTier, Quick};

use crate::{entry, number};

const LIFE: Duration = Duration::from_secs(600);

fn put(tier: &Quick, key: u64, life: Duration) {
    tier.insert(&key.to_be_bytes(), entry(key), 1, life);
}

fn has(tier: &Quick, key: u64) -> bool {
    tier.get(&key.to_be_bytes()).map(number) == Some(key)
}

#[test]
fn the_dead_keep_no_live_entry_out() {
    let clock = Clock::manual();
    let tier = Quick::new(2_000).with_clock(clock.clone());
    for key in 0..2_000 {
        put(&tier, key, Duration::from_secs(1));
    }
    // As good a standing as entries can have.
    for _ in 0..3 {
        assert!((0..2_000).all(|key| has(&tier, key)));
    }
    clock.advance(Duration::from_secs(1));
    for key in 5_000..7_000 {
        put(&tier, key, LIFE);
    }
    let kept = (5_000..7_000).filter(|key| has(&tier, *key)).count();
    assert_eq!(kept, 2_000, "live entries had to give way to dead ones");
}

#[test]
fn the_dead_are_reclaimed_without_being_asked_for() {
    let clock = Clock::manual();
    let tier = Quick::new(100_000).with_clock(clock.clone());
    for key in 0..10_000 {
        put(&tier, key, Duration::from_secs(1));
    }
    clock.advance(Duration::from_secs(1));
    // A quarter as many, and some for shards that happen to get fewer.
    for key in 20_000..23_000 {
        put(&tier, key, LIFE);
    }
    assert_eq!(tier.entries(), 3_000);
}

#[test]
fn an_entry_found_dead_gives_its_room_back_at_once() {
    let clock = Clock::manual();
    let tier = Quick::weighted(1_000).with_clock(clock.clone());
    tier.insert(b"k", entry(1), 900, Duration::from_secs(1));
    clock.advance(Duration::from_secs(1));
    assert!(tier.get(b"k").is_none());
    assert_eq!(tier.entries(), 0);
    assert!(format!("{tier:?}").contains("reserved: 0"), "{tier:?}");
}

#[test]
fn the_bound_can_be_used_up_however_the_keys_are_spread() {
    let tier = Quick::new(4_096);
    for key in 0..4_096 {
        put(&tier, key, LIFE);
    }
    assert_eq!(tier.entries(), 4_096);
    assert!((0..4_096).all(|key| has(&tier, key)), "an entry went though there was room");
    put(&tier, 5_000, LIFE);
    assert!(has(&tier, 5_000) && tier.entries() == 4_096);
}

#[test]
fn an_entry_may_be_as_heavy_as_the_whole_bound() {
    let bound = 1 << 20;
    let tier = Quick::weighted(bound);
    for key in 0..10_000_u64 {
        tier.insert(&key.to_be_bytes(), entry(key), bound / 5_000, LIFE);
    }
    for weight in [bound / 2, bound, bound - 1] {
        tier.insert(b"heavy", entry(7), weight, LIFE);
        assert_eq!(tier.get(b"heavy").map(number), Some(7), "of {weight}");
    }
    tier.insert(b"heavy", entry(8), bound + 1, LIFE);
    assert!(tier.get(b"heavy").is_none());
    // What came after a heavy one finds its room.
    tier.insert(b"heavy", entry(9), bound, LIFE);
    for key in 0..1_000_u64 {
        tier.insert(&key.to_be_bytes(), entry(key), bound / 1_000, LIFE);
    }
    assert!(tier.entries() >= 990, "{} entries", tier.entries());
}

#[test]
fn a_long_scan_drives_out_little_that_was_used() {
    let tier = Quick::new(1_000);
    // Full of what is asked for all the time.
    for round in 0..3 {
        for key in 0..900 {
            if !has(&tier, key) {
                assert_eq!(round, 0);
                put(&tier, key, LIFE);
            }
        }
    }
    for key in 10_000..60_000 {
        put(&tier, key, LIFE);
    }
    let kept = (0..900).filter(|key| has(&tier, *key)).count();
    assert!(kept > 850, "a scan drove out all but {kept} of 900");
}

#[test]
fn one_hit_on_trial_keeps_an_entry_when_a_scan_comes_by() {
    let tier = Quick::new(1_000);
    // A tier that is full puts newcomers on trial.
    for key in 0..1_000 {
        put(&tier, key, LIFE);
    }
    for key in 10_000..10_050 {
        put(&tier, key, LIFE);
        assert!(has(&tier, key));
    }
    for key in 20_000..25_000 {
        put(&tier, key, LIFE);
    }
    let kept = (10_000..10_050).filter(|key| has(&tier, *key)).count();
    assert!(kept > 40, "only {kept} of the 50 that were asked for are left");
}
