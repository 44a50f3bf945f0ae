//! The scripts: each operation on a lease is one atomic step on the server.
//!
//! `KEYS[1]` is the value's key, `KEYS[2]` the lease's, which shares its slot; a script that needs the
//! lease alone names it alone. Tokens and values go as raw arguments. Rejected: `SET .. IFEQ`, which redis-rs sends through lossy UTF-8 and older
//! servers do not know, and `WATCH`, which a shared connection cannot use.

use std::{sync::LazyLock, time::Duration};

use ::redis::Cmd;

/// Takes the lease (`ARGV`: token, life, `1` for by force) and reads the value. A token that stands
/// already is granted again.
pub(super) static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
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

/// Drops the value and takes the lease by force (`ARGV`: token, life): the first half of a `set`.
pub(super) static DISPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1",
    )
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
    if key.is_empty() {
        return b"{3560}{}:l".to_vec();
    }
    [b"{".as_slice(), key, b"}:l"].concat()
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
