//! What every [`LocalTier`] does, whatever it is built on.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{LocalEntry, LocalMeta, LocalTier};

const LIFE: Duration = Duration::from_secs(600);

/// Runs the conformance suite of L1 against tiers that `make` makes, one for each part of it. They
/// must have room for a hundred entries and a weight of ten thousand, and keep what was just put
/// into them. Takes about half a second: lives end by the machine's clock.
///
/// ```
/// # #[cfg(feature = "quick")] {
/// use tiered_tiers::{Quick, testing};
///
/// testing::local_tier_conforms(|| std::sync::Arc::new(Quick::new(1_000)));
/// # }
/// ```
///
/// # Panics
/// When a tier does something else than its contract says; the message tells what.
pub fn local_tier_conforms(make: impl Fn() -> Arc<dyn LocalTier>) {
    assert_eq!(make().check(), Ok(()));
    assert!(!make().name().is_empty(), "a tier has a name");
    assert!(!format!("{:?}", make()).is_empty());
    an_entry_comes_back_as_it_was(&*make());
    the_last_insert_wins(&*make());
    keys_are_bytes(&*make());
    removed_and_cleared_is_gone(&*make());
    a_prefix_is_forgotten(&*make());
    an_entry_lives_its_life(&*make());
    the_new_life_counts(&*make());
    what_cannot_be_kept_leaves_nothing_old(&*make());
    values_die_with_their_entries(&*make());
    threads_see_their_own_effects(&*make());
}

/// An entry that holds a number.
fn entry(value: u64) -> LocalEntry {
    let now = Instant::now();
    let meta = LocalMeta {
        born: now,
        fresh_until: now,
        stale_until: now,
        proven_until: now,
        generation: 0,
        type_id: std::any::TypeId::of::<u64>(),
        schema: 7,
        source_version: 0,
    };
    LocalEntry { value: Some(Arc::new(value)), meta, marks: None }
}

/// The number in an entry.
fn number(entry: LocalEntry) -> u64 {
    *entry.value.unwrap().downcast::<u64>().unwrap()
}

/// A real wait: a tier need not know a clock of ours.
#[allow(clippy::disallowed_methods, reason = "a test blocks its own thread")]
fn wait(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn an_entry_comes_back_as_it_was(tier: &dyn LocalTier) {
    assert!(tier.get(b"k").is_none());
    let stored = entry(42);
    tier.insert(b"k", stored.clone(), 10, LIFE);
    let back = tier.get(b"k").expect("what was just put in is there");
    assert_eq!(back.meta, stored.meta);
    assert_eq!(number(back), 42);
    tier.insert(b"n", LocalEntry { value: None, ..stored }, 1, LIFE);
    assert!(tier.get(b"n").unwrap().value.is_none(), "a negative entry is an entry");
    let entries = tier.entries();
    assert!((1..=2).contains(&entries), "of 2 entries it counts {entries}");
}

fn the_last_insert_wins(tier: &dyn LocalTier) {
    for round in 0..100 {
        tier.insert(b"k", entry(round), round % 7 + 1, LIFE);
        assert_eq!(number(tier.get(b"k").unwrap()), round);
    }
}

fn keys_are_bytes(tier: &dyn LocalTier) {
    let keys = [&b""[..], b"\0", b"\xff\xfe", b"a\r\nb", &[b'x'; 10_000]];
    for (number, key) in (0..).zip(keys) {
        tier.insert(key, entry(number), 1, LIFE);
    }
    for (value, key) in (0..).zip(keys) {
        assert_eq!(number(tier.get(key).unwrap()), value, "keys are told apart by all their bytes");
    }
}

fn removed_and_cleared_is_gone(tier: &dyn LocalTier) {
    tier.remove(b"never there");
    tier.insert(b"k", entry(1), 1, LIFE);
    tier.remove(b"k");
    assert!(tier.get(b"k").is_none(), "it was removed");
    tier.insert(b"k", entry(2), 1, LIFE);
    tier.insert(b"l", entry(2), 1, LIFE);
    assert_eq!(number(tier.get(b"k").unwrap()), 2);
    tier.clear();
    assert!(tier.get(b"k").is_none() && tier.get(b"l").is_none(), "all was cleared");
    assert_eq!(tier.entries(), 0);
    tier.insert(b"k", entry(3), 1, LIFE);
    assert_eq!(number(tier.get(b"k").unwrap()), 3, "after a clear it takes entries again");
}

/// Those without the prefix may go too: not every tier can tell.
fn a_prefix_is_forgotten(tier: &dyn LocalTier) {
    let keys: [&[u8]; 4] = [b"a:", b"a:1", b"a:\xff\0", b"a:1:2"];
    for key in keys {
        tier.insert(key, entry(1), 10, LIFE);
    }
    tier.remove_prefix(b"a:");
    for key in keys {
        assert!(tier.get(key).is_none(), "{key:?} has the prefix");
    }
    tier.insert(b"a:1", entry(2), 10, LIFE);
    assert_eq!(number(tier.get(b"a:1").unwrap()), 2, "the prefix takes entries again");
    tier.remove_prefix(b"");
    assert!(tier.get(b"a:1").is_none(), "all keys begin with nothing");
}

fn an_entry_lives_its_life(tier: &dyn LocalTier) {
    tier.insert(b"short", entry(1), 1, Duration::from_millis(60));
    tier.insert(b"none", entry(1), 1, Duration::ZERO);
    tier.insert(b"ever", entry(1), 1, Duration::MAX);
    assert!(tier.get(b"none").is_none(), "no life at all is none");
    wait(100);
    assert!(tier.get(b"short").is_none(), "its life has ended");
    assert!(tier.get(b"ever").is_some());
}

fn the_new_life_counts(tier: &dyn LocalTier) {
    tier.insert(b"longer", entry(1), 1, Duration::from_millis(50));
    tier.insert(b"longer", entry(2), 1, LIFE);
    tier.insert(b"shorter", entry(1), 1, LIFE);
    tier.insert(b"shorter", entry(2), 1, Duration::from_millis(50));
    wait(100);
    assert_eq!(tier.get(b"longer").map(number), Some(2), "kept the deadline of the replaced entry");
    assert!(tier.get(b"shorter").is_none(), "kept the deadline of the replaced entry");
}

fn what_cannot_be_kept_leaves_nothing_old(tier: &dyn LocalTier) {
    tier.insert(b"k", entry(1), 1, LIFE);
    tier.insert(b"k", entry(2), u64::MAX, LIFE);
    assert_ne!(tier.get(b"k").map(number), Some(1), "the old entry survived its successor");
    tier.insert(b"l", entry(3), 0, LIFE);
    assert_eq!(tier.get(b"l").map(number), Some(3), "an entry may weigh nothing");
}

fn values_die_with_their_entries(tier: &dyn LocalTier) {
    let held = Arc::new(1_u64);
    let with = || LocalEntry { value: Some(held.clone()), ..entry(0) };
    for key in [b"a", b"b", b"c"] {
        tier.insert(key, with(), 1, LIFE);
    }
    tier.insert(b"a", entry(1), 1, LIFE);
    tier.remove(b"b");
    tier.clear();
    // Some tiers free memory along with later operations.
    for round in 0..1_000_u64 {
        tier.insert(&round.to_be_bytes(), entry(round), 1, LIFE);
        tier.get(&round.to_be_bytes());
        tier.entries();
    }
    assert_eq!(Arc::strong_count(&held), 1, "values are still held");
}

/// Each thread has keys of its own, and all of them share one.
fn threads_see_their_own_effects(tier: &dyn LocalTier) {
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for round in 0..2_000_u64 {
                    let (key, value) =
                        ([thread, round % 8].map(u64::to_be_bytes), thread << 32 | round);
                    let key = key.as_flattened();
                    tier.insert(key, entry(value), round % 3, LIFE);
                    if let Some(found) = tier.get(key) {
                        assert_eq!(number(found), value, "an insert that returned was not seen");
                    }
                    tier.insert(b"shared", entry(value), 1, LIFE);
                    if let Some(found) = tier.get(b"shared").map(number) {
                        assert!(found >> 32 < 4, "a value that nobody put there");
                    }
                    if round % 5 == 0 {
                        tier.remove(key);
                        assert!(tier.get(key).is_none(), "a removal that returned was not seen");
                    }
                }
            });
        }
    });
}
