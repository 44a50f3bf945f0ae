//! Versions of the source: an older one replaces no newer one, in either tier, whoever stores it.

use futures_util::future::join_all;
use tiered::{
    Ack, Tiered,
    tiers::{Moka, RemoteTier as _},
};

use crate::{
    support::{DbDown, Rig, SECOND, State, eventually, node, rig, rig_with},
    writers::stages,
};

scenarios! {
    an_older_version_is_refused_and_an_equal_or_newer_one_is_stored,
    a_set_that_says_no_version_wins_as_ever,
    the_other_schema_versions_entry_counts_too,
    what_was_loaded_with_a_version_is_compared_with,
    without_a_server_l1_is_compared_with,
    without_an_answer_nothing_old_is_served,
    an_invalidation_forgets_the_version,
    many_at_once_leave_the_highest,
    a_version_that_comes_between_the_comparison_and_the_store_is_not_lost,
    several_keys_are_compared_one_by_one,
    of_a_write_in_the_other_slot_at_the_same_time_the_older_one_is_not_left,
    the_other_slot_is_read_under_the_lease,
    those_of_one_process_do_not_take_the_lease_from_each_other,
}

async fn set(cache: &Tiered, version: u64) -> Ack {
    cache.key("k").source_version(version).set(version).await.unwrap()
}

/// What a cache that has just come has.
async fn stored(cache: &Tiered) -> Option<u64> {
    cache.key("k").skip_l1().get::<u64>().await.unwrap().as_deref().copied()
}

/// One whose budget outlasts what a test holds up.
fn patient() -> Rig {
    rig_with(|builder| builder.budget(20 * SECOND))
}

async fn an_older_version_is_refused_and_an_equal_or_newer_one_is_stored() {
    for stage in stages(2).await {
        let [one, two] = &stage.caches[..] else { panic!("two") };
        for (cache, version, ack, left) in [
            (one, 5, Ack::Done, 5),
            (two, 3, Ack::Superseded, 5),
            (one, 3, Ack::Superseded, 5),
            (two, 5, Ack::Done, 5),
            (two, 8, Ack::Done, 8),
            (two, 7, Ack::Superseded, 8),
        ] {
            assert_eq!(set(cache, version).await, ack, "{version} {}", stage.what());
            assert_eq!(stored(cache).await, Some(left));
            assert_eq!(cache.get::<u64>("k").await.unwrap().as_deref(), Some(&left));
        }
    }
}

async fn a_set_that_says_no_version_wins_as_ever() {
    let rig = rig();
    assert_eq!(set(&rig.cache, 5).await, Ack::Done);
    assert_eq!(rig.cache.set("k", 1_u64).await.unwrap(), Ack::Done);
    assert_eq!(stored(&rig.cache).await, Some(1));
    assert_eq!(set(&rig.cache, 2).await, Ack::Done, "what is there has no version");
}

async fn the_other_schema_versions_entry_counts_too() {
    for (schema, other) in [(0, 1), (1, 0), (2, 0)] {
        let rig = rig();
        let set = |schema, version| {
            let request = rig.cache.key("k").skip_l1().schema(schema).source_version(version);
            async move { request.set(version).await.unwrap() }
        };
        assert_eq!(set(schema, 5).await, Ack::Done);
        assert_eq!(set(other, 4).await, Ack::Superseded, "{schema} {other}");
        assert_eq!(set(other, 6).await, Ack::Done);
        assert_eq!(set(schema, 5).await, Ack::Superseded);
    }
}

async fn what_was_loaded_with_a_version_is_compared_with() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let load = |context: tiered::LoadContext| async move {
        context.source_version(7);
        Ok::<_, DbDown>(Some(7_u64))
    };
    rig.cache.key("k").load(load).await.unwrap();
    assert_eq!(set(&other, 6).await, Ack::Superseded);
    // Once read from there, L1 knows it too.
    assert_eq!(other.get::<u64>("k").await.unwrap().as_deref(), Some(&7));
    rig.l2.switch(State::Failing);
    assert_eq!(set(&other, 6).await, Ack::Superseded);
    assert_eq!(other.get::<u64>("k").await.unwrap().as_deref(), Some(&7));
}

async fn without_a_server_l1_is_compared_with() {
    let cache = Tiered::local(Moka::new(100)).build().unwrap();
    let set = |version: u64| {
        let request = cache.key("k").source_version(version);
        async move { request.set(version).await.unwrap() }
    };
    for (version, ack, left) in [(5, Ack::Done, 5), (4, Ack::Superseded, 5), (6, Ack::Done, 6)] {
        assert_eq!(set(version).await, ack);
        assert_eq!(cache.get::<u64>("k").await.unwrap().as_deref(), Some(&left));
    }
}

async fn without_an_answer_nothing_old_is_served() {
    let rig = rig();
    assert_eq!(set(&rig.cache, 5).await, Ack::Done);
    rig.l2.switch(State::Failing);
    assert_eq!(set(&rig.cache, 6).await, Ack::Pending);
    assert_eq!(rig.cache.get::<u64>("k").await.unwrap().as_deref(), Some(&6));
    assert_eq!(set(&rig.cache, 4).await, Ack::Superseded);
    assert_eq!(rig.cache.get::<u64>("k").await.unwrap().as_deref(), Some(&6));
}

async fn an_invalidation_forgets_the_version() {
    let rig = rig();
    assert_eq!(set(&rig.cache, 5).await, Ack::Done);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    assert_eq!(set(&rig.cache, 3).await, Ack::Done);
    // One that is pending, too: what is to be dropped is compared with nothing.
    rig.l2.switch(State::Failing);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
    rig.l2.switch(State::Up);
    assert_eq!(set(&rig.cache, 2).await, Ack::Done);
    // The replay in the background may be the last to drop it.
    assert!(matches!(stored(&rig.cache).await, Some(2) | None));
}

async fn many_at_once_leave_the_highest() {
    for stage in stages(2).await {
        for round in 0..20 {
            let mut versions: Vec<u64> = (1..=8).map(|version| round * 10 + version).collect();
            fastrand::shuffle(&mut versions);
            let tasks = versions.into_iter().map(|version| {
                // Of one process, or of two.
                let at = usize::try_from(version).unwrap() % stage.caches.len();
                let cache = stage.caches[at].clone();
                tokio::spawn(async move { (version, set(&cache, version).await) })
            });
            for ended in join_all(tasks).await {
                let (version, ack) = ended.unwrap();
                assert!(ack == Ack::Done || (ack == Ack::Superseded && version < round * 10 + 8));
            }
            for cache in &stage.caches {
                let left = stored(cache).await;
                assert_eq!(left, Some(round * 10 + 8), "round {round} over {}", stage.what());
            }
        }
    }
}

async fn a_version_that_comes_between_the_comparison_and_the_store_is_not_lost() {
    let rig = patient();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    // The older one stops after each of its steps on the server; the newer one comes in between.
    for steps in 0..4 {
        let _ = other.invalidate("k").await.unwrap();
        rig.l2.switch(State::Gated);
        let before = rig.l2.operations();
        let cache = rig.cache.clone();
        let older = tokio::spawn(async move { set(&cache, 3).await });
        for step in 0..=steps {
            eventually("the next step", || {
                rig.l2.operations() > before + step || older.is_finished()
            })
            .await;
            if step < steps {
                rig.l2.admit(1);
            }
        }
        rig.l2.switch(State::Up);
        assert_eq!(set(&other, 4).await, Ack::Done);
        rig.l2.admit(100);
        assert!(matches!(older.await.unwrap(), Ack::Superseded | Ack::Done));
        let left = stored(&other).await;
        assert!(left == Some(4), "after {steps} steps {left:?} is left");
        rig.clock.advance(11 * SECOND);
        let here = rig.cache.get::<u64>("k").await.unwrap();
        assert_eq!(here.as_deref(), Some(&4));
        rig.l2.drain();
    }
}

async fn several_keys_are_compared_one_by_one() {
    let rig = rig();
    assert_eq!(rig.cache.key(1).source_version(5).set(0_u64).await.unwrap(), Ack::Done);
    let acks = rig.cache.keys([1, 2]).source_version(4).set(vec![4_u64, 4]).await;
    let acks: Vec<_> = acks.into_iter().map(Result::unwrap).collect();
    assert_eq!(acks, [Ack::Superseded, Ack::Done]);
    rig.l2.switch(State::Hanging);
    let start = std::time::Instant::now();
    let many: Vec<u32> = (10..2_570).collect();
    let values: Vec<_> = many.iter().map(|_| 1_u64).collect();
    let acks = rig.cache.keys(many).source_version(4).set(values).await;
    assert!(acks.len() == 2_560 && acks.into_iter().all(|ack| ack.unwrap() == Ack::Pending));
    assert!(start.elapsed() < 3 * SECOND, "one budget for all: {:?}", start.elapsed());
}

async fn of_a_write_in_the_other_slot_at_the_same_time_the_older_one_is_not_left() {
    for round in 0..50 {
        let rig = rig();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        let set = |cache: &Tiered, schema, version: u64| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let request = cache.key("k").schema(schema).source_version(version);
                request.set(version).await.unwrap()
            })
        };
        let (one, two) = (set(&rig.cache, 0, 3), set(&other, 1, 4));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        assert!(two == Ack::Done, "round {round}: {one:?} {two:?}");
        let older = rig.memory.get(b"tiered:k").await.unwrap();
        assert_eq!(older, None, "round {round}: {one:?}");
    }
}

async fn the_other_slot_is_read_under_the_lease() {
    let rig = patient();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    // The older one has come to its lease, and does not have it yet.
    rig.l2.switch(State::Held);
    let before = rig.l2.operations();
    let cache = rig.cache.clone();
    let older = tokio::spawn(async move { set(&cache, 3).await });
    eventually("it asks for the lease", || rig.l2.operations() > before).await;
    rig.l2.switch(State::Up);
    let newer = other.key("k").schema(1).source_version(4);
    assert_eq!(newer.set(4_u64).await.unwrap(), Ack::Done);
    rig.l2.admit(1);
    assert_eq!(older.await.unwrap(), Ack::Superseded);
    assert_eq!(rig.memory.get(b"tiered:k").await.unwrap(), None);
    assert!(rig.memory.get(b"tiered:k%beside").await.unwrap().is_some());
}

async fn those_of_one_process_do_not_take_the_lease_from_each_other() {
    let rig = patient();
    rig.l2.switch(State::Gated);
    let tasks: Vec<_> = (1..=8)
        .map(|version| {
            let cache = rig.cache.clone();
            tokio::spawn(async move { set(&cache, version).await })
        })
        .collect();
    eventually("one of them has it", || rig.l2.operations() == 1).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.l2.operations(), 1);
    rig.l2.switch(State::Up);
    rig.l2.admit(1);
    for ended in join_all(tasks).await {
        assert_ne!(ended.unwrap(), Ack::Pending);
    }
    assert_eq!(stored(&rig.cache).await, Some(8));
}
