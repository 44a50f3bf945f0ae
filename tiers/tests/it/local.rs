//! Every L1 under the conformance suite, and what only ours promise.

use std::{sync::Arc, time::Duration};

use tiered_tiers::{DashMap, LocalTier, Moka, Quick, testing::local_tier_conforms};

use crate::entry;

#[test]
fn moka_conforms() {
    local_tier_conforms(|| Arc::new(Moka::new(1_000)));
    local_tier_conforms(|| Arc::new(Moka::weighted(1_000_000)));
}

#[test]
fn dashmap_conforms() {
    local_tier_conforms(|| Arc::new(DashMap::new(1_000)));
    local_tier_conforms(|| Arc::new(DashMap::weighted(1_000_000)));
}

#[test]
fn quick_conforms() {
    local_tier_conforms(|| Arc::new(Quick::new(1_000)));
    local_tier_conforms(|| Arc::new(Quick::weighted(1_000_000)));
    local_tier_conforms(|| Arc::new(Quick::weighted(u64::MAX)));
}

#[test]
fn a_bound_of_nothing_is_refused_with_a_way_out() {
    let tiers: [(Box<dyn LocalTier>, &str); 6] = [
        (Box::new(Moka::new(0)), "Moka::new(0)"),
        (Box::new(Moka::weighted(0)), "Moka::weighted(0)"),
        (Box::new(DashMap::new(0)), "DashMap::new(0)"),
        (Box::new(DashMap::weighted(0)), "DashMap::weighted(0)"),
        (Box::new(Quick::new(0)), "Quick::new(0)"),
        (Box::new(Quick::weighted(0)), "Quick::weighted(0)"),
    ];
    for (tier, name) in tiers {
        let error = tier.check().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("at least 1"), "{error}");
        // Not built into a cache, it still harms nobody.
        tier.insert(b"k", entry(1), 1, Duration::from_secs(600));
        tier.entries();
        tier.clear();
    }
}

#[test]
fn a_prefix_takes_its_own_and_nothing_else() {
    let tiers: [Arc<dyn LocalTier>; 3] =
        [Arc::new(Moka::new(10_000)), Arc::new(DashMap::new(10_000)), Arc::new(Quick::new(10_000))];
    for tier in tiers {
        let put = |key: &str| tier.insert(key.as_bytes(), entry(1), 1, Duration::from_secs(600));
        let others = ["", "a", "a*", "A:", "b:a:1", "a;"];
        others.iter().for_each(|key| put(key));
        (0..3_000).for_each(|id| put(&format!("a:{id}")));
        assert_eq!(tier.remove_prefix(b"a:"), 3_000, "{}", tier.name());
        for id in 0..3_000 {
            assert!(tier.get(format!("a:{id}").as_bytes()).is_none(), "{} has a:{id}", tier.name());
        }
        for key in others {
            assert!(tier.get(key.as_bytes()).is_some(), "{} lost {key:?}", tier.name());
        }
        assert_eq!(tier.entries(), others.len() as u64, "{}", tier.name());
    }
}
