//! What every [`Bus`] does, whatever carries it.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;

use super::bus_waits;
use crate::{
    Bus, BusPolled, LeaseToken, LogName,
    protocol::{Ask, Follower, Position, Step, Void},
};

/// Runs the conformance suite of buses. It uses topics of its own that nobody else has, so the bus may hold other
/// messages; it must keep ten thousand of a log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tiered_tiers::{LocalBus, testing};
///
/// testing::bus_conforms(&LocalBus::new()).await;
/// # }
/// ```
///
/// # Panics
/// When the bus does something else than its contract says; the message tells what.
pub async fn bus_conforms(bus: &dyn Bus) {
    assert_eq!(bus.check(), Ok(()));
    assert!(!bus.name().is_empty());
    assert!(bus.logs() > 0);
    for index in [0, bus.logs() - 1] {
        let topic = topic("suite");
        let log = LogName { topic: &topic, index };
        a_log_begins_empty_and_keeps_its_head(bus, log).await;
        messages_come_in_their_order_and_chain(bus, log).await;
        an_empty_append_is_none(bus, log).await;
        messages_are_bytes(bus, log).await;
    }
    topics_and_logs_are_apart(bus).await;
    many_messages_come_in_pieces(bus).await;
    many_publishers_make_one_chain(bus).await;
    a_follower_follows(bus).await;
    bus_waits::a_poll_waits(bus).await;
}

/// A topic that nobody else has.
pub(super) fn topic(name: &str) -> String {
    let unique: String =
        LeaseToken::random().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("{name}-{unique}")
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What a log has after a place, all of it; fails if that is no chain from `last` to the head.
pub(super) async fn all(
    bus: &dyn Bus,
    log: LogName<'_>,
    mut after: Position,
    mut last: LeaseToken,
) -> (Vec<Bytes>, Position, LeaseToken) {
    let mut messages = Vec::new();
    loop {
        let polled = bus.poll(log, after, Duration::ZERO).await.unwrap();
        assert!(!polled.has_more || !polled.links.is_empty(), "there is more, and nothing came");
        for link in polled.links {
            assert!(link.at > after, "{:?} came after {after:?}", link.at);
            assert!(link.previous == last, "a message does not name the one before it");
            assert!(link.token != last, "a token came twice");
            (after, last) = (link.at, link.token);
            messages.push(link.message);
        }
        if !polled.has_more {
            assert!(polled.head == Some(last), "the head is not the last message");
            return (messages, after, last);
        }
    }
}

/// Where a log ends, and under which token.
pub(super) async fn opened(bus: &dyn Bus, log: LogName<'_>) -> (Position, LeaseToken) {
    let BusPolled { head, links, has_more, last, .. } = bus.open(log).await.unwrap();
    assert!(links.is_empty() && !has_more, "an open brings no messages");
    (last, head.expect("a log that is open has a head"))
}

async fn a_log_begins_empty_and_keeps_its_head(bus: &dyn Bus, log: LogName<'_>) {
    let polled = bus.poll(log, Position::default(), Duration::ZERO).await.unwrap();
    assert!(polled.links.is_empty() && !polled.has_more, "a new log holds messages");
    assert!(polled.head.is_none(), "a log that nobody has opened has a head");
    let (at, head) = opened(bus, log).await;
    assert!(opened(bus, log).await == (at, head), "opening it again changed the log");
    let (messages, ..) = all(bus, log, at, head).await;
    assert_eq!(messages, Vec::<Bytes>::new());
}

async fn messages_come_in_their_order_and_chain(bus: &dyn Bus, log: LogName<'_>) {
    let (start, origin) = opened(bus, log).await;
    bus.append(log, &[bytes("one")]).await.unwrap();
    let (messages, first, token) = all(bus, log, start, origin).await;
    assert_eq!(messages, ["one"]);
    bus.append(log, &[bytes("two"), bytes("two"), bytes("three")]).await.unwrap();
    let (messages, end, last) = all(bus, log, first, token).await;
    assert_eq!(messages, ["two", "two", "three"]);
    let (messages, ..) = all(bus, log, start, origin).await;
    assert_eq!(messages, ["one", "two", "two", "three"], "what was read once is there still");
    let (messages, ..) = all(bus, log, end, last).await;
    assert_eq!(messages, Vec::<Bytes>::new(), "nothing is after the end");
    assert!(opened(bus, log).await == (end, last), "it opens where it ends");
}

async fn an_empty_append_is_none(bus: &dyn Bus, log: LogName<'_>) {
    let before = opened(bus, log).await;
    bus.append(log, &[]).await.unwrap();
    assert!(opened(bus, log).await == before, "nothing was appended, and the log changed");
}

async fn messages_are_bytes(bus: &dyn Bus, log: LogName<'_>) {
    let every: Vec<u8> = (0..=255).collect();
    let long = vec![7; 1_000_000];
    let messages: [&[u8]; 8] =
        [b"", b"\0\r\n$3\r\nfoo", b"\xff\xfe\xfd", &every, b"-ERR no", b"*", &long, b""];
    let messages = messages.map(Bytes::copy_from_slice);
    let (at, last) = opened(bus, log).await;
    bus.append(log, &messages).await.unwrap();
    let (read, ..) = all(bus, log, at, last).await;
    assert!(read == messages, "a message came back changed");
}

/// Topics that a bus may be tempted to spell alike, and every log of each.
async fn topics_and_logs_are_apart(bus: &dyn Bus) {
    let unique = topic("apart");
    let endings = ["", ":", ":0", "0", "1", "%20", "%v2", "%7B", ":log", ":head", "\u{e9}", "*"];
    let topics: Vec<_> = endings.iter().map(|ending| format!("{unique}{ending}")).collect();
    let logs: Vec<_> = topics
        .iter()
        .flat_map(|topic| (0..bus.logs()).map(move |index| LogName { topic, index }))
        .collect();
    let mut ends = Vec::new();
    for log in &logs {
        ends.push(opened(bus, *log).await);
    }
    let tokens: HashSet<_> = ends.iter().map(|(_, token)| *token.as_bytes()).collect();
    assert_eq!(tokens.len(), logs.len(), "two logs have one head");
    for log in &logs {
        bus.append(*log, &[bytes(&format!("{log:?}"))]).await.unwrap();
    }
    for (log, (at, last)) in logs.iter().zip(ends) {
        let (messages, ..) = all(bus, *log, at, last).await;
        assert_eq!(messages, [format!("{log:?}")], "another log's message");
    }
}

async fn many_messages_come_in_pieces(bus: &dyn Bus) {
    let topic = topic("many");
    let log = LogName { topic: &topic, index: 0 };
    let (at, last) = opened(bus, log).await;
    let messages: Vec<_> = (0..5_000).map(|number| bytes(&number.to_string())).collect();
    for piece in messages.chunks(500) {
        bus.append(log, piece).await.unwrap();
    }
    let (read, ..) = all(bus, log, at, last).await;
    assert!(read == messages, "{} of {} came back", read.len(), messages.len());
    // Few, and long.
    let messages: Vec<_> = (0..40).map(|number| Bytes::from(vec![number; 100_000])).collect();
    let (at, last) = opened(bus, log).await;
    for piece in messages.chunks(10) {
        bus.append(log, piece).await.unwrap();
    }
    let (read, ..) = all(bus, log, at, last).await;
    assert!(read == messages, "{} of {} came back", read.len(), messages.len());
}

async fn many_publishers_make_one_chain(bus: &dyn Bus) {
    const PUBLISHERS: usize = 8;
    const BATCHES: usize = 40;
    let topic = topic("publishers");
    let log = LogName { topic: &topic, index: 0 };
    let (at, last) = opened(bus, log).await;
    let publishers = (0..PUBLISHERS).map(|publisher| async move {
        for batch in 0..BATCHES {
            let size = 1 + (publisher + batch) % 5;
            let say = |part| bytes(&format!("{publisher} {batch} {part} {size}"));
            bus.append(log, &(0..size).map(say).collect::<Vec<_>>()).await.unwrap();
        }
    });
    join_all(publishers).await;
    let (messages, ..) = all(bus, log, at, last).await;
    let mut batches = [0; PUBLISHERS];
    let mut rest = messages.iter().map(|message| {
        let text = std::str::from_utf8(message).unwrap().to_owned();
        text.split(' ').map(|number| number.parse().unwrap()).collect::<Vec<usize>>()
    });
    while let Some(first) = rest.next() {
        let [publisher, batch, 0, size] = first[..] else { panic!("{first:?} begins a batch") };
        assert_eq!(batch, batches[publisher], "{publisher}'s batches are out of order");
        batches[publisher] += 1;
        for part in 1..size {
            assert_eq!(rest.next().unwrap(), [publisher, batch, part, size], "torn apart");
        }
    }
    assert_eq!(batches, [BATCHES; PUBLISHERS]);
}

async fn a_follower_follows(bus: &dyn Bus) {
    let topic = topic("follower");
    let log = LogName { topic: &topic, index: 0 };
    bus.append(log, &[bytes("before")]).await.unwrap();
    let mut follower = Follower::default();
    let opened = step(bus, log, &mut follower, 0).await;
    assert_eq!((opened.void, opened.proven), (Some(Void::Opened), Some(0)));
    for sent in 1..=3 {
        let quiet = step(bus, log, &mut follower, sent).await;
        assert_eq!((quiet.void, quiet.messages.len(), quiet.proven), (None, 0, Some(sent)));
        bus.append(log, &[bytes("one"), bytes("two")]).await.unwrap();
        let told = step(bus, log, &mut follower, sent + 10).await;
        assert_eq!((told.void, told.proven), (None, Some(sent + 10)));
        assert_eq!(told.messages, ["one", "two"]);
    }
    let mut second = Follower::default();
    step(bus, log, &mut second, 0).await;
    bus.append(log, &[bytes("for both")]).await.unwrap();
    for follower in [&mut follower, &mut second] {
        let told = step(bus, log, follower, 20).await;
        assert_eq!((told.messages, told.proven), (vec![bytes("for both")], Some(20)));
    }
}

/// What a follower's next question comes to.
async fn step(
    bus: &dyn Bus,
    log: LogName<'_>,
    follower: &mut Follower<LeaseToken>,
    sent: u64,
) -> Step<Bytes, u64> {
    let polled = match follower.ask() {
        Ask::Open => bus.open(log).await,
        Ask::After(at) => bus.poll(log, at, Duration::ZERO).await,
    };
    follower.answered(sent, polled.unwrap())
}
