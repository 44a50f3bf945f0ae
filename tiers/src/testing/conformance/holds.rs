//! What every [`RemoteTier`] does for those who write the source: leases that live longer, and holds.

use std::time::Duration;

use futures_util::future::{join, join3};

use super::remote::{LIFE, bytes, granted, stored, wait};
use crate::{Claim, Fill, HoldEnd, Lease, LeaseToken, RemoteTier};

/// A life that ends within the test.
const SHORT: Duration = Duration::from_millis(300);

/// The keys of which each has leases and holds of its own: a plain one, none, a long one, and one that no server
/// takes as it is.
fn keys() -> [Vec<u8>; 4] {
    [b"h".to_vec(), Vec::new(), b"h".repeat(10_240), b"h 1\r\n%\xff".to_vec()]
}

/// All of it.
pub(super) async fn leases_are_renewed_and_keys_are_held(tier: &dyn RemoteTier) {
    for key in keys() {
        nothing_is_leased_or_stored_on_hold(tier, &key).await;
        the_first_of_two_holds_does_not_open_the_key(tier, &key).await;
        a_lease_follows_a_hold_that_was_alone(tier, &key).await;
    }
    a_hold_is_of_one_key(tier).await;
    // Those that wait, each with keys of its own.
    let renewals = join(a_renewal_keeps_a_lease(tier), a_renewal_takes_no_lease(tier));
    let holds =
        join3(a_hold_is_renewed(tier), what_ends_is_said(tier), a_hold_ends_by_itself(tier));
    join(renewals, holds).await;
    holds_outlast_what_drops_values(tier).await;
}

/// Waits until what lived so long is over, whatever the tier counts in.
async fn outlived(tier: &dyn RemoteTier, life: Duration) {
    wait(life * 2 + tier.abilities().tick * 3).await;
}

/// Asks for the lease in both ways; each must find the key on hold.
async fn is_on_hold(tier: &dyn RemoteTier, key: &[u8], why: &str) {
    for claim in [Claim::IfFree, Claim::ByForce] {
        let lease = tier.lease(key, LeaseToken::random(), LIFE, claim).await;
        assert_eq!(lease, Ok(Lease::OnHold), "{claim:?}: {why}");
    }
}

/// Nothing is left of leases and holds.
async fn is_open(tier: &dyn RemoteTier, key: &[u8], why: &str) {
    let token = LeaseToken::random();
    let lease = tier.lease(key, token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Ok(Lease::Granted(_))), "{why}: {lease:?}");
    tier.release(key, token).await.unwrap();
}

async fn a_renewal_keeps_a_lease(tier: &dyn RemoteTier) {
    let (token, other) = (LeaseToken::random(), LeaseToken::random());
    for key in [b"r".as_slice(), b"there"] {
        if key == b"there" {
            tier.set(key, bytes("old"), LIFE).await.unwrap();
        }
        let lease = tier.lease(key, token, SHORT, Claim::IfFree).await;
        assert!(matches!(lease, Ok(Lease::Granted(_))), "{lease:?}");
        assert_eq!(tier.renew(key, token, LIFE).await, Ok(true));
        assert_eq!(tier.renew(key, token, LIFE).await, Ok(true), "and again");
    }
    outlived(tier, SHORT).await;
    for key in [b"r".as_slice(), b"there"] {
        let held = tier.lease(key, other, LIFE, Claim::IfFree).await;
        assert!(matches!(held, Ok(Lease::Held(_))), "it lives on: {held:?}");
        assert_eq!(tier.renew(key, token, LIFE).await, Ok(true));
        assert_eq!(tier.fill(key, token, bytes("v"), LIFE).await, Ok(Fill::Stored));
        assert_eq!(tier.renew(key, token, LIFE).await, Ok(false), "filled");
        granted(tier, key, other).await;
        // A shorter life than before is a renewal too.
        assert_eq!(tier.renew(key, other, SHORT).await, Ok(true));
    }
    outlived(tier, SHORT).await;
    for key in [b"r".as_slice(), b"there"] {
        assert_eq!(tier.fill(key, other, bytes("w"), LIFE).await, Ok(Fill::Refused), "expired");
        is_open(tier, key, "expired").await;
        assert_eq!(stored(tier, key).await.unwrap(), "v");
        tier.delete(key).await.unwrap();
    }
}

/// A token that does not stand is not renewed, and nothing is changed: neither is it put in place, nor does whose
/// token stands lose it.
async fn a_renewal_takes_no_lease(tier: &dyn RemoteTier) {
    let (token, other) = (LeaseToken::random(), LeaseToken::random());
    let fails = async |key: &[u8], why: &str| {
        assert_eq!(tier.renew(key, token, LIFE).await, Ok(false), "{why}");
        assert_eq!(tier.fill(key, token, bytes("late"), LIFE).await, Ok(Fill::Refused), "{why}");
    };
    fails(b"rt", "never leased").await;
    is_open(tier, b"rt", "a renewal took the lease").await;
    granted(tier, b"rt", token).await;
    tier.delete(b"rt").await.unwrap();
    fails(b"rt", "deleted").await;
    is_open(tier, b"rt", "a renewal brought the lease back").await;
    granted(tier, b"rt", token).await;
    tier.set(b"rt", bytes("set"), LIFE).await.unwrap();
    fails(b"rt", "set").await;
    granted(tier, b"rt", token).await;
    tier.release(b"rt", token).await.unwrap();
    fails(b"rt", "released").await;
    granted(tier, b"rt", token).await;
    tier.lease(b"rt", other, LIFE, Claim::ByForce).await.unwrap();
    fails(b"rt", "another's by force").await;
    assert_eq!(tier.fill(b"rt", other, bytes("v"), LIFE).await, Ok(Fill::Stored), "its own stood");
    tier.lease(b"rt", token, SHORT, Claim::IfFree).await.unwrap();
    outlived(tier, SHORT).await;
    fails(b"rt", "expired").await;
    is_open(tier, b"rt", "a renewal brought the lease back").await;
    assert_eq!(stored(tier, b"rt").await.unwrap(), "v");
    tier.delete(b"rt").await.unwrap();
}

async fn nothing_is_leased_or_stored_on_hold(tier: &dyn RemoteTier, key: &[u8]) {
    let (load, hold) = (LeaseToken::random(), LeaseToken::random());
    tier.set(key, bytes("old"), LIFE).await.unwrap();
    granted(tier, key, load).await;
    tier.hold(key, hold, LIFE).await.unwrap();
    assert_eq!(stored(tier, key).await, None, "the value goes");
    assert_eq!(tier.renew(key, load, LIFE).await, Ok(false), "and the lease");
    assert_eq!(tier.fill(key, load, bytes("stale"), LIFE).await, Ok(Fill::Refused));
    assert_eq!(stored(tier, key).await, None);
    is_on_hold(tier, key, "held").await;
    let token = LeaseToken::random();
    for claim in [Claim::IfFree, Claim::ByForce] {
        assert_eq!(tier.lease(key, token, LIFE, claim).await, Ok(Lease::OnHold));
        assert_eq!(tier.fill(key, token, bytes("v"), LIFE).await, Ok(Fill::Refused), "{claim:?}");
        assert_eq!(tier.renew(key, token, LIFE).await, Ok(false), "{claim:?}");
    }
    assert_eq!(tier.set(key, bytes("set"), LIFE).await, Ok(Fill::Refused));
    let many = tier.set_many(&[(key, bytes("set"), LIFE), (b"beside", bytes("v"), LIFE)]).await;
    assert_eq!(many, [Ok(Fill::Refused), Ok(Fill::Stored)]);
    assert_eq!(stored(tier, key).await, None);
    assert_eq!(tier.end_hold(key, hold, None).await, Ok(HoldEnd::Alone));
    assert_eq!(tier.fill(key, load, bytes("stale"), LIFE).await, Ok(Fill::Refused), "still");
    assert_eq!(tier.fill(key, token, bytes("v"), LIFE).await, Ok(Fill::Refused), "still");
    granted(tier, key, token).await;
    assert_eq!(tier.fill(key, token, bytes("new"), LIFE).await, Ok(Fill::Stored));
    assert_eq!(tier.set(key, bytes("set"), LIFE).await, Ok(Fill::Stored));
    assert_eq!(stored(tier, key).await.unwrap(), "set");
    tier.delete_many(&[key, b"beside"]).await;
}

async fn the_first_of_two_holds_does_not_open_the_key(tier: &dyn RemoteTier, key: &[u8]) {
    let holds = [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
    let lease = LeaseToken::random();
    for hold in holds {
        tier.hold(key, hold, LIFE).await.unwrap();
    }
    // In another order than they began: each place is one's own.
    for hold in [holds[1], holds[0]] {
        let end = tier.end_hold(key, hold, Some((lease, LIFE))).await;
        assert_eq!(end, Ok(HoldEnd::Overlapped));
        assert_eq!(tier.fill(key, lease, bytes("v"), LIFE).await, Ok(Fill::Refused));
        is_on_hold(tier, key, "the others stand").await;
    }
    // By now it is alone, but who wrote last is not known.
    let end = tier.end_hold(key, holds[2], Some((lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Overlapped));
    assert_eq!(tier.fill(key, lease, bytes("v"), LIFE).await, Ok(Fill::Refused));
    is_open(tier, key, "the last has ended").await;
    assert_eq!(stored(tier, key).await, None);
}

async fn a_lease_follows_a_hold_that_was_alone(tier: &dyn RemoteTier, key: &[u8]) {
    let (hold, lease) = (LeaseToken::random(), LeaseToken::random());
    tier.hold(key, hold, LIFE).await.unwrap();
    assert_eq!(tier.end_hold(key, hold, Some((lease, LIFE))).await, Ok(HoldEnd::Alone));
    let other = tier.lease(key, LeaseToken::random(), LIFE, Claim::IfFree).await;
    assert_eq!(other, Ok(Lease::Held(None)), "the lease stands");
    assert_eq!(tier.fill(key, lease, bytes("mine"), LIFE).await, Ok(Fill::Stored));
    assert_eq!(stored(tier, key).await.unwrap(), "mine");
    is_open(tier, key, "filled").await;
    // One that comes before the fill is not overtaken by it.
    tier.hold(key, hold, LIFE).await.unwrap();
    assert_eq!(tier.end_hold(key, hold, Some((lease, LIFE))).await, Ok(HoldEnd::Alone));
    let later = LeaseToken::random();
    tier.hold(key, later, LIFE).await.unwrap();
    assert_eq!(tier.fill(key, lease, bytes("older"), LIFE).await, Ok(Fill::Refused));
    assert_eq!(tier.end_hold(key, later, None).await, Ok(HoldEnd::Alone), "the first had ended");
    assert_eq!(stored(tier, key).await, None);
    is_open(tier, key, "ended").await;
}

async fn a_hold_is_renewed(tier: &dyn RemoteTier) {
    let (hold, other) = (LeaseToken::random(), LeaseToken::random());
    tier.hold(b"hr", hold, SHORT).await.unwrap();
    tier.hold(b"hr", hold, LIFE).await.unwrap();
    outlived(tier, SHORT).await;
    is_on_hold(tier, b"hr", "it was renewed").await;
    let end = tier.end_hold(b"hr", hold, None).await;
    assert_eq!(end, Ok(HoldEnd::Alone), "to itself it is no other");
    is_open(tier, b"hr", "one hold, one end").await;
    // A renewal forgets nobody.
    for hold in [hold, other, hold] {
        tier.hold(b"hr", hold, LIFE).await.unwrap();
    }
    assert_eq!(tier.end_hold(b"hr", other, None).await, Ok(HoldEnd::Overlapped));
    tier.hold(b"hr", hold, LIFE).await.unwrap();
    assert_eq!(tier.end_hold(b"hr", hold, None).await, Ok(HoldEnd::Overlapped));
    is_open(tier, b"hr", "both have ended").await;
}

/// The ends that are not [`HoldEnd::Alone`], and what each drops.
async fn what_ends_is_said(tier: &dyn RemoteTier) {
    let (hold, lease) = (LeaseToken::random(), LeaseToken::random());
    tier.set(b"he", bytes("old"), LIFE).await.unwrap();
    granted(tier, b"he", lease).await;
    let end = tier.end_hold(b"he", hold, Some((lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Lost), "never held");
    assert_eq!(stored(tier, b"he").await, None, "the value goes");
    let fill = tier.fill(b"he", lease, bytes("v"), LIFE).await;
    assert_eq!(fill, Ok(Fill::Refused), "and the lease, and none is granted");
    tier.hold(b"he", hold, SHORT).await.unwrap();
    outlived(tier, SHORT).await;
    granted(tier, b"he", lease).await;
    assert_eq!(tier.fill(b"he", lease, bytes("meanwhile"), LIFE).await, Ok(Fill::Stored));
    let load = LeaseToken::random();
    granted(tier, b"he", load).await;
    assert_eq!(tier.end_hold(b"he", hold, Some((lease, LIFE))).await, Ok(HoldEnd::Lost), "expired");
    assert_eq!(stored(tier, b"he").await, None, "what was filled meanwhile goes");
    assert_eq!(tier.fill(b"he", load, bytes("v"), LIFE).await, Ok(Fill::Refused), "or would be");
    assert_eq!(tier.fill(b"he", lease, bytes("v"), LIFE).await, Ok(Fill::Refused));
    // One that came and went while another stood.
    let passing = LeaseToken::random();
    tier.hold(b"he", hold, LIFE).await.unwrap();
    tier.hold(b"he", passing, LIFE).await.unwrap();
    assert_eq!(tier.end_hold(b"he", passing, None).await, Ok(HoldEnd::Overlapped));
    assert_eq!(tier.end_hold(b"he", passing, None).await, Ok(HoldEnd::Lost), "ended already");
    is_on_hold(tier, b"he", "another stands").await;
    let end = tier.end_hold(b"he", hold, Some((lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Overlapped));
    is_open(tier, b"he", "both have ended").await;
}

async fn a_hold_ends_by_itself(tier: &dyn RemoteTier) {
    let [dead, longer, late] = [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
    tier.hold(b"hd", dead, SHORT).await.unwrap();
    // The longer one of a key does not keep the other, nor does the other's end take it along.
    tier.hold(b"two", longer, LIFE).await.unwrap();
    tier.hold(b"two", dead, SHORT).await.unwrap();
    is_on_hold(tier, b"hd", "its life has just begun").await;
    outlived(tier, SHORT).await;
    is_open(tier, b"hd", "its writer is dead").await;
    is_on_hold(tier, b"two", "one of two is over").await;
    tier.hold(b"hd", late, LIFE).await.unwrap();
    let end = tier.end_hold(b"hd", late, None).await;
    assert_eq!(end, Ok(HoldEnd::Alone), "what was over before it is no other");
    assert_eq!(tier.end_hold(b"two", dead, None).await, Ok(HoldEnd::Lost));
    assert_eq!(tier.end_hold(b"two", longer, None).await, Ok(HoldEnd::Overlapped));
    is_open(tier, b"two", "both are over").await;
}

async fn a_hold_is_of_one_key(tier: &dyn RemoteTier) {
    let hold = LeaseToken::random();
    let others: [&[u8]; 6] = [b"h:h", b"hh", b"h%", b"", b"h0", b":h"];
    for key in others {
        tier.set(key, bytes("v"), LIFE).await.unwrap();
    }
    tier.hold(b"h", hold, LIFE).await.unwrap();
    for key in others {
        assert_eq!(stored(tier, key).await.unwrap(), "v", "{key:?}");
        let token = LeaseToken::random();
        granted(tier, key, token).await;
        assert_eq!(tier.fill(key, token, bytes("w"), LIFE).await, Ok(Fill::Stored));
        assert_eq!(tier.end_hold(key, hold, None).await, Ok(HoldEnd::Lost), "{key:?}");
    }
    is_on_hold(tier, b"h", "others' ends are not its own").await;
    assert_eq!(tier.end_hold(b"h", hold, None).await, Ok(HoldEnd::Alone));
}

async fn holds_outlast_what_drops_values(tier: &dyn RemoteTier) {
    for key in [b"h".as_slice(), b""] {
        let hold = LeaseToken::random();
        tier.hold(key, hold, LIFE).await.unwrap();
        tier.delete(key).await.unwrap();
        is_on_hold(tier, key, "deleted").await;
        assert_eq!(tier.delete_many(&[key]).await, [Ok(())]);
        is_on_hold(tier, key, "deleted with others").await;
        if tier.abilities().clears {
            for prefix in [key, b""] {
                tier.clear(prefix, &|_| {}).await.unwrap();
                is_on_hold(tier, key, "cleared").await;
            }
        }
        let lease = LeaseToken::random();
        let end = tier.end_hold(key, hold, Some((lease, LIFE))).await;
        // Who deletes may have written. A tier that does not remember it takes the holder for alone.
        assert!(matches!(end, Ok(HoldEnd::Alone | HoldEnd::Overlapped)), "{end:?}");
        tier.delete(key).await.unwrap();
        assert_eq!(tier.fill(key, lease, bytes("v"), LIFE).await, Ok(Fill::Refused), "a lease too");
    }
}
