//! The scripts: what happens to a log happens in one step on the server. What only looks at it is a
//! [`look`](super::look).
//!
//! `KEYS[1]` is the stream, `KEYS[2]` the head: the token of the last message, and after it the place of that
//! message. A head counts only if the stream ends at that place: a head and a stream that are not of one moment
//! (one of them was dropped, or put back from a copy) make no log, and whoever comes next begins a new chain.
//!
//! Rejected: the last token in the stream alone, where it goes with the messages.

use std::sync::LazyLock;

use super::super::script::Script;

/// What all of them begin with: the place where the stream ends, dropped or not, and the head that belongs there.
macro_rules! with_head {
    ($code:literal) => {
        concat!(
            r"
local function ending()
  local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
  for at = 1, #stream, 2 do
    if stream[at] == 'last-generated-id' then return stream[at + 1] end
  end
  return '0-0'
end
local function head(last)
  local kept = redis.pcall('GET', KEYS[2])
  if type(kept) == 'string' and string.sub(kept, 17) == last then return string.sub(kept, 1, 16) end
  return false
end
",
            $code
        )
    };
}

/// Appends messages. `ARGV`: the origin of a new chain, the life of both keys, the most messages that are kept; then
/// a token and a message, again and again.
pub(super) static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_head!(
        r"
local last = ending()
local previous = head(last) or ARGV[1]
for at = 4, #ARGV, 2 do
  last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*',
    'p', previous, 't', ARGV[at], 'm', ARGV[at + 1])
  previous = ARGV[at]
end
redis.call('SET', KEYS[2], previous .. last, 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1"
    ))
});

/// Says where the log ends. `ARGV`: what to repeat in the answer, a token for a log without a head, the life of
/// both keys.
pub(super) static OPEN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_head!(
        r"
local last = ending()
local token = head(last)
if not token then
  token = ARGV[2]
  redis.call('SET', KEYS[2], token .. last, 'PX', ARGV[3])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[1], token, last}"
    ))
});

/// A [`look`](super::look) without a transaction (`ARGV`: what to repeat in the answer, the place, the most entries), for
/// a server that is full: it takes no transactions then, not even of reads.
pub(super) static LOOK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
return {ARGV[1], redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', '9000000000000000000'),
  redis.pcall('GET', KEYS[2]), redis.call('PTTL', KEYS[2]), redis.pcall('XINFO', 'STREAM', KEYS[1]),
  redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])}",
    )
});
