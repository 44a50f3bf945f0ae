//! Leases that cannot be renewed: a long load ends well all the same, and nobody asks again and again.

use std::time::Duration;

use futures_util::future::join_all;
use tiered::{Outcome, Tiered, tiers::TierError};

use crate::support::{DbDown, Rig, SECOND, node, rig_with};

const LEASE: Duration = Duration::from_secs(6);

fn rig(renewal: Result<bool, TierError>) -> Rig {
    let rig = rig_with(|builder| builder.lease_for(LEASE));
    rig.l2.renews(renewal);
    rig
}

/// A load of so long, by both clocks; in single steps, so that whatever is to happen in between does.
async fn takes(rig: &Rig, time: Duration) {
    let step = Duration::from_millis(100);
    for _ in 0..time.as_millis() / step.as_millis() {
        tokio::time::sleep(step).await;
        rig.clock.advance(step);
    }
}

/// Loads one key, or several in a batch. Whether they were stored.
async fn load(rig: &Rig, time: Duration, keys: u32) -> bool {
    if keys == 1 {
        let loader = |_| async {
            takes(rig, time).await;
            Ok::<_, DbDown>(Some(0_u32))
        };
        let loaded = rig.cache.key(0).load(loader).await.unwrap();
        assert_eq!((loaded.outcome, loaded.value.as_deref()), (Outcome::Load, Some(&0)));
    } else {
        let loader = |missing: Vec<u32>| async {
            takes(rig, time).await;
            Ok::<_, DbDown>(missing.into_iter().map(|key| (key, key)).collect::<Vec<_>>())
        };
        for (key, loaded) in (0..).zip(rig.cache.get_or_load_many(0..keys, loader).await) {
            assert_eq!(*loaded.unwrap().unwrap(), key);
        }
    }
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let stored = join_all((0..keys).map(|key| stored(&other, key))).await;
    assert!(stored.iter().all(|is_stored| *is_stored == stored[0]), "{stored:?}");
    stored[0]
}

async fn stored(cache: &Tiered, key: u32) -> bool {
    let found = cache.get::<u32>(key).await.unwrap();
    found.is_some_and(|value| *value == key)
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_renews_no_leases_is_asked_once() {
    for keys in [1, 3] {
        for (time, is_stored) in [(LEASE - SECOND, true), (20 * LEASE, false)] {
            let rig = rig(Err(TierError::Unsupported("no renewals".into())));
            let before = rig.l2.operations();
            assert_eq!(load(&rig, time, keys).await, is_stored, "{time:?}");
            assert_eq!(rig.l2.renewals(), keys as usize, "{time:?}");
            assert!(rig.l2.operations() - before <= 10 * keys as usize, "{time:?}");
            assert_eq!(rig.cache.health().await.l2.unwrap().down, None);
            // And the next load is stored.
            assert!(load_anew(&rig, keys).await);
        }
    }
}

async fn load_anew(rig: &Rig, keys: u32) -> bool {
    for key in 0..keys {
        rig.cache.invalidate(key).await.unwrap();
    }
    load(rig, SECOND, keys).await
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_not_asked_for_again() {
    for keys in [1, 3] {
        let rig = rig(Ok(false));
        assert!(!load(&rig, 20 * LEASE, keys).await);
        assert_eq!(rig.l2.renewals(), keys as usize);
        assert!(load_anew(&rig, keys).await);
    }
}

/// One that fails is tried again, three times in the life of a lease, and not for ever.
#[tokio::test(start_paused = true)]
async fn renewals_that_fail_are_tried_now_and_then() {
    for keys in [1, 3] {
        let error = TierError::Unreachable("no renewals".into());
        let rig = rig(Err(error));
        assert!(load(&rig, LEASE - SECOND, keys).await, "its lease stands");
        assert_eq!(rig.l2.renewals(), 2 * keys as usize);
        let before = rig.l2.renewals();
        assert!(!load_for_long(&rig, keys).await);
        assert_eq!(rig.l2.renewals() - before, 36 * keys as usize);
    }
}

async fn load_for_long(rig: &Rig, keys: u32) -> bool {
    for key in 0..keys {
        rig.cache.invalidate(key).await.unwrap();
    }
    load(rig, 30 * LEASE, keys).await
}
