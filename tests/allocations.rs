//! A hit in L1 allocates nothing, an entry for L2 once. A binary of its own, for its allocator counts.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tiered::{
    Key, Postcard, Tiered,
    codecs::{CodecFor, envelope::Meta},
    tiers::{Clock, DashMap, LocalEntry, LocalMeta, LocalTier, Memory, Moka, Quick},
};

#[test]
fn a_hit_in_l1_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let caches = [
        Tiered::new(Moka::new(1_000), Memory::new()).build().unwrap(),
        Tiered::new(DashMap::new(1_000), Memory::new()).build().unwrap(),
        Tiered::new(Quick::new(1_000), Memory::new()).build().unwrap(),
    ];
    runtime.block_on(async {
        for cache in caches {
            for id in 0..100 {
                let _ = cache.set(format!("user:{id}"), format!("user {id}")).await.unwrap();
            }
            let hits = || {
                for id in 0..100_u32 {
                    let key = Key::from(format_args!("user:{id}"));
                    let load = || async { Ok::<_, std::io::Error>(String::new()) };
                    let got = cache.get::<String>(&key).now_or_never().unwrap().unwrap().unwrap();
                    let loaded = cache.get_or_load(key, load).now_or_never().unwrap().unwrap();
                    assert_eq!(got, loaded);
                }
            };
            // Moka does its housekeeping, which allocates, along with the first operations.
            (0..50).for_each(|_| hits());
            let least =
                (0..20).map(|_| allocation_counter::measure(hits).count_total).min().unwrap();
            assert_eq!(least, 0, "allocations in 200 hits of {cache:?}");
        }
    });
}

#[test]
fn finding_entries_dead_allocates_nothing() {
    let clock = Clock::manual();
    let tiers: [Box<dyn LocalTier>; 2] = [
        Box::new(DashMap::new(1_000).with_clock(clock.clone())),
        Box::new(Quick::new(1_000).with_clock(clock.clone())),
    ];
    for tier in tiers {
        let now = clock.now();
        let meta = LocalMeta {
            born: now,
            fresh_until: now,
            stale_until: now,
            proven_until: now,
            generation: 0,
            type_id: std::any::TypeId::of::<u64>(),
            schema: 0,
            source_version: 0,
        };
        for key in 0..500_u64 {
            let entry = LocalEntry { value: None, meta, marks: None };
            tier.insert(&key.to_be_bytes(), entry, 1, Duration::from_secs(1));
        }
        clock.advance(Duration::from_secs(2));
        let find = || assert!((0..500_u64).all(|key| tier.get(&key.to_be_bytes()).is_none()));
        assert_eq!(allocation_counter::measure(find).count_total, 0, "{tier:?}");
    }
}

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
    roles: Vec<(u8, Option<String>)>,
}

/// Packs `value` again and again, and counts the fewest allocations of one time.
fn allocations(codec: &impl CodecFor<User>, value: &User) -> u64 {
    let pack = || drop(codec.pack(&Meta::default(), b"shop:user:1", Some(value)).unwrap());
    (0..10).map(|_| allocation_counter::measure(pack).count_total).min().unwrap()
}

#[test]
fn an_entry_is_allocated_once() {
    for roles in [0, 5, 5_000] {
        let roles = vec![(1, Some("editor".to_owned())); roles];
        let user = User { name: "Ada".into(), roles };
        assert_eq!(allocations(&Postcard, &user), 1, "Postcard");
        assert_eq!(allocations(&tiered::Json, &user), 1, "Json");
        assert_eq!(allocations(&tiered::MessagePack, &user), 1, "MessagePack");
        let sealed = tiered::Sealed::new(Postcard, tiered::SealKey::new(1, [1; 32]));
        assert_eq!(allocations(&sealed, &user), 1, "Sealed");
        let zstd = tiered::Zstd::new(Postcard).threshold(1 << 20);
        assert_eq!(allocations(&zstd, &user), 1, "Zstd, below the threshold");
    }
}
