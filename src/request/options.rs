//! What a cache and a call say of lifetimes, tiers and tags.

use std::time::Duration;

use crate::{
    CacheStrategy, Error,
    tags::TagNames,
    ttl::{self, Jitter},
};

/// The lifetimes that a cache gives its entries.
#[derive(Clone, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) fresh_for: Duration,
    pub(crate) stale_for: Duration,
    pub(crate) negative_for: Duration,
    pub(crate) jitter: Jitter,
}

/// What one call asks for beyond the cache's own settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) fresh_for: Option<Duration>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) negative_for: Option<Duration>,
    pub(crate) weight: Option<u64>,
    pub(crate) strategy: CacheStrategy,
    pub(crate) schema: u32,
    pub(crate) source_version: u64,
    pub(crate) skip_l1: bool,
    pub(crate) skip_l2: bool,
    pub(crate) tags: TagNames,
    /// A tag that cannot be one.
    pub(super) bad_tag: Option<Error>,
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.fresh_for.map_or(Ok(()), |given| ttl::check("fresh_for", given))?;
        self.stale_for.map_or(Ok(()), |given| ttl::check_longest("stale_for", given))?;
        self.negative_for.map_or(Ok(()), |given| ttl::check("negative_for", given))?;
        self.bad_tag.clone().map_or(Ok(()), Err)?;
        self.tags.check()
    }
}
