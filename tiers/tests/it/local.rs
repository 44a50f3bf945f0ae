//! The conformance suite of L1: what every `LocalTier` does, whatever it is built on.

use std::{thread::sleep, time::Duration};

use tiered_tiers::{DashMap, LocalEntry, LocalTier, Moka};

use crate::{entry, number};

const LIFE: Duration = Duration::from_secs(600);

#[test]
fn moka_conforms() {
    conforms(Moka::new(1_000));
    conforms(Moka::weighted(1_000_000));
}

#[test]
fn dashmap_conforms() {
    conforms(DashMap::new(1_000));
    conforms(DashMap::weighted(1_000_000));
}

#[test]
fn a_bound_of_nothing_is_refused_with_a_way_out() {
    let tiers: [(Box<dyn LocalTier>, &str); 4] = [
        (Box::new(Moka::new(0)), "Moka::new(0)"),
        (Box::new(Moka::weighted(0)), "Moka::weighted(0)"),
        (Box::new(DashMap::new(0)), "DashMap::new(0)"),
        (Box::new(DashMap::weighted(0)), "DashMap::weighted(0)"),
    ];
    for (tier, name) in tiers {
        let error = tier.check().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("at least 1"), "{error}");
        // Not built into a cache, it still harms nobody.
        tier.insert(b"k", entry(1), 1, LIFE);
        tier.entries();
        tier.clear();
    }
}

fn conforms(tier: impl LocalTier) {
    assert_eq!(tier.check(), Ok(()));
    assert!(!tier.name().is_empty());
    an_entry_comes_back_as_it_was(&tier);
    the_last_insert_wins(&tier);
    keys_are_bytes(&tier);
    removed_and_cleared_is_gone(&tier);
    an_entry_lives_its_life(&tier);
    the_new_life_counts(&tier);
}

fn an_entry_comes_back_as_it_was(tier: &dyn LocalTier) {
    assert!(tier.get(b"k").is_none());
    let stored = entry(42);
    tier.insert(b"k", stored.clone(), 10, LIFE);
    let back = tier.get(b"k").unwrap();
    assert_eq!(back.meta, stored.meta);
    assert_eq!(number(back), 42);
    tier.insert(b"n", LocalEntry { value: None, ..stored }, 1, LIFE);
    assert!(tier.get(b"n").unwrap().value.is_none(), "a negative entry is an entry");
    assert!((1..=2).contains(&tier.entries()));
}

fn the_last_insert_wins(tier: &dyn LocalTier) {
    for round in 0..100 {
        tier.insert(b"k", entry(round), round % 7 + 1, LIFE);
        assert_eq!(number(tier.get(b"k").unwrap()), round);
    }
}

fn keys_are_bytes(tier: &dyn LocalTier) {
    for (number, key) in
        [&b""[..], b"\0", b"\xff\xfe", b"a\r\nb", &[b'x'; 10_000]].iter().enumerate()
    {
        tier.insert(key, entry(number as u64), 1, LIFE);
    }
    for (value, key) in
        [&b""[..], b"\0", b"\xff\xfe", b"a\r\nb", &[b'x'; 10_000]].iter().enumerate()
    {
        assert_eq!(number(tier.get(key).unwrap()), value as u64);
    }
}

fn removed_and_cleared_is_gone(tier: &dyn LocalTier) {
    tier.remove(b"never there");
    tier.insert(b"k", entry(1), 1, LIFE);
    tier.remove(b"k");
    assert!(tier.get(b"k").is_none());
    tier.insert(b"k", entry(2), 1, LIFE);
    assert_eq!(number(tier.get(b"k").unwrap()), 2);
    tier.clear();
    assert!(tier.get(b"k").is_none() && tier.get(b"").is_none());
    assert_eq!(tier.entries(), 0);
    tier.insert(b"k", entry(3), 1, LIFE);
    assert_eq!(number(tier.get(b"k").unwrap()), 3, "after a clear it takes entries again");
}

fn an_entry_lives_its_life(tier: &dyn LocalTier) {
    tier.insert(b"short", entry(1), 1, Duration::from_millis(60));
    tier.insert(b"none", entry(1), 1, Duration::ZERO);
    tier.insert(b"ever", entry(1), 1, Duration::MAX);
    assert!(tier.get(b"short").is_some());
    assert!(tier.get(b"none").is_none());
    // Moka's expiry has no clock of ours: a real wait.
    sleep(Duration::from_millis(100));
    assert!(tier.get(b"short").is_none());
    assert!(tier.get(b"ever").is_some());
}

fn the_new_life_counts(tier: &dyn LocalTier) {
    tier.insert(b"longer", entry(1), 1, Duration::from_millis(50));
    tier.insert(b"longer", entry(2), 1, LIFE);
    tier.insert(b"shorter", entry(1), 1, LIFE);
    tier.insert(b"shorter", entry(2), 1, Duration::from_millis(50));
    sleep(Duration::from_millis(100));
    assert_eq!(tier.get(b"longer").map(number), Some(2), "kept the deadline of the replaced entry");
    assert!(tier.get(b"shorter").is_none(), "kept the deadline of the replaced entry");
}
