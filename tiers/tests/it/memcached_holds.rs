//! Holds and renewals on memcached, which runs no scripts: others come between any two of their commands.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, HoldEnd, Lease, LeaseToken, Memcached, RemoteTier, TierError,
    testing::MemcachedServer,
};

use crate::stepper::Stepper;

const LIFE: Duration = Duration::from_secs(600);
const OLD: Bytes = Bytes::from_static(b"old");
const NEW: Bytes = Bytes::from_static(b"new");

async fn serving() -> (MemcachedServer, Arc<Memcached>) {
    let server = MemcachedServer::start().await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    (server, Arc::new(tier.response_timeout(Duration::from_secs(5))))
}

/// A tier whose commands are let through one by one.
async fn stepped(server: &MemcachedServer) -> (Stepper, Arc<Memcached>) {
    let stepper = Stepper::before(server.port()).await;
    let tier = Memcached::new(&stepper.address()).unwrap();
    (stepper, Arc::new(tier.response_timeout(Duration::from_secs(20))))
}

async fn stored(tier: &Memcached) -> Option<Bytes> {
    tier.get(b"k").await.unwrap().map(|found| found.bytes)
}

/// Nobody holds the key and nobody has its lease.
async fn is_open(tier: &Memcached, why: &str) {
    let token = LeaseToken::random();
    let lease = tier.lease(b"k", token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Ok(Lease::Granted(_))), "{why}: {lease:?}");
    tier.delete(b"k").await.unwrap();
}

/// 1. A lease has executed some of its commands. 2. A hold is acknowledged. 3. The lease goes on.
#[tokio::test]
async fn a_hold_between_the_commands_of_a_lease() {
    let (server, writer) = serving().await;
    let mut granted = 0;
    // The claim, a renumbering, the value, the lease, and eight places.
    for (claim, most) in [(Claim::IfFree, 11), (Claim::ByForce, 12)] {
        for (commands, is_there) in (1..most).flat_map(|n| [(n, false), (n, true)]) {
            let (stepper, tier) = stepped(&server).await;
            if is_there {
                writer.set(b"k", OLD, LIFE).await.unwrap();
            }
            let (token, hold) = (LeaseToken::random(), LeaseToken::random());
            stepper.hold_after(commands);
            let (lease, ()) = tokio::join!(tier.lease(b"k", token, LIFE, claim), async {
                stepper.is_holding().await;
                writer.hold(b"k", hold, LIFE).await.unwrap();
                stepper.let_go();
            });
            let why = format!("{claim:?} after {commands}, {is_there}: {lease:?}");
            granted += usize::from(matches!(lease, Ok(Lease::Granted(_))));
            assert_ne!(tier.renew(b"k", token, LIFE).await, Ok(true), "{why}");
            assert_ne!(tier.fill(b"k", token, OLD, LIFE).await, Ok(Fill::Stored), "{why}");
            assert_eq!(stored(&writer).await, None, "{why}");
            assert_eq!(writer.end_hold(b"k", hold, None).await, Ok(HoldEnd::Alone), "{why}");
            assert_ne!(tier.fill(b"k", token, OLD, LIFE).await, Ok(Fill::Stored), "{why}");
            is_open(&writer, &why).await;
        }
    }
    assert!(granted > 0, "a hold never came after the looks");
}

/// 1. A hold has executed some of its commands. 2. A load comes, and a set. 3. The hold is acknowledged.
#[tokio::test]
async fn a_load_between_the_commands_of_a_hold() {
    let (server, tier) = serving().await;
    // Nine looks; the mark, the place, a drop, and nine looks.
    for (commands, fills) in (1..22).flat_map(|n| [(n, false), (n, true)]) {
        let (stepper, writer) = stepped(&server).await;
        tier.set(b"k", OLD, LIFE).await.unwrap();
        let (token, hold) = (LeaseToken::random(), LeaseToken::random());
        stepper.hold_after(commands);
        let (held, lease) = tokio::join!(writer.hold(b"k", hold, LIFE), async {
            stepper.is_holding().await;
            let lease = tier.lease(b"k", token, LIFE, Claim::ByForce).await.unwrap();
            if fills {
                let _ = tier.fill(b"k", token, OLD, LIFE).await;
                let _ = tier.set(b"k", OLD, LIFE).await;
            }
            stepper.let_go();
            lease
        });
        let why = format!("after {commands}, {fills}: {lease:?}");
        assert_eq!(held, Ok(()), "{why}");
        assert_eq!(stored(&tier).await, None, "{why}");
        assert_ne!(tier.fill(b"k", token, OLD, LIFE).await, Ok(Fill::Stored), "{why}");
        assert_eq!(tier.lease(b"k", token, LIFE, Claim::ByForce).await, Ok(Lease::OnHold), "{why}");
        let end = writer.end_hold(b"k", hold, None).await;
        // A claim by force, and a set, may have taken its mark.
        assert!(matches!(end, Ok(HoldEnd::Alone | HoldEnd::Overlapped)), "{why}: {end:?}");
        is_open(&tier, &why).await;
    }
}

/// 1. A set has executed some of its commands. 2. A hold is acknowledged. 3. The set goes on.
#[tokio::test]
async fn a_hold_between_the_commands_of_a_set() {
    let (server, writer) = serving().await;
    // Two drops, a stub, eight looks; the fill, and a drop. As one of many, too.
    for (commands, is_many) in (1..13).flat_map(|n| [(n, false), (n, true)]) {
        let (stepper, tier) = stepped(&server).await;
        let hold = LeaseToken::random();
        stepper.hold_after(commands);
        let set = async {
            match is_many {
                true => tier.set_many(&[(b"k", OLD, LIFE)]).await.remove(0),
                false => tier.set(b"k", OLD, LIFE).await,
            }
        };
        let (set, ()) = tokio::join!(set, async {
            stepper.is_holding().await;
            writer.hold(b"k", hold, LIFE).await.unwrap();
            stepper.let_go();
        });
        let why = format!("after {commands}, {is_many}: {set:?}");
        assert!(set == Ok(Fill::Refused) || (set == Ok(Fill::Stored) && commands == 12), "{why}");
        assert_eq!(stored(&writer).await, None, "{why}");
        let end = writer.end_hold(b"k", hold, None).await;
        // The set may have begun anew, and dropped its mark.
        assert!(matches!(end, Ok(HoldEnd::Alone | HoldEnd::Overlapped)), "{why}: {end:?}");
        is_open(&writer, &why).await;
    }
}

/// 1. A hold's end has executed some of its commands. 2. Another hold comes, and stays or ends. 3. It goes on.
#[tokio::test]
async fn a_hold_between_the_commands_of_another_ones_end() {
    let (server, other) = serving().await;
    let mut alone = 0;
    // Nine looks; the lease, a drop, a stub, the leaving, and nine looks.
    for (commands, ends) in (1..=22).flat_map(|n| [(n, false), (n, true)]) {
        let (stepper, writer) = stepped(&server).await;
        let tokens = [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
        let [first, second, lease] = tokens;
        writer.hold(b"k", first, LIFE).await.unwrap();
        stepper.hold_after(commands);
        let (end, others) =
            tokio::join!(writer.end_hold(b"k", first, Some((lease, LIFE))), async {
                stepper.is_holding().await;
                other.hold(b"k", second, LIFE).await.unwrap();
                let mut end = None;
                if ends {
                    end = Some(other.end_hold(b"k", second, None).await.unwrap());
                }
                stepper.let_go();
                end
            });
        let why = format!("after {commands}, {ends}: {end:?}, {others:?}");
        assert!(matches!(end, Ok(HoldEnd::Alone | HoldEnd::Overlapped)), "{why}");
        // Its place was left with the thirteenth.
        if commands < 13 {
            assert_eq!(end, Ok(HoldEnd::Overlapped), "{why}");
            assert_ne!(others, Some(HoldEnd::Alone), "{why}");
        }
        alone += usize::from(end == Ok(HoldEnd::Alone));
        // What it wrote is older than what the other may have.
        assert_ne!(writer.fill(b"k", lease, OLD, LIFE).await, Ok(Fill::Stored), "{why}");
        assert_eq!(stored(&other).await, None, "{why}");
        if !ends {
            let lease = other.lease(b"k", LeaseToken::random(), LIFE, Claim::ByForce).await;
            assert_eq!(lease, Ok(Lease::OnHold), "{why}");
            other.end_hold(b"k", second, None).await.unwrap();
        }
        is_open(&other, &why).await;
    }
    assert!(alone > 0, "never after its last look");
}

/// 1. A hold's end has executed some of its commands. 2. A load comes. 3. It goes on. Of the two one can store.
#[tokio::test]
async fn a_load_between_the_commands_of_a_holds_end() {
    let (server, tier) = serving().await;
    for (commands, claim) in (1..22).flat_map(|n| [(n, Claim::IfFree), (n, Claim::ByForce)]) {
        let (stepper, writer) = stepped(&server).await;
        let [hold, lease, load] =
            [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
        writer.hold(b"k", hold, LIFE).await.unwrap();
        stepper.hold_after(commands);
        let (end, asked) = tokio::join!(writer.end_hold(b"k", hold, Some((lease, LIFE))), async {
            stepper.is_holding().await;
            let asked = tier.lease(b"k", load, LIFE, claim).await.unwrap();
            stepper.let_go();
            asked
        });
        let why = format!("{claim:?} after {commands}: {end:?}, {asked:?}");
        let expected = match claim {
            Claim::IfFree => vec![HoldEnd::Alone],
            Claim::ByForce => vec![HoldEnd::Alone, HoldEnd::Overlapped],
        };
        assert!(expected.contains(end.as_ref().unwrap()), "{why}");
        assert!(commands >= 13 || asked == Lease::OnHold, "{why}");
        let filled = [
            writer.fill(b"k", lease, NEW, LIFE).await == Ok(Fill::Stored),
            tier.fill(b"k", load, NEW, LIFE).await == Ok(Fill::Stored),
        ];
        let stored_by = filled.iter().filter(|filled| **filled).count();
        match (claim, &asked) {
            // It took the lease by force, found the hold, and gave it up.
            (Claim::ByForce, Lease::OnHold) => assert!(stored_by <= 1, "{why}: {filled:?}"),
            _ => assert_eq!(stored_by, 1, "{why}: {filled:?}"),
        }
        assert_eq!(stored(&tier).await.is_some(), stored_by > 0, "{why}");
        tier.delete(b"k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_hold_a_key_and_the_ninth_is_refused() {
    let (_server, tier) = serving().await;
    let holds: Vec<LeaseToken> = (0..9).map(|_| LeaseToken::random()).collect();
    let (last, first) = holds.split_last().unwrap();
    let taken = first.iter().map(|hold| tier.hold(b"k", *hold, LIFE));
    for taken in futures_util::future::join_all(taken).await {
        assert_eq!(taken, Ok(()), "all at once");
    }
    let refused = tier.hold(b"k", *last, LIFE).await;
    assert!(
        matches!(&refused, Err(TierError::Refused(words)) if words.contains("eight")),
        "{refused:?}"
    );
    assert_eq!(tier.renew_hold(b"k", first[3], LIFE).await, Ok(true));
    assert_eq!(tier.end_hold(b"k", first[3], None).await, Ok(HoldEnd::Overlapped));
    tier.hold(b"k", *last, LIFE).await.unwrap();
    for hold in first.iter().filter(|hold| **hold != first[3]).chain([last]) {
        let lease = tier.lease(b"k", LeaseToken::random(), LIFE, Claim::IfFree).await;
        assert_eq!(lease, Ok(Lease::OnHold));
        assert_eq!(tier.end_hold(b"k", *hold, None).await, Ok(HoldEnd::Overlapped));
    }
    is_open(&tier, "all have ended").await;
}

/// What the server evicts of a hold: its own item, or the mark.
#[tokio::test]
async fn an_evicted_hold_is_lost_and_what_was_filled_meanwhile_goes() {
    let (server, tier) = serving().await;
    let [hold, load, late] = [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
    tier.hold(b"k", hold, LIFE).await.unwrap();
    for place in 0..8 {
        server.ask(&format!("md {{k}}h{place}")).await.unwrap();
    }
    let asked = tier.lease(b"k", load, LIFE, Claim::IfFree).await;
    assert_eq!(asked, Ok(Lease::Held(None)), "its mark is in the way, once");
    assert_eq!(tier.lease(b"k", load, LIFE, Claim::IfFree).await, Ok(Lease::Granted(None)));
    assert_eq!(tier.fill(b"k", load, OLD, LIFE).await, Ok(Fill::Stored), "the key is open early");
    tier.lease(b"k", late, LIFE, Claim::IfFree).await.unwrap();
    assert_eq!(tier.end_hold(b"k", hold, Some((load, LIFE))).await, Ok(HoldEnd::Lost));
    assert_eq!(stored(&tier).await, None);
    for token in [late, load] {
        assert_ne!(tier.fill(b"k", token, OLD, LIFE).await, Ok(Fill::Stored));
    }
    tier.hold(b"k", hold, LIFE).await.unwrap();
    assert_eq!(server.ask("md {k}:l").await.unwrap(), "HD");
    let end = tier.end_hold(b"k", hold, Some((load, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Overlapped), "whether another came cannot be told");
    is_open(&tier, "it has ended").await;
}

/// 1. A hold's end has executed some of its commands. 2. One who wrote without a hold that stands is acknowledged. 3. It
/// goes on: what it wrote is older.
#[tokio::test]
async fn a_writer_without_a_hold_between_the_commands_of_a_holds_end() {
    let (server, other) = serving().await;
    for (commands, way) in (1..=22).flat_map(|n| (0..4).map(move |way| (n, way))) {
        let (stepper, writer) = stepped(&server).await;
        let [hold, lost, lease] =
            [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
        writer.hold(b"k", hold, LIFE).await.unwrap();
        stepper.hold_after(commands);
        let (end, ()) = tokio::join!(writer.end_hold(b"k", hold, Some((lease, LIFE))), async {
            stepper.is_holding().await;
            match way {
                0 => other.delete(b"k").await.unwrap(),
                1 => _ = other.set(b"k", NEW, LIFE).await.unwrap(),
                2 => assert_eq!(other.end_hold(b"k", lost, None).await, Ok(HoldEnd::Lost)),
                _ => assert_eq!(other.renew_hold(b"k", lost, LIFE).await, Ok(false)),
            }
            stepper.let_go();
        });
        let why = format!("{way} after {commands}: {end:?}");
        assert!(commands >= 13 || end == Ok(HoldEnd::Overlapped), "{why}");
        assert_ne!(writer.fill(b"k", lease, OLD, LIFE).await, Ok(Fill::Stored), "{why}");
        assert_ne!(stored(&other).await, Some(OLD), "{why}");
        if way == 3 {
            other.end_hold(b"k", lost, None).await.unwrap();
        }
        other.delete(b"k").await.unwrap();
        is_open(&other, &why).await;
    }
}

/// 1. A hold has executed some of its commands. 2. Another begins. 3. The first goes on. Neither has a mark that would make
/// it alone if the other's writer died now.
#[tokio::test]
async fn of_two_holds_that_begin_at_once_neither_is_alone_later() {
    let (server, other) = serving().await;
    // Nine looks; the mark, the place, a drop, and nine looks.
    for commands in 1..=21 {
        let (stepper, writer) = stepped(&server).await;
        let holds = [LeaseToken::random(), LeaseToken::random()];
        stepper.hold_after(commands);
        let (held, ()) = tokio::join!(writer.hold(b"k", holds[0], LIFE), async {
            stepper.is_holding().await;
            other.hold(b"k", holds[1], LIFE).await.unwrap();
            stepper.let_go();
        });
        assert_eq!(held, Ok(()), "after {commands}");
        let mark = server.ask("mg {k}:l v").await.unwrap();
        assert!(mark.starts_with("EN"), "after {commands}: {mark}");
        for (tier, hold) in [(&writer, holds[0]), (&other, holds[1])] {
            assert_eq!(tier.end_hold(b"k", hold, None).await, Ok(HoldEnd::Overlapped));
        }
        is_open(&other, "both have ended").await;
    }
}

/// Every way to lose the connection or the number of the lease's item.
#[tokio::test]
async fn a_lease_whose_renewal_was_lost_or_whose_connection_is_closed_fills() {
    let (mut server, tier) = serving().await;
    for (way, is_there) in (0..3).flat_map(|way| [(way, false), (way, true)]) {
        if is_there {
            tier.set(b"k", OLD, LIFE).await.unwrap();
        }
        let token = LeaseToken::random();
        // Two connections from before the lease: one that is closed leaves another.
        let _ = tokio::join!(tier.get(b"other"), tier.get(b"other"));
        tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
        match way {
            // The connection is gone.
            0 => {
                tokio::select! { biased; _ = tier.get(b"other") => {}, () = async {} => {} }
                assert_eq!(tier.renew(b"k", token, LIFE).await, Ok(true));
            }
            // The renewal is on its way, and nobody waits for it any more; then it has arrived.
            1 => {
                tokio::select! { biased; _ = tier.renew(b"k", token, LIFE) => {}, () = async {} => {} }
                crate::wait(30).await;
            }
            // Its number has changed since, as by a renewal that was late.
            _ => {
                let token = token.as_bytes();
                let words = [b"ms {k}:l 16 T600\r\n".as_slice(), token].concat();
                direct(&server, &words).await;
                assert_eq!(tier.renew(b"k", LeaseToken::random(), LIFE).await, Ok(false));
            }
        }
        if way < 2 {
            assert_eq!(
                tier.fill(b"k", token, NEW, LIFE).await,
                Ok(Fill::Stored),
                "{way} {is_there}"
            );
            assert_eq!(stored(&tier).await, Some(NEW));
            assert_eq!(server.ask("mg {k}:l").await.unwrap(), "EN", "the lease is given up");
        }
        tier.delete(b"k").await.unwrap();
    }
    let token = LeaseToken::random();
    tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
    server.restart().await.unwrap();
    crate::heals(&*tier).await;
    assert_eq!(tier.renew(b"k", token, LIFE).await, Ok(false), "a server without that lease");
    is_open(&tier, "a renewal takes nothing").await;
}

/// Raw bytes, which `ask` does not take.
async fn direct(server: &MemcachedServer, words: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(words).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HD\r\n");
}
