//! Quick from the inside: its books, its queues, and who goes.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{nodes::Queue, *};
use crate::LocalMeta;

const LIFE: Duration = Duration::from_secs(60);

fn entry(value: u32) -> LocalEntry {
    let now = Instant::now();
    let meta = LocalMeta {
        born: now,
        fresh_until: now,
        stale_until: now,
        proven_until: now,
        generation: 0,
        type_id: TypeId::of::<u32>(),
        schema: 0,
        source_version: 0,
    };
    LocalEntry { value: Some(Arc::new(value)), meta, marks: None }
}

fn number(entry: LocalEntry) -> u32 {
    *entry.value.unwrap().downcast::<u32>().unwrap()
}

/// Checks the total against the shards, and each shard against itself.
fn assert_whole(tier: &Quick) {
    let (mut weight, mut entries) = (0, 0);
    for cell in &tier.cells {
        let shard = cell.read();
        shard.assert_whole();
        assert_eq!(cell.weight.load(Ordering::Relaxed), shard.weight());
        weight += shard.weight();
        entries += shard.len() as u64;
    }
    assert_eq!((tier.room.taken(), tier.room.entries()), (weight, entries));
    assert!(weight <= tier.room.bound().limit());
}

#[test]
fn whatever_is_done_the_books_are_right_and_answers_are_the_last_insert_or_nothing() {
    for (bound, keys) in [(1, 3), (50, 12), (700, 200), (5_000, 900)] {
        let clock = Clock::manual();
        let tier = Quick::weighted(bound).with_clock(clock.clone());
        let mut model = HashMap::new();
        for round in 0..20_000_u32 {
            let key = fastrand::u64(..keys);
            let name = key.to_be_bytes();
            match fastrand::u8(..20) {
                0..2 => {
                    tier.remove(&name);
                    model.remove(&key);
                }
                2 if round % 64 == 0 => {
                    tier.clear();
                    model.clear();
                }
                3 => clock.advance(Duration::from_millis(fastrand::u64(..200))),
                4..12 => {
                    let life = Duration::from_millis(fastrand::u64(..3_000));
                    let cost = fastrand::u64(..bound.div_ceil(3) + 3);
                    tier.insert(&name, entry(round), cost, life);
                    model.insert(key, (round, clock.now() + life));
                }
                _ => {
                    if let Some(found) = tier.get(&name) {
                        let (value, expires) = model[&key];
                        assert_eq!(number(found), value);
                        assert!(expires > clock.now(), "it was dead");
                    }
                }
            }
            if round % 16 == 0 {
                assert_whole(&tier);
            }
        }
        (0..keys).for_each(|key| tier.remove(&key.to_be_bytes()));
        assert_whole(&tier);
        assert_eq!(tier.room.taken(), 0);
    }
}

/// One shard with `entries` keys, all of them new, and its bound's share.
fn shard(entries: u64, share: u64) -> (Shard, Instant) {
    let (mut shard, now) = (Shard::default(), Instant::now());
    for key in 0..entries {
        add(&mut shard, key, share, now + LIFE);
    }
    (shard, now)
}

/// The key stands for its hash.
fn add(shard: &mut Shard, key: u64, share: u64, expires: Instant) {
    shard.add(Node::new(&key.to_be_bytes(), key, entry(0), expires, 1), share);
}

fn standing(shard: &Shard, key: u64) -> Option<Queue> {
    shard.get(key, &key.to_be_bytes()).map(|node| node.queue)
}

#[test]
fn while_there_is_room_entries_need_no_trial_and_then_they_do() {
    let (shard, _) = shard(100, 100);
    assert_eq!(standing(&shard, 89), Some(Queue::Hot));
    assert_eq!(standing(&shard, 90), Some(Queue::Cold));
}

#[test]
fn who_was_let_go_and_comes_back_soon_needs_no_trial_again() {
    let (mut shard, now) = shard(100, 100);
    let mut evict = || shard.evict(now).map(|node| node.hash);
    assert_eq!(evict(), Some(90), "the oldest on trial");
    assert_eq!(evict(), Some(91));
    assert_eq!(evict(), Some(0), "a tenth of the room is for trials");
    add(&mut shard, 200, 100, now + LIFE);
    assert_eq!(standing(&shard, 200), Some(Queue::Hot), "there was room");
    add(&mut shard, 201, 100, now + LIFE);
    assert_eq!(standing(&shard, 201), Some(Queue::Cold));
    add(&mut shard, 90, 100, now + LIFE);
    assert_eq!(standing(&shard, 90), Some(Queue::Hot));
}

#[test]
fn one_use_ends_the_trial() {
    let (mut shard, now) = shard(100, 100);
    shard.get(90, &90_u64.to_be_bytes()).unwrap().touch();
    shard.evict(now);
    assert_eq!(standing(&shard, 90), Some(Queue::Hot));
}

#[test]
fn an_eviction_ends_soon_even_if_all_are_used() {
    let (mut shard, now) = shard(10_000, 10_000);
    for key in 0..10_000_u64 {
        shard.get(key, &key.to_be_bytes()).unwrap().touch();
        shard.get(key, &key.to_be_bytes()).unwrap().touch();
    }
    assert_eq!(shard.evict(now).map(|node| node.hash), Some(63), "after 64 that were spared");
}

#[test]
fn a_dead_entry_goes_however_often_it_was_used_and_keeps_its_standing() {
    let (mut shard, now) = shard(100, 100);
    for key in 0..100_u64 {
        shard.get(key, &key.to_be_bytes()).unwrap().touch();
    }
    let later = now + LIFE;
    assert!(shard.remove_dead(5, &5_u64.to_be_bytes(), now).is_none(), "it lives");
    assert!(shard.remove_dead(5, &5_u64.to_be_bytes(), later).is_some());
    assert_eq!(shard.sweep(later).map(|node| node.hash), Some(0));
    assert_eq!(shard.evict(later).map(|node| node.hash), Some(90));
    for key in 200..210 {
        add(&mut shard, key, 100, later + LIFE);
    }
    for key in [0, 5] {
        add(&mut shard, key, 50, later + LIFE);
        assert_eq!(standing(&shard, key), Some(Queue::Hot));
    }
    add(&mut shard, 90, 50, later + LIFE);
    assert_eq!(standing(&shard, 90), Some(Queue::Cold), "it never had a standing");
}

#[test]
fn a_cleared_tier_gives_its_memory_back() {
    let tier = Quick::new(1_000);
    for key in 0..1_000_u32 {
        tier.insert(&key.to_be_bytes(), entry(key), 1, LIFE);
    }
    tier.clear();
    assert_whole(&tier);
    assert!(tier.cells.iter().all(|cell| cell.read().places() == 0));
}

#[test]
fn a_value_whose_destructor_uses_the_tier_does_not_deadlock() {
    struct Nosy(std::sync::Weak<Quick>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            if let Some(tier) = self.0.upgrade() {
                tier.get(b"k");
                tier.remove(b"other");
            }
        }
    }
    let clock = Clock::manual();
    let tier = Arc::new(Quick::new(3).with_clock(clock.clone()));
    let nosy = || LocalEntry { value: Some(Arc::new(Nosy(Arc::downgrade(&tier)))), ..entry(0) };
    for round in 0..20_u8 {
        tier.insert(b"k", nosy(), 1, LIFE);
        tier.insert(&[round], nosy(), 1, LIFE);
    }
    clock.advance(LIFE);
    tier.get(b"k");
    tier.insert(b"l", nosy(), 1, LIFE);
    tier.insert(b"l", nosy(), 2, LIFE);
    tier.clear();
    tier.insert(b"k", nosy(), 1, LIFE);
    tier.remove(b"k");
    assert_eq!(tier.entries(), 0);
}
