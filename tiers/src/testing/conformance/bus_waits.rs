//! How every [`Bus`] waits: until a message comes, or the time is over, and nobody else has to.

use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::time::{sleep, timeout};

use super::bus::{all, bytes, opened, topic};
use crate::{Bus, LogName};

/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(20);
/// Wide room for a busy machine.
const ROOM: Duration = Duration::from_secs(8);

pub(super) async fn a_poll_waits(bus: &dyn Bus) {
    let (topic, other) = (topic("waits"), topic("other"));
    let log = LogName { topic: &topic, index: 0 };
    let (at, last) = opened(bus, log).await;

    // It ends with its time, however short that is.
    for wait in [Duration::from_nanos(1), Duration::from_millis(1), Duration::from_millis(120)] {
        let start = Instant::now();
        let polled = bus.poll(log, at, wait).await.unwrap();
        assert!(polled.links.is_empty() && polled.head == Some(last));
        assert!(start.elapsed() < ROOM, "{wait:?} became {:?}", start.elapsed());
    }

    // It ends with a message, and hears of no other log's.
    let start = Instant::now();
    let (polled, ()) = join(poll_until_told(bus, log, at), async {
        // Real waits: a bus' server has a clock of its own.
        sleep(Duration::from_millis(100)).await;
        bus.append(LogName { topic: &other, index: 0 }, &[bytes("not you")]).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        bus.append(log, &[bytes("you")]).await.unwrap();
    })
    .await;
    assert_eq!(polled, ["you"]);
    assert!(start.elapsed() < ROOM, "it slept on: {:?}", start.elapsed());

    // With a message there already it does not wait.
    let start = Instant::now();
    assert_eq!(poll_until_told(bus, log, at).await, ["you"]);
    assert!(start.elapsed() < ROOM, "{:?}", start.elapsed());

    // Two wait for one message, and a third that was dropped holds nobody up.
    let (_, end, _) = all(bus, log, at, last).await;
    let start = Instant::now();
    assert!(timeout(Duration::from_millis(50), bus.poll(log, end, LONG)).await.is_err());
    let both = join(poll_until_told(bus, log, end), poll_until_told(bus, log, end));
    let (both, ()) = join(both, async {
        sleep(Duration::from_millis(50)).await;
        bus.append(log, &[bytes("both")]).await.unwrap();
    })
    .await;
    assert_eq!(both, (vec!["both".to_owned()], vec!["both".to_owned()]));
    assert!(start.elapsed() < ROOM, "{:?}", start.elapsed());
}

/// Polls until messages come: one may be woken for nothing.
async fn poll_until_told(
    bus: &dyn Bus,
    log: LogName<'_>,
    after: crate::protocol::Position,
) -> Vec<String> {
    loop {
        let polled = bus.poll(log, after, LONG).await.unwrap();
        if !polled.links.is_empty() {
            let text = |message: &[u8]| String::from_utf8(message.to_vec()).unwrap();
            return polled.links.iter().map(|link| text(&link.message)).collect();
        }
    }
}
