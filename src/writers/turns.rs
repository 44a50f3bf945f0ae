//! Turns: of the writes of one key that must compare before they store, one at a time in this process.
//!
//! Each takes the key's lease by force, so without turns they would take it from each other. Between processes that is
//! rare, and they try again.

use crate::Key;

const STRIPES: usize = 64;

/// Whose turn it is, by the key's hash: keys of one stripe wait for each other.
#[derive(Debug)]
pub(crate) struct Turns(Vec<tokio::sync::Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl Turns {
    pub(crate) fn of(&self, key: &Key) -> &tokio::sync::Mutex<()> {
        // The remainder is below the length.
        &self.0[(key.fingerprint() % STRIPES as u64) as usize]
    }
}
