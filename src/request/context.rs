//! What a load says of the entry it makes.

use std::{sync::Arc, time::Duration};

use crate::{
    sync::Mutex,
    tags::{Tag, TagNames},
    ttl::{self},
};

/// What a loader can say of the entry it makes. Cloneable, so that it can be moved into the load.
#[derive(Clone, Debug, Default)]
pub struct LoadContext {
    told: Arc<Mutex<Told>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) fresh_for: Option<Duration>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) weight: Option<u64>,
    pub(crate) tags: TagNames,
    /// A tag that cannot be one: the entry is not kept.
    pub(crate) has_bad_tag: bool,
    pub(crate) source_version: Option<u64>,
}

impl LoadContext {
    /// How long this entry is fresh, present or absent; held between 1 ms and ten years.
    pub fn fresh_for(&self, time: Duration) {
        self.told.lock().fresh_for = Some(time.clamp(ttl::SHORTEST, ttl::LONGEST));
    }

    /// How long after that it may stand in for a failing load; at most ten years.
    pub fn stale_for(&self, time: Duration) {
        self.told.lock().stale_for = Some(time.min(ttl::LONGEST));
    }

    /// What the entry depends on, besides the tags that the call names, where only the value tells: see
    /// [`Tiered::invalidate_tag`](crate::Tiered::invalidate_tag). Name beforehand what is known beforehand
    /// ([`Request::tags`](crate::Request::tags)): an entry whose load reveals tags is not kept if any tag of the
    /// namespace was invalidated during the load. Nor is what the first such load of a process brings kept in L2, for
    /// loads begin to watch for that only then. A tag has 1 to 255 bytes, and a load reveals at most 64; an entry whose
    /// load reveals others is not kept.
    pub fn tags<S: AsRef<str>>(&self, tags: impl IntoIterator<Item = S>) {
        let mut told = self.told.lock();
        for tag in tags {
            match Tag::new(tag.as_ref()) {
                Ok(tag) => told.tags.push(tag),
                Err(_) => told.has_bad_tag = true,
            }
        }
        told.has_bad_tag |= told.tags.check().is_err();
    }

    /// What the entry weighs in an L1 that is bounded by weight.
    pub fn weight(&self, weight: u64) {
        self.told.lock().weight = Some(weight);
    }

    /// The version of the value in the source; see [`Request::source_version`](crate::Request::source_version). What
    /// is loaded is stored whatever its version: writes are compared with it.
    pub fn source_version(&self, version: u64) {
        self.told.lock().source_version = Some(version);
    }

    pub(crate) fn told(&self) -> Told {
        self.told.lock().clone()
    }
}
