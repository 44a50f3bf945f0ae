//! Commands and answers: what is said to a server, in whose words it comes back.
//!
//! Every command carries a number of its connection, which the server repeats: an answer that belongs to
//! another command ends the connection instead of becoming another key's value. Only that a key is not
//! there (`EN`) is said without the number; such an answer in a wrong place is a miss, and the next one
//! ends the connection.

use std::time::Duration;

use bytes::Bytes;
use memcache::exp::{
    AsyncMetaConnection, DeleteOptions, Error, GetOptions, MetaCommand, MetaResponse, ReturnCode,
    SetMode, SetOptions, build_delete, build_get, build_noop, build_set, parse_meta_result,
};

use super::{VALUE, key::Spelling};
use crate::{Claim, Found, LeaseToken, TierError};

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Command(Result<MetaCommand, &'static str>);

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
    fn new(command: memcache::exp::Result<MetaCommand>) -> Self {
        Self(command.map_err(|_| "the client refused a command"))
    }

    /// Reads a value.
    pub(super) fn look(key: &Spelling) -> Self {
        Self::new(build_get(&key.value, &look()))
    }

    /// Reads a value and its number; if there is none, makes a stub of it for so many seconds.
    pub(super) fn look_or_stub(key: &Spelling, seconds: u32) -> Self {
        let mut options = look();
        options.return_cas = true;
        options.vivify_ttl = Some(seconds);
        Self::new(build_get(&key.value, &options))
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
        Self::new(build_set(&key.lease, token.as_bytes().as_slice(), &options))
    }

    /// Reads the lease's item, and its number.
    pub(super) fn look_at_lease(key: &Spelling) -> Self {
        let mut options = GetOptions::default();
        options.return_cas = true;
        Self::new(build_get(&key.lease, &options))
    }

    /// Gives the value another number. It stays, marked stale, which means nothing here.
    pub(super) fn renumber(key: &Spelling) -> Self {
        let mut options = DeleteOptions::default();
        options.invalidate = true;
        Self::new(build_delete(&key.value, &options))
    }

    /// Stores a value if its item still has the number `cas`.
    pub(super) fn fill(key: &Spelling, cas: u64, bytes: Bytes, seconds: u32) -> Self {
        let mut options = SetOptions::default();
        options.ttl = Some(seconds);
        options.client_flags = Some(VALUE);
        options.compare_cas = Some(cas);
        Self::new(build_set(&key.value, bytes, &options))
    }

    /// Gives the lease up if its item still has the number `cas`.
    pub(super) fn release(key: &Spelling, cas: u64) -> Self {
        let mut options = DeleteOptions::default();
        options.compare_cas = Some(cas);
        Self::new(build_delete(&key.lease, &options))
    }

    pub(super) fn delete(key: &Spelling) -> Self {
        Self::new(build_delete(&key.value, &DeleteOptions::default()))
    }

    pub(super) fn delete_lease(key: &Spelling) -> Self {
        Self::new(build_delete(&key.lease, &DeleteOptions::default()))
    }

    pub(super) fn noop() -> Self {
        Self(Ok(build_noop()))
    }
}

fn look() -> GetOptions {
    let mut options = GetOptions::default();
    options.return_client_flags = true;
    options.return_ttl = true;
    options
}

/// Sends commands in one piece and reads their answers; `asked` counts the commands of the connection.
/// After an error, and when its future is dropped, the connection is of no more use.
pub(super) async fn exchange(
    connection: &mut AsyncMetaConnection,
    asked: &mut u64,
    commands: &[Command],
) -> Result<Vec<Answer>, TierError> {
    let first = *asked;
    let mut numbered = Vec::with_capacity(commands.len());
    for command in commands {
        let command = command.0.clone().map_err(|words| TierError::Protocol(words.into()))?;
        numbered.push(command.flag(format!("O{asked}")));
        *asked += 1;
    }
    let responses = connection.execute_batch(&numbered).await.map_err(|error| failed(&error))?;
    responses.into_iter().zip(first..).map(|(response, number)| answer(response, number)).collect()
}

fn answer(response: MetaResponse, number: u64) -> Result<Answer, TierError> {
    let result = parse_meta_result(response).map_err(|error| failed(&error))?;
    let echoed = result.opaque.as_deref();
    if echoed.is_some_and(|echoed| echoed != number.to_string().as_bytes()) {
        return Err(TierError::Protocol("an answer to another command".into()));
    }
    // Only what says nothing of an item comes without the number.
    if echoed.is_none() && !matches!(result.rc, ReturnCode::En | ReturnCode::Mn) {
        return Err(TierError::Protocol("an answer without its number".into()));
    }
    Ok(Answer {
        code: result.rc,
        cas: result.cas,
        value: result.value.map(Bytes::from),
        client_flags: result.client_flags,
        ttl: result.ttl,
    })
}

impl Answer {
    /// The value, if it is one.
    pub(super) fn found(self) -> Option<Found> {
        let bytes = self.value.filter(|_| self.client_flags == Some(VALUE))?;
        // The server counts seconds of a clock that may be one behind.
        let remaining = u64::try_from(self.ttl?).ok();
        let remaining = remaining.map(|seconds| Duration::from_secs(seconds.saturating_sub(1)));
        Some(Found { bytes, remaining })
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
