//! Writing through: what is stored with the write is the source's last, or nothing is.

use std::sync::Arc;

use futures_util::poll;
use serde::{Deserialize, Serialize, Serializer};
use tiered::tiers::{LeaseToken, RemoteTier as _};
use tiered::{Ack, CacheStrategy, Error, Outcome, Tiered, tiers::Moka};
use tokio::sync::oneshot;

use crate::{
    support::{DbDown, SECOND, Source, State, node, rig, rig_with},
    writers::{read, stages},
};

scenarios! {
    what_is_written_alone_is_stored_everywhere,
    what_was_loaded_before_does_not_replace_it,
    of_two_that_overlap_neither_is_stored,
    a_writer_that_overlaps_is_noticed_by_the_other_kind,
    an_invalidation_in_between_is_noticed,
    a_writer_in_the_other_slot_is_noticed,
    a_hold_that_was_lost_stores_nothing,
    a_value_that_cannot_be_stored_is_not_written,
    a_write_that_fails_stores_nothing,
    the_server_away,
    the_other_schema_version_gets_the_new_value,
    a_value_past_the_server_or_past_l1,
    a_cache_without_a_server_stores_what_was_written_alone,
    one_that_is_dropped_at_any_point_leaves_nothing_old,
}

async fn through(cache: &Tiered, source: &Source, value: usize) -> Ack {
    let save = |value: Arc<usize>| {
        let source = source.clone();
        async move {
            source.put(*value);
            Ok::<_, DbDown>(())
        }
    };
    cache.key("k").write_through(value, save).await.unwrap().ack
}

async fn what_is_written_alone_is_stored_everywhere() {
    for stage in stages(2).await {
        let [writer, other] = &stage.caches[..] else { panic!("two") };
        let source = Source::default();
        assert_eq!(through(writer, &source, 2).await, Ack::Done);
        let here = writer.key("k").lookup::<usize>().await.unwrap();
        assert_eq!((here.value.as_deref(), here.outcome), (Some(&2), Outcome::HitL1));
        let there = other.key("k").lookup::<usize>().await.unwrap();
        assert_eq!((there.value.as_deref(), there.outcome), (Some(&2), Outcome::HitL2));
        assert_eq!(through(writer, &source, 3).await, Ack::Done);
        assert_eq!(writer.get::<usize>("k").await.unwrap().as_deref(), Some(&3));
        assert_eq!(other.key("k").skip_l1().get::<usize>().await.unwrap().as_deref(), Some(&3));
        assert_eq!(source.asked(), 0);
    }
}

/// A load of 1 that waits at its end.
fn slow_load(
    cache: &Tiered,
) -> (tokio::task::JoinHandle<usize>, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (begun, has_begun) = oneshot::channel();
    let (go, may_go) = oneshot::channel::<()>();
    let cache = cache.clone();
    let task = tokio::spawn(async move {
        let load = || async {
            begun.send(()).unwrap();
            may_go.await.unwrap();
            Ok::<_, DbDown>(1_usize)
        };
        *cache.key("k").strategy(CacheStrategy::Bypass).get_or_load(load).await.unwrap()
    });
    (task, has_begun, go)
}

async fn what_was_loaded_before_does_not_replace_it() {
    let rig = rig();
    let source = Source::default();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for cache in [&rig.cache, &other] {
        let (load, begun, go) = slow_load(cache);
        begun.await.unwrap();
        assert_eq!(through(&rig.cache, &source, 2).await, Ack::Done);
        go.send(()).unwrap();
        assert_eq!(load.await.unwrap(), 1);
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_ne!(third.get::<usize>("k").await.unwrap().as_deref(), Some(&1));
        assert_ne!(rig.cache.get::<usize>("k").await.unwrap().as_deref(), Some(&1));
    }
}

async fn of_two_that_overlap_neither_is_stored() {
    for stage in stages(2).await {
        let [one, two] = &stage.caches[..] else { panic!("two") };
        for other in [two, one] {
            let source = Source::default();
            let save = |_| async {
                assert_eq!(through(other, &source, 3).await, Ack::Done);
                // This one's commit came last, or first: nobody knows.
                source.put(2);
                Ok::<_, DbDown>(())
            };
            let _ = one.key("k").write_through(2_usize, save).await.unwrap();
            for cache in [one, two] {
                assert_eq!(cache.get::<usize>("k").await.unwrap(), None, "{}", stage.what());
            }
            assert_eq!(read(two, &source).await, 2);
            let _ = one.invalidate("k").await.unwrap();
            let _ = two.invalidate("k").await.unwrap();
        }
    }
}

async fn a_writer_that_overlaps_is_noticed_by_the_other_kind() {
    for stage in stages(2).await {
        let [one, two] = &stage.caches[..] else { panic!("two") };
        for other in [two, one] {
            let source = Source::default();
            // It begins before, and ends after.
            let write = || async {
                assert_eq!(through(other, &source, 2).await, Ack::Done);
                source.put(3);
                assert_eq!(one.get::<usize>("k").await.unwrap(), None);
                assert_eq!(two.get::<usize>("k").await.unwrap(), None);
                Ok::<_, DbDown>(())
            };
            let _ = one.invalidate_after("k", write).await.unwrap();
            assert_eq!((read(one, &source).await, read(two, &source).await), (3, 3));
            let _ = one.invalidate("k").await.unwrap();
            let _ = two.invalidate("k").await.unwrap();
        }
    }
}

async fn an_invalidation_in_between_is_noticed() {
    for stage in stages(1).await {
        let [cache] = &stage.caches[..] else { panic!("one") };
        let save = |_| async {
            // Somebody has written the source otherwise, and says so.
            assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Done);
            Ok::<_, DbDown>(())
        };
        let _ = cache.key("k").write_through(2_usize, save).await.unwrap();
        assert_eq!(cache.get::<usize>("k").await.unwrap(), None, "{}", stage.what());
        let set = |_| async {
            assert_eq!(cache.set("k", 3_usize).await.unwrap(), Ack::Done);
            Ok::<_, DbDown>(())
        };
        let _ = cache.key("k").write_through(2_usize, set).await.unwrap();
        assert_eq!(cache.get::<usize>("k").await.unwrap(), None, "{}", stage.what());
    }
}

async fn a_writer_in_the_other_slot_is_noticed() {
    for (schema, other) in [(0, &b"tiered:k%beside"[..]), (1, b"tiered:k")] {
        let rig = rig();
        let save = |_| async {
            // Another writer's, which takes its holds one after the other.
            let token = LeaseToken::random();
            rig.memory.hold(other, token, SECOND).await.unwrap();
            rig.memory.end_hold(other, token, None).await.unwrap();
            Ok::<_, DbDown>(())
        };
        let request = rig.cache.key("k").schema(schema);
        let _ = request.write_through(2_usize, save).await.unwrap();
        let kept = rig.cache.key("k").schema(schema).get::<usize>().await.unwrap();
        assert_eq!(kept, None, "schema {schema}");
    }
}

async fn a_hold_that_was_lost_stores_nothing() {
    let rig = rig();
    let source = Source::default();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let save = |_| async {
        rig.clock.advance(11 * SECOND);
        assert_eq!(through(&other, &source, 3).await, Ack::Done);
        Ok::<_, DbDown>(())
    };
    let _ = rig.cache.key("k").write_through(2_usize, save).await.unwrap();
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!((read(&rig.cache, &source).await, read(&third, &source).await), (3, 3));
}

/// The server says of each renewal whether the hold stood to that moment.
#[tokio::test(start_paused = true)]
async fn a_hold_that_was_renewed_stores_unless_it_was_gone() {
    for is_gone in [false, true] {
        let rig = rig();
        let save = |_| async {
            tokio::time::sleep(2 * SECOND).await;
            if is_gone {
                rig.clock.advance(11 * SECOND);
            }
            tokio::time::sleep(2 * SECOND).await;
            Ok::<_, DbDown>(())
        };
        let _ = rig.cache.key("k").write_through(2_usize, save).await.unwrap();
        let expected = (!is_gone).then(|| Arc::new(2));
        assert_eq!(rig.cache.get::<usize>("k").await.unwrap(), expected, "{is_gone}");
    }
}

/// A process that invalidates has written the source without a hold, and no bus tells of it.
#[tokio::test]
async fn an_invalidation_of_another_process_is_noticed_without_a_bus() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let save = |_| async {
        assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
        Ok::<_, DbDown>(())
    };
    let _ = rig.cache.key("k").write_through(2_usize, save).await.unwrap();
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    for cache in [&rig.cache, &third] {
        assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
    }
}

#[derive(Debug, Deserialize)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

async fn a_value_that_cannot_be_stored_is_not_written() {
    let rig = rig_with(|builder| builder.max_entry_bytes(1024));
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    let save = |_| async { panic!("it is not written") as Result<(), DbDown> };
    let error = rig.cache.key("k").write_through(Unencodable, save).await.unwrap_err();
    assert!(matches!(error, Error::Serialization(_)));
    let save = |_| async { panic!("it is not written") as Result<(), DbDown> };
    let error = rig.cache.key("k").write_through(vec![7_u8; 5000], save).await.unwrap_err();
    assert!(matches!(error, Error::Serialization(_)));
    assert_eq!(rig.cache.get::<usize>("k").await.unwrap().as_deref(), Some(&1), "nothing changed");
    let key = "x".repeat(tiered::MAX_KEY_LEN + 1);
    let save = |_| async { panic!("it is not written") as Result<(), DbDown> };
    let error = rig.cache.key(key).write_through(1_usize, save).await.unwrap_err();
    assert!(matches!(error, Error::InvalidKey(_)));
}

async fn a_write_that_fails_stores_nothing() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    let fail = |_| async { Err::<(), _>(DbDown) };
    let error = rig.cache.key("k").write_through(2_usize, fail).await.unwrap_err();
    assert_eq!(error.loader_error(), Some(&DbDown));
    assert_eq!(rig.cache.get::<usize>("k").await.unwrap(), None);
}

async fn the_server_away() {
    for (before, after) in
        [(State::Failing, State::Failing), (State::Failing, State::Up), (State::Up, State::Failing)]
    {
        let rig = rig();
        let (other, source) = (node(&rig.l2, &rig.clock, |builder| builder), Source::default());
        let _ = other.set("k", 1_usize).await.unwrap();
        rig.l2.switch(before);
        let save = |_| async {
            source.put(2);
            rig.l2.switch(after);
            Ok::<_, DbDown>(())
        };
        let written = rig.cache.key("k").write_through(2_usize, save).await.unwrap();
        assert_eq!(written.ack, if after == State::Up { Ack::Done } else { Ack::Pending });
        let waiting = usize::from(after != State::Up);
        assert_eq!(rig.cache.health().await.pending, waiting, "{before:?} {after:?}");
        rig.l2.switch(State::Up);
        // Its own reads replay the delete first.
        assert_eq!(rig.cache.get::<usize>("k").await.unwrap(), None, "{before:?} {after:?}");
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!((read(&rig.cache, &source).await, read(&third, &source).await), (2, 2));
    }
}

async fn the_other_schema_version_gets_the_new_value() {
    for schema in [0, 1] {
        let rig = rig();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        let request = |schema| rig.cache.key("k").schema(schema);
        for version in [0, 1] {
            let _ = rig.memory.delete(b"tiered:k").await;
            let load = |_| async { Ok::<_, DbDown>(Some(1_usize)) };
            request(version).skip_l1().load(load).await.unwrap();
        }
        let save = |_| async { Ok::<_, DbDown>(()) };
        let _ = request(schema).write_through(2_usize, save).await.unwrap();
        let own = other.key("k").schema(schema).get::<usize>().await.unwrap();
        assert_eq!(own.as_deref(), Some(&2));
        let others = other.key("k").schema(1 - schema).get::<usize>().await.unwrap();
        assert_eq!(others, None, "schema {schema}");
    }
}

async fn a_value_past_the_server_or_past_l1() {
    let rig = rig();
    let save = |_: Arc<usize>| async { Ok::<_, DbDown>(()) };
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    let _ = rig.cache.key("k").skip_l2().write_through(2_usize, save).await.unwrap();
    assert_eq!(rig.cache.get::<usize>("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(rig.memory.get(b"tiered:k").await.unwrap(), None);
    let _ = rig.cache.key("k").skip_l1().write_through(3_usize, save).await.unwrap();
    let found = rig.cache.key("k").lookup::<usize>().await.unwrap();
    assert_eq!((found.value.as_deref(), found.outcome), (Some(&3), Outcome::HitL2));
}

async fn a_cache_without_a_server_stores_what_was_written_alone() {
    let cache = Tiered::local(Moka::new(100)).build().unwrap();
    let save = |_: Arc<usize>| async { Ok::<_, DbDown>(()) };
    let _ = cache.key("k").write_through(2_usize, save).await.unwrap();
    assert_eq!(cache.get::<usize>("k").await.unwrap().as_deref(), Some(&2));
    let overlapped = |_: Arc<usize>| async {
        let _ = cache.key("k").write_through(4_usize, save).await.unwrap();
        assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
        Ok::<_, DbDown>(())
    };
    let _ = cache.key("k").write_through(3_usize, overlapped).await.unwrap();
    assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
}

async fn one_that_is_dropped_at_any_point_leaves_nothing_old() {
    let (mut polls, mut ended) = (0, false);
    while !ended {
        let (rig, source) = (rig(), Source::default());
        source.put(1);
        let first = node(&rig.l2, &rig.clock, |builder| builder);
        let _ = first.set("k", 1_usize).await.unwrap();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        rig.l2.switch(State::Gated);
        {
            let save = |value: Arc<usize>| async {
                tokio::task::yield_now().await;
                source.put(*value);
                drop(value);
                tokio::task::yield_now().await;
                Ok::<_, DbDown>(())
            };
            let mut writing = std::pin::pin!(rig.cache.key("k").write_through(2_usize, save));
            for _ in 0..polls {
                ended = poll!(&mut writing).is_ready();
                rig.l2.admit(1);
                if ended {
                    break;
                }
            }
        }
        rig.l2.switch(State::Up);
        rig.l2.admit(100);
        let now = source.load().await.unwrap();
        assert_eq!(read(&rig.cache, &source).await, now, "after {polls} polls");
        crate::support::eventually("replayed", || {
            futures_util::FutureExt::now_or_never(rig.cache.health())
                .is_some_and(|health| health.pending == 0)
        })
        .await;
        rig.clock.advance(11 * SECOND);
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        for cache in [&third, &other, &rig.cache] {
            assert_eq!(read(cache, &source).await, now, "after {polls} polls");
        }
        polls += 1;
        assert!(polls < 100, "it never ends");
    }
    assert!(polls > 4, "it was dropped {polls} times");
}
