//! What a configuration must be, checked before anything is built: each message names the value and the way out.

use std::time::Duration;

use tiered_codecs::{CodecFor, NoCodec};
use tiered_tiers::RemoteTier;

use super::Builder;
use crate::{
    Error,
    ttl::{self},
};

impl<C> Builder<C> {
    pub(super) fn check(&self) -> Result<(), Error>
    where
        C: CodecFor<()>,
    {
        ttl::check("fresh_for", self.lifetimes.fresh_for)?;
        ttl::check_longest("stale_for", self.lifetimes.stale_for)?;
        ttl::check("negative_for", self.lifetimes.negative_for)?;
        ttl::check("local_for", self.local_for)?;
        ttl::check_longest("last_resort_for", self.last_resort_for)?;
        self.lifetimes.jitter.check()?;
        let refuse = |message: String| Err(Error::config(message));
        if self.budget.is_zero() || self.budget > Duration::from_secs(60) {
            return refuse(format!(
                "budget is {:?}: a read waits for L2 at most that long; give 1 ms to 60 s, e.g. \
                 250 ms",
                self.budget
            ));
        }
        if self.lease_for < Duration::from_millis(10) || self.lease_for > Duration::from_secs(3600)
        {
            return refuse(format!(
                "lease_for is {:?}: give a load's longest usual time, 10 ms to an hour, e.g. 5 s",
                self.lease_for
            ));
        }
        if self.hold_for < Duration::from_millis(100) || self.hold_for > Duration::from_secs(3600) {
            return refuse(format!(
                "hold_for is {:?}: give the longest time that a commit may take, 100 ms to an hour, e.g. 10 s",
                self.hold_for
            ));
        }
        let bounds = Duration::from_millis(500)..=Duration::from_secs(3600);
        if !bounds.contains(&self.max_staleness) {
            return refuse(format!(
                "max_staleness is {:?}: the bus is asked twice in that time; give 500 ms to an hour, e.g. 2 s",
                self.max_staleness
            ));
        }
        if let Some(wait_for) = self.wait_for.filter(|time| *time > Duration::from_secs(3600)) {
            return refuse(format!(
                "wait_for is {wait_for:?}: a read waits so long for another process' load; give at most an hour, \
                 e.g. 5 s"
            ));
        }
        if self.load_timeout.is_some_and(|time| time.is_zero()) {
            return refuse(
                "load_timeout is 0: no load could end; leave it out for no limit".into(),
            );
        }
        if self.max_entry_bytes < 1024 || self.max_entry_bytes > 512 << 20 {
            return refuse(format!(
                "max_entry_bytes is {}: give 1 KiB to 512 MiB, e.g. 8 << 20",
                self.max_entry_bytes
            ));
        }
        if self.max_pending == 0 {
            return refuse("max_pending is 0: give at least 1, e.g. 65_536".into());
        }
        if self.namespace.is_empty() || self.namespace.len() > 256 {
            return refuse(format!(
                "namespace has {} bytes: give 1 to 256, e.g. the service's name",
                self.namespace.len()
            ));
        }
        if self.l2.is_some() && std::any::TypeId::of::<C>() == std::any::TypeId::of::<NoCodec>() {
            return refuse("a cache with an L2 needs a codec: call .codec(Postcard), say".into());
        }
        self.codec.check().map_err(Error::config)?;
        self.l1.as_ref().map_or(Ok(()), |tier| tier.check())?;
        self.l2.as_ref().map_or(Ok(()), |tier| tier.check())?;
        self.bus.as_ref().map_or(Ok(()), |bus| bus.check())?;
        Ok(())
    }
}
