//! A look at a log: what comes after a place, the head, and where the stream ends, all at one moment.
//!
//! A transaction, and not a script: a script that hands a thousand entries on costs the server six times as much, and
//! every process looks. It begins with a word that the answer repeats, for an older answer would prove what it
//! does not know; and with an `XTRIM` that takes nothing away. That is a write, which a replica refuses, and so does a
//! primary that has lost the replicas it must have: what they say proves nothing.
//!
//! Rejected: `XREAD`'s entries, and the head by a second command. Between the two a message may come, or both keys
//! go.

use std::time::Duration;

use ::redis::{Pipeline, Value};

use super::{
    super::reply::{accepted, array, bytes, integer, unexpected},
    reply::{is_about, links, token},
};
use crate::{
    BusPolled, Incarnation, LeaseToken, TierError,
    protocol::{Polled, Position},
};

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// What the answer repeats.
    pub(super) asked: LeaseToken,
    pub(super) after: Position,
    /// The most messages in the answer.
    pub(super) most: usize,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) polled: BusPolled,
    /// What is left of the head's life, if there is a head.
    pub(super) life: Option<Duration>,
}

impl Look {
    /// The commands: to wait for a message, if for any time, and to look.
    pub(super) fn commands(&self, [stream, head]: [&[u8]; 2], wait: Duration) -> Pipeline {
        let mut commands = Pipeline::with_capacity(9);
        if !wait.is_zero() {
            // Nought would be for ever.
            let wait = u64::try_from(wait.as_millis()).unwrap_or(1).max(1);
            let read = commands.cmd("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(wait);
            read.arg("STREAMS").arg(stream).arg(self.place());
        }
        commands.cmd("MULTI");
        commands.cmd("ECHO").arg(self.asked.as_bytes());
        commands.cmd("XTRIM").arg(stream).arg("MAXLEN").arg("~").arg(i64::MAX);
        commands.cmd("GET").arg(head);
        commands.cmd("PTTL").arg(head);
        commands.cmd("XINFO").arg("STREAM").arg(stream);
        let range = commands.cmd("XRANGE").arg(stream).arg(format!("({}", self.place())).arg("+");
        range.arg("COUNT").arg(self.count());
        commands.cmd("EXEC");
        commands
    }

    /// The place after which to look, as streams have it.
    pub(super) fn place(&self) -> String {
        let Position(millis, number) = self.after;
        format!("{millis}-{number}")
    }

    /// How many entries to ask for: one more than is wanted tells whether there are more.
    pub(super) fn count(&self) -> usize {
        self.most.saturating_add(1)
    }

    /// The transaction's answer among the answers to the commands, or why there is none.
    pub(super) fn outcome(answers: Vec<Value>) -> Value {
        let is_refusal = |answer: &Value| matches!(answer, Value::ServerError(_));
        let mut answers = answers;
        match answers.iter().position(is_refusal) {
            Some(refusal) => answers.swap_remove(refusal),
            None => answers.pop().unwrap_or(Value::Nil),
        }
    }

    /// Reads the transaction's answer. With an entry that is none of ours, which has no place in the chain and would
    /// be met again by every look, the log has no head: its reader opens it anew, behind that entry.
    pub(super) fn read(&self, answer: Value, run: Incarnation) -> Result<Seen, TierError> {
        let [asked, trimmed, head, life, stream, entries] = array(answer)?;
        is_about(asked, self.asked)?;
        integer(trimmed)?;
        let life = match integer(life)? {
            // It would live for ever, and is to be given an end.
            -1 => Some(Duration::ZERO),
            millis => u64::try_from(millis).ok().map(Duration::from_millis),
        };
        let Value::Array(entries) = accepted(entries)? else {
            return Err(unexpected("no entries"));
        };
        let has_more = entries.len() > self.most;
        let links = links(entries.into_iter().take(self.most));
        let head = head_at(head, &ending(stream)).filter(|_| links.is_some());
        let (has_more, links) = (has_more && links.is_some(), links.unwrap_or_default());
        let last = links.last().map_or(self.after, |link| link.at);
        Ok(Seen { polled: Polled { run: Some(run), head, links, has_more, last }, life })
    }
}

/// The head, if it belongs to a stream that ends there. A key that is no string is none.
fn head_at(head: Value, ending: &[u8]) -> Option<LeaseToken> {
    let head = bytes(head).ok()??;
    let (own, at) = head.split_at_checked(16)?;
    token(own).filter(|_| at == ending)
}

/// Where a stream ends, by what the server tells of it; one that is not there ends where it begins.
fn ending(stream: Value) -> Vec<u8> {
    let Value::Array(fields) = stream else { return b"0-0".to_vec() };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if bytes(name).is_ok_and(|name| name.as_deref() == Some(b"last-generated-id")) {
            return bytes(value).ok().flatten().unwrap_or_default().to_vec();
        }
    }
    b"0-0".to_vec()
}

#[cfg(test)]
mod tests {
    use super::{
        super::reply::tests::{entry, text},
        *,
    };

    const OWN: [&[u8]; 6] = [b"p", &[2; 16], b"t", &[3; 16], b"m", b"\0\r\n"];

    fn look(head: &[u8], ending: &[u8], entries: Vec<Value>) -> Result<BusPolled, TierError> {
        let look = Look { asked: LeaseToken::from_wire([1; 16]), after: Position(1, 2), most: 2 };
        let stream = vec![text(b"length"), Value::Int(1), text(b"last-generated-id"), text(ending)];
        let answer = vec![
            text(&[1; 16]),
            Value::Int(0),
            text(head),
            Value::Int(5),
            Value::Array(stream),
            Value::Array(entries),
        ];
        let seen = look.read(Value::Array(answer), Incarnation::new(7))?;
        assert_eq!(seen.life, Some(Duration::from_millis(5)));
        Ok(seen.polled)
    }

    fn head(at: &str) -> Vec<u8> {
        [[3; 16].as_slice(), at.as_bytes()].concat()
    }

    #[test]
    fn messages_are_read_in_their_chain() {
        let id = b"18446744073709551615-5";
        let polled = look(&head("9-0"), b"9-0", vec![entry(id, &OWN)]).unwrap();
        assert_eq!(polled.head, Some(LeaseToken::from_wire([3; 16])));
        let link = polled.links.first().unwrap();
        assert_eq!((link.at, link.message.as_ref()), (Position(u64::MAX, 5), b"\0\r\n".as_slice()));
        assert_eq!(link.previous, LeaseToken::from_wire([2; 16]));
        assert_eq!((link.token, polled.last), (LeaseToken::from_wire([3; 16]), link.at));
        assert!(!polled.has_more);
        assert_eq!(look(&head("1-2"), b"1-2", vec![]).unwrap().last, Position(1, 2));
        let three = vec![entry(b"2-0", &OWN), entry(b"3-0", &OWN), entry(b"4-0", &OWN)];
        let cut = look(&head("4-0"), b"4-0", three).unwrap();
        assert_eq!((cut.links.len(), cut.has_more, cut.last), (2, true, Position(3, 0)));
    }

    #[test]
    fn a_head_belongs_to_a_stream_that_ends_where_it_says() {
        for (kept, ending, is_head) in [
            (head("9-0"), "9-0", true),
            (head("0-0"), "0-0", true),
            (head("9-0"), "9-1", false),
            (head("9-0"), "0-0", false),
            (head(""), "9-0", false),
            (b"9-0".to_vec(), "9-0", false),
            (b"".to_vec(), "0-0", false),
        ] {
            let polled = look(&kept, ending.as_bytes(), vec![]).unwrap();
            assert_eq!(polled.head.is_some(), is_head, "{kept:?} at {ending}");
        }
        assert_eq!(ending(Value::Nil), b"0-0");
    }

    #[test]
    fn with_entries_of_strangers_a_log_has_no_head() {
        let spoilt = |at: usize, by: &'static [u8]| {
            let mut fields = OWN;
            fields[at] = by;
            entry(b"2-1", &fields)
        };
        for stranger in [
            entry(b"2-1", &[b"field", b"value"]),
            entry(b"2-1", &OWN[..4]),
            entry(b"2", &OWN),
            entry(b"a-b", &OWN),
            spoilt(0, b"q"),
            spoilt(2, b"m"),
            spoilt(4, b""),
            spoilt(1, b"short"),
            spoilt(3, b"a token that is longer"),
            Value::Nil,
            Value::Array(vec![text(b"2-1"), Value::Nil]),
        ] {
            let entries = vec![entry(b"2-0", &OWN), stranger.clone()];
            let polled = look(&head("2-1"), b"2-1", entries).unwrap();
            assert_eq!((polled.head, polled.links.len()), (None, 0), "{stranger:?}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let look = Look { asked: LeaseToken::from_wire([9; 16]), after: Position(1, 2), most: 2 };
        let nothing = || Value::Array(vec![]);
        let answer =
            vec![text(&[1; 16]), Value::Int(0), Value::Nil, Value::Int(-2), nothing(), nothing()];
        let read = look.read(Value::Array(answer), Incarnation::new(7));
        assert!(matches!(read, Err(TierError::Protocol(_))), "{read:?}");
        assert!(look.read(Value::Nil, Incarnation::new(7)).is_err());
    }
}
