//! Commands and answers: what is said to a server, in whose words it comes back.
//!
//! Every command carries a number of its connection, which the server repeats: an answer that belongs to
//! another command ends the connection instead of becoming another key's value, or the acknowledgement of a
//! delete. Only that a key that was read is not there (`EN`) is said without the number; such an answer in a
//! wrong place is a miss, and the next one ends the connection.

use std::time::Duration;

use bytes::Bytes;
use memcache::exp::{
    DeleteOptions, Error, GetOptions, MetaCommand, MetaResponse, ReturnCode, SetMode, SetOptions,
    build_delete, build_get, build_noop, build_set, parse_meta_result,
};

use super::{VALUE, holds::PLACES, key::Spelling};
use crate::{Claim, Found, LeaseToken, TierError, remote::HOLD_MARK};

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Command {
    words: Result<MetaCommand, &'static str>,
    kind: Kind,
}

/// What a command does, which decides what may answer it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Change,
    Noop,
}

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: ReturnCode,
    /// The item's compare-and-swap number, where it was asked for.
    pub(super) cas: Option<u64>,
    pub(super) value: Option<Bytes>,
    client_flags: Option<u32>,
    /// The remaining seconds; negative for an item without an expiry.
    ttl: Option<i64>,
}

impl Command {
    fn new(kind: Kind, command: memcache::exp::Result<MetaCommand>) -> Self {
        Self { words: command.map_err(|_| "the client refused a command"), kind }
    }

    /// Reads a value.
    pub(super) fn look(key: &Spelling) -> Self {
        Self::new(Kind::Read, build_get(&key.value, &look()))
    }

    /// Reads a value and its number; if there is none, makes a stub of it for so many seconds.
    pub(super) fn look_or_stub(key: &Spelling, seconds: u32) -> Self {
        let mut options = look();
        options.return_cas = true;
        options.vivify_ttl = Some(seconds);
        Self::new(Kind::Read, build_get(&key.value, &options))
    }

    /// Reads a value's number alone; if there is no value, makes a stub of it for so many seconds.
    pub(super) fn number_or_stub(key: &Spelling, seconds: u32) -> Self {
        let mut options = GetOptions::default();
        options.value = false;
        options.return_client_flags = true;
        options.return_cas = true;
        options.vivify_ttl = Some(seconds);
        Self::new(Kind::Read, build_get(&key.value, &options))
    }

    /// Takes the lease's item.
    pub(super) fn claim(key: &Spelling, token: LeaseToken, seconds: u32, claim: Claim) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.return_cas = true;
        options.mode = match claim {
            Claim::IfFree => SetMode::Add,
            Claim::ByForce => SetMode::Set,
        };
        Self::new(Kind::Change, build_set(&key.lease, token.as_bytes().as_slice(), &options))
    }

    /// Reads the lease's item, and its number.
    pub(super) fn look_at_lease(key: &Spelling) -> Self {
        let mut options = GetOptions::default();
        options.return_cas = true;
        Self::new(Kind::Read, build_get(&key.lease, &options))
    }

    /// Gives the value another number. It stays, marked stale, which means nothing here.
    pub(super) fn renumber(key: &Spelling) -> Self {
        let mut options = DeleteOptions::default();
        options.invalidate = true;
        Self::new(Kind::Change, build_delete(&key.value, &options))
    }

    /// Stores a value if its item still has the number `cas`.
    pub(super) fn fill(key: &Spelling, cas: u64, bytes: Bytes, seconds: u32) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.client_flags = Some(VALUE);
        options.compare_cas = Some(cas);
        Self::new(Kind::Change, build_set(&key.value, bytes, &options))
    }

    /// Gives the lease up if its item still has the number `cas`.
    pub(super) fn release(key: &Spelling, cas: u64) -> Self {
        let mut options = DeleteOptions::default();
        options.compare_cas = Some(cas);
        Self::new(Kind::Change, build_delete(&key.lease, &options))
    }

    pub(super) fn delete(key: &Spelling) -> Self {
        Self::new(Kind::Change, build_delete(&key.value, &DeleteOptions::default()))
    }

    pub(super) fn delete_lease(key: &Spelling) -> Self {
        Self::new(Kind::Change, build_delete(&key.lease, &DeleteOptions::default()))
    }

    /// Drops lease and value; the lease first, so that a fill that finds it standing has read the number
    /// of a value that this takes away.
    pub(super) fn drop_both(key: &Spelling) -> [Self; 2] {
        [Self::delete_lease(key), Self::delete(key)]
    }

    /// Drops lease and value, makes a stub for so many seconds, and looks for holds.
    pub(super) fn empty(key: &Spelling, stub: u32) -> Vec<Self> {
        let emptied = [Self::delete_lease(key), Self::delete(key), Self::look_or_stub(key, stub)];
        emptied.into_iter().chain(Self::look_for_holds(key)).collect()
    }

    /// Stores a token in the lease's item for so many seconds, if that still has the number `cas`: a lease lives longer,
    /// or takes the place of a mark.
    pub(super) fn renew(key: &Spelling, token: LeaseToken, seconds: u32, cas: u64) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.return_cas = true;
        options.compare_cas = Some(cas);
        Self::new(Kind::Change, build_set(&key.lease, token.as_bytes().as_slice(), &options))
    }

    /// Whether there is something in each of the places for holds.
    pub(super) fn look_for_holds(key: &Spelling) -> impl Iterator<Item = Self> {
        let mut options = GetOptions::default();
        options.value = false;
        PLACES.map(|place| Self::new(Kind::Read, build_get(key.hold(place), &options))).into_iter()
    }

    /// Writes a hold's mark where the lease is, whoever has that; if a number is told, only while it has that.
    pub(super) fn mark(key: &Spelling, token: LeaseToken, seconds: u32, cas: Option<u64>) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.compare_cas = cas;
        Self::new(Kind::Change, build_set(&key.lease, token.hold_mark().as_slice(), &options))
    }

    /// Reads what is in a place for a hold, and its number.
    pub(super) fn look_at_hold(key: &Spelling, place: char) -> Self {
        let mut options = GetOptions::default();
        options.return_cas = true;
        Self::new(Kind::Read, build_get(key.hold(place), &options))
    }

    /// Takes a place for a hold, if it is free.
    pub(super) fn take_place(key: &Spelling, place: char, token: LeaseToken, seconds: u32) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.mode = SetMode::Add;
        Self::new(Kind::Change, build_set(key.hold(place), token.as_bytes().as_slice(), &options))
    }

    /// Writes a token into its place anew, for longer, if that still has the number `cas`.
    pub(super) fn keep_place(
        key: &Spelling,
        place: char,
        token: LeaseToken,
        seconds: u32,
        cas: u64,
    ) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.compare_cas = Some(cas);
        Self::new(Kind::Change, build_set(key.hold(place), token.as_bytes().as_slice(), &options))
    }

    /// Gives a place up if it still has the number `cas`.
    pub(super) fn leave_place(key: &Spelling, place: char, cas: u64) -> Self {
        let mut options = DeleteOptions::default();
        options.compare_cas = Some(cas);
        Self::new(Kind::Change, build_delete(key.hold(place), &options))
    }

    pub(super) fn noop() -> Self {
        Self::new(Kind::Noop, Ok(build_noop()))
    }

    /// Adds it to a piece, under its number.
    pub(super) fn spell(&self, number: u64, piece: &mut Vec<u8>) -> Result<(), TierError> {
        let words = self.words.clone().map_err(|words| TierError::Protocol(words.into()))?;
        words.flag(format!("O{number}")).encode_into(piece).map_err(|error| failed(&error))
    }

    /// Its answer, if `response` is one to it and to nothing else.
    pub(super) fn answer(
        &self,
        response: MetaResponse,
        value: Option<Vec<u8>>,
        number: u64,
    ) -> Result<Answer, TierError> {
        use ReturnCode::{En, Ex, Hd, Mn, Nf, Ns, Va};
        let result = parse_meta_result(response).map_err(|error| failed(&error))?;
        let is_numbered = match (self.kind, result.rc) {
            (Kind::Read, En) | (Kind::Noop, Mn) => false,
            (Kind::Read, Hd | Va) | (Kind::Change, Hd | Ns | Ex | Nf) => true,
            _ => return Err(TierError::Protocol("an answer to another command".into())),
        };
        match result.opaque.as_deref() {
            None if is_numbered => {
                return Err(TierError::Protocol("an answer without its number".into()));
            }
            Some(echoed) if echoed != number.to_string().as_bytes() => {
                return Err(TierError::Protocol("an answer to another command".into()));
            }
            _ => {}
        }
        Ok(Answer {
            code: result.rc,
            cas: result.cas,
            value: value.map(Bytes::from),
            client_flags: result.client_flags,
            ttl: result.ttl,
        })
    }
}

fn look() -> GetOptions {
    let mut options = GetOptions::default();
    options.return_client_flags = true;
    options.return_ttl = true;
    options
}

impl Answer {
    /// Whether it was done.
    pub(super) fn is_done(&self) -> bool {
        self.code == ReturnCode::Hd
    }

    /// Whether what was looked at is there.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.code, ReturnCode::Hd | ReturnCode::Va)
    }

    /// Whether what was looked at is this token.
    pub(super) fn is_token(&self, token: LeaseToken) -> bool {
        self.value.as_deref() == Some(token.as_bytes().as_slice())
    }

    /// Whether what was looked at is this hold's mark.
    pub(super) fn is_mark(&self, token: LeaseToken) -> bool {
        self.value.as_deref() == Some(token.hold_mark().as_slice())
    }

    /// Whether what was looked at is the mark of some hold.
    pub(super) fn is_some_mark(&self) -> bool {
        self.value.as_ref().is_some_and(|value| value.len() == HOLD_MARK)
    }

    /// Whether the item is a value, and no stub.
    pub(super) fn is_value(&self) -> bool {
        self.client_flags == Some(VALUE)
    }

    /// The value, if it is one.
    pub(super) fn found(self) -> Option<Found> {
        let bytes = self.value.filter(|_| self.client_flags == Some(VALUE))?;
        // The server counts seconds of a clock that may be one behind.
        let remaining = u64::try_from(self.ttl?).ok();
        let remaining = remaining.map(|seconds| Duration::from_secs(seconds.saturating_sub(1)));
        Some(Found { bytes, remaining, incarnation: None })
    }
}

/// The server left something out.
pub(super) fn missing() -> TierError {
    TierError::Protocol("an answer is missing".into())
}

/// The client's error, without the key that it may quote.
pub(super) fn failed(error: &Error) -> TierError {
    match error {
        Error::Io(error) => TierError::Unreachable(error.kind().to_string()),
        Error::Server(words) => TierError::Refused(words.clone()),
        Error::Rejected(_) => TierError::Refused("the command".into()),
        _ => TierError::Protocol("not the meta protocol".into()),
    }
}
