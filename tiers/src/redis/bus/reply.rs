//! From a server's answers to logs' words: tokens, places, messages.

use ::redis::Value;
use bytes::Bytes;

use super::super::reply::{array, bytes, unexpected};
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

/// Refuses an answer to another question.
pub(super) fn is_about(asked: Value, question: LeaseToken) -> Result<(), TierError> {
    match bytes(asked)? {
        Some(asked) if asked.as_ref() == question.as_bytes() => Ok(()),
        _ => Err(unexpected("an answer to another question")),
    }
}

/// Entries by their fields; `None` if any of them is none of ours.
pub(super) fn links(entries: impl Iterator<Item = Value>) -> Option<Vec<Link<Bytes, LeaseToken>>> {
    entries.map(link).collect()
}

fn link(entry: Value) -> Option<Link<Bytes, LeaseToken>> {
    let [at, fields] = array(entry).ok()?;
    let at = position(&bytes(at).ok()??)?;
    let fields: [Value; 6] = array(fields).ok()?;
    let [p, previous, t, own, m, message] = fields.map(|field| bytes(field).ok().flatten());
    let names = [(p, "p"), (t, "t"), (m, "m")];
    if names.iter().any(|(is, name)| is.as_deref() != Some(name.as_bytes())) {
        return None;
    }
    Some(Link { at, previous: token(&previous?)?, token: token(&own?)?, message: message? })
}

pub(super) fn token(bytes: &[u8]) -> Option<LeaseToken> {
    bytes.try_into().ok().map(LeaseToken::from_wire)
}

/// An id as streams have them: milliseconds and a number.
pub(super) fn position(id: &[u8]) -> Option<Position> {
    let (millis, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Position(millis.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn text(text: &[u8]) -> Value {
        Value::BulkString(text.to_vec())
    }

    pub(in super::super) fn entry(id: &[u8], fields: &[&[u8]]) -> Value {
        Value::Array(vec![text(id), Value::Array(fields.iter().map(|field| text(field)).collect())])
    }

    #[test]
    fn a_log_is_opened_by_an_answer_to_the_question() {
        let answer = |last: &[u8]| Value::Array(vec![text(&[1; 16]), text(&[3; 16]), text(last)]);
        let open = |last: &[u8], question| {
            opened(answer(last), LeaseToken::from_wire(question), Incarnation::new(7))
        };
        let sound = open(b"7-1", [1; 16]).unwrap();
        assert_eq!(sound.head, Some(LeaseToken::from_wire([3; 16])));
        assert_eq!((sound.last, sound.run), (Position(7, 1), Some(Incarnation::new(7))));
        for wrong in [open(b"7-1", [9; 16]), open(b"7", [1; 16]), open(b"", [1; 16])] {
            assert!(matches!(wrong, Err(TierError::Protocol(_))), "{wrong:?}");
        }
    }
}
