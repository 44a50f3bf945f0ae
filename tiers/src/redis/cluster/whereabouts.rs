//! Who has a key, for those who ask over connections of their own.

use std::sync::{Arc, atomic::Ordering};

use ::redis::Value;

use super::{
    super::{budget::Budget, endpoint::Address},
    Cluster, Stop,
    redirect::Redirect,
    slot::slot,
};
use crate::TierError;

impl Cluster {
    /// The node that has `key`, by the map.
    pub(in super::super) async fn node_of(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Address, TierError> {
        self.owner(slot(key), budget).await.map(|node| node.address.clone())
    }

    /// The node that has `key` instead, when the one at `failed` could not be reached, if there is one.
    pub(in super::super) async fn instead(
        &self,
        key: &[u8],
        failed: &Address,
        budget: &mut Budget,
    ) -> Option<Address> {
        let failed = Stop { node: self.node(failed).ok()?, asking: false };
        let next = self.elsewhere(slot(key), &failed, budget).await?;
        Some(next.node.address.clone())
    }

    /// Where an answer of the node at `asked` says that `key` is now; an error if it is nowhere for the moment,
    /// and `None` if it is an answer.
    pub(in super::super) fn moved_to(
        &self,
        key: &[u8],
        answer: &Value,
        asked: &Address,
    ) -> Option<Result<Address, TierError>> {
        Some(match Redirect::of(answer, asked)? {
            Redirect::Moved(address) => {
                self.moved(slot(key), &address).map(|node| Arc::clone(&node).address.clone())
            }
            // Half of a log there and half of it here is none.
            Redirect::Ask(_) => Err(TierError::Refused("ASK".into())),
            Redirect::Nowhere(code) => Err(TierError::Refused(code)),
            Redirect::NotNow(code) => {
                self.distrust_map();
                Err(TierError::Refused(code))
            }
        })
    }

    /// Has the map fetched again soon.
    pub(in super::super) fn distrust_map(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }
}
