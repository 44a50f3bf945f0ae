//! The generations of tags, when their records are lost, forged, half made, copied or out of reach: what depends on them
//! costs a load, and no old entry is believed.

use tiered::{ Outcome, Tiered};

use crate::support::{DbDown, Net, listens, node};

scenarios!(processes_agree_again_after_a_generation_was_lost,);

/// Loads `value`, and says what came of it.
async fn load(cache: &Tiered, key: &str, tags: &[&str], value: u32) -> (u32, Outcome) {
    let loader = |_| async move { Ok::<_, DbDown>(Some(value)) };
    let answer = cache.key(key).tags(tags).load(loader).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

/// What L2 has of a key, as a cache reads it.
async fn in_l2(cache: &Tiered, key: &str) -> Option<u32> {
    let found = cache.key(key).skip_l1().get::<u32>().await;
    found.ok().flatten().map(|value| *value)
}

/// Two processes know the generation of the namespace by the bus, and never look it up again. Then its record is
/// evicted, or its life ends; a third process makes another.
async fn processes_agree_again_after_a_generation_was_lost() {
    let net = Net::new();
    let (a, b) = (net.node(), net.node());
    for cache in [&a, &b] {
        listens(cache).await;
        load(cache, "before", &["t"], 1).await;
    }
    for lost in [b"tiered%tag:".as_slice(), b"tiered%tag:t"] {
        net.l2.delete(lost).await.unwrap();
        let c = net.node();
        listens(&c).await;
        load(&c, "after", &["t"], 2).await;
        for (round, key) in ["x", "y", "z"].into_iter().enumerate() {
            for cache in [&a, &b, &c] {
                cache.invalidate(key).await.unwrap();
                load(cache, key, &["t"], 3).await;
            }
            if round > 0 {
                for cache in [&a, &b, &c] {
                    assert_eq!(in_l2(cache, key).await, Some(3), "{round}");
                }
            }
        }
    }
}
