//! A hit in L1 allocates nothing. A binary of its own, for its allocator counts.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use futures_util::FutureExt;
use tiered::{
    Key, Tiered,
    tiers::{DashMap, Memory, Moka},
};

#[test]
fn a_hit_in_l1_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let caches = [
        Tiered::new(Moka::new(1_000), Memory::new()).build().unwrap(),
        Tiered::new(DashMap::new(1_000), Memory::new()).build().unwrap(),
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
