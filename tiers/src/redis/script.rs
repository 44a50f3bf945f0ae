//! The scripts: each operation on a lease or a hold is one atomic step on the server.
//!
//! | script | keys |
//! |---|---|
//! | [`LEASE`], [`DISPLACE`] | the value's, the lease's, the holds' |
//! | [`FILL`] | the value's, the lease's |
//! | [`RELEASE`], [`RENEW`] | the lease's |
//! | [`HOLD`], [`END_HOLD`] | the holds', the value's, the lease's; the first alone where the others are elsewhere |
//!
//! All of a key's are in its slot. Tokens and values go as raw arguments. Rejected: `SET .. IFEQ`, which redis-rs sends
//! through lossy UTF-8 and older servers do not know, and `WATCH`, which a shared connection cannot use.
//!
//! # Holds
//!
//! A key's holds are one hash: under each token its end in milliseconds by the server's clock. It expires with the hold
//! that ends last, so that it *exists* exactly while some hold stands: that is all a lease and a `set` look at, and it
//! costs them no script's loop. Rejected: a key for each hold, which a script could not name.
//!
//! A hold that begins while no other stands leaves a *mark* in the lease's key: an `h` and its token. Nobody gets a
//! lease on a held key, so the place is free; and whatever says that somebody else wrote drops what is there: a
//! `delete`, a `clear`, the first half of a `set`, another hold, another's end. So a hold whose mark still stands at its
//! end was alone. The mark is put there once, and never back; it ends with its hold, and one that outlives an evicted
//! hold is no lease to anybody. Rejected: marks in the hash, which a `delete` would have to look for.

use std::{sync::LazyLock, time::Duration};

use ::redis::Cmd;

/// Takes the lease (`ARGV`: token, life, `1` for by force) and reads the value. A token that stands
/// already is granted again, and a mark of a hold that is gone is in nobody's way. 2 says that the key is on hold,
/// whatever the claim.
pub(super) static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('EXISTS', KEYS[3]) == 1 then return {2, -2, false} end
local granted = 1
local there = redis.call('GET', KEYS[2])
if ARGV[3] == '1' or there == ARGV[1] or (there and #there ~= #ARGV[1]) then
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

/// Drops the value and the lease, and reads the holds: the end of `ARGV[1]`'s own and whether it was alone until now;
/// how many others stand, and when the last of them ends. What is over goes.
macro_rules! with_holds {
    ($code:literal) => {
        concat!(
            r"
local mark = 'h' .. ARGV[1]
local is_alone = KEYS[3] and redis.call('GET', KEYS[3]) == mark
for at = 2, #KEYS do redis.call('UNLINK', KEYS[at]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, others, last = nil, 0, 0
local holds = redis.call('HGETALL', KEYS[1])
for at = 1, #holds, 2 do
  local token, ends = holds[at], tonumber(holds[at + 1])
  if ends <= now then
    redis.call('HDEL', KEYS[1], token)
  elseif token == ARGV[1] then
    own = ends
  else
    others, last = others + 1, math.max(last, ends)
  end
end
",
            $code
        )
    };
}

/// Holds the key (`ARGV`: token, life, `1` for a hold that begins and `0` for a renewal), and says whether it was held
/// by this token already. One that begins is marked if no other stands; a renewal that finds its own gone is not, and
/// one that finds its mark lets that live as long.
///
/// A server without room lets a script go on whose first write takes something away, and this one's does.
pub(super) static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_holds!(
        r"
local ends = now + ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', ends))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(last, ends)))
if not own then is_alone = ARGV[3] == '1' and others == 0 end
if is_alone and KEYS[3] then redis.pcall('SET', KEYS[3], mark, 'PX', ARGV[2]) end
if own then return 1 end
return 0"
    ))
});

/// Ends the hold (`ARGV`: token; and perhaps a lease's token and life). Says 0 if it was gone, 1 if it was not alone,
/// else 2; then the lease is taken, if it is asked for. A server without room for it leaves it out: its fill is refused.
pub(super) static END_HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_holds!(
        r"
redis.call('HDEL', KEYS[1], ARGV[1])
if others > 0 then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last)) end
if not own then return 0 end
if others > 0 or not is_alone then return 1 end
if ARGV[2] then redis.pcall('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end
return 2"
    ))
});

/// Which of the two [`HOLD`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Begins,
    Renewed,
}

impl Hold {
    pub(super) fn word(self) -> &'static [u8] {
        match self {
            Self::Begins => b"1",
            Self::Renewed => b"0",
        }
    }
}

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
