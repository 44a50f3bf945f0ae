//! A write-behind's journal in a Redis Stream: order, owners, bounds, and appends that arrive late.

use std::time::Duration;

use bytes::Bytes;
use tiered_tiers::{
    Journal, JournalError, Record, Redis, RedisJournal, TierError,
    testing::{RedisCluster, RedisServer},
};

const SECOND: Duration = Duration::from_secs(1);

fn record(value: &str) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record { key: bytes("shop:1"), id: bytes("1"), value: bytes(value) }
}

fn records<const N: usize>(values: [&str; N]) -> Vec<Record> {
    values.into_iter().map(record).collect()
}

async fn values(journal: &RedisJournal) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = journal.read(after).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.position;
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        all.extend(page.iter().map(|logged| text(&logged.record.value)));
    }
}

async fn started() -> (RedisServer, RedisJournal) {
    let server = RedisServer::start().await.unwrap();
    let journal = RedisJournal::new(&server.url(), "orders-0").unwrap().lease_for(SECOND);
    journal.open().await.unwrap();
    (server, journal)
}

#[tokio::test]
async fn what_is_appended_stays_in_order_until_it_is_acknowledged() {
    let (server, journal) = started().await;
    let first = journal.append(&records(["a", "b"])).await.unwrap();
    let second = journal.append(&records(["c"])).await.unwrap();
    assert!(first[0] < first[1] && first[1] < second[0]);
    let page = journal.read(0).await.unwrap();
    assert_eq!((page[1].position, &page[1].record), (first[1], &record("b")));
    journal.acknowledge(&[first[1], 999]).await.unwrap();
    assert_eq!(values(&journal).await, ["a", "c"]);
    // The next owner counts on, though all is gone.
    journal.acknowledge(&[first[0], second[0]]).await.unwrap();
    journal.close().await.unwrap();
    let next = Redis::new(&server.url()).unwrap().journal("orders-0").unwrap();
    next.open().await.unwrap();
    assert!(next.append(&records(["d"])).await.unwrap()[0] > second[0]);
    assert_eq!(values(&next).await, ["d"]);
}

#[tokio::test]
async fn long_journals_are_read_page_by_page() {
    let (_server, journal) = started().await;
    let all: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for part in all.chunks(50) {
        let part: Vec<Record> = part.iter().map(|value| record(value)).collect();
        journal.append(&part).await.unwrap();
    }
    assert_eq!(values(&journal).await, all);
}

#[tokio::test]
async fn a_full_journal_takes_no_more_and_drops_nothing() {
    let (_server, journal) = started().await;
    let journal = journal.max_entries(3);
    let positions = journal.append(&records(["a", "b"])).await.unwrap();
    assert_eq!(journal.append(&records(["c", "d"])).await, Err(JournalError::Full));
    journal.append(&records(["e"])).await.unwrap();
    assert_eq!(values(&journal).await, ["a", "b", "e"]);
    journal.acknowledge(&positions).await.unwrap();
    journal.append(&records(["f", "g"])).await.unwrap();
    assert_eq!(values(&journal).await, ["e", "f", "g"]);
}

#[tokio::test]
async fn a_second_owner_waits_until_the_first_is_gone_and_the_first_is_shut_out_then() {
    let (server, first) = started().await;
    let second = RedisJournal::new(&server.url(), "orders-0").unwrap();
    let other = RedisJournal::new(&server.url(), "orders-1").unwrap();
    assert_eq!(second.open().await, Err(JournalError::Taken));
    other.open().await.unwrap();
    let positions = first.append(&records(["a"])).await.unwrap();
    for _ in 0..3 {
        // A real wait: a server's clock is no clock of ours. Longer than the lease, all together.
        tokio::time::sleep(SECOND / 2).await;
        first.renew().await.unwrap();
    }
    assert_eq!(second.open().await, Err(JournalError::Taken), "it is alive");
    let mut opened = second.open().await;
    while opened.is_err() {
        tokio::time::sleep(SECOND / 10).await;
        opened = second.open().await;
    }
    assert_eq!(first.append(&records(["late"])).await, Err(JournalError::Taken));
    assert_eq!(first.acknowledge(&positions).await, Err(JournalError::Taken));
    assert_eq!(first.renew().await, Err(JournalError::Taken));
    first.close().await.unwrap();
    assert_eq!(first.open().await, Err(JournalError::Taken), "it has closed another's");
    assert_eq!(values(&second).await, ["a"]);
    second.close().await.unwrap();
    // At once, and nobody waits.
    first.open().await.unwrap();
    assert_eq!(second.renew().await, Err(JournalError::Taken));
}

#[tokio::test]
async fn an_append_without_an_answer_is_gone_after_the_next_one() {
    let server = RedisServer::start().await.unwrap();
    let redis = Redis::new(&server.url()).unwrap();
    let journal = redis.response_timeout(SECOND / 4).journal("orders").unwrap();
    let beside = RedisJournal::new(&server.url(), "orders").unwrap();
    journal.open().await.unwrap();
    journal.append(&records(["a"])).await.unwrap();
    // The server is stopped: commands wait there, and are executed after their caller has given up.
    server.freeze().unwrap();
    let failed = journal.append(&records(["b", "c"])).await;
    assert!(matches!(failed, Err(JournalError::Failed(TierError::Timeout))), "{failed:?}");
    server.thaw().unwrap();
    for _ in 0..1_000 {
        if values(&beside).await.len() == 3 {
            break;
        }
        tokio::time::sleep(SECOND / 100).await;
    }
    assert_eq!(values(&beside).await, ["a", "b", "c"], "late, but there");
    journal.append(&records(["d"])).await.unwrap();
    assert_eq!(values(&beside).await, ["a", "d"]);
}

#[tokio::test]
async fn an_append_that_arrives_after_a_later_one_is_refused() {
    let (server, journal) = started().await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut line = client.get_multiplexed_async_connection().await.unwrap();
    let positions = journal.append(&records(["a"])).await.unwrap();
    // What a copy of a former append would do, had it been held up on the way.
    let mut late = redis::cmd("XADD");
    late.arg("{%journal:orders-0}:s").arg(format!("{}-0", positions[0])).arg("v").arg("late");
    let refused: Result<String, _> = late.query_async(&mut line).await;
    assert!(refused.is_err());
    journal.acknowledge(&positions).await.unwrap();
    let refused: Result<String, _> = late.query_async(&mut line).await;
    assert!(refused.is_err(), "its place was free again");
}

#[tokio::test]
async fn a_server_that_lost_everything_is_appended_to_again() {
    let (mut server, journal) = started().await;
    let before = journal.append(&records(["a"])).await.unwrap();
    server.restart().await.unwrap();
    let mut appended = journal.append(&records(["b"])).await;
    while appended.is_err() {
        // A real wait: for a real connection.
        tokio::time::sleep(SECOND / 100).await;
        appended = journal.append(&records(["b"])).await;
    }
    assert!(appended.unwrap()[0] > before[0]);
    assert_eq!(values(&journal).await, ["b"]);
}

#[tokio::test]
async fn a_server_without_memory_takes_nothing_and_lets_go() {
    let server = RedisServer::builder()
        .config("maxmemory", "2mb")
        .config("maxmemory-policy", "noeviction")
        .start()
        .await
        .unwrap();
    let journal = RedisJournal::new(&server.url(), "orders").unwrap();
    journal.open().await.unwrap();
    let large = "x".repeat(100_000);
    let mut positions = Vec::new();
    let refused = loop {
        match journal.append(&[record(&large)]).await {
            Ok(more) => positions.extend(more),
            Err(error) => break error,
        }
        assert!(positions.len() < 100);
    };
    assert!(matches!(refused, JournalError::Failed(TierError::Refused(_))), "{refused:?}");
    assert_eq!(values(&journal).await.len(), positions.len());
    journal.acknowledge(&positions).await.unwrap();
    assert_eq!(values(&journal).await, Vec::<String>::new());
    journal.append(&[record(&large)]).await.unwrap();
}

#[tokio::test]
async fn a_journal_lives_on_a_cluster_too() {
    let cluster = RedisCluster::start().await.unwrap();
    for name in ["a", "b", "c", "d"] {
        let journal = Redis::new(&cluster.url()).unwrap().journal(name).unwrap();
        journal.open().await.unwrap();
        let positions = journal.append(&records(["1", "2"])).await.unwrap();
        journal.renew().await.unwrap();
        journal.acknowledge(&positions[..1]).await.unwrap();
        assert_eq!(values(&journal).await, ["2"]);
        journal.close().await.unwrap();
    }
}

#[test]
fn names_and_settings_that_cannot_work_are_refused() {
    let redis = Redis::new("redis://user:hunter2secret@127.0.0.1/").unwrap();
    for name in ["", "a b", "a{b", "a}", "%", "é", &"x".repeat(201)] {
        assert!(redis.journal(name).is_err(), "{name:?}");
    }
    let journal = || redis.journal("orders_1.a-b:c").unwrap();
    journal().check().unwrap();
    assert!(journal().max_entries(0).check().is_err());
    assert!(journal().lease_for(SECOND / 2).check().is_err());
    assert!(journal().lease_for(Duration::MAX).check().is_err());
    assert!(!format!("{:?}", journal()).contains("hunter2"));
    assert!(!format!("{:?}", record("secret")).contains("secret"));
}

#[tokio::test]
async fn a_journal_is_outside_of_every_caches_namespace() {
    use tiered_tiers::RemoteTier;
    let (server, journal) = started().await;
    journal.append(&records(["a"])).await.unwrap();
    let redis = Redis::new(&server.url()).unwrap();
    for prefix in ["%journal:", "%25journal:", "orders"] {
        redis.clear(prefix.as_bytes(), &|_| {}).await.unwrap();
    }
    assert_eq!(values(&journal).await, ["a"]);
}
