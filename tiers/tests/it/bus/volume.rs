//! Many messages by many publishers: each reader is told all of them in the order of the chain, or that it was not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tiered_tiers::{Bus, Redis, RedisBus, protocol::Void, testing::RedisServer};

use super::reader::{LOG, Reader, messages};
use crate::wait;

const PUBLISHERS: usize = 8;
const EACH: usize = 12_500;

/// What one reader was told, cut where it was told of a loss.
struct Heard {
    stretches: Vec<Vec<String>>,
    voids: usize,
}

async fn listen(bus: Arc<RedisBus>, nap: u64) -> Heard {
    let mut reader = Reader::open(&*bus).await;
    let mut heard = Heard { stretches: Vec::new(), voids: 0 };
    loop {
        let before = std::mem::take(&mut reader.told);
        let step = reader.wait(&*bus, Duration::from_millis(200)).await.unwrap();
        match step.void {
            Some(Void::Opened) => heard.stretches.push(Vec::new()),
            Some(_) => heard.voids += 1,
            None => {}
        }
        if heard.stretches.is_empty() {
            heard.stretches.push(Vec::new());
        }
        heard.stretches.last_mut().unwrap().extend(before);
        if let Some(end) = reader.told.iter().position(|word| word == "end") {
            reader.told.truncate(end);
            heard.stretches.last_mut().unwrap().append(&mut reader.told);
            return heard;
        }
        wait(nap).await;
    }
}

/// Within a stretch nothing is missing: of each publisher the numbers follow each other.
fn is_unbroken(stretch: &[String]) {
    let mut next: HashMap<&str, usize> = HashMap::new();
    for word in stretch {
        let (publisher, number) = word.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        if let Some(expected) = next.insert(publisher, number + 1) {
            assert_eq!(number, expected, "of {publisher}");
        }
    }
}

async fn storm(max_messages: u64, slow: u64) -> (Heard, Heard) {
    let server = RedisServer::start().await.unwrap();
    let bus = Redis::new(&server.url()).unwrap().response_timeout(Duration::from_secs(5)).bus();
    let bus = Arc::new(bus.max_messages(max_messages));
    let quick = tokio::spawn(listen(Arc::clone(&bus), 0));
    let slow = tokio::spawn(listen(Arc::clone(&bus), slow));
    wait(100).await;
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move {
            let numbers: Vec<usize> = (0..EACH).collect();
            for piece in numbers.chunks(25) {
                let words: Vec<_> =
                    piece.iter().map(|number| format!("{publisher} {number}")).collect();
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                bus.append(LOG, &messages(&words)).await.unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    // Again and again: a reader may open the log behind one.
    let ends = async {
        loop {
            bus.append(LOG, &messages(&["end"])).await.unwrap();
            wait(20).await;
        }
    };
    let heard = async { (quick.await.unwrap(), slow.await.unwrap()) };
    let both = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! { heard = heard => heard, () = ends => unreachable!() }
    });
    both.await.expect("the readers come to an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_are_told_in_one_order() {
    let (quick, slow) = storm(200_000, 20).await;
    for heard in [&quick, &slow] {
        assert_eq!((heard.voids, heard.stretches.len()), (0, 1));
        is_unbroken(&heard.stretches[0]);
        assert_eq!(heard.stretches[0].len(), PUBLISHERS * EACH);
    }
    assert!(quick.stretches == slow.stretches, "two readers were told different orders");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_thousand_messages_a_slow_reader_misses_some_and_knows() {
    let (quick, slow) = storm(30_000, 1_200).await;
    for heard in [&quick, &slow] {
        assert_eq!(heard.stretches.len(), heard.voids + 1, "each loss is told once");
        heard.stretches.iter().for_each(|stretch| is_unbroken(stretch));
    }
    let count = |heard: &Heard| heard.stretches.iter().map(Vec::len).sum::<usize>();
    println!("quick: {} told, {} voids", count(&quick), quick.voids);
    println!("slow: {} told, {} voids", count(&slow), slow.voids);
    assert!(slow.voids > 0 && count(&slow) < PUBLISHERS * EACH, "it was not slow enough");
}
