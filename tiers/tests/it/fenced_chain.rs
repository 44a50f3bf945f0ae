//! The fence of a chain: each interleaving that the head of `chain` lists, by its number.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Chain, Claim, Clock, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, RemoteTier, TierError,
};

use crate::wire::Wire;

const LIFE: Duration = Duration::from_secs(600);
const KEY: &[u8] = b"k";
const OLD: Bytes = Bytes::from_static(b"old");
const NEW: Bytes = Bytes::from_static(b"new");

struct Rig {
    near: Wire,
    far: Wire,
    clock: Clock,
    chain: Arc<Chain<Wire, Wire>>,
}

fn rig() -> Rig {
    let clock = Clock::manual();
    let wire = || Wire::to(Memory::new().clock(clock.clone()));
    let (near, far) = (wire(), wire());
    let chain = Arc::new(near.clone().then(far.clone()));
    Rig { near, far, clock, chain }
}

impl Rig {
    async fn old_is_far(&self) {
        self.far.inner.set(KEY, OLD, LIFE).await.unwrap();
    }

    /// What each of the two has, and then what the chain reads.
    async fn values(&self) -> [Option<Bytes>; 3] {
        let bytes = |found: Option<Found>| found.map(|found| found.bytes);
        let near = self.near.inner.get(KEY).await.unwrap();
        let far = self.far.inner.get(KEY).await.unwrap();
        [near, far, self.chain.get(KEY).await.unwrap()].map(bytes)
    }

    fn read(&self) -> tokio::task::JoinHandle<Result<Option<Found>, TierError>> {
        let chain = Arc::clone(&self.chain);
        tokio::spawn(async move { chain.get(KEY).await })
    }

    fn set(&self, bytes: Bytes) -> tokio::task::JoinHandle<Result<Fill, TierError>> {
        let chain = Arc::clone(&self.chain);
        tokio::spawn(async move { chain.set(KEY, bytes, LIFE).await })
    }

    fn fill(&self, token: LeaseToken) -> tokio::task::JoinHandle<Result<Fill, TierError>> {
        let chain = Arc::clone(&self.chain);
        tokio::spawn(async move { chain.fill(KEY, token, OLD, LIFE).await })
    }

    async fn leased(&self) -> LeaseToken {
        let token = LeaseToken::random();
        let lease = self.chain.lease(KEY, token, LIFE, Claim::IfFree).await;
        assert_eq!(lease, Ok(Lease::Granted(None)));
        token
    }
}

#[tokio::test(start_paused = true)]
async fn interleaving_1_a_copy_on_its_way_while_a_delete_passes() {
    for (held, is_answer) in [("get", false), ("get", true), ("fill", false)] {
        let rig = rig();
        rig.old_is_far().await;
        let wire = if held == "get" { &rig.far } else { &rig.near };
        if is_answer {
            wire.hold_answer(held)
        } else {
            wire.hold(held)
        }
        let read = rig.read();
        wire.is_held(held).await;
        rig.chain.delete(KEY).await.unwrap();
        wire.let_go(held).await;
        let read = read.await.unwrap().unwrap();
        assert_eq!(read.is_some(), held == "fill" || is_answer, "it began before the delete");
        assert_eq!(rig.values().await, [None, None, None], "{held} {is_answer}");
    }
}

/// As 1, of a read of several keys.
#[tokio::test(start_paused = true)]
async fn interleaving_1_several_copies_on_their_way_while_a_delete_passes() {
    for held in ["get", "fill"] {
        let rig = rig();
        rig.old_is_far().await;
        let wire = if held == "get" { &rig.far } else { &rig.near };
        if held == "get" {
            wire.hold_answer(held)
        } else {
            wire.hold(held)
        }
        let chain = Arc::clone(&rig.chain);
        let read = tokio::spawn(async move { chain.get_many(&[KEY, b"other"]).await });
        wire.is_held(held).await;
        for deleted in rig.chain.delete_many(&[b"other", KEY]).await {
            deleted.unwrap();
        }
        wire.let_go(held).await;
        assert!(read.await.unwrap()[0].as_ref().unwrap().is_some());
        assert_eq!(rig.values().await, [None, None, None], "{held}");
    }
}

#[tokio::test(start_paused = true)]
async fn interleaving_2_a_read_between_the_two_halves_of_a_delete() {
    let rig = rig();
    rig.old_is_far().await;
    rig.near.hold("delete");
    let chain = Arc::clone(&rig.chain);
    let delete = tokio::spawn(async move { chain.delete(KEY).await });
    rig.near.is_held("delete").await;
    assert_eq!(rig.chain.get(KEY).await, Ok(None));
    rig.near.let_go("delete").await;
    delete.await.unwrap().unwrap();
    assert_eq!(rig.values().await, [None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn interleaving_3_a_fill_stored_far_and_a_delete_before_its_copy() {
    let rig = rig();
    let token = rig.leased().await;
    rig.near.hold("fill");
    let fill = rig.fill(token);
    rig.near.is_held("fill").await;
    rig.chain.delete(KEY).await.unwrap();
    rig.near.let_go("fill").await;
    assert_eq!(fill.await.unwrap(), Ok(Fill::Stored), "it was, and then it was deleted");
    assert_eq!(rig.values().await, [None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn interleaving_4_a_delete_before_the_fill_is_stored_far() {
    let rig = rig();
    let token = rig.leased().await;
    rig.far.hold("fill");
    let fill = rig.fill(token);
    rig.far.is_held("fill").await;
    rig.chain.delete(KEY).await.unwrap();
    rig.far.let_go("fill").await;
    assert_eq!(fill.await.unwrap(), Ok(Fill::Refused));
    assert_eq!(rig.values().await, [None, None, None]);
    let next = rig.near.inner.lease(KEY, LeaseToken::random(), LIFE, Claim::IfFree).await;
    assert_eq!(next, Ok(Lease::Granted(None)), "it left its lease near");
}

#[tokio::test(start_paused = true)]
async fn interleaving_5_two_writes_at_once() {
    // The first is overtaken between its two stores: far has the second.
    let rig = rig();
    rig.near.hold("fill");
    let first = rig.set(OLD);
    rig.near.is_held("fill").await;
    assert_eq!(rig.chain.set(KEY, NEW, LIFE).await, Ok(Fill::Stored));
    rig.near.let_go("fill").await;
    assert_eq!(first.await.unwrap(), Ok(Fill::Stored));
    let [near, far, _] = rig.values().await;
    assert_eq!((near, far), (None, Some(NEW)));

    // The first is overtaken before it reaches far: far has the first, and the copy near was the second's.
    for held in ["set", "fill"] {
        let rig = self::rig();
        rig.far.hold(held);
        let first = rig.set(OLD);
        rig.far.is_held(held).await;
        assert_eq!(rig.chain.set(KEY, NEW, LIFE).await, Ok(Fill::Stored));
        rig.far.let_go(held).await;
        let first = first.await.unwrap().unwrap();
        let [near, far, _] = rig.values().await;
        assert!(near.is_none() || near == far, "{held}: {near:?} is not {far:?}");
        assert_eq!(first, if held == "set" { Fill::Stored } else { Fill::Refused });
        assert_eq!(far, Some(if held == "set" { OLD } else { NEW }));
    }
}

#[tokio::test(start_paused = true)]
async fn interleaving_6_the_lease_near_runs_out() {
    for is_copied in [true, false] {
        let rig = rig();
        rig.old_is_far().await;
        rig.far.hold("set");
        let write = rig.set(NEW);
        rig.far.is_held("set").await;
        rig.clock.advance(Duration::from_secs(3));
        let read = if is_copied {
            assert_eq!(rig.chain.get(KEY).await.unwrap().unwrap().bytes, OLD);
            None
        } else {
            rig.near.hold("fill");
            let read = rig.read();
            rig.near.is_held("fill").await;
            Some(read)
        };
        rig.far.let_go("set").await;
        assert_eq!(write.await.unwrap(), Ok(Fill::Stored));
        if let Some(read) = read {
            rig.near.let_go("fill").await;
            read.await.unwrap().unwrap();
        }
        let [near, far, read] = rig.values().await;
        assert_eq!((near, far, read), (None, Some(NEW.clone()), Some(NEW)), "{is_copied}");
    }
}

#[tokio::test(start_paused = true)]
async fn interleaving_7_a_lease_near_whose_answer_never_came() {
    // The fill gives the near tier up, and is stored far.
    let rig = rig();
    let token = rig.leased().await;
    rig.near.hold("lease");
    assert_eq!(rig.chain.fill(KEY, token, OLD, LIFE).await, Ok(Fill::Stored));
    assert_eq!(rig.near.executed("fill"), 0, "nothing is stored under it");
    rig.chain.delete(KEY).await.unwrap();
    rig.near.let_go("lease").await;
    assert_eq!(rig.values().await, [None, None, None]);

    // The same of a read.
    let rig = self::rig();
    rig.old_is_far().await;
    rig.near.hold("lease");
    assert_eq!(rig.chain.get(KEY).await.unwrap().unwrap().bytes, OLD);
    rig.chain.delete(KEY).await.unwrap();
    rig.near.let_go("lease").await;
    assert_eq!(rig.values().await, [None, None, None]);
    assert_eq!(rig.near.executed("fill"), 0);
}

#[tokio::test(start_paused = true)]
async fn interleaving_7_a_copy_that_is_late() {
    let rig = rig();
    rig.old_is_far().await;
    rig.near.hold("fill");
    assert_eq!(rig.chain.get(KEY).await.unwrap().unwrap().bytes, OLD, "without its copy");
    rig.chain.delete(KEY).await.unwrap();
    rig.near.let_go("fill").await;
    assert_eq!(rig.values().await, [None, None, None]);

    // Of a write whose caller is gone, and a write after it.
    let rig = self::rig();
    rig.near.hold("fill");
    let write = rig.set(OLD);
    rig.near.is_held("fill").await;
    write.abort();
    assert_eq!(rig.chain.set(KEY, NEW, LIFE).await, Ok(Fill::Stored));
    rig.near.let_go("fill").await;
    let [near, far, _] = rig.values().await;
    assert_eq!((near, far), (Some(NEW), Some(NEW)));
}

#[tokio::test(start_paused = true)]
async fn interleaving_8_a_clear_over_a_copy_and_over_a_fill() {
    let rig = rig();
    rig.old_is_far().await;
    rig.near.hold("fill");
    let read = rig.read();
    rig.near.is_held("fill").await;
    rig.chain.clear(b"", &|_| {}).await.unwrap();
    rig.near.let_go("fill").await;
    read.await.unwrap().unwrap();
    assert_eq!(rig.values().await, [None, None, None]);

    let token = rig.leased().await;
    rig.near.hold("fill");
    let fill = rig.fill(token);
    rig.near.is_held("fill").await;
    rig.chain.clear(b"", &|_| {}).await.unwrap();
    rig.near.let_go("fill").await;
    fill.await.unwrap().unwrap();
    assert_eq!(rig.values().await, [None, None, None]);
}

/// As 1, 3 and 4, of a hold and of its end.
#[tokio::test(start_paused = true)]
async fn interleaving_9_copies_on_their_way_while_a_hold_passes() {
    for (held, is_answer, ends) in
        [("get", true, false), ("get", true, true), ("fill", false, false), ("fill", false, true)]
    {
        let rig = rig();
        let hold = LeaseToken::random();
        if ends {
            // A hold that was evicted: what its end meets was loaded while it should have stood.
            rig.chain.hold(KEY, hold, LIFE).await.unwrap();
            rig.far.inner.end_hold(KEY, hold, None).await.unwrap();
        }
        rig.old_is_far().await;
        let wire = if held == "get" { &rig.far } else { &rig.near };
        if is_answer {
            wire.hold_answer(held)
        } else {
            wire.hold(held)
        }
        let read = rig.read();
        wire.is_held(held).await;
        if ends {
            assert_eq!(rig.chain.end_hold(KEY, hold, None).await, Ok(HoldEnd::Lost));
        } else {
            rig.chain.hold(KEY, hold, LIFE).await.unwrap();
        }
        wire.let_go(held).await;
        assert!(read.await.unwrap().unwrap().is_some(), "it began before");
        assert_eq!(rig.values().await, [None, None, None], "{held} {is_answer} {ends}");
    }
}

/// The near copy goes after the far value, so that no read between the two copies it back; and it goes even if the
/// far tier cannot be reached.
#[tokio::test(start_paused = true)]
async fn a_hold_and_its_end_drop_the_near_copy_last() {
    for ends in [false, true] {
        let rig = rig();
        let hold = LeaseToken::random();
        rig.old_is_far().await;
        assert!(rig.chain.get(KEY).await.unwrap().is_some(), "it leaves a copy");
        rig.near.hold("delete");
        let chain = Arc::clone(&rig.chain);
        let step = tokio::spawn(async move {
            match ends {
                true => chain.end_hold(KEY, hold, None).await.map(drop),
                false => chain.hold(KEY, hold, LIFE).await,
            }
        });
        rig.near.is_held("delete").await;
        assert_eq!(rig.far.inner.get(KEY).await, Ok(None), "far, then near");
        assert!(rig.near.inner.get(KEY).await.unwrap().is_some());
        rig.near.let_go("delete").await;
        step.await.unwrap().unwrap();
        assert_eq!(rig.values().await, [None, None, None]);
        let again = async || match ends {
            true => rig.chain.end_hold(KEY, hold, None).await.map(drop),
            false => rig.chain.hold(KEY, hold, LIFE).await,
        };
        rig.far.breaks(if ends { "end_hold" } else { "hold" });
        rig.near.inner.set(KEY, OLD, LIFE).await.unwrap();
        assert!(again().await.is_err());
        assert_eq!(rig.near.inner.get(KEY).await, Ok(None), "near is tried whatever comes of far");
        rig.far.mended();
        rig.near.breaks("delete");
        assert!(again().await.is_err(), "a copy may be left");
    }
}

#[tokio::test]
async fn a_near_tier_that_cannot_be_settled_fails_the_write() {
    for broken in ["lease", "fill"] {
        let rig = rig();
        rig.chain.set(KEY, OLD, LIFE).await.unwrap();
        rig.near.breaks(broken);
        assert_eq!(rig.chain.set(KEY, NEW, LIFE).await, Ok(Fill::Stored));
        let [near, far, _] = rig.values().await;
        assert_eq!((near, far), (None, Some(NEW)), "no {broken}: the old copy is dropped");

        let rig = self::rig();
        rig.chain.set(KEY, OLD, LIFE).await.unwrap();
        rig.near.breaks(broken);
        rig.near.breaks("delete");
        assert!(rig.chain.set(KEY, NEW, LIFE).await.is_err(), "the old copy is there still");
        let token = LeaseToken::random();
        let lease = rig.chain.lease(KEY, token, LIFE, Claim::ByForce).await;
        assert!(matches!(lease, Ok(Lease::Granted(Some(_)))));
        assert!(rig.chain.fill(KEY, token, NEW, LIFE).await.is_err());
        assert!(rig.chain.delete(KEY).await.is_err());
        assert_eq!(rig.far.inner.get(KEY).await, Ok(None), "it was tried");
        rig.near.mended();
        rig.chain.delete(KEY).await.unwrap();
        assert_eq!(rig.values().await, [None, None, None]);
    }
    let rig = rig();
    rig.chain.set(KEY, OLD, LIFE).await.unwrap();
    rig.far.breaks("delete");
    assert!(rig.chain.delete(KEY).await.is_err());
    assert_eq!(rig.near.inner.get(KEY).await, Ok(None), "it was tried");
}
