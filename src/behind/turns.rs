//! One at a time for each key: who sets it, and who puts the cache right after it was written.
//!
//! Two writes of one key that overlap leave it without a value in the cache, for nobody knows which the
//! server executed last. So those of one process come one after the other here, in the order in which they
//! are queued. Stripes of locks would need no map, but one slow key would then hold up strangers.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::OwnedMutexGuard;

use crate::{Key, sync::Mutex};

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The keys whose turn somebody has or waits for.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashMap<Key, Lock>>,
}

/// A turn, or a place in the line for it.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: Key,
    lock: Lock,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn of `key`, first come, first served.
    pub(super) async fn take(&self, key: &Key) -> Turn<'_> {
        let lock = Arc::clone(self.taken.lock().entry(key.clone()).or_default());
        let mut turn = Turn { turns: self, key: key.clone(), lock, held: None };
        turn.held = Some(Arc::clone(&turn.lock).lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut taken = self.turns.taken.lock();
        // The map's and this one: nobody else is there, and nobody comes while the map is locked.
        if Arc::strong_count(&self.lock) == 2 {
            taken.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has its runtime")]
mod tests {
    use futures_util::{FutureExt, future::join};

    use super::*;

    #[tokio::test]
    async fn a_key_has_one_turn_and_leaves_nothing_behind() {
        let turns = Turns::default();
        let (a, b) = (Key::from("a"), Key::from("b"));
        let first = turns.take(&a).await;
        assert!(turns.take(&b).now_or_never().is_some(), "another key's turn is another one");
        assert!(turns.take(&a).now_or_never().is_none(), "and one who gives up leaves no trace");
        let (second, ()) = join(turns.take(&a), async { drop(first) }).await;
        assert!(turns.take(&a).now_or_never().is_none());
        drop(second);
        assert!(turns.taken.lock().is_empty());
    }
}
