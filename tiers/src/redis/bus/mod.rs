//! [`RedisBus`]: a bus on Redis Streams.
//!
//! A log is a stream and a head. The stream's entries are the messages, each with its own token and the one
//! before it; the head holds the last token, and where the stream ends. A [`script`] appends and opens, a [`look`]
//! sees all of it at one moment, a [`piece`] at a time; [`exchange`] brings a question to the node that has the log,
//! over a [`line`] of its own; [`reply`] has the words of the answers.
//!
//! A poll that is to wait sends `XREAD BLOCK` before its look. That only wakes: what it brings is not looked at.
//!
//! Rejected: `PUBLISH`, which a reader misses while it is away, and does not know it; consumer groups, whose state
//! for each process is one more thing to lose; following a stream from `$`, which loses what comes between two
//! questions.
//!
//! # What may be repeated
//!
//! Polls and opens: a late copy changes nothing, or gives a head to a log that has none. An append only with new
//! tokens: the message is then there twice, which it may be. The same token twice would prove too much: a reader
//! that has seen the first would take the second, in the head, for it.

mod exchange;
mod line;
mod look;
mod piece;
mod reply;
mod script;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use self::{
    exchange::{Question, Reach},
    look::{Look, Seen},
    script::{APPEND, OPEN},
};
use super::{
    budget::Budget, endpoint::Endpoint, exchange::Repeat, options::Options, script::millis,
};
use crate::{
    Bus, BusPolled, ConfigError, LeaseToken, LogName, TierError, protocol::Position,
    runtimes::Runtimes,
};

/// The most logs of a topic.
const MAX_LOGS: usize = 64;
/// The fewest messages that a log may be told to keep: what the server trims at a time, and room for a burst.
const LEAST_MESSAGES: u64 = 1_000;
/// How long the keys of a log live after the last append. A poll renews them when half of it is over.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that a poll waits, whatever it is told: one whose server has vanished waits as long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Why there is no bus over a connection that was handed in.
const OWN_CONNECTIONS: &str = "a bus needs connections of its own: give Redis::new(url)";

/// A bus on Redis Streams, made by [`Redis::bus`](crate::Redis::bus): on one server, on a cluster, or on the primary
/// behind sentinels.
///
/// Each log is a stream, capped at about [`max_messages`](Self::max_messages), and a head, in one slot:
/// `{topic%bus:0}:log` and `{topic%bus:0}:head`. Both expire a day after the last append or poll. Losing them, by
/// eviction, a flush or a restart, is noticed by every reader and harms nobody: they begin anew.
///
/// Making one touches neither a runtime nor the network. Each tokio runtime gets connections of its own: one
/// for appends (to each node, on a cluster), and one for each poll under way, which the next poll takes over. An append
/// or an open takes at most `response_timeout`, a poll its `wait` more, and each `connect_timeout` more if it had
/// to dial. They may be dropped at any time: an append that is dropped may or may not be made; a poll's connection is
/// closed.
///
/// What a server answers that is no primary, or has lost the replicas that `min-replicas-to-write` demands, counts for
/// nothing: such polls fail.
///
/// ```
/// use tiered_tiers::Redis;
///
/// let l2 = Redis::new("redis+cluster://10.0.0.1:7000,10.0.0.2:7000")?;
/// let bus = l2.bus().logs(4);
/// # Ok::<(), tiered_tiers::ConfigError>(())
/// ```
pub struct RedisBus {
    options: Arc<Options>,
    logs: usize,
    max_messages: u64,
    runtimes: Runtimes<Reach>,
}

impl RedisBus {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            options: Arc::new(Options { connections: 1, ..options.clone() }),
            logs: 1,
            max_messages: 65_536,
            runtimes: Runtimes::default(),
        }
    }

    /// Into how many logs a topic's messages are shared out, 1 to 64; the same in every process. Default: 1. On a
    /// cluster each is on a node of its own, more or less; four keep any one node from being everybody's.
    #[must_use]
    pub fn logs(mut self, logs: usize) -> Self {
        self.logs = logs;
        self
    }

    /// How many messages a log keeps, or somewhat more; at least 1,000. Default: 65,536. A reader that falls further
    /// behind has missed some, and knows it.
    #[must_use]
    pub fn max_messages(mut self, messages: u64) -> Self {
        self.max_messages = messages;
        self
    }

    fn reach(&self) -> Result<Arc<Reach>, TierError> {
        if matches!(self.options.endpoint, Endpoint::HandedIn(_)) {
            return Err(TierError::Unsupported(OWN_CONNECTIONS.into()));
        }
        self.runtimes.pool(|| Reach::new(&self.options))
    }

    /// Appends under new tokens.
    async fn append_once(
        &self,
        reach: &Reach,
        keys: &[Vec<u8>; 2],
        messages: &[Bytes],
        budget: &mut Budget,
    ) -> Result<(), TierError> {
        let origin = LeaseToken::random();
        let tokens: Vec<_> = messages.iter().map(|_| LeaseToken::random()).collect();
        let (life, most) = (millis(LIFE), self.max_messages.to_string());
        let mut arguments: Vec<&[u8]> = Vec::with_capacity(3 + 2 * messages.len());
        arguments.extend([origin.as_bytes(), life.as_bytes(), most.as_bytes()]);
        for (token, message) in tokens.iter().zip(messages) {
            arguments.extend([token.as_bytes(), message.as_ref()]);
        }
        let [log, head] = keys;
        let servers = &reach.servers;
        servers.run(&APPEND, &[log, head], &arguments, Repeat::Never, budget).await.map(drop)
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("servers", &self.options)
            .field("logs", &self.logs)
            .field("max_messages", &self.max_messages)
            .finish_non_exhaustive()
    }
}

/// The keys of a log: its stream and its head. No key of a cache begins with a brace but a lease's, and none holds a
/// `%` that two hex digits do not follow, or a word of the engine's, of which this is one.
fn keys(log: LogName<'_>) -> [Vec<u8>; 2] {
    let LogName { topic, index } = log;
    ["log", "head"].map(|part| format!("{{{topic}%bus:{index}}}:{part}").into_bytes())
}

#[async_trait]
impl Bus for RedisBus {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn logs(&self) -> usize {
        self.logs
    }

    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        if messages.is_empty() {
            return Ok(());
        }
        let (reach, mut budget, keys) = (self.reach()?, Budget::new(&self.options), keys(log));
        match self.append_once(&reach, &keys, messages, &mut budget).await {
            // The connection broke, or was of no use.
            Err(TierError::Unreachable(_) | TierError::Protocol(_)) => {
                self.append_once(&reach, &keys, messages, &mut budget).await
            }
            appended => appended,
        }
    }

    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        let (reach, mut budget, [log, head]) =
            (self.reach()?, Budget::new(&self.options), keys(log));
        let (asked, token, life) = (LeaseToken::random(), LeaseToken::random(), millis(LIFE));
        let arguments: [&[u8]; 3] = [asked.as_bytes(), token.as_bytes(), life.as_bytes()];
        let (question, spare) = (Question::Run(&OPEN, &arguments), self.options.response_timeout);
        let (answer, line) = reach.ask([&log, &head], &question, spare, &mut budget).await?;
        let opened = reply::opened(answer, asked, line.run())?;
        reach.lines.give_back(line);
        Ok(opened)
    }

    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        let (reach, [log, head], wait) = (self.reach()?, keys(log), wait.min(LONGEST_WAIT));
        let mut budget = Budget::new(&self.options).and_wait(wait);
        let look = Look { asked: LeaseToken::random(), after, most: reach.piece.size() };
        let (question, spare) = (Question::Look(look, wait), self.options.response_timeout);
        let answered = reach.ask([&log, &head], &question, spare, &mut budget).await;
        if matches!(answered, Err(TierError::Timeout)) {
            reach.piece.was_late(look.most);
        }
        let (answer, line) = answered?;
        let Seen { polled, life } = look.read(answer, line.run())?;
        let bytes = polled.links.iter().map(|link| link.message.len()).sum();
        reach.piece.came(look.most, polled.links.len(), bytes);
        let is_due = life.is_some_and(|life| life < LIFE / 2);
        if !is_due || line.renew([&log, &head], LIFE, &mut budget).await {
            reach.lines.give_back(line);
        }
        Ok(polled)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if matches!(self.options.endpoint, Endpoint::HandedIn(_)) {
            return Err(ConfigError::new(OWN_CONNECTIONS));
        }
        if self.logs == 0 || self.logs > MAX_LOGS {
            return Err(ConfigError::new(format!(
                "RedisBus::logs({}) cannot work: choose 1 to {MAX_LOGS}, the same in every process",
                self.logs
            )));
        }
        if self.max_messages < LEAST_MESSAGES {
            return Err(ConfigError::new(format!(
                "RedisBus::max_messages({}) would be trimmed away unread: choose {LEAST_MESSAGES} or more",
                self.max_messages
            )));
        }
        self.options.check()
    }
}
