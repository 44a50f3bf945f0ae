//! [`RedisJournal`]: a write-behind's journal in a Redis Stream.
//!
//! The stream holds what is not acknowledged; what is, is deleted, and nothing is ever trimmed. Beside it a hash says
//! who owns it, and until when by the server's clock; each script looks there first.
//!
//! An entry's id is a number that its owner counts up, and a stream takes no id that is not above all before it. So an
//! append that was held up on the way and arrives after a later one is refused by the server itself. What
//! did take effect, though its answer was lost, is deleted by the next append that succeeds. Ids made by the
//! server would need neither, and would let both through.

use std::{
    fmt,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{Value, cmd};
use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Redis,
    budget::Budget,
    connection::Request,
    exchange::Repeat,
    reply::{self, unexpected},
    script::{Script, millis},
};
use crate::{ConfigError, Journal, JournalError, LeaseToken, Logged, Record, TierError};

/// How many entries one read asks for.
const PAGE: &str = "64";

/// What every script begins with. `KEYS`: the stream, the owner. `ARGV`: token, lease.
macro_rules! script {
    ($code:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = redis.call('HMGET', KEYS[2], 'token', 'until')
local function own() redis.call('HSET', KEYS[2], 'token', ARGV[1], 'until', now + ARGV[2]) end
local other = owner[1] and owner[1] ~= ARGV[1]
",
                $code
            ))
        })
    };
}

/// Becomes the owner; says the last id that the stream has given out.
static OPEN: LazyLock<Script> = script!(
    r"
if other and tonumber(owner[2]) > now then return -1 end
own()
if redis.call('EXISTS', KEYS[1]) == 0 then return '0-0' end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then return info[i + 1] end
end
return redis.error_reply('ERR no last id')"
);

/// Appends (`ARGV` further: the bound, the first and the last id of what is doubtful, then id, key, id and value of each
/// entry).
static APPEND: LazyLock<Script> = script!(
    r"
if other then return -1 end
own()
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[5])) do
  redis.call('XDEL', KEYS[1], entry[1])
end
if redis.call('XLEN', KEYS[1]) + (#ARGV - 5) / 4 > tonumber(ARGV[3]) then return -2 end
for i = 6, #ARGV, 4 do
  redis.call('XADD', KEYS[1], ARGV[i], 'k', ARGV[i + 1], 'i', ARGV[i + 2], 'v', ARGV[i + 3])
end
return 1"
);

/// Drops entries (`ARGV` further: their ids). A server without memory takes no new owner's time, and drops all the same.
static ACKNOWLEDGE: LazyLock<Script> = script!(
    r"
if other then return -1 end
for i = 3, #ARGV do redis.call('XDEL', KEYS[1], ARGV[i]) end
pcall(own)
return 1"
);

/// Stays the owner.
static RENEW: LazyLock<Script> = script!(
    r"
if other then return -1 end
own()
return 1"
);

/// Is the owner no more, but known as the last.
static CLOSE: LazyLock<Script> = script!(
    r"
if owner[1] == ARGV[1] then redis.call('HSET', KEYS[2], 'until', 0) end
return 1"
);

/// A journal of a write-behind in a Redis Stream; made by [`Redis::journal`] or [`RedisJournal::new`].
///
/// It has one owner at a time: the first process that opens it, for as long as that lives and
/// [`lease_for`](Self::lease_for) longer, unless it closes it. Another one is refused meanwhile: processes that live at
/// the same time need journals of different names. A name that nobody opens any more keeps its entries.
///
/// Its keys are `{%journal:name}:s`, the stream, and `{%journal:name}:o`, its owner. They have no expiry, and are outside of
/// every cache's namespace. The journal is as durable as its server: with `appendfsync always` it survives
/// whatever the disk survives, with `everysec` a crash of the machine costs a second, without persistence a restart of
/// the server costs all of it, and a failover may cost the last entries. It must not be on a server that evicts keys without
/// an expiry (`allkeys-*`).
pub struct RedisJournal {
    redis: Redis,
    name: String,
    max_entries: usize,
    lease_for: Duration,
    token: LeaseToken,
    ids: Mutex<Ids>,
}

/// The ids of this owner.
#[derive(Debug, Default)]
struct Ids {
    last: u64,
    /// The first id of appends that may have taken effect, though they failed.
    doubtful_from: Option<u64>,
}

impl Redis {
    /// A journal of this name on the same servers, over a connection of its own. The name consists of letters, digits
    /// and `. _ - :`, and is at most 200 long.
    ///
    /// # Errors
    /// A [`ConfigError`] for another name.
    pub fn journal(&self, name: &str) -> Result<RedisJournal, ConfigError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        if name.is_empty() || name.len() > 200 || !name.bytes().all(is_plain) {
            return Err(ConfigError::new(
                "a journal's name has 1 to 200 letters, digits and . _ - : only, e.g. orders-0",
            ));
        }
        let mut options = (*self.options).clone();
        options.connections = 1;
        Ok(RedisJournal {
            redis: Self::with_options(options),
            name: name.to_owned(),
            max_entries: 100_000,
            lease_for: Duration::from_secs(10),
            token: LeaseToken::random(),
            ids: Mutex::default(),
        })
    }
}

impl RedisJournal {
    /// A journal of this name on the servers at `url`; see [`Redis::new`] and [`Redis::journal`].
    ///
    /// # Errors
    /// As those two.
    pub fn new(url: &str, name: &str) -> Result<Self, ConfigError> {
        Redis::new(url)?.journal(name)
    }

    /// How many values it may hold that the database does not have yet; 100,000 unless told. One more is refused.
    #[must_use]
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// How long after its last sign a process is believed to be alive, and another one refused; 10 s unless told, 1 s at
    /// least. So long the successor of a process that was killed has to wait.
    #[must_use]
    pub fn lease_for(mut self, time: Duration) -> Self {
        self.lease_for = time;
        self
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self) -> Vec<u8> {
        format!("{{%journal:{}}}:s", self.name).into_bytes()
    }

    async fn run(
        &self,
        script: &Script,
        arguments: &[&[u8]],
        repeat: Repeat,
    ) -> Result<Value, JournalError> {
        let owner = format!("{{%journal:{}}}:o", self.name).into_bytes();
        let (servers, mut budget) = (self.redis.servers()?, Budget::new(&self.redis.options));
        let lease = millis(self.lease_for);
        let mut all: Vec<&[u8]> = vec![self.token.as_bytes(), lease.as_bytes()];
        all.extend(arguments);
        let stream = self.stream();
        match servers.run(script, &[&stream, &owner], &all, repeat, &mut budget).await?.value {
            Value::Int(-1) => Err(JournalError::Taken),
            Value::Int(-2) => Err(JournalError::Full),
            answer => Ok(answer),
        }
    }
}

#[async_trait]
impl Journal for RedisJournal {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn open(&self) -> Result<(), JournalError> {
        let last = reply::bytes(self.run(&OPEN, &[], Repeat::Once).await?)?;
        let last = last.as_deref().and_then(number).ok_or_else(|| unexpected("not an id"))?;
        let mut ids = self.ids();
        ids.last = ids.last.max(last);
        Ok(())
    }

    async fn read(&self, after: u64) -> Result<Vec<Logged>, JournalError> {
        let (servers, mut budget) = (self.redis.servers()?, Budget::new(&self.redis.options));
        let (stream, mut range) = (self.stream(), cmd("XRANGE"));
        range.arg(&stream).arg(id(after.saturating_add(1))).arg("+").arg("COUNT").arg(PAGE);
        let request = Request::Single(range);
        let answer = servers.ask(&stream, &request, Repeat::Once, &mut budget).await?;
        match reply::accepted(answer.value)? {
            Value::Array(entries) => {
                Ok(entries.into_iter().map(logged).collect::<Result<_, _>>()?)
            }
            _ => Err(unexpected("not an array").into()),
        }
    }

    async fn append(&self, records: &[Record]) -> Result<Vec<u64>, JournalError> {
        let (first, doubtful) = {
            let mut ids = self.ids();
            let first = ids.last + 1;
            ids.last += records.len() as u64;
            let from = *ids.doubtful_from.get_or_insert(first);
            (first, [id(from), id(first - 1)])
        };
        let positions: Vec<u64> = (first..).take(records.len()).collect();
        let numbered: Vec<String> = positions.iter().map(|position| id(*position)).collect();
        let bound = self.max_entries.to_string();
        let [from, to] = &doubtful;
        let mut arguments: Vec<&[u8]> = vec![bound.as_bytes(), from.as_bytes(), to.as_bytes()];
        for (id, record) in numbered.iter().zip(records) {
            arguments.extend([id.as_bytes(), &record.key, &record.id, &record.value]);
        }
        let appended = self.run(&APPEND, &arguments, Repeat::Never).await;
        if appended.is_ok() {
            // What was doubtful before it has gone, and has no way back past it.
            self.ids().doubtful_from = None;
        }
        appended.map(|_| positions)
    }

    async fn acknowledge(&self, positions: &[u64]) -> Result<(), JournalError> {
        let ids: Vec<String> = positions.iter().map(|position| id(*position)).collect();
        let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
        self.run(&ACKNOWLEDGE, &ids, Repeat::Once).await.map(drop)
    }

    async fn renew(&self) -> Result<(), JournalError> {
        self.run(&RENEW, &[], Repeat::Once).await.map(drop)
    }

    async fn close(&self) -> Result<(), JournalError> {
        self.run(&CLOSE, &[], Repeat::Once).await.map(drop)
    }

    fn lease_for(&self) -> Duration {
        self.lease_for
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.max_entries == 0 {
            return Err(ConfigError::new(
                "RedisJournal::max_entries(0) takes no value: try 100_000",
            ));
        }
        if self.lease_for < Duration::from_secs(1) || self.lease_for > Duration::from_secs(3_600) {
            return Err(ConfigError::new(
                "RedisJournal::lease_for must be 1 s to an hour: try 10 s",
            ));
        }
        self.redis.options.check()
    }
}

/// A position as the stream has it.
fn id(position: u64) -> String {
    format!("{position}-0")
}

/// The number of an id.
fn number(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok()?.split('-').next()?.parse().ok()
}

/// An entry of the stream. One that is not of ours has no key, and nothing can be made of it.
fn logged(entry: Value) -> Result<Logged, TierError> {
    let [id, fields] = reply::array(entry)?;
    let position = reply::bytes(id)?.as_deref().and_then(number);
    let mut record = Record { key: Bytes::new(), id: Bytes::new(), value: Bytes::new() };
    let Value::Array(fields) = fields else { return Err(unexpected("not an array")) };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let value = reply::bytes(value)?.unwrap_or_default();
        match reply::bytes(name)?.as_deref() {
            Some(b"k") => record.key = value,
            Some(b"i") => record.id = value,
            Some(b"v") => record.value = value,
            _ => {}
        }
    }
    Ok(Logged { position: position.ok_or_else(|| unexpected("not an id"))?, record })
}

impl fmt::Debug for RedisJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisJournal")
            .field("name", &self.name)
            .field("max_entries", &self.max_entries)
            .field("lease_for", &self.lease_for)
            .field("redis", &self.redis)
            .finish_non_exhaustive()
    }
}
