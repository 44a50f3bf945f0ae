//! Dropping everything under a prefix: a walk over the keyspace in bounded steps.
//!
//! All steps go to one connection, for a cursor means nothing to another server: were the server
//! replaced between two steps, a walk that went on would miss keys and report success. Rejected:
//! `KEYS` and one script for all, which stop the server for everybody.

use std::sync::Arc;

use ::redis::{Cmd, Value, cmd};

use super::{connection::Connection, reply};
use crate::TierError;

/// Keys the server looks at in one step.
const STEP: usize = 500;

/// A walk over the keys that match a pattern.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) connection: Arc<Connection>,
    pattern: Vec<u8>,
    cursor: Option<Vec<u8>>,
}

impl Walk {
    /// A walk over the leases of the keys with `prefix`.
    pub(super) fn leases(connection: Arc<Connection>, prefix: &[u8]) -> Self {
        Self::over(connection, [b"{", escaped(prefix).as_slice(), b"*}:l"].concat())
    }

    /// A walk over the values of the keys with `prefix`.
    pub(super) fn values(connection: Arc<Connection>, prefix: &[u8]) -> Self {
        Self::over(connection, [escaped(prefix).as_slice(), b"*"].concat())
    }

    fn over(connection: Arc<Connection>, pattern: Vec<u8>) -> Self {
        Self { connection, pattern, cursor: Some(b"0".to_vec()) }
    }

    /// The next look at the keyspace, or `None` at the walk's end.
    pub(super) fn scan(&self) -> Option<Cmd> {
        let mut scan = cmd("SCAN");
        scan.arg(self.cursor.as_ref()?).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(STEP);
        Some(scan)
    }

    /// Takes the answer to [`scan`](Self::scan); returns what drops the keys in it, if there are any.
    pub(super) fn unlink(&mut self, answer: Value) -> Result<Option<Cmd>, TierError> {
        let [cursor, keys] = reply::array(answer)?;
        let cursor = reply::bytes(cursor)?.ok_or_else(|| reply::unexpected("no cursor"))?;
        self.cursor = (cursor.as_ref() != b"0").then(|| cursor.to_vec());
        let Value::Array(keys) = keys else { return Err(reply::unexpected("no keys")) };
        if keys.is_empty() {
            return Ok(None);
        }
        let mut unlink = cmd("UNLINK");
        for key in keys {
            let key = reply::bytes(key)?.ok_or_else(|| reply::unexpected("no key"))?;
            unlink.arg(key.as_ref());
        }
        Ok(Some(unlink))
    }
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
