//! What every [`RemoteTier`] does with several keys at once: what it does with each of them alone.

use std::time::Duration;

use bytes::Bytes;

use super::remote::{LIFE, bytes, granted, stored};
use crate::{Fill, Found, LeaseToken, RemoteTier, TierError};

/// More than any tier sends at once.
const MANY: usize = 700;

type Answer = Result<Option<Found>, TierError>;

fn value(answer: &Answer) -> Option<Bytes> {
    answer.as_ref().unwrap().as_ref().map(|found| found.bytes.clone())
}

fn entries<'a>(keys: &[&'a [u8]], text: &str) -> Vec<(&'a [u8], Bytes, Duration)> {
    keys.iter().map(|key| (*key, [key, text.as_bytes()].concat().into(), LIFE)).collect()
}

async fn set_all(tier: &dyn RemoteTier, keys: &[&[u8]], text: &str) {
    let set = tier.set_many(&entries(keys, text)).await;
    assert_eq!(set.len(), keys.len(), "an answer for each");
    assert!(set.iter().all(|set| *set == Ok(Fill::Stored)), "{set:?}");
}

async fn delete_all(tier: &dyn RemoteTier, keys: &[&[u8]]) {
    let deleted = tier.delete_many(keys).await;
    assert_eq!(deleted.len(), keys.len(), "an answer for each");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

pub(super) async fn several_keys_at_once(tier: &dyn RemoteTier) {
    none_and_one(tier).await;
    answers_come_in_the_order_of_the_keys(tier).await;
    several_and_single_forms_agree(tier).await;
    deletes_drop_leases(tier).await;
    sets_win_over_leases(tier).await;
    what_is_not_kept_is_skipped_in_its_place(tier).await;
}

async fn none_and_one(tier: &dyn RemoteTier) {
    assert_eq!(tier.get_many(&[]).await, []);
    assert_eq!(tier.set_many(&[]).await, []);
    assert_eq!(tier.delete_many(&[]).await, []);
    assert_eq!(tier.get_many(&[b"one"]).await, [Ok(None)]);
    delete_all(tier, &[b"one"]).await;
    set_all(tier, &[b"one"], "").await;
    assert_eq!(value(&tier.get_many(&[b"one"]).await[0]).unwrap(), "one");
    delete_all(tier, &[b"one"]).await;
    assert_eq!(tier.get_many(&[b"one"]).await, [Ok(None)]);
}

async fn answers_come_in_the_order_of_the_keys(tier: &dyn RemoteTier) {
    let names: Vec<String> = (0..MANY).map(|number| format!("batch:{number}")).collect();
    let keys: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let (there, absent): (Vec<&[u8]>, Vec<&[u8]>) =
        keys.iter().partition(|key| key.last().is_some_and(|digit| digit % 3 > 0));
    set_all(tier, &there, "").await;
    // Forwards, backwards, and some of them again.
    let mut asked = keys.clone();
    asked.extend(keys.iter().rev());
    asked.extend([there[1], there[1], absent[0], there[0], absent[0]]);
    let found = tier.get_many(&asked).await;
    assert_eq!(found.len(), asked.len(), "an answer for each");
    for (key, found) in asked.iter().zip(&found) {
        let is_there = key.last().is_some_and(|digit| digit % 3 > 0);
        assert_eq!(value(found).as_deref(), is_there.then_some(*key), "in order");
        if let Ok(Some(Found { remaining, .. })) = found {
            let remaining = remaining.unwrap();
            assert!(remaining <= LIFE && remaining > LIFE / 2, "{remaining:?}");
        }
    }
    // The absent ones, too.
    delete_all(tier, &keys).await;
    assert!(tier.get_many(&keys).await.iter().all(|found| *found == Ok(None)));
}

async fn several_and_single_forms_agree(tier: &dyn RemoteTier) {
    let keys: [&[u8]; 8] =
        [b"", b"a", b"aa", b"a b", b"a%20b", b"a\r\nmn\r\n", b"\xff\xfe", &[b'k'; 2_000]];
    set_all(tier, &keys, "-many").await;
    for key in keys {
        assert_eq!(stored(tier, key).await.unwrap(), [key, b"-many"].concat());
        let single = Bytes::from([key, b"-single"].concat());
        assert_eq!(tier.set(key, single, LIFE).await, Ok(Fill::Stored));
    }
    for (key, found) in keys.iter().zip(tier.get_many(&keys).await) {
        assert_eq!(value(&found).unwrap(), [key, &b"-single"[..]].concat());
    }
    let (first, rest) = keys.split_at(4);
    delete_all(tier, first).await;
    for (number, found) in tier.get_many(&keys).await.iter().enumerate() {
        assert_eq!(value(found).is_some(), number >= 4, "{number}");
    }
    for key in rest {
        tier.delete(key).await.unwrap();
    }
    assert!(tier.get_many(&keys).await.iter().all(|found| *found == Ok(None)));
}

async fn deletes_drop_leases(tier: &dyn RemoteTier) {
    let keys: [&[u8]; 3] = [b"d1", b"d2", b"d3"];
    tier.set(b"d2", bytes("old"), LIFE).await.unwrap();
    let token = LeaseToken::random();
    for key in keys {
        granted(tier, key, token).await;
    }
    delete_all(tier, &keys).await;
    for key in keys {
        // Before the fill, which may give its lease up.
        assert_eq!(granted(tier, key, LeaseToken::random()).await, None);
        let fill = tier.fill(key, token, bytes("stale"), LIFE).await;
        assert_eq!(fill, Ok(Fill::Refused), "its lease outlived a delete of several");
    }
    delete_all(tier, &keys).await;
}

async fn sets_win_over_leases(tier: &dyn RemoteTier) {
    let keys: [&[u8]; 3] = [b"s1", b"s2", b"s3"];
    let (before, after) = (LeaseToken::random(), LeaseToken::random());
    for key in keys {
        granted(tier, key, before).await;
    }
    set_all(tier, &keys, "-set").await;
    for key in keys {
        let set = Bytes::from([key, b"-set"].concat());
        assert_eq!(granted(tier, key, after).await.unwrap().bytes, set, "it left a lease behind");
        let fill = tier.fill(key, before, bytes("stale"), LIFE).await;
        assert_eq!(fill, Ok(Fill::Refused), "a load outlived a set of several");
        tier.release(key, after).await.unwrap();
        assert_eq!(stored(tier, key).await.unwrap(), set);
    }
    delete_all(tier, &keys).await;
}

async fn what_is_not_kept_is_skipped_in_its_place(tier: &dyn RemoteTier) {
    let abilities = tier.abilities();
    let (bytes, life) = if abilities.longest_value < 64 << 20 {
        (Bytes::from(vec![7; abilities.longest_value + 1]), LIFE)
    } else if abilities.shortest_life.is_zero() {
        return;
    } else {
        (bytes("v"), Duration::ZERO)
    };
    let keys: [&[u8]; 3] = [b"u1", b"u2", b"u3"];
    set_all(tier, &keys, "-old").await;
    let mut entries = entries(&keys, "-new");
    entries[1] = (keys[1], bytes, life);
    let set = tier.set_many(&entries).await;
    assert_eq!(set, [Ok(Fill::Stored), Ok(Fill::Skipped), Ok(Fill::Stored)]);
    let found = tier.get_many(&keys).await;
    assert_eq!(value(&found[0]).unwrap(), "u1-new");
    assert_eq!(value(&found[1]), None, "the old value is gone");
    assert_eq!(value(&found[2]).unwrap(), "u3-new");
    delete_all(tier, &keys).await;
}
