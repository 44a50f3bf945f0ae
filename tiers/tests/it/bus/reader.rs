//! A reader of a log, and an administrator who does to the log what accidents do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{FromRedisValue, aio::MultiplexedConnection};
use tiered_tiers::{
    Bus, LeaseToken, LogName, Redis, RedisBus, TierError,
    protocol::{Ask, Follower, Step, Void},
    testing::RedisServer,
};

pub(super) const LOG: LogName<'_> = LogName { topic: "shop", index: 0 };
/// The keys of that log.
pub(super) const STREAM: &str = "{shop%bus:0}:log";
pub(super) const HEAD: &str = "{shop%bus:0}:head";

/// Entries of a stream: ids, and fields and their values in turn.
pub(super) type Entries = Vec<(String, Vec<Vec<u8>>)>;

/// A tier for tests that nothing is to be late for, however busy the machine is.
pub(super) fn patient(url: &str) -> Redis {
    Redis::new(url).unwrap().response_timeout(Duration::from_secs(2))
}

/// A follower and what it was told since it opened the log.
#[derive(Debug, Default)]
pub(super) struct Reader {
    follower: Follower<LeaseToken>,
    pub(super) told: Vec<String>,
}

impl Reader {
    /// One that has opened the log.
    pub(super) async fn open(bus: &dyn Bus) -> Self {
        let mut reader = Self::default();
        let opened = reader.step(bus).await.unwrap();
        assert_eq!((opened.void, opened.proven), (Some(Void::Opened), Some(())));
        reader
    }

    /// Asks once and does not wait.
    pub(super) async fn step(&mut self, bus: &dyn Bus) -> Result<Step<Bytes, ()>, TierError> {
        self.wait(bus, Duration::ZERO).await
    }

    /// Asks once.
    pub(super) async fn wait(
        &mut self,
        bus: &dyn Bus,
        wait: Duration,
    ) -> Result<Step<Bytes, ()>, TierError> {
        let polled = match self.follower.ask() {
            Ask::Open => bus.open(LOG).await,
            Ask::After(at) => bus.poll(LOG, at, wait).await,
        };
        let step = self.follower.answered((), polled?);
        if step.void.is_some() {
            self.told.clear();
        }
        let text = |message: &Bytes| String::from_utf8(message.to_vec()).unwrap();
        self.told.extend(step.messages.iter().map(text));
        Ok(step)
    }

    /// Asks until an answer is whole; fails if anything is void. On a busy machine an answer may be late.
    pub(super) async fn catches_up(&mut self, bus: &dyn Bus) {
        let start = Instant::now();
        loop {
            match self.step(bus).await {
                Ok(step) => {
                    assert_eq!(step.void, None);
                    if step.proven.is_some() {
                        return;
                    }
                }
                Err(error) => assert_eq!(error, TierError::Timeout),
            }
            assert!(start.elapsed() < Duration::from_secs(15), "it does not catch up");
        }
    }

    /// The next answer opens the log.
    pub(super) async fn opens(&mut self, bus: &dyn Bus) {
        let opened = self.step(bus).await.unwrap();
        assert_eq!((opened.void, opened.proven), (Some(Void::Opened), Some(())));
    }

    /// The next answer is void, for one of these reasons, and proves nothing; the one after opens the log, and from
    /// there all is well.
    pub(super) async fn notices(&mut self, bus: &dyn Bus, reasons: &[Void], what: &str) {
        let lost = self.step(bus).await.unwrap();
        assert!(lost.void.is_some_and(|void| reasons.contains(&void)), "{what}: {lost:?}");
        assert!(lost.proven.is_none() && lost.messages.is_empty(), "{what}: {lost:?}");
        self.opens(bus).await;
        say(bus, &["after"]).await;
        self.catches_up(bus).await;
        assert_eq!(self.told, ["after"], "{what}");
    }
}

pub(super) async fn say(bus: &dyn Bus, words: &[&str]) {
    bus.append(LOG, &messages(words)).await.unwrap();
}

pub(super) fn messages(words: &[&str]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

pub(super) async fn serving() -> (RedisServer, RedisBus, Admin) {
    let server = RedisServer::start().await.unwrap();
    let bus = patient(&server.url()).bus();
    let admin = Admin::of(&server).await;
    (server, bus, admin)
}

/// Somebody with a connection to the server and no scruples.
#[derive(Clone)]
pub(super) struct Admin(MultiplexedConnection);

impl Admin {
    pub(super) async fn of(server: &RedisServer) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    pub(super) async fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap()
    }

    pub(super) async fn try_ask<T: FromRedisValue>(
        &mut self,
        words: &[impl redis::ToRedisArgs],
    ) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.0).await
    }

    pub(super) async fn does(&mut self, words: &[&str]) {
        let _: redis::Value = self.ask(words).await;
    }
}
