//! Invalidations of a tag that come in the middle: what a call under way has loaded or set before is served to nobody after.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tiered::{
    Ack, CacheStrategy, Error, LoadContext, Outcome, Tiered,
    tiers::{LocalEntry, LocalTier, Moka},
};
use tokio::sync::{Notify, mpsc};

use crate::support::{
    DbDown, Net, Rig, SECOND, State, db_down, eventually, in_l1, listens, node, reproven, rig,
    rig_with,
};

scenarios!(
    an_invalidation_in_the_middle_of_every_way_to_store,
    a_key_of_another_tag_depends_on_that_one,
    versions_in_a_row_each_depend_on_their_tags,
    an_invalidation_that_is_dropped_at_any_point_is_done_in_the_end,
    what_is_pending_is_no_last_resort,
    tags_go_by_their_whole_names,
);

/// Ways to store a value of the tag `t` under `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Load,
    Detached,
    Behind,
    Batch,
    Bypass,
    Invalidate,
    Reveal,
    PastL1,
    PastL2,
    WriteThrough,
    Versioned,
}

impl Way {
    const ALL: [Self; 11] = [
        Self::Load,
        Self::Detached,
        Self::Behind,
        Self::Batch,
        Self::Bypass,
        Self::Invalidate,
        Self::Reveal,
        Self::PastL1,
        Self::PastL2,
        Self::WriteThrough,
        Self::Versioned,
    ];

    /// Stores 1, and stops in the middle.
    fn begin(self, cache: &Tiered, stop: &Stop) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (cache, stop) = (cache.clone(), stop.clone());
        let load = {
            let stop = stop.clone();
            move |context: LoadContext| async move {
                stop.here().await;
                if self == Self::Reveal {
                    context.tags(["t"]);
                }
                Ok::<_, DbDown>(Some(1_u32))
            }
        };
        Box::pin(async move {
            let key = cache.key("k").tags(["t"]);
            match self {
                Self::Load => drop(key.load(load).await.unwrap()),
                Self::Detached => drop(key.load_detached(load).await.unwrap()),
                Self::Behind => {
                    let answer = key.load_detached(load).await.unwrap();
                    assert_eq!(answer.outcome, Outcome::Stale);
                    stop.gone().await;
                }
                Self::Reveal => drop(cache.key("k").load(load).await.unwrap()),
                Self::Batch => {
                    let load = async |keys: Vec<&'static str>| {
                        stop.here().await;
                        Ok::<_, DbDown>(keys.into_iter().map(|key| (key, 1_u32)))
                    };
                    drop(cache.keys(["k", "l"]).tags(["t"]).get_or_load(load).await);
                }
                Self::Bypass => drop(key.strategy(CacheStrategy::Bypass).load(load).await.unwrap()),
                Self::Invalidate => {
                    drop(key.strategy(CacheStrategy::Invalidate).load(load).await.unwrap());
                }
                Self::PastL1 => drop(key.skip_l1().load(load).await.unwrap()),
                Self::PastL2 => drop(key.skip_l2().load(load).await.unwrap()),
                Self::WriteThrough | Self::Versioned => {
                    let write = |_| async {
                        stop.here().await;
                        Ok::<_, DbDown>(())
                    };
                    let key = if self == Self::Versioned { key.source_version(3) } else { key };
                    let _ = key.write_through(1_u32, write).await.unwrap();
                }
            }
        })
    }
}

/// A place where a call stops until it is let go.
#[derive(Clone, Default)]
struct Stop {
    come: Arc<Notify>,
    go: Arc<Notify>,
    left: Arc<Notify>,
}

impl Stop {
    async fn here(&self) {
        self.come.notify_one();
        self.go.notified().await;
        self.left.notify_one();
    }

    async fn gone(&self) {
        self.left.notified().await;
        // What is done behind its caller has some steps left.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn an_invalidation_in_the_middle_of_every_way_to_store() {
    for way in Way::ALL {
        for (elsewhere, clears) in [(false, false), (true, false), (false, true), (true, true)] {
            let net = Net::new();
            // Short, so that the bus is asked often.
            let stale = |builder: tiered::Builder<_>| {
                builder.stale_for(600 * SECOND).max_staleness(SECOND / 2)
            };
            let (a, b) = (net.node_with(stale), net.node_with(stale));
            listens(&a).await;
            listens(&b).await;
            // So that it looks for the epoch from now on.
            let reveal = |context: LoadContext| async move {
                context.tags(["u"]);
                Ok::<_, DbDown>(Some(0_u32))
            };
            a.key("first").load(reveal).await.unwrap();
            if way == Way::Behind {
                a.key("k")
                    .tags(["t"])
                    .load(|_| async { Ok::<_, DbDown>(Some(0_u32)) })
                    .await
                    .unwrap();
                net.clock.advance(61 * SECOND);
                reproven(&a).await;
            }
            let stop = Stop::default();
            let storing = tokio::spawn(way.begin(&a, &stop));
            stop.come.notified().await;
            let who = if elsewhere { &b } else { &a };
            let ack = match clears {
                true => who.clear().await,
                false => who.invalidate_tag("t").await,
            };
            assert_eq!(ack.unwrap(), Ack::Done);
            if elsewhere {
                // It has heard of all that was before this.
                net.clock.advance(Duration::from_millis(1));
                reproven(&a).await;
            }
            stop.go.notify_one();
            storing.await.unwrap();
            let of = format!("{way:?}, elsewhere: {elsewhere}, clears: {clears}");
            assert_eq!(in_l1(&a, "k").await, None, "{of}");
            for cache in [&a, &b] {
                let found = cache.key("k").skip_l1().get::<u32>().await.unwrap();
                // What is written through is the source's last, whatever was invalidated; yet it is not of its tag.
                assert_eq!(found, None, "{of}");
                assert!(!cache.contains("k").await.unwrap(), "{of}");
            }
            let failing = a.key("k").tags(["t"]).load(|_| db_down::<Option<u32>>()).await;
            assert!(failing.is_err(), "{of}: {failing:?}");
        }
    }
}

async fn a_key_of_another_tag_depends_on_that_one() {
    let Rig { cache, l2, clock, .. } = rig();
    let other = node(&l2, &clock, |builder| builder);
    for by_set in [true, false] {
        let store = async |tag: &str| {
            if by_set {
                cache.key("k").tags([tag, tag]).set(1_u32).await.unwrap();
            } else {
                cache.invalidate("k").await.unwrap();
                let load = |_| async { Ok::<_, DbDown>(Some(1_u32)) };
                cache.key("k").tags([tag, tag]).load(load).await.unwrap();
            }
        };
        let is_there = async || {
            let here = cache.get::<u32>("k").await.unwrap().is_some();
            let there = other.key("k").skip_l1().get::<u32>().await.unwrap().is_some();
            assert_eq!(here, there);
            here
        };
        store("a").await;
        store("b").await;
        other.invalidate_tag("a").await.unwrap();
        cache.invalidate_tag("a").await.unwrap();
        assert!(is_there().await, "it is not of that tag any more");
        cache.invalidate_tag("b").await.unwrap();
        assert!(!is_there().await);
        store("a").await;
        assert!(is_there().await);
        cache.invalidate_tag("a").await.unwrap();
        assert!(!is_there().await);
    }
}

async fn versions_in_a_row_each_depend_on_their_tags() {
    let Rig { cache, l2, clock, .. } = rig();
    let other = node(&l2, &clock, |builder| builder);
    let get = async |cache: &Tiered, schema| {
        let found = cache.key("k").schema(schema).skip_l1().get::<u32>().await.unwrap();
        found.map(|value| *value)
    };
    for schema in [1, 2] {
        let load = |_| async move { Ok::<_, DbDown>(Some(schema)) };
        cache
            .key("k")
            .schema(schema)
            .tags([format!("v{schema}"), "both".into()])
            .load(load)
            .await
            .unwrap();
    }
    assert_eq!((get(&other, 1).await, get(&other, 2).await), (Some(1), Some(2)));
    cache.invalidate_tag("v1").await.unwrap();
    assert_eq!((get(&other, 1).await, get(&other, 2).await), (None, Some(2)));
    other.invalidate_tag("both").await.unwrap();
    for cache in [&cache, &other] {
        assert_eq!((get(cache, 1).await, get(cache, 2).await), (None, None));
    }
}

/// After each number of its operations on the server, one of which has taken effect and was not answered.
async fn an_invalidation_that_is_dropped_at_any_point_is_done_in_the_end() {
    for clears in [false, true] {
        for admitted in 0..6 {
            for state in [State::Held, State::Gated] {
                let net = Net::new();
                let (a, b) = (net.node(), net.node());
                listens(&a).await;
                listens(&b).await;
                for cache in [&a, &b] {
                    let load = |_| async { Ok::<_, DbDown>(Some(1_u32)) };
                    cache.key("k").tags(["t"]).load(load).await.unwrap();
                }
                net.l2.switch(state);
                net.l2.admit(admitted);
                let mut call: Pin<Box<dyn Future<Output = _> + Send>> = match clears {
                    true => Box::pin(a.clear()),
                    false => Box::pin(a.invalidate_tag("t")),
                };
                let mut ended = None;
                for _ in 0..50 {
                    ended = ended.or_else(|| (&mut call).now_or_never());
                    if ended.is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                drop(call);
                assert_eq!(in_l1(&a, "k").await, None, "forgotten at once");
                net.l2.switch(State::Up);
                net.l2.admit(100);
                if ended.is_none() {
                    assert!(a.health().await.pending <= 1);
                }
                eventually("replayed", || {
                    a.health().now_or_never().is_some_and(|health| health.pending == 0)
                })
                .await;
                let of = format!("{clears} {admitted} {state:?}");
                for cache in [&a, &b] {
                    let found = cache.key("k").skip_l1().get::<u32>().await.unwrap();
                    if cache.stats().bus_heard > 0 || std::ptr::eq(cache, &a) {
                        assert_eq!(found, None, "{of}");
                    }
                }
                eventually("heard", || b.stats().bus_heard > 0).await;
                assert_eq!(in_l1(&b, "k").await, None, "{of}");
                let found = b.key("k").skip_l1().get::<u32>().await.unwrap();
                assert_eq!(found, None, "{of}");
            }
        }
    }
}

async fn what_is_pending_is_no_last_resort() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND).local_for(SECOND));
    let cache = &rig.cache;
    let load = || |_: LoadContext| async { Ok::<_, DbDown>(Some(1_u32)) };
    for key in ["k", "l", "m"] {
        cache.key(key).tags(["t"]).load(load()).await.unwrap();
    }
    rig.clock.advance(2 * SECOND);
    rig.l2.switch(State::Failing);
    let failing =
        async |key: &str| cache.key(key).tags(["t"]).load(|_| db_down::<Option<u32>>()).await;
    assert_eq!(failing("k").await.unwrap().outcome, Outcome::Stale, "while nothing was dropped");
    assert_eq!(cache.invalidate_tag("t").await.unwrap(), Ack::Pending);
    assert!(failing("k").await.is_err());
    rig.clock.advance(61 * SECOND);
    let detached = cache.key("l").tags(["t"]).load_detached(|_| db_down::<Option<u32>>()).await;
    assert!(detached.is_err());
    assert!(matches!(cache.get::<u32>("m").await, Ok(None) | Err(Error::Backend(_))));
}

async fn tags_go_by_their_whole_names() {
    let Rig { cache, l2, clock, .. } = rig();
    let other = node(&l2, &clock, |builder| builder);
    let long = "\u{e9}".repeat(127);
    let names = [
        "a",
        "A",
        "a:b",
        "a%3Ab",
        "a%",
        "%tags",
        "s",
        "tiered%tag:a",
        " ",
        "\0",
        "a ",
        "{a}",
        "}:l",
        &long,
        "%beside",
        "a%beside",
    ];
    for (number, name) in names.iter().enumerate() {
        let load = |_| async { Ok::<_, DbDown>(Some(1_u32)) };
        cache.key(format!("k{number}")).tags([name]).load(load).await.unwrap();
        // A key of the same name is no tag.
        cache.set(*name, 1_u32).await.unwrap();
    }
    for name in names {
        cache.invalidate(name).await.unwrap();
        cache.invalidate(format!("%tag:{name}")).await.unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        for later in number..names.len() {
            let found = other.key(format!("k{later}")).skip_l1().get::<u32>().await.unwrap();
            assert!(found.is_some(), "{name:?} {later}");
        }
        cache.invalidate_tag(name).await.unwrap();
        for cache in [&cache, &other] {
            let found = cache.key(format!("k{number}")).skip_l1().get::<u32>().await.unwrap();
            assert_eq!(found, None, "{name:?}");
        }
    }
}

/// An L1 that stops where it is emptied.
#[derive(Debug)]
struct Emptied {
    inner: Moka,
    come: mpsc::UnboundedSender<std::sync::mpsc::Sender<()>>,
    empties: Arc<AtomicUsize>,
}

impl LocalTier for Emptied {
    fn name(&self) -> &'static str {
        "emptied"
    }
    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        self.inner.get(key)
    }
    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration) {
        self.inner.insert(key, entry, weight, life);
    }
    fn remove(&self, key: &[u8]) {
        self.inner.remove(key);
    }
    fn remove_prefix(&self, prefix: &[u8]) -> u64 {
        let removed = self.inner.remove_prefix(prefix);
        let (go, may_go) = std::sync::mpsc::channel();
        // The second time, when the server has not done it.
        if self.empties.fetch_add(1, Ordering::SeqCst) == 1 && self.come.send(go).is_ok() {
            let _ = may_go.recv_timeout(Duration::from_secs(20));
        }
        removed
    }
    fn clear(&self) {
        self.inner.clear();
    }
    fn entries(&self) -> u64 {
        self.inner.entries()
    }
}

/// The server has refused it, and answers again before the call has ended: a reader must not bring back what it still has
/// there.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_read_does_not_slip_in_before_a_clear_is_pending() {
    let net = Net::new();
    let (come, mut has_come) = mpsc::unbounded_channel();
    let l1 = Emptied { inner: Moka::new(100), come, empties: Arc::default() };
    let builder = Tiered::new(l1, net.l2.clone()).bus(net.bus.clone());
    let cache = builder.clock(net.clock.clone()).build().unwrap();
    listens(&cache).await;
    cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(1_u32)) }).await.unwrap();
    net.l2.switch(State::Failing);
    let clear = tokio::spawn({
        let cache = cache.clone();
        async move { cache.clear().await.unwrap() }
    });
    let go = has_come.recv().await.unwrap();
    net.l2.switch(State::Up);
    let _ = cache.get::<u32>("k").await;
    net.l2.switch(State::Failing);
    go.send(()).unwrap();
    assert_eq!(clear.await.unwrap(), Ack::Pending);
    assert_eq!(in_l1(&cache, "k").await, None);
    net.l2.switch(State::Up);
    eventually("replayed", || {
        cache.health().now_or_never().is_some_and(|health| health.pending == 0)
    })
    .await;
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}
