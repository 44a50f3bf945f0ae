//! From the server's replies to the contract's answers, and from redis-rs's errors to ours.
//!
//! Replies are matched by hand: redis-rs's conversions copy bulk strings and quote the reply in
//! their errors. Of an error reply only the code is kept, the first word, and only if it looks like
//! one: the rest may repeat arguments, and arguments are keys, values and passwords.

use std::time::Duration;

use ::redis::{ErrorKind, RedisError, Value};
use bytes::Bytes;

use crate::{Found, HoldEnd, Incarnation, Lease, TierError};

/// The reply, unless it is the server's refusal.
pub(super) fn accepted(value: Value) -> Result<Value, TierError> {
    match value {
        Value::ServerError(error) => Err(TierError::Refused(match code(error.code()) {
            "MOVED" => "MOVED: this server is a node of a cluster, use Redis::cluster".into(),
            code => code.into(),
        })),
        value => Ok(value),
    }
}

/// The reply's error code, or `ERR` for one that does not look like a code.
fn code(word: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=24).contains(&word.len()) && word.bytes().all(plain) { word } else { "ERR" }
}

/// The elements of an array reply of known length.
pub(super) fn array<const N: usize>(value: Value) -> Result<[Value; N], TierError> {
    match accepted(value)? {
        Value::Array(elements) => elements.try_into().map_err(|_| unexpected("array length")),
        _ => Err(unexpected("not an array")),
    }
}

/// A bulk string, without copying it, or none.
pub(super) fn bytes(value: Value) -> Result<Option<Bytes>, TierError> {
    match accepted(value)? {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        _ => Err(unexpected("not a string")),
    }
}

/// A number.
pub(super) fn integer(value: Value) -> Result<i64, TierError> {
    match accepted(value)? {
        Value::Int(number) => Ok(number),
        _ => Err(unexpected("not a number")),
    }
}

/// What a `PTTL` and a `GET` of one key say together, as answered by that run of the server.
pub(super) fn found(
    pttl: Value,
    value: Value,
    incarnation: Option<Incarnation>,
) -> Result<Option<Found>, TierError> {
    let (pttl, value) = (integer(pttl)?, bytes(value)?);
    Ok(match (pttl, value) {
        (_, None) => None,
        // Absent a moment before: stored in between, and its life was not seen.
        (-2, Some(_)) => None,
        (-1, Some(bytes)) => Some(Found { bytes, remaining: None, incarnation }),
        (pttl, Some(bytes)) => {
            let millis = u64::try_from(pttl).map_err(|_| unexpected("negative life"))?;
            let remaining = Some(Duration::from_millis(millis));
            Some(Found { bytes, remaining, incarnation })
        }
    })
}

/// What the lease script says: whether it granted, or that the key is on hold; and what a `PTTL` and a `GET` say.
pub(super) fn lease(value: Value, incarnation: Option<Incarnation>) -> Result<Lease, TierError> {
    let [granted, pttl, value] = array(value)?;
    let found = found(pttl, value, incarnation)?;
    Ok(match integer(granted)? {
        0 => Lease::Held(found),
        1 => Lease::Granted(found),
        2 => Lease::OnHold,
        _ => return Err(unexpected("no answer to a lease")),
    })
}

/// What the script says that ends a hold.
pub(super) fn hold_end(value: Value) -> Result<HoldEnd, TierError> {
    match integer(value)? {
        0 => Ok(HoldEnd::Lost),
        1 => Ok(HoldEnd::Overlapped),
        2 => Ok(HoldEnd::Alone),
        _ => Err(unexpected("no end of a hold")),
    }
}

/// The refusal of a reply that has another form than its command's.
pub(super) fn unexpected(what: &str) -> TierError {
    TierError::Protocol(what.into())
}

/// A failure of redis-rs as ours. Every one of them means that its connection is of no more use.
pub(super) fn broken(error: &RedisError) -> TierError {
    match error.kind() {
        ErrorKind::Io => TierError::Unreachable("the connection broke".into()),
        ErrorKind::Parse => unexpected("not RESP"),
        _ => unexpected("refused by the client library"),
    }
}

/// A failure of a connection that is not ours: the server's refusals may come as such too.
pub(super) fn failed(error: &RedisError) -> TierError {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => TierError::Timeout,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => unexpected("not RESP"),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            TierError::Refused(code(error.code().unwrap_or("ERR")).into())
        }
        ErrorKind::Client => TierError::Refused("by the client library".into()),
        _ => TierError::Unreachable("the connection broke".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_and_value_are_read_together() {
        let bulk = || Value::BulkString(b"v".to_vec());
        let life =
            |pttl| found(Value::Int(pttl), bulk(), None).map(|found| found.map(|f| f.remaining));
        assert_eq!(life(1_500), Ok(Some(Some(Duration::from_millis(1_500)))));
        assert_eq!(life(0), Ok(Some(Some(Duration::ZERO))));
        assert_eq!(life(-1), Ok(Some(None)));
        assert_eq!(life(-2), Ok(None));
        assert_eq!(found(Value::Int(9), Value::Nil, None), Ok(None));
        assert!(matches!(life(-3), Err(TierError::Protocol(_))));
        assert!(matches!(found(Value::Nil, bulk(), None), Err(TierError::Protocol(_))));
        assert!(matches!(found(Value::Int(1), Value::Okay, None), Err(TierError::Protocol(_))));
    }

    #[test]
    fn only_a_code_is_kept_of_an_error() {
        assert_eq!(code("OOM"), "OOM");
        assert_eq!(code("WRONGPASS"), "WRONGPASS");
        assert_eq!(code("hunter2"), "ERR");
        assert_eq!(code(""), "ERR");
        assert_eq!(code(&"X".repeat(99)), "ERR");
    }
}
