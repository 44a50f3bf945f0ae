//! Dropping what depends on a tag: in every process, whenever it was loaded, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tiered::{Ack, Builder, Error, Outcome, Postcard, Tiered, tiers::LocalBus};
use tokio::sync::Notify;

use crate::support::{Rig, SECOND, Source, State, node, rig, rig_with};

scenarios!(
    a_tag_drops_what_depends_on_it_and_nothing_else,
    another_process_sees_it_in_l2_at_once,
    with_a_bus_another_process_l1_hears_of_it,
    a_load_that_began_before_is_not_served_after,
    tags_that_only_the_value_reveals,
    a_tag_invalidated_during_the_load_that_reveals_it,
    a_lost_generation_costs_warmth_only,
    what_the_server_did_not_confirm_is_pending_and_not_served,
    a_stale_value_of_a_dropped_tag_does_not_stand_in,
    clear_is_one_step_with_a_bus,
    clear_walks_without_a_bus,
    tags_that_cannot_be_are_refused,
    a_cache_without_l2_has_tags_too,
    an_absence_depends_on_its_tags,
    contains_knows_of_tags,
    a_hot_tag_is_invalidated_while_everybody_reads,
);

async fn load(cache: &Tiered, key: &str, tags: &[&str], source: &Source) -> (usize, Outcome) {
    let answer =
        cache.key(key).tags(tags).load(|_| async { source.load().await.map(Some) }).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

fn with_bus(bus: &LocalBus) -> impl FnOnce(Builder<Postcard>) -> Builder<Postcard> {
    let bus = bus.clone();
    move |builder| builder.bus(bus)
}

/// Waits until a cache hears the bus.
async fn listening(cache: &Tiered) {
    drop(cache.get::<usize>("nothing").await);
    while cache.health().await.bus.unwrap().proven.is_none() {
        tokio::task::yield_now().await;
    }
}

async fn a_tag_drops_what_depends_on_it_and_nothing_else() {
    let (Rig { cache, .. }, source) = (rig(), Source::default());
    for (key, tags) in
        [("a", &["team:7", "all"][..]), ("b", &["team:8", "all"]), ("c", &["team:7"]), ("d", &[])]
    {
        load(&cache, key, tags, &source).await;
    }
    assert_eq!(cache.invalidate_tag("team:7").await.unwrap(), Ack::Done);
    let outcomes = async |cache: &Tiered| {
        let mut found = Vec::new();
        for key in ["a", "b", "c", "d"] {
            found.push(cache.get::<usize>(key).await.unwrap().is_some());
        }
        found
    };
    assert_eq!(outcomes(&cache).await, [false, true, false, true]);
    assert_eq!(load(&cache, "a", &["team:7", "all"], &source).await.1, Outcome::Load);
    assert_eq!(load(&cache, "a", &["team:7", "all"], &source).await.1, Outcome::HitL1);
    cache.invalidate_tag("all").await.unwrap();
    assert_eq!(outcomes(&cache).await, [false, false, false, true]);
}

async fn another_process_sees_it_in_l2_at_once() {
    let (Rig { cache, l2, clock, .. }, source) = (rig(), Source::default());
    let other = node(&l2, &clock, |builder| builder);
    load(&cache, "k", &["t"], &source).await;
    other.invalidate_tag("t").await.unwrap();
    let past_l1 = cache.key("k").skip_l1().get::<usize>().await.unwrap();
    assert_eq!(past_l1, None, "its generation is another");
    source.put(1);
    assert_eq!(load(&other, "k", &["t"], &source).await, (1, Outcome::Load));
    let past_l1 = cache.key("k").skip_l1().get::<usize>().await.unwrap();
    assert_eq!(past_l1.as_deref(), Some(&1));
}

async fn with_a_bus_another_process_l1_hears_of_it() {
    let bus = LocalBus::new();
    let (Rig { cache, l2, clock, .. }, source) = (rig_with(with_bus(&bus)), Source::default());
    let other = node(&l2, &clock, with_bus(&bus));
    listening(&cache).await;
    load(&cache, "k", &["t"], &source).await;
    assert_eq!(load(&cache, "k", &["t"], &source).await.1, Outcome::HitL1);
    other.invalidate_tag("t").await.unwrap();
    // The clock stands still: nothing but the message can have done it.
    while cache.get::<usize>("k").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

async fn a_load_that_began_before_is_not_served_after() {
    let Rig { cache, .. } = rig();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (cache, begun, go_on) = (cache.clone(), Arc::clone(&begun), Arc::clone(&go_on));
        async move {
            let loader = || async move {
                begun.notify_one();
                go_on.notified().await;
                Ok::<_, Error>(1_usize)
            };
            cache.key("k").tags(["t"]).get_or_load(loader).await.unwrap()
        }
    });
    begun.notified().await;
    assert_eq!(cache.invalidate_tag("t").await.unwrap(), Ack::Done);
    let later = tokio::spawn({
        let cache = cache.clone();
        async move {
            let loader = || async { Ok::<_, Error>(2_usize) };
            cache.key("k").tags(["t"]).get_or_load(loader).await.unwrap()
        }
    });
    go_on.notify_one();
    assert_eq!(*slow.await.unwrap(), 1, "its own caller gets what it has loaded");
    assert_eq!(*later.await.unwrap(), 2);
    assert_eq!(cache.get::<usize>("k").await.unwrap().as_deref(), Some(&2));
}

async fn tags_that_only_the_value_reveals() {
    let (Rig { cache, l2, clock, .. }, asked) = (rig(), AtomicUsize::new(0));
    let read = async |cache: &Tiered| {
        let loader = |context: tiered::LoadContext| {
            asked.fetch_add(1, Ordering::SeqCst);
            context.tags(["team:7"]);
            async { Ok::<_, Error>(Some(1_usize)) }
        };
        cache.key("k").load(loader).await.unwrap().outcome
    };
    // The first teaches the process to look for the epoch.
    assert_eq!(read(&cache).await, Outcome::Load);
    assert_eq!(cache.key("k").skip_l1().get::<usize>().await.unwrap(), None);
    cache.invalidate("k").await.unwrap();
    assert_eq!(read(&cache).await, Outcome::Load);
    assert_eq!(read(&cache).await, Outcome::HitL1);
    let other = node(&l2, &clock, |builder| builder);
    assert_eq!(read(&other).await, Outcome::HitL2);
    cache.invalidate_tag("team:7").await.unwrap();
    assert_eq!(read(&cache).await, Outcome::Load);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

async fn a_tag_invalidated_during_the_load_that_reveals_it() {
    let Rig { cache, .. } = rig();
    let reveal = async |key: &str, invalidates: Option<&str>| {
        let (cache, invalidates) = (cache.clone(), invalidates.map(str::to_owned));
        let inner = cache.clone();
        let loader = |context: tiered::LoadContext| async move {
            if let Some(tag) = invalidates {
                inner.invalidate_tag(tag).await.unwrap();
            }
            context.tags(["t"]);
            Ok::<_, Error>(Some(1_usize))
        };
        cache.key(key).load(loader).await.unwrap();
        cache.get::<usize>(key).await.unwrap().is_some()
    };
    reveal("first", None).await;
    assert!(reveal("k", None).await);
    assert!(!reveal("l", Some("t")).await, "kept nowhere");
    // Which tags it would reveal nobody knew: any invalidation counts.
    assert!(!reveal("m", Some("another")).await);
    assert!(reveal("n", None).await);
}

async fn a_lost_generation_costs_warmth_only() {
    let (Rig { cache, memory, .. }, source) = (rig(), Source::default());
    load(&cache, "k", &["t"], &source).await;
    tiered::tiers::RemoteTier::delete(&memory, b"tiered%tag:t").await.unwrap();
    assert_eq!(cache.key("k").skip_l1().get::<usize>().await.unwrap(), None);
    cache.invalidate("k").await.unwrap();
    load(&cache, "k", &["t"], &source).await;
    assert!(cache.key("k").skip_l1().get::<usize>().await.unwrap().is_some());
}

async fn what_the_server_did_not_confirm_is_pending_and_not_served() {
    let (Rig { cache, l2, .. }, source) = (rig(), Source::default());
    load(&cache, "k", &["t"], &source).await;
    l2.switch(State::Failing);
    assert_eq!(cache.invalidate_tag("t").await.unwrap(), Ack::Pending);
    assert_eq!(cache.health().await.pending, 1);
    l2.switch(State::Up);
    // Replayed, whoever does it first; never the old value.
    while cache.health().await.pending > 0 {
        let found = cache.key("k").skip_l1().strategy(tiered::CacheStrategy::Fresh);
        if let Ok(found) = found.get::<usize>().await {
            assert_eq!(found, None);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
}

async fn a_stale_value_of_a_dropped_tag_does_not_stand_in() {
    let Rig { cache, clock, .. } = rig_with(|builder| builder.stale_for(600 * SECOND));
    let source = Source::default();
    load(&cache, "k", &["t"], &source).await;
    clock.advance(61 * SECOND);
    let failing = async || {
        let loader = || async { Err::<usize, _>(std::io::Error::other("down")) };
        cache.key("k").tags(["t"]).get_or_load(loader).await
    };
    assert!(failing().await.is_ok(), "stale, while nothing was dropped");
    cache.invalidate_tag("t").await.unwrap();
    assert!(failing().await.is_err());
}

async fn clear_is_one_step_with_a_bus() {
    let bus = LocalBus::new();
    let (Rig { cache, l2, clock, .. }, source) = (rig_with(with_bus(&bus)), Source::default());
    let other = node(&l2, &clock, with_bus(&bus));
    listening(&other).await;
    for key in ["a", "b"] {
        load(&cache, key, &[], &source).await;
        load(&other, key, &[], &source).await;
    }
    assert_eq!(cache.clear().await.unwrap(), Ack::Done);
    for key in ["a", "b"] {
        assert_eq!(cache.get::<usize>(key).await.unwrap(), None);
        while other.get::<usize>(key).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    }
    load(&cache, "a", &[], &source).await;
    assert_eq!(load(&other, "a", &[], &source).await.1, Outcome::HitL2);
}

async fn clear_walks_without_a_bus() {
    let (Rig { cache, memory, .. }, source) = (rig(), Source::default());
    load(&cache, "a", &[], &source).await;
    assert_eq!(cache.clear().await.unwrap(), Ack::Done);
    assert_eq!(cache.get::<usize>("a").await.unwrap(), None);
    let found = tiered::tiers::RemoteTier::get(&memory, b"tiered:a").await.unwrap();
    assert!(found.is_none());
}

async fn tags_that_cannot_be_are_refused() {
    let (Rig { cache, .. }, long) = (rig(), "x".repeat(256));
    for bad in ["", &long] {
        let refused = cache.key("k").tags([bad]).set(1_usize).await.unwrap_err();
        assert!(format!("{refused:?}").contains("1 to 255"), "{refused:?}");
        let refused = cache.invalidate_tag(bad).await.unwrap_err();
        assert!(format!("{refused:?}").contains("1 to 255"), "{refused:?}");
    }
    let many = (0..65).map(|tag| tag.to_string());
    let refused = cache.key("k").tags(many).set(1_usize).await.unwrap_err();
    assert!(format!("{refused:?}").contains("at most 64"), "{refused:?}");
    // What a load says too late is not kept.
    let loader = |context: tiered::LoadContext| async move {
        context.tags([""]);
        Ok::<_, Error>(Some(1_usize))
    };
    assert_eq!(cache.key("k").load(loader).await.unwrap().outcome, Outcome::Load);
    assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
    let strange = "t:{1} %*\r\n\0é";
    cache.key("k").tags([strange]).set(1_usize).await.unwrap();
    assert!(cache.key("k").skip_l1().get::<usize>().await.unwrap().is_some());
    cache.invalidate_tag(strange).await.unwrap();
    assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
}

async fn a_cache_without_l2_has_tags_too() {
    let cache = Tiered::local(tiered::tiers::Moka::new(100)).build().unwrap();
    cache.key("k").tags(["t"]).set(1_usize).await.unwrap();
    cache.key("l").set(1_usize).await.unwrap();
    assert_eq!(cache.invalidate_tag("t").await.unwrap(), Ack::Done);
    assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
    assert!(cache.get::<usize>("l").await.unwrap().is_some());
}

async fn an_absence_depends_on_its_tags() {
    let Rig { cache, .. } = rig();
    let absent = async |cache: &Tiered| {
        let loader = |_| async { Ok::<_, Error>(None::<usize>) };
        cache.key("k").tags(["t"]).load(loader).await.unwrap().outcome
    };
    assert_eq!(absent(&cache).await, Outcome::Load);
    assert_eq!(absent(&cache).await, Outcome::Negative);
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(absent(&cache).await, Outcome::Load);
}

async fn contains_knows_of_tags() {
    let (Rig { cache, l2, clock, .. }, source) = (rig(), Source::default());
    let other = node(&l2, &clock, |builder| builder);
    load(&cache, "k", &["t"], &source).await;
    assert!(cache.contains("k").await.unwrap() && other.contains("k").await.unwrap());
    cache.invalidate_tag("t").await.unwrap();
    assert!(!cache.contains("k").await.unwrap() && !other.contains("k").await.unwrap());
}

/// Eight readers and one who commits and then invalidates the tag: what was acknowledged before a read began is what it
/// sees, or something newer.
async fn a_hot_tag_is_invalidated_while_everybody_reads() {
    let (Rig { cache, .. }, source) = (rig(), Source::default());
    let (acked, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..8_usize)
        .map(|reader| {
            let (cache, source) = (cache.clone(), source.clone());
            let (acked, done) = (Arc::clone(&acked), Arc::clone(&done));
            tokio::spawn(async move {
                while done.load(Ordering::SeqCst) == 0 {
                    let before = acked.load(Ordering::SeqCst);
                    let key = format!("k{}", reader % 3);
                    let (value, _) = load(&cache, &key, &["hot"], &source).await;
                    assert!(value >= before, "{value} was read after {before} was acknowledged");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for version in 1..=200 {
        source.put(version);
        assert_eq!(cache.invalidate_tag("hot").await.unwrap(), Ack::Done);
        acked.store(version, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    done.store(1, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

/// What it was asked for first is not asked for again.
#[tokio::test(start_paused = true)]
async fn a_set_asks_once_for_the_generations_of_its_tags() {
    for count in [1, 3] {
        let rig = rig();
        rig.l2.switch(State::Gated);
        let before = rig.l2.batches();
        let request = rig.cache.keys(0..count).tags(["t"]);
        let mut set = std::pin::pin!(async {
            match count {
                1 => vec![rig.cache.key(0).tags(["t"]).set(0).await],
                _ => request.set(0..count).await,
            }
        });
        assert!(futures_util::poll!(&mut set).is_pending());
        rig.l2.admit(1_000);
        set.await.into_iter().for_each(|ack| assert_eq!(ack.unwrap(), Ack::Done));
        // Those of several keys are stored and dropped in two more.
        let others = if count == 1 { 0 } else { 2 };
        assert_eq!(rig.l2.batches() - before, 1 + others, "{count}");
    }
}
