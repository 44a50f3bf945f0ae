//! From the scripts' answers to what a poll brings.
//!
//! An entry that is none of ours has no place in the chain, and would be met again by every poll: the log is then
//! without a head, which has its reader open it anew, behind that entry.

use ::redis::Value;
use bytes::Bytes;

use super::super::reply::{accepted, array, bytes, integer, unexpected};
use crate::{
    BusPolled, Incarnation, LeaseToken, TierError,
    protocol::{Link, Polled, Position},
};

/// What the script says that opens a log.
pub(super) fn opened(
    answer: Value,
    question: LeaseToken,
    run: Incarnation,
) -> Result<BusPolled, TierError> {
    let [asked, head, last] = array(answer)?;
    is_about(asked, question)?;
    let last = bytes(last)?.as_deref().and_then(position);
    let last = last.ok_or_else(|| unexpected("no place in a log"))?;
    let head = bytes(head)?.as_deref().and_then(token);
    Ok(Polled { run: Some(run), head, links: Vec::new(), has_more: false, last })
}

/// What the script says that polls a log after a place.
pub(super) fn polled(
    answer: Value,
    question: LeaseToken,
    run: Incarnation,
    after: Position,
) -> Result<BusPolled, TierError> {
    let [asked, head, more, links] = array(answer)?;
    is_about(asked, question)?;
    let head = bytes(head)?.as_deref().and_then(token);
    let has_more = integer(more)? != 0;
    let Value::Array(entries) = accepted(links)? else { return Err(unexpected("no messages")) };
    let links: Option<Vec<_>> = entries.into_iter().map(link).collect();
    let Some(links) = links else {
        return Ok(Polled {
            run: Some(run),
            head: None,
            links: Vec::new(),
            has_more: false,
            last: after,
        });
    };
    let last = links.last().map_or(after, |link| link.at);
    Ok(Polled { run: Some(run), head, links, has_more, last })
}

/// Refuses an answer to another question: an older one would prove what it does not know.
fn is_about(asked: Value, question: LeaseToken) -> Result<(), TierError> {
    match bytes(asked)? {
        Some(asked) if asked.as_ref() == question.as_bytes() => Ok(()),
        _ => Err(unexpected("an answer to another question")),
    }
}

/// An entry of ours, by its fields.
fn link(entry: Value) -> Option<Link<Bytes, LeaseToken>> {
    let [at, fields] = array(entry).ok()?;
    let at = position(&bytes(at).ok()??)?;
    let fields: [Value; 6] = array(fields).ok()?;
    let [p, previous, t, own, m, message] = fields.map(|field| bytes(field).ok().flatten());
    let is_ours = [p, t, m]
        .iter()
        .zip(["p", "t", "m"])
        .all(|(is, name)| is.as_deref() == Some(name.as_bytes()));
    if !is_ours {
        return None;
    }
    Some(Link { at, previous: token(&previous?)?, token: token(&own?)?, message: message? })
}

fn token(bytes: &[u8]) -> Option<LeaseToken> {
    bytes.try_into().ok().map(LeaseToken::from_wire)
}

/// An id as streams have them: milliseconds and a number.
fn position(id: &[u8]) -> Option<Position> {
    let (millis, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Position(millis.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &[u8]) -> Value {
        Value::BulkString(text.to_vec())
    }

    fn entry(id: &[u8], fields: &[&[u8]]) -> Value {
        Value::Array(vec![text(id), Value::Array(fields.iter().map(|field| text(field)).collect())])
    }

    fn poll(entries: Vec<Value>) -> Result<BusPolled, TierError> {
        let question = LeaseToken::from_wire([1; 16]);
        let head = text(&[3; 16]);
        let answer = vec![text(&[1; 16]), head, Value::Int(0), Value::Array(entries)];
        polled(Value::Array(answer), question, Incarnation::new(7), Position(1, 2))
    }

    #[test]
    fn messages_are_read_in_their_chain() {
        let polled = poll(vec![entry(
            b"18446744073709551615-5",
            &[b"p", &[2; 16], b"t", &[3; 16], b"m", b"\0\r\n"],
        )]);
        let polled = polled.unwrap();
        assert_eq!(polled.head, Some(LeaseToken::from_wire([3; 16])));
        let link = polled.links.first().unwrap();
        assert_eq!((link.at, link.message.as_ref()), (Position(u64::MAX, 5), b"\0\r\n".as_slice()));
        assert_eq!(link.previous, LeaseToken::from_wire([2; 16]));
        assert_eq!(link.token, LeaseToken::from_wire([3; 16]));
        assert_eq!(poll(vec![]).unwrap().last, Position(1, 2));
    }

    #[test]
    fn with_entries_of_strangers_a_log_has_no_head() {
        let own: [&[u8]; 6] = [b"p", &[2; 16], b"t", &[3; 16], b"m", b"v"];
        let spoilt = |at: usize, by: &'static [u8]| {
            let mut fields = own;
            fields[at] = by;
            entry(b"1-1", &fields)
        };
        for stranger in [
            entry(b"1-1", &[b"field", b"value"]),
            entry(b"1-1", &own[..4]),
            entry(b"1", &own),
            entry(b"a-b", &own),
            spoilt(0, b"q"),
            spoilt(2, b"m"),
            spoilt(4, b""),
            spoilt(1, b"short"),
            spoilt(3, b"a token that is longer"),
            Value::Nil,
            Value::Array(vec![text(b"1-1"), Value::Nil]),
        ] {
            let polled = poll(vec![entry(b"1-0", &own), stranger.clone()]).unwrap();
            assert_eq!((polled.head, polled.links.len()), (None, 0), "{stranger:?}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let other = LeaseToken::from_wire([9; 16]);
        let answer = || vec![text(&[1; 16]), Value::Nil, Value::Int(0), Value::Array(vec![])];
        let polled = polled(Value::Array(answer()), other, Incarnation::new(7), Position(0, 0));
        assert!(matches!(polled, Err(TierError::Protocol(_))), "{polled:?}");
        let answer = Value::Array(vec![text(&[1; 16]), text(&[3; 16]), text(b"0-0")]);
        let opened = opened(answer, other, Incarnation::new(7));
        assert!(matches!(opened, Err(TierError::Protocol(_))), "{opened:?}");
    }
}
