//! The scripts: each operation on a lease or a hold is one atomic step on the server.
//!
//! | script | keys |
//! |---|---|
//! | [`LEASE`], [`DISPLACE`] | the value's, the lease's, the holds' |
//! | [`FILL`] | the value's, the lease's |
//! | [`RELEASE`], [`RENEW`] | the lease's |
//! | [`HOLD`], [`END_HOLD`] | the holds', and what else is to be dropped: the value's and the lease's |
//!
//! All of a key's are in its slot. Tokens and values go as raw arguments. Rejected: `SET .. IFEQ`, which redis-rs sends
//! through lossy UTF-8 and older servers do not know, and `WATCH`, which a shared connection cannot use.
//!
//! # Holds
//!
//! A key's holds are one hash: under each token its end in milliseconds by the server's clock, and an `o` before it if
//! another hold overlapped it. The hash expires with the hold that ends last, so that it *exists* exactly while some
//! hold stands: that is all a lease and a `set` look at, and it costs them no script's loop. Rejected: a sorted set by
//! end, which has no room for the mark, and a key for each hold, which a script could not name.

use std::{sync::LazyLock, time::Duration};

use ::redis::Cmd;

/// Takes the lease (`ARGV`: token, life, `1` for by force) and reads the value. A token that stands
/// already is granted again. 2 says that the key is on hold, whatever the claim.
pub(super) static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('EXISTS', KEYS[3]) == 1 then return {2, -2, false} end
local granted = 1
if ARGV[3] == '1' or redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
elseif not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  granted = 0
end
return {granted, redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1])}",
    )
});

/// Stores the value (`ARGV`: token, bytes, life) and drops the lease, if the token stands. A server
/// without room for the value drops the lease all the same: nobody else should wait for it.
pub(super) static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local stored = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
if stored.err then return stored end
return 1",
    )
});

/// Drops the lease if the token (`ARGV`) stands.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1",
    )
});

/// Lets the lease live for so long (`ARGV`: token, life), if the token stands. It only ever makes the life of what is
/// there another: there is nothing to expire where a lease was dropped.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

/// Drops the value and takes the lease by force (`ARGV`: token, life): the first half of a `set`. On a key on hold it
/// only drops, and says 0.
pub(super) static DISPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('UNLINK', KEYS[1], KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1",
    )
});

/// Reads the holds: `stands(end)`, and the end of the longest of those that are not `ARGV[1]`'s. What is over goes.
macro_rules! with_holds {
    ($code:literal) => {
        concat!(
            r"
for at = 2, #KEYS do redis.call('UNLINK', KEYS[at]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, others, last = nil, {}, 0
local holds = redis.call('HGETALL', KEYS[1])
for at = 1, #holds, 2 do
  local token, written = holds[at], holds[at + 1]
  local ends = tonumber((string.gsub(written, 'o', '')))
  if ends <= now then
    redis.call('HDEL', KEYS[1], token)
  elseif token == ARGV[1] then
    own = written
  else
    others[#others + 1] = {token, written}
    last = math.max(last, ends)
  end
end
local function overlap()
  for _, other in ipairs(others) do
    if string.sub(other[2], 1, 1) ~= 'o' then redis.call('HSET', KEYS[1], other[1], 'o' .. other[2]) end
  end
end
",
            $code
        )
    };
}

/// Drops what is named besides, and holds the key (`ARGV`: token, life). Others that stand are marked first: one that
/// is refused in the middle leaves them marked, and never holds beside them unmarked.
///
/// A server without room lets a script go on whose first write takes something away, and this one's does.
pub(super) static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_holds!(
        r"
overlap()
local mark = ''
if own then mark = string.match(own, '^o*') elseif #others > 0 then mark = 'o' end
local ends = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], mark .. ends)
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(last, now + ARGV[2])))
return 1"
    ))
});

/// Drops what is named besides, and the hold (`ARGV`: token; and perhaps a lease's token and life). Says 0 if it was
/// gone, and marks the others then, for its writer wrote all the same; 1 if another had overlapped it, else 2; then the lease is taken, if it is asked for and the third key is its
/// own. A server without room for it leaves it out: its fill is refused.
pub(super) static END_HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_holds!(
        r"
redis.call('HDEL', KEYS[1], ARGV[1])
if #others > 0 then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last)) end
if not own then overlap() return 0 end
if string.sub(own, 1, 1) == 'o' then return 1 end
if ARGV[2] and KEYS[3] then redis.pcall('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end
return 2"
    ))
});

/// A script and its digest.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    digest: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        Self { code, digest: ::redis::Script::new(code).get_hash().to_owned() }
    }

    /// The call by digest, which a server that has just started does not know.
    pub(super) fn by_digest(&self, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
        call("EVALSHA", self.digest.as_bytes(), keys, arguments)
    }

    /// The call by source, which teaches the server the digest.
    pub(super) fn by_source(&self, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
        call("EVAL", self.code.as_bytes(), keys, arguments)
    }
}

fn call(verb: &str, script: &[u8], keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
    let parts = keys.iter().chain(arguments);
    let bytes = parts.clone().map(|part| part.len()).sum::<usize>();
    let mut command =
        Cmd::with_capacity(3 + keys.len() + arguments.len(), bytes + script.len() + 16);
    command.arg(verb).arg(script).arg(keys.len());
    for part in parts {
        command.arg(*part);
    }
    command
}

/// The key of a value's lease: in the same slot, and no user's key, for those hold no braces.
///
/// Nothing between braces is no tag to a cluster, so the empty key's lease has a tag that falls into the
/// slot of nothing, and braces that no other lease has.
pub(super) fn lease_key(key: &[u8]) -> Vec<u8> {
    beside(key, b'l')
}

/// The key of a value's holds, as [`lease_key`].
pub(super) fn holds_key(key: &[u8]) -> Vec<u8> {
    beside(key, b'h')
}

/// Whether it is the key of some value's holds.
pub(super) fn is_holds_key(key: &[u8]) -> bool {
    key.starts_with(b"{") && key.ends_with(b"}:h")
}

fn beside(key: &[u8], kind: u8) -> Vec<u8> {
    if key.is_empty() {
        return [b"{3560}{}:".as_slice(), &[kind]].concat();
    }
    [b"{".as_slice(), key, b"}:", &[kind]].concat()
}

/// A life as the server wants it: whole milliseconds, never none, never so many that it overflows.
pub(super) fn millis(life: Duration) -> String {
    const CENTURY: u128 = 100 * 365 * 24 * 60 * 60 * 1_000;
    life.as_millis().clamp(1, CENTURY).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_life_becomes_an_error_or_eternity() {
        assert_eq!(millis(Duration::ZERO), "1");
        assert_eq!(millis(Duration::from_micros(10)), "1");
        assert_eq!(millis(Duration::from_micros(1_999)), "1");
        assert_eq!(millis(Duration::from_millis(1_500)), "1500");
        assert_eq!(millis(Duration::MAX), "3153600000000");
    }
}
