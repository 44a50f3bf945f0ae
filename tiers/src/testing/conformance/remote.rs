//! What every [`RemoteTier`] does, whatever is behind it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join;

use super::{batches::several_keys_at_once, holds::leases_are_renewed_and_keys_are_held};
use crate::{Claim, Fill, Found, Lease, LeaseToken, RemoteTier, TierError};

pub(super) const LIFE: Duration = Duration::from_secs(600);

/// Runs the conformance suite of L2 against a tier that holds nothing of anybody else's: its keys are
/// written, and where the tier can clear, everything is dropped. Takes a few seconds on tiers that count
/// whole ones.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tiered_tiers::{Memory, testing};
///
/// testing::remote_tier_conforms(std::sync::Arc::new(Memory::new())).await;
/// # }
/// ```
///
/// # Panics
/// When the tier does something else than its contract says; the message tells what.
pub async fn remote_tier_conforms(tier: Arc<dyn RemoteTier>) {
    let tier = &*tier;
    assert_eq!(tier.check(), Ok(()));
    assert!(!tier.name().is_empty());
    tier.ping().await.unwrap();
    values_come_and_go(tier).await;
    keys_and_values_are_bytes(tier).await;
    a_life_ends(tier).await;
    what_it_does_not_keep_is_skipped(tier).await;
    a_lease_has_one_holder(tier).await;
    a_fill_needs_its_lease(tier).await;
    a_lease_expires_by_itself(tier).await;
    a_lease_is_no_value(tier).await;
    a_set_wins_over_loads(tier).await;
    concurrent_sets_leave_one_whole(tier).await;
    look_alikes_are_apart(tier).await;
    several_keys_at_once(tier).await;
    leases_are_renewed_and_keys_are_held(tier).await;
    every_answer_tells_the_run(tier).await;
    if tier.abilities().clears {
        clear_takes_its_prefix_only(tier).await;
        clear_drops_many(tier).await;
    } else {
        let refused = tier.clear(b"k", &|_| {}).await;
        assert!(matches!(refused, Err(TierError::Unsupported(_))), "{refused:?}");
    }
}

/// A real wait: a tier's server has a clock of its own.
pub(super) async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) async fn stored(tier: &dyn RemoteTier, key: &[u8]) -> Option<Bytes> {
    tier.get(key).await.unwrap().map(|found| found.bytes)
}

/// Takes the lease and says what came with it; fails if it is held.
pub(super) async fn granted(tier: &dyn RemoteTier, key: &[u8], token: LeaseToken) -> Option<Found> {
    match tier.lease(key, token, LIFE, Claim::IfFree).await.unwrap() {
        Lease::Granted(found) => found,
        other => panic!("the lease was not granted: {other:?}"),
    }
}

async fn values_come_and_go(tier: &dyn RemoteTier) {
    assert_eq!(tier.get(b"k").await, Ok(None));
    tier.delete(b"k").await.unwrap();
    tier.set(b"k", bytes("one"), LIFE).await.unwrap();
    let found = tier.get(b"k").await.unwrap().unwrap();
    assert_eq!(found.bytes, "one");
    let remaining = found.remaining.unwrap();
    assert!(remaining <= LIFE && remaining > LIFE - Duration::from_secs(5), "{remaining:?}");
    tier.set(b"k", bytes("two"), LIFE).await.unwrap();
    assert_eq!(stored(tier, b"k").await.unwrap(), "two");
    tier.delete(b"k").await.unwrap();
    assert_eq!(stored(tier, b"k").await, None);
}

async fn keys_and_values_are_bytes(tier: &dyn RemoteTier) {
    let long = vec![7; tier.abilities().longest_value.min(2_000_000)];
    let keys: [&[u8]; 7] =
        [b"\xff\x80\xfe", b"a%20b", b"*?[x]\\", b"\"'", &[b'k'; 65_536], b"", b"a\r\nmn\r\n b\0"];
    let values: [&[u8]; 7] =
        [b"", b"\0\r\n$3\r\nfoo", b"\xff\xfe\xfd", &long, b"OK", b"-ERR no", b"EN\r\n"];
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(tier.set(key, Bytes::from_static(b"old"), LIFE).await, Ok(Fill::Stored));
        let token = LeaseToken::random();
        assert_eq!(granted(tier, key, token).await.unwrap().bytes, "old");
        let value = Bytes::copy_from_slice(value);
        assert_eq!(tier.fill(key, token, value.clone(), LIFE).await, Ok(Fill::Stored));
        assert_eq!(stored(tier, key).await, Some(value.clone()), "filled");
        assert_eq!(tier.set(key, value.clone(), LIFE).await, Ok(Fill::Stored));
        assert_eq!(stored(tier, key).await, Some(value), "set");
    }
    for key in keys {
        tier.delete(key).await.unwrap();
        assert_eq!(stored(tier, key).await, None);
    }
}

/// Keys that a tier may be tempted to spell alike are each read back by themselves only.
async fn look_alikes_are_apart(tier: &dyn RemoteTier) {
    let mut keys: Vec<Vec<u8>> =
        (0..=255).filter(|byte| !b"{}".contains(byte)).map(|byte| vec![byte]).collect();
    let words = [
        "a b", "a%20b", "a+b", "a\tb", "a\r\nb", "a\nb", "YSBi", "A B", "a ", " a", "\u{e9}",
        "e\u{301}",
    ];
    keys.extend(words.map(|word| word.as_bytes().to_vec()));
    keys.extend([b"x".repeat(245), b"x".repeat(250), b"x".repeat(251), b"x".repeat(10_240)]);
    for key in &keys {
        let value = Bytes::copy_from_slice(key);
        assert_eq!(tier.set(key, value, LIFE).await, Ok(Fill::Stored), "{key:?}");
    }
    for key in &keys {
        assert_eq!(stored(tier, key).await.as_deref(), Some(key.as_slice()), "another key's value");
    }
    for (at, key) in keys.iter().enumerate() {
        tier.delete(key).await.unwrap();
        assert_eq!(stored(tier, key).await, None);
        if let Some(next) = keys.get(at + 1) {
            assert!(stored(tier, next).await.is_some(), "{key:?} took {next:?} with it");
        }
    }
}

async fn a_life_ends(tier: &dyn RemoteTier) {
    let abilities = tier.abilities();
    let short = abilities.shortest_life.max(Duration::from_millis(80));
    for (key, lives) in
        [("short", [short].as_slice()), ("longer", &[short, LIFE]), ("shorter", &[LIFE, short])]
    {
        for life in lives {
            assert_eq!(tier.set(key.as_bytes(), bytes("v"), *life).await, Ok(Fill::Stored));
        }
    }
    assert_eq!(tier.set(b"huge", bytes("v"), Duration::MAX).await, Ok(Fill::Stored));
    let remaining = tier.get(b"short").await.unwrap().and_then(|found| found.remaining);
    assert!(remaining.is_some_and(|remaining| remaining <= short), "{remaining:?} of {short:?}");
    let remaining = tier.get(b"huge").await.unwrap().and_then(|found| found.remaining);
    assert!(
        remaining.is_some_and(|remaining| remaining <= abilities.longest_life),
        "{remaining:?}"
    );
    wait(short + abilities.tick + Duration::from_millis(100)).await;
    for (key, lives) in [("short", false), ("huge", true), ("longer", true), ("shorter", false)] {
        assert_eq!(stored(tier, key.as_bytes()).await.is_some(), lives, "{key}");
        tier.delete(key.as_bytes()).await.unwrap();
    }
}

/// A value that is too long, or whose life is too short, is not kept, and neither is the one before it.
async fn what_it_does_not_keep_is_skipped(tier: &dyn RemoteTier) {
    let abilities = tier.abilities();
    let mut unkept = Vec::new();
    if abilities.longest_value < 64 << 20 {
        unkept.push((Bytes::from(vec![7; abilities.longest_value + 1]), LIFE));
    }
    if !abilities.shortest_life.is_zero() {
        unkept.push((bytes("v"), abilities.shortest_life - Duration::from_nanos(1)));
        unkept.push((bytes("v"), Duration::ZERO));
    } else {
        // Kept, for however short a time.
        assert_eq!(tier.set(b"tiny", bytes("v"), Duration::ZERO).await, Ok(Fill::Stored));
        wait(Duration::from_millis(20)).await;
        assert_eq!(stored(tier, b"tiny").await, None);
    }
    for (value, life) in unkept {
        let token = LeaseToken::random();
        assert_eq!(tier.set(b"u", bytes("old"), LIFE).await, Ok(Fill::Stored));
        granted(tier, b"u", token).await;
        assert_eq!(tier.set(b"u", value.clone(), life).await, Ok(Fill::Skipped));
        assert_eq!(stored(tier, b"u").await, None, "the old value is gone");
        assert_eq!(tier.fill(b"u", token, bytes("v"), LIFE).await, Ok(Fill::Refused), "overtaken");
        granted(tier, b"u", token).await;
        assert_eq!(tier.fill(b"u", token, value, life).await, Ok(Fill::Skipped));
        assert_eq!(granted(tier, b"u", LeaseToken::random()).await, None, "the lease is given up");
        tier.delete(b"u").await.unwrap();
    }
}

async fn a_lease_has_one_holder(tier: &dyn RemoteTier) {
    let (first, second) = (LeaseToken::random(), LeaseToken::random());
    assert_eq!(granted(tier, b"l", first).await, None);
    let held = tier.lease(b"l", second, LIFE, Claim::IfFree).await;
    assert_eq!(held, Ok(Lease::Held(None)));
    assert_eq!(granted(tier, b"l", first).await, None, "to its holder it is granted again");
    tier.release(b"l", second).await.unwrap();
    assert_eq!(tier.lease(b"l", second, LIFE, Claim::IfFree).await, Ok(Lease::Held(None)));
    tier.release(b"l", first).await.unwrap();
    assert_eq!(granted(tier, b"l", second).await, None);
    // By force: the older load is overtaken, and with the lease comes what is stored.
    let third = LeaseToken::random();
    assert_eq!(tier.lease(b"l", third, LIFE, Claim::ByForce).await, Ok(Lease::Granted(None)));
    assert_eq!(tier.fill(b"l", second, bytes("old"), LIFE).await, Ok(Fill::Refused));
    assert_eq!(tier.fill(b"l", third, bytes("new"), LIFE).await, Ok(Fill::Stored));
    match tier.lease(b"l", first, LIFE, Claim::IfFree).await.unwrap() {
        Lease::Granted(Some(found)) => {
            assert_eq!(found.bytes, "new");
            assert!(found.remaining.unwrap() <= LIFE && found.remaining.unwrap() > LIFE / 2);
        }
        other => panic!("the fill dropped the lease and left a value: {other:?}"),
    }
    match tier.lease(b"l", second, LIFE, Claim::IfFree).await.unwrap() {
        Lease::Held(Some(found)) => assert_eq!(found.bytes, "new"),
        other => panic!("{other:?}"),
    }
    tier.delete(b"l").await.unwrap();
}

async fn a_fill_needs_its_lease(tier: &dyn RemoteTier) {
    let token = LeaseToken::random();
    assert_eq!(tier.fill(b"f", token, bytes("v"), LIFE).await, Ok(Fill::Refused), "never leased");
    granted(tier, b"f", token).await;
    tier.delete(b"f").await.unwrap();
    assert_eq!(tier.fill(b"f", token, bytes("v"), LIFE).await, Ok(Fill::Refused), "deleted");
    granted(tier, b"f", token).await;
    tier.set(b"f", bytes("set"), LIFE).await.unwrap();
    assert_eq!(tier.fill(b"f", token, bytes("v"), LIFE).await, Ok(Fill::Refused), "set");
    assert_eq!(stored(tier, b"f").await.unwrap(), "set");
    if tier.abilities().clears {
        granted(tier, b"f", token).await;
        tier.clear(b"f", &|_| {}).await.unwrap();
        assert_eq!(tier.fill(b"f", token, bytes("v"), LIFE).await, Ok(Fill::Refused), "cleared");
    }
    granted(tier, b"f", token).await;
    tier.release(b"f", token).await.unwrap();
    assert_eq!(tier.fill(b"f", token, bytes("v"), LIFE).await, Ok(Fill::Refused), "released");
    granted(tier, b"f", token).await;
    assert_eq!(tier.fill(b"f", token, bytes("v"), LIFE).await, Ok(Fill::Stored));
    assert_eq!(tier.fill(b"f", token, bytes("w"), LIFE).await, Ok(Fill::Refused), "filled");
    assert_eq!(stored(tier, b"f").await.unwrap(), "v");
    tier.delete(b"f").await.unwrap();
}

async fn a_lease_expires_by_itself(tier: &dyn RemoteTier) {
    let (first, second) = (LeaseToken::random(), LeaseToken::random());
    let short = Duration::from_millis(60);
    assert_eq!(tier.set(b"there", bytes("old"), LIFE).await, Ok(Fill::Stored));
    for key in [b"e".as_slice(), b"there"] {
        tier.lease(key, first, short, Claim::IfFree).await.unwrap();
    }
    wait(short * 2 + tier.abilities().tick * 3).await;
    for key in [b"e".as_slice(), b"there"] {
        let fill = tier.fill(key, first, bytes("v"), LIFE).await;
        assert_eq!(fill, Ok(Fill::Refused), "expired");
    }
    assert_eq!(stored(tier, b"there").await.unwrap(), "old");
    granted(tier, b"e", second).await;
    assert_eq!(tier.fill(b"e", first, bytes("v"), LIFE).await, Ok(Fill::Refused), "another's");
    assert_eq!(tier.fill(b"e", second, bytes("v"), LIFE).await, Ok(Fill::Stored));
    tier.delete(b"e").await.unwrap();
}

async fn a_lease_is_no_value(tier: &dyn RemoteTier) {
    let token = LeaseToken::random();
    granted(tier, b"k", token).await;
    // All that an engine lets through beside the key itself: no braces.
    for key in [&b"k"[..], b"k:l", b"%7Bk%7D:l", b":l"] {
        assert_eq!(stored(tier, key).await, None);
        if key != b"k" {
            tier.set(key, bytes("v"), LIFE).await.unwrap();
            tier.delete(key).await.unwrap();
        }
    }
    assert_eq!(tier.fill(b"k", token, bytes("v"), LIFE).await, Ok(Fill::Stored));
    tier.delete(b"k").await.unwrap();
}

async fn a_set_wins_over_loads(tier: &dyn RemoteTier) {
    let (before, after) = (LeaseToken::random(), LeaseToken::random());
    granted(tier, b"s", before).await;
    tier.set(b"s", bytes("set"), LIFE).await.unwrap();
    assert_eq!(granted(tier, b"s", after).await.unwrap().bytes, "set", "it left a lease behind");
    assert_eq!(tier.fill(b"s", before, bytes("stale"), LIFE).await, Ok(Fill::Refused));
    tier.delete(b"s").await.unwrap();
}

async fn clear_takes_its_prefix_only(tier: &dyn RemoteTier) {
    for prefix in ["a*b:", "a?b:", "a[b]c:", "a\\b:", "a^-b:", "plain:", "\"q':"] {
        let inside = [format!("{prefix}1"), format!("{prefix}*"), prefix.to_string()];
        let outside = ["axxb:1", "axb:1", "abc:1", "a:1", "plain", "x", "ab:", "Plain:1"];
        let others = outside.iter().filter(|key| !key.starts_with(prefix));
        let token = LeaseToken::random();
        for key in inside.iter().map(String::as_str).chain(others.clone().copied()) {
            tier.set(key.as_bytes(), bytes("v"), LIFE).await.unwrap();
            granted(tier, key.as_bytes(), token).await;
        }
        tier.clear(prefix.as_bytes(), &|_| {}).await.unwrap();
        for key in &inside {
            assert_eq!(stored(tier, key.as_bytes()).await, None, "{prefix} left {key}");
            let fill = tier.fill(key.as_bytes(), token, bytes("v"), LIFE).await;
            assert_eq!(fill, Ok(Fill::Refused), "{prefix} left the lease of {key}");
        }
        for key in others {
            assert!(stored(tier, key.as_bytes()).await.is_some(), "{prefix} took {key}");
            let fill = tier.fill(key.as_bytes(), token, bytes("v"), LIFE).await;
            assert_eq!(fill, Ok(Fill::Stored), "{prefix} took the lease of {key}");
            tier.delete(key.as_bytes()).await.unwrap();
        }
    }
}

async fn clear_drops_many(tier: &dyn RemoteTier) {
    tier.clear(b"", &|_| {}).await.unwrap();
    for key in 0..2_300 {
        tier.set(format!("many:{key}").as_bytes(), bytes("v"), LIFE).await.unwrap();
    }
    tier.set(b"other", bytes("v"), LIFE).await.unwrap();
    let told = AtomicU64::new(0);
    let progress = |dropped| {
        told.fetch_add(dropped, Ordering::Relaxed);
    };
    tier.clear(b"many:", &progress).await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 2_300, "the values that it says it has dropped");
    for key in 0..2_300 {
        assert_eq!(stored(tier, format!("many:{key}").as_bytes()).await, None);
    }
    assert!(stored(tier, b"other").await.is_some());
    // Leases are no values.
    granted(tier, b"leased", LeaseToken::random()).await;
    tier.clear(b"", &progress).await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 2_301, "one more");
    assert_eq!(stored(tier, b"other").await, None, "an empty prefix is everything");
}

/// As long as its server runs on, all that a tier says of a key names one run of it; or nothing does.
async fn every_answer_tells_the_run(tier: &dyn RemoteTier) {
    let keys: [&[u8]; 4] = [b"r1", b"r2", b"r3", b"r4"];
    for key in keys {
        let run = tier.incarnation(key).await.unwrap();
        assert!(run.is_none() || tier.abilities().tells_runs, "it says that it tells none");
        tier.set(key, bytes("v"), LIFE).await.unwrap();
        // Several times: not all over one connection, and some out of a nearer place than others.
        for _ in 0..4 {
            let found = tier.get(key).await.unwrap().unwrap();
            assert_eq!(found.incarnation, run, "get");
            assert_eq!(tier.incarnation(key).await, Ok(run));
        }
        let (first, second) = (LeaseToken::random(), LeaseToken::random());
        let found = granted(tier, key, first).await.unwrap();
        assert_eq!(found.incarnation, run, "a lease that was granted");
        match tier.lease(key, second, LIFE, Claim::IfFree).await.unwrap() {
            Lease::Held(Some(found)) => assert_eq!(found.incarnation, run, "one that is held"),
            other => panic!("{other:?}"),
        }
    }
    for (key, found) in keys.iter().zip(tier.get_many(&keys).await) {
        let found = found.unwrap().unwrap();
        assert_eq!(found.incarnation, tier.incarnation(key).await.unwrap(), "several at once");
        tier.delete(key).await.unwrap();
    }
}

async fn concurrent_sets_leave_one_whole(tier: &dyn RemoteTier) {
    for _ in 0..50 {
        let (one, two) = (bytes("1111111111"), bytes("2222222222"));
        let (first, second) =
            join(tier.set(b"c", one.clone(), LIFE), tier.set(b"c", two.clone(), LIFE)).await;
        let outcomes = [first.unwrap(), second.unwrap()];
        assert!(outcomes.contains(&Fill::Stored), "{outcomes:?}");
        let found = stored(tier, b"c").await.expect("one of the two wins");
        assert!(found == one || found == two);
        granted(tier, b"c", LeaseToken::random()).await;
        tier.delete(b"c").await.unwrap();
    }
}
