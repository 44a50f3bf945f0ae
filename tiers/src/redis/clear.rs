//! Dropping everything under a prefix: a walk over the keyspace in bounded steps.
//!
//! All steps go to one server process, for a cursor means nothing to another: were the server replaced
//! between two steps, a walk that went on would miss keys and report success. Over a connection of our own
//! that is the connection itself; over the application's, which may have been mended between two steps,
//! each step asks who answers. Rejected: `KEYS` and one script for all, which stop the server for everybody.

use std::sync::Arc;

use ::redis::{Cmd, Pipeline, Value, cmd};
use bytes::Bytes;

use super::{
    budget::Budget,
    connection::{Connection, Request},
    exchange::settled,
    handed_in::{HandedIn, LeadsTo, info},
    options::Options,
    pool::Pool,
    reply,
    script::is_holds_key,
};
use crate::{Progress, TierError};

/// Keys the server looks at in one step.
const STEP: usize = 500;

/// A walk over the keys that match a pattern.
#[derive(Debug)]
pub(super) struct Walk {
    pattern: Vec<u8>,
    cursor: Option<Vec<u8>>,
}

impl Walk {
    /// A walk over the leases of the keys with `prefix`.
    pub(super) fn leases(prefix: &[u8]) -> Self {
        Self::over([b"{", escaped(prefix).as_slice(), b"*}:l"].concat())
    }

    /// A walk over the values of the keys with `prefix`.
    pub(super) fn values(prefix: &[u8]) -> Self {
        Self::over([escaped(prefix).as_slice(), b"*"].concat())
    }

    fn over(pattern: Vec<u8>) -> Self {
        Self { pattern, cursor: Some(b"0".to_vec()) }
    }

    /// The next look at the keyspace, or `None` at the walk's end.
    pub(super) fn scan(&self) -> Option<Cmd> {
        let mut scan = cmd("SCAN");
        scan.arg(self.cursor.as_ref()?).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(STEP);
        Some(scan)
    }

    /// Takes the answer to [`scan`](Self::scan); returns the keys in it that are to go. Holds stay: their writers are
    /// still writing.
    pub(super) fn keys(&mut self, answer: Value) -> Result<Vec<Bytes>, TierError> {
        let [cursor, keys] = reply::array(answer)?;
        let cursor = reply::bytes(cursor)?.ok_or_else(|| reply::unexpected("no cursor"))?;
        self.cursor = (cursor.as_ref() != b"0").then(|| cursor.to_vec());
        let Value::Array(keys) = keys else { return Err(reply::unexpected("no keys")) };
        let key = |key| reply::bytes(key)?.ok_or_else(|| reply::unexpected("no key"));
        let keys: Result<Vec<Bytes>, _> = keys.into_iter().map(key).collect();
        keys.map(|keys| keys.into_iter().filter(|key| !is_holds_key(key)).collect())
    }
}

/// The one process that a walk asks.
pub(super) enum Line<'a> {
    /// Over a connection of ours.
    Ours(&'a Pool, Arc<Connection>),
    /// Over the application's, to the process of this run.
    HandedIn(&'a HandedIn, String),
}

impl<'a> Line<'a> {
    /// Over one of the pool's connections.
    pub(super) async fn ours(pool: &'a Pool, budget: &mut Budget) -> Result<Self, TierError> {
        Ok(Self::Ours(pool, pool.connection(budget).await?))
    }

    /// Over the application's, if it leads to one server: through a client of a cluster nobody knows
    /// which node a step was put to.
    pub(super) async fn handed_in(
        connection: &'a HandedIn,
        budget: &mut Budget,
    ) -> Result<Self, TierError> {
        match connection.explore(budget).await {
            LeadsTo::Server => {}
            LeadsTo::Cluster => {
                return Err(TierError::Unsupported(
                    "clearing a cluster over a connection that was handed in: use Redis::cluster"
                        .into(),
                ));
            }
            LeadsTo::Unknown => {
                return Err(TierError::Unreachable(
                    "the server does not say whether it is a cluster's".into(),
                ));
            }
        }
        let answer = connection.ask(&Request::Single(who()), budget).await?;
        let run = run_id(&reply::accepted(answer)?)?.to_owned();
        Ok(Self::HandedIn(connection, run))
    }

    /// One step.
    pub(super) async fn ask(&self, command: Cmd, budget: &mut Budget) -> Result<Value, TierError> {
        match self {
            Self::Ours(pool, connection) => {
                let request = Request::Single(command);
                let answer = settled(pool.ask_on(connection, &request, budget).await)?;
                reply::accepted(answer.value)
            }
            Self::HandedIn(connection, run) => {
                let mut both = Pipeline::with_capacity(2);
                both.add_command(who()).add_command(command);
                let answer = connection.ask(&Request::Several(both), budget).await?;
                let [who, answer] = reply::array(answer)?;
                if run_id(&who)? != run {
                    return Err(TierError::Unreachable("the server was replaced".into()));
                }
                reply::accepted(answer)
            }
        }
    }
}

fn who() -> Cmd {
    let mut question = cmd("INFO");
    question.arg("server");
    question
}

fn run_id(answer: &Value) -> Result<&str, TierError> {
    info(answer, "run_id").ok_or_else(|| reply::unexpected("no run id"))
}

/// Drops everything under a prefix that one server holds. Each round trip has a budget of its own.
pub(super) async fn one_server(
    line: &Line<'_>,
    options: &Options,
    prefix: &[u8],
    progress: Progress<'_>,
) -> Result<(), TierError> {
    let silent: Progress<'_> = &|_| {};
    for (mut walk, progress) in [(Walk::leases(prefix), silent), (Walk::values(prefix), progress)] {
        while let Some(scan) = walk.scan() {
            let keys = walk.keys(line.ask(scan, &mut Budget::new(options)).await?)?;
            if keys.is_empty() {
                continue;
            }
            let mut unlink = cmd("UNLINK");
            for key in keys {
                unlink.arg(key.as_ref());
            }
            let dropped = line.ask(unlink, &mut Budget::new(options)).await?;
            progress(u64::try_from(reply::integer(dropped)?).unwrap_or_default());
        }
    }
    Ok(())
}

/// The prefix as a pattern that matches nothing but itself.
fn escaped(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len());
    for byte in prefix {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_only_itself() {
        assert_eq!(escaped(b"shop:"), b"shop:");
        assert_eq!(escaped(b"a*b?c[d]e\\"), b"a\\*b\\?c\\[d\\]e\\\\");
    }
}
