//! The generations of tags, when their records are lost, forged, half made, copied or out of reach: what depends on them
//! costs a load, and no old entry is believed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered::{
    Ack, CacheStrategy, Jitter, Outcome, Restarts, Tiered,
    tiers::{Claim, Clock, Lease, LeaseToken, Memcached, Memory, Moka, Redis, RemoteTier},
};
use tiered_tiers::testing::{BusFault, Fault, Faulty, MemcachedServer, Plan, RedisServer};
use tokio::sync::Notify;

use crate::support::{
    DbDown, Net, Rig, SECOND, State, Switchable, db_down, eventually, listens, node, rig,
};

scenarios!(
    processes_agree_again_after_a_generation_was_lost,
    a_pending_tag_is_changed_once_while_the_bus_is_away,
    a_bypass_whose_tags_are_out_of_reach_leaves_no_older_value,
    a_maker_that_went_away_keeps_nobody_from_storing,
    a_load_whose_tags_cannot_be_told_gives_its_lease_up,
    a_set_that_an_invalidation_of_its_tag_overtakes_is_not_served,
    an_entry_of_more_tags_than_there_can_be_is_refused,
    what_an_earlier_run_left_is_stale_with_tags_too,
    tags_revealed_over_servers_in_a_row_are_those_of_the_far_one,
    a_near_copy_of_a_generation_is_not_proven_by_the_bus,
    a_record_that_is_none_is_made_anew,
);

/// Each record takes two round trips: one after the other they would take longer than the budget.
#[tokio::test(start_paused = true)]
async fn many_new_tags_are_made_within_one_budget() {
    let slow = Arc::new(Faulty::new(Memory::new()));
    slow.plan(Plan::Always(Fault::Delay(Duration::from_millis(5))));
    let cache = Tiered::remote(Arc::clone(&slow)).build().unwrap();
    let tags: Vec<String> = (0..64).map(|number| format!("tag:{number}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    assert_eq!(load(&cache, "k", &tags, 1).await, (1, Outcome::Load));
    assert_eq!(in_l2(&cache, "k").await, Some(1));
}

/// Loads `value`, and says what came of it.
async fn load(cache: &Tiered, key: &str, tags: &[&str], value: u32) -> (u32, Outcome) {
    let loader = |_| async move { Ok::<_, DbDown>(Some(value)) };
    let answer = cache.key(key).tags(tags).load(loader).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

/// The same, of a value that reveals a tag.
async fn reveal(cache: &Tiered, key: &str, tag: &'static str, value: u32) -> (u32, Outcome) {
    let loader = |context: tiered::LoadContext| async move {
        context.tags([tag]);
        Ok::<_, DbDown>(Some(value))
    };
    let answer = cache.key(key).load(loader).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

/// What L2 has of a key, as a cache reads it.
async fn in_l2(cache: &Tiered, key: &str) -> Option<u32> {
    let found = cache.key(key).skip_l1().get::<u32>().await;
    found.ok().flatten().map(|value| *value)
}

async fn record(l2: &impl RemoteTier, key: &[u8]) -> Option<Bytes> {
    l2.get(key).await.unwrap().map(|found| found.bytes)
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

/// A tag whose invalidation the server has done, and the bus has not. To change it again and again would drop everybody's
/// entries until the bus is back.
async fn a_pending_tag_is_changed_once_while_the_bus_is_away() {
    let net = Net::new();
    let (a, b) = (net.node(), net.node());
    listens(&a).await;
    listens(&b).await;
    load(&b, "k", &["t"], 1).await;
    net.bus.inject(BusFault::Error(tiered::tiers::TierError::Timeout));
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Ack::Pending);
    assert_eq!(a.clear().await.unwrap(), Ack::Pending);
    // L2 is used again all the same, by the process whose change is pending, too.
    for cache in [&a, &b] {
        let start = std::time::Instant::now();
        for attempt in 0.. {
            let key = format!("k{attempt}");
            load(cache, &key, &["t"], 2).await;
            if in_l2(cache, &key).await.is_some() {
                break;
            }
            assert!(start.elapsed() < 20 * SECOND, "L2 is not used while the bus is away");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let records = async || {
        let tag = record(&net.l2, b"tiered%tag:t").await;
        (tag, record(&net.l2, b"tiered%tag:").await, record(&net.l2, b"tiered%tags").await)
    };
    let (before, asked) = (records().await, net.bus.operations());
    // Each listener asks the bus every now and then, too: many rounds.
    eventually("the bus was asked", || net.bus.operations() > asked + 24).await;
    assert_eq!(records().await, before, "changed again");
    assert!(a.health().await.pending > 0);
    net.bus.heal();
    eventually("told", || {
        futures_util::FutureExt::now_or_never(a.health()).is_some_and(|health| health.pending == 0)
    })
    .await;
}

/// The database was asked because the cache was not to be trusted. Where the tags of what it said cannot be had, it is
/// not stored; but what was there goes.
async fn a_bypass_whose_tags_are_out_of_reach_leaves_no_older_value() {
    let Rig { cache, l2, clock, .. } = rig();
    let other = node(&l2, &clock, |builder| builder);
    load(&other, "k", &["t"], 1).await;
    l2.switch(State::FailingTags);
    let loader = |_| async { Ok::<_, DbDown>(Some(2_u32)) };
    let bypass = cache.key("k").tags(["t"]).strategy(CacheStrategy::Bypass);
    assert_eq!(bypass.load(loader).await.unwrap().value.as_deref(), Some(&2));
    l2.switch(State::Up);
    eventually("replayed", || {
        futures_util::FutureExt::now_or_never(cache.health())
            .is_some_and(|health| health.pending == 0)
    })
    .await;
    assert_ne!(in_l2(&other, "k").await, Some(1));
}

/// It had the record's lease, and was dropped.
async fn a_maker_that_went_away_keeps_nobody_from_storing() {
    let Rig { cache, memory, .. } = rig();
    let leased = memory.lease(b"tiered%tag:t", LeaseToken::random(), SECOND, Claim::IfFree).await;
    assert!(matches!(leased, Ok(Lease::Granted(None))));
    // The server's clock stands still: that lease never runs out.
    assert_eq!(load(&cache, "k", &["t"], 1).await, (1, Outcome::Load));
    assert_eq!(in_l2(&cache, "k").await, Some(1));
}

async fn a_load_whose_tags_cannot_be_told_gives_its_lease_up() {
    let Rig { cache, l2, memory, .. } = rig();
    reveal(&cache, "first", "t", 1).await;
    let loader = |context: tiered::LoadContext| {
        let l2 = l2.clone();
        async move {
            context.tags(["t"]);
            l2.switch(State::FailingTags);
            Ok::<_, DbDown>(Some(1_u32))
        }
    };
    cache.key("k").load(loader).await.unwrap();
    let start = std::time::Instant::now();
    loop {
        let token = LeaseToken::random();
        if let Ok(Lease::Granted(_)) = memory.lease(b"tiered:k", token, SECOND, Claim::IfFree).await
        {
            break;
        }
        // The server's clock stands still: it does not run out.
        assert!(start.elapsed() < 20 * SECOND, "the lease is kept");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// It has asked for the generation before; so nobody believes what it stores in L2, and L1 should not either.
async fn a_set_that_an_invalidation_of_its_tag_overtakes_is_not_served() {
    for many in [false, true] {
        let Rig { cache, l2, .. } = rig();
        load(&cache, "other", &["t"], 1).await;
        l2.switch(State::Gated);
        let before = l2.operations();
        let set = tokio::spawn({
            let cache = cache.clone();
            async move {
                if many {
                    let acks = cache.keys(["k"]).tags(["t"]).set([1_u32]).await;
                    drop(acks);
                } else {
                    drop(cache.key("k").tags(["t"]).set(1_u32).await);
                }
            }
        });
        eventually("its generation was read", || l2.operations() > before).await;
        l2.switch(State::Up);
        assert_eq!(cache.invalidate_tag("t").await.unwrap(), Ack::Done);
        l2.admit(1);
        set.await.unwrap();
        assert_eq!(in_l2(&cache, "k").await, None);
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "many: {many}");
    }
}

/// Whoever can write to the server must not make a reader look thousands of records up, and make them.
async fn an_entry_of_more_tags_than_there_can_be_is_refused() {
    use tiered_codecs::{CodecFor, Postcard, envelope::Meta};
    let Rig { cache, l2, memory, .. } = rig();
    let meta = Meta { fresh_ms: 60_000, ..Meta::default() };
    let mut tags = Vec::new();
    for tag in 0..3_000_u32 {
        tags.push(4);
        tags.extend_from_slice(format!("{tag:04}").as_bytes());
        tags.extend_from_slice(&[0; 16]);
    }
    let packed = Postcard.pack_tagged(&meta, &tags, b"tiered:k", Some(&1_u32)).unwrap();
    memory.set(b"tiered:k", packed.into(), 60 * SECOND).await.unwrap();
    let before = l2.operations();
    assert_eq!(in_l2(&cache, "k").await, None);
    assert!(l2.operations() - before < 10, "{}", l2.operations() - before);
}

/// [`Restarts::Warm`] is for data of which an old value is better than none.
async fn what_an_earlier_run_left_is_stale_with_tags_too() {
    let net = Net::new();
    net.l2.restart(1);
    let warm = |builder: tiered::Builder<tiered::Postcard>| builder.restarts(Restarts::Warm);
    let cache = net.node_with(warm);
    listens(&cache).await;
    load(&cache, "plain", &[], 1).await;
    load(&cache, "tagged", &["t"], 1).await;
    net.l2.restart(2);
    let other = net.node_with(warm);
    listens(&other).await;
    for key in ["plain", "tagged"] {
        let answer = other.key(key).load(|_| db_down::<Option<u32>>()).await.unwrap();
        assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&1), Outcome::Stale), "{key}");
    }
}

/// Two zones: a near server each, and one far server.
struct Zones {
    clock: Clock,
    far: Memory,
}

impl Zones {
    fn new() -> Self {
        let clock = Clock::manual();
        Self { far: Memory::new().clock(clock.clone()), clock }
    }

    fn cache(
        &self,
        configure: impl FnOnce(tiered::Builder<tiered::Postcard>) -> tiered::Builder<tiered::Postcard>,
    ) -> Tiered {
        let near = Switchable::new(Memory::new().clock(self.clock.clone()));
        let l2 = near.then(self.far.clone()).near_for(10 * SECOND);
        let builder = Tiered::new(Moka::new(1_000), l2).clock(self.clock.clone());
        configure(builder.jitter(Jitter::none()).fresh_for(3_600 * SECOND)).build().unwrap()
    }
}

/// One zone invalidates the tag while the other loads what will reveal it, and has copies of the records in its near
/// server. That entry must not be taken for one from after the invalidation, by nobody.
async fn tags_revealed_over_servers_in_a_row_are_those_of_the_far_one() {
    let zones = Zones::new();
    let (here, there) = (zones.cache(|builder| builder), zones.cache(|builder| builder));
    reveal(&there, "first", "u", 1).await;
    // The epoch is copied.
    reveal(&there, "second", "u", 1).await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        async move {
            let loader = |context: tiered::LoadContext| async move {
                begun.notify_one();
                go_on.notified().await;
                context.tags(["t"]);
                Ok::<_, DbDown>(Some(1_u32))
            };
            there.key("k").load(loader).await.unwrap();
        }
    });
    begun.notified().await;
    assert_eq!(here.invalidate_tag("t").await.unwrap(), Ack::Done);
    go_on.notify_one();
    slow.await.unwrap();
    assert_eq!(in_l2(&here, "k").await, None);
    zones.clock.advance(11 * SECOND);
    assert_eq!(in_l2(&zones.cache(|builder| builder), "k").await, None);
}

/// What a near server copies lives on for `near_for`, and no longer: not for as long as the bus proves it.
async fn a_near_copy_of_a_generation_is_not_proven_by_the_bus() {
    let zones = Zones::new();
    let bus = tiered::tiers::LocalBus::new();
    let cache = || zones.cache(|builder| builder.bus(bus.clone()));
    let (here, there) = (cache(), cache());
    for cache in [&here, &there] {
        listens(cache).await;
        load(cache, "k", &["t"], 1).await;
    }
    let heard = there.stats().bus_heard;
    assert_eq!(here.invalidate_tag("t").await.unwrap(), Ack::Done);
    eventually("heard", || there.stats().bus_heard > heard).await;
    // It may still find its copies, and does.
    let _ = in_l2(&there, "k").await;
    zones.clock.advance(11 * SECOND);
    crate::support::reproven(&there).await;
    assert_eq!(in_l2(&there, "k").await, None);
    assert_eq!(load(&there, "k", &["t"], 2).await, (2, Outcome::Load));
}

/// Whatever lies where a generation should be.
async fn a_record_that_is_none_is_made_anew() {
    for bytes in [&b""[..], &[0], &[7; 16], &[7; 23], &[7; 24], &[7; 25], &[0; 4_000]] {
        let Rig { cache, memory, clock, l2 } = rig();
        let other = node(&l2, &clock, |builder| builder);
        load(&cache, "k", &["t"], 1).await;
        for key in [&b"tiered%tag:t"[..], b"tiered%tags"] {
            memory.set(key, Bytes::copy_from_slice(bytes), SECOND).await.unwrap();
        }
        assert_eq!(in_l2(&other, "k").await, None, "{bytes:?}");
        for value in 2..4 {
            assert_eq!(cache.invalidate_tag("t").await.unwrap(), Ack::Done);
            assert_eq!(load(&cache, "k", &["t"], value).await, (value, Outcome::Load));
            assert_eq!(in_l2(&other, "k").await, Some(value));
        }
    }
}

/// Two processes over a real server, which loses whatever it likes: nothing old is read, and what is loaded is stored
/// again.
async fn nothing_but_warmth_is_lost(caches: [Tiered; 2], lose: impl AsyncFn(u32)) {
    let [a, b] = &caches;
    reveal(a, "first", "u", 0).await;
    reveal(b, "second", "u", 0).await;
    for version in 1..60 {
        for cache in [a, b] {
            load(cache, "known", &["t", "s"], version).await;
            reveal(cache, "revealed", "t", version).await;
        }
        lose(version).await;
        let (here, there) = if version % 2 == 0 { (a, b) } else { (b, a) };
        assert_eq!(here.invalidate_tag("t").await.unwrap(), Ack::Done);
        for cache in [here, there] {
            for key in ["known", "revealed"] {
                let found = in_l2(cache, key).await;
                assert_eq!(found, None, "{key} of {version}");
            }
        }
        assert_eq!(load(here, "known", &["t", "s"], version + 100).await.0, version + 100);
        assert_eq!(reveal(here, "revealed", "t", version + 100).await.0, version + 100);
        assert_eq!(here.invalidate_tag("t").await.unwrap(), Ack::Done);
    }
    // And then, with nothing lost any more, it is warm again.
    load(a, "known", &["t", "s"], 1).await;
    reveal(a, "revealed", "t", 1).await;
    for key in ["known", "revealed"] {
        assert_eq!(in_l2(b, key).await, Some(1), "{key}");
    }
}

/// Without an L1, which may serve what another has invalidated for a while.
fn over(l2: impl RemoteTier) -> Tiered {
    // Patient: a busy machine must not make an error of it.
    Tiered::remote(l2).namespace("shop").budget(10 * SECOND).build().unwrap()
}

fn redis(server: &RedisServer) -> Redis {
    let redis = Redis::new(&server.url()).unwrap();
    redis.response_timeout(5 * SECOND).connect_timeout(5 * SECOND)
}

#[tokio::test]
async fn records_that_redis_has_lost_cost_warmth_only() {
    let server = RedisServer::start().await.unwrap();
    nothing_but_warmth_is_lost([over(redis(&server)), over(redis(&server))], async |version| {
        let lost: &[&str] = match version % 6 {
            0 => &["UNLINK", "shop%tag:t"],
            1 => &["UNLINK", "shop%tags"],
            2 => &["UNLINK", "shop%tag:t", "shop%tags"],
            3 => &["UNLINK", "shop%tag:s", "shop%tag:u"],
            4 => &["SET", "shop%tag:t", "no generation"],
            _ => &["PING"],
        };
        server.execute(lost).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn records_that_a_full_redis_evicts_cost_warmth_only() {
    let server = RedisServer::builder()
        .config("maxmemory", "4mb")
        .config("maxmemory-policy", "allkeys-random")
        .config("save", "")
        .start()
        .await
        .unwrap();
    let (junk, filler) = (redis(&server), Bytes::from(vec![b'x'; 64 * 1_024]));
    let caches = [over(redis(&server)), over(redis(&server))];
    let gone = std::sync::atomic::AtomicUsize::new(0);
    nothing_but_warmth_is_lost(caches, async |version| {
        for number in 0..40 {
            let key = format!("junk:{version}:{number}");
            // It may find no room for it.
            let _ = junk.set(key.as_bytes(), filler.clone(), 60 * SECOND).await;
        }
        for key in [&b"shop%tag:t"[..], b"shop%tags"] {
            if junk.get(key).await.unwrap().is_none() {
                gone.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        if version > 50 {
            server.execute(&["FLUSHALL"]).await.unwrap();
        }
    })
    .await;
    assert!(gone.into_inner() > 0, "it has evicted some");
}

#[tokio::test]
async fn records_that_memcached_has_lost_cost_warmth_only() {
    let server = MemcachedServer::start().await.unwrap();
    let tier = || Memcached::new(&server.address()).unwrap().response_timeout(5 * SECOND);
    let lost = tier();
    nothing_but_warmth_is_lost([over(tier()), over(tier())], async |version| match version % 4 {
        0 => lost.delete(b"shop%tag:t").await.unwrap(),
        1 => lost.delete(b"shop%tags").await.unwrap(),
        2 => drop(server.ask("flush_all").await.unwrap()),
        _ => {}
    })
    .await;
}

/// With a bus nobody looks the namespace's generation up again, so it is what the server evicts first.
#[tokio::test]
async fn processes_on_a_bus_outlive_what_redis_has_lost() {
    let server = RedisServer::start().await.unwrap();
    let cache = || {
        let redis = redis(&server);
        let (bus, builder) = (redis.bus(), Tiered::new(Moka::new(1_000), redis));
        builder.bus(bus).namespace("shop").budget(10 * SECOND).build().unwrap()
    };
    let (a, b) = (cache(), cache());
    let _ = (load(&a, "k", &["t"], 1).await, load(&b, "k", &["t"], 1).await);
    server.execute(&["UNLINK", "shop%tag:", "shop%tag:t", "shop%tags"]).await.unwrap();
    let c = cache();
    load(&c, "k", &["t"], 2).await;
    let all = [&a, &b, &c];
    for round in 0..3 {
        for cache in all {
            load(cache, &format!("k{round}"), &["t"], 3).await;
        }
    }
    for cache in all {
        assert_eq!(in_l2(cache, "k2").await, Some(3), "they agree again");
    }
    assert_eq!(c.invalidate_tag("t").await.unwrap(), Ack::Done);
    let start = std::time::Instant::now();
    while in_l2(&a, "k2").await.is_some() || in_l2(&b, "k2").await.is_some() {
        assert!(start.elapsed() < 20 * SECOND, "it is served for ever");
        // A real wait: for a server, which knows no clock of ours.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
