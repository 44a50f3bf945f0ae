//! A value on its way into the tiers: with its lifetimes, as L1 keeps it and as L2 does.

use std::{
    any::TypeId,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::{CodecFor, EncodeError, envelope::Meta};
use tiered_tiers::{LocalEntry, LocalMeta, Value};

use crate::{
    Outcome,
    read::{self, Keep},
    request::{Lifetimes, Options, Told},
    stack::{Landed, Stack},
    tags::{Marks, Stamps},
    ttl,
};

/// A loaded or a set value with its lifetimes.
pub(crate) struct Entry<T> {
    value: Option<Arc<T>>,
    fresh_for: Duration,
    stale_for: Duration,
    weight: Option<u64>,
    source_version: u64,
    now: Instant,
}

impl<T: Send + Sync + 'static> Entry<T> {
    pub(crate) fn new(stack: &Stack, options: &Options, told: Told, value: Option<Arc<T>>) -> Self {
        let Lifetimes { fresh_for, stale_for, negative_for, jitter } = &stack.lifetimes;
        let (kept, stale_for) = match value {
            Some(_) => (
                told.fresh_for.or(options.fresh_for).unwrap_or(*fresh_for),
                told.stale_for.or(options.stale_for).unwrap_or(*stale_for),
            ),
            // An absence is not worth serving late.
            None => {
                (told.fresh_for.or(options.negative_for).unwrap_or(*negative_for), Duration::ZERO)
            }
        };
        let now = stack.clock.now();
        let weight = told.weight.or(options.weight);
        let source_version = told.source_version.unwrap_or(options.source_version);
        Self { value, fresh_for: jitter.apply(kept), stale_for, weight, source_version, now }
    }

    /// Lets it begin at `now`.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.now = now;
    }

    /// The same, to be gone at a moment at the latest.
    pub(crate) fn capped(&self, moment: Instant) -> Self {
        let left = moment.saturating_duration_since(self.now);
        let fresh_for = self.fresh_for.min(left);
        let stale_for = self.stale_for.min(left - fresh_for);
        Self { value: self.value.clone(), fresh_for, stale_for, ..*self }
    }

    /// How long L2 keeps it.
    pub(crate) fn life(&self) -> Duration {
        (self.fresh_for + self.stale_for).max(ttl::SHORTEST)
    }

    pub(crate) fn landed(&self) -> Landed {
        Landed {
            value: self.erased(),
            outcome: Outcome::Load,
            born: self.now,
            fresh_until: self.now + self.fresh_for,
            usable_until: self.now + self.life(),
            seen: self.now,
            marks: None,
        }
    }

    /// Whether its weight is not told, and must come from its encoded form.
    pub(crate) fn needs_weighing(&self) -> bool {
        self.weight.is_none()
    }

    /// The entry for L1, with its weight. `begun` is when its load began, and `generation` that of the bus' view then: an
    /// invalidation elsewhere may have come since.
    pub(crate) fn local(
        &self,
        stack: &Stack,
        options: &Options,
        (begun, generation): (Instant, u64),
        marks: Option<Marks>,
        packed: Option<&Bytes>,
    ) -> Keep {
        let meta = LocalMeta {
            born: self.now,
            fresh_until: self.now + self.fresh_for,
            stale_until: (self.now + self.life()).min(read::kept_until(stack, begun)),
            proven_until: read::proven_until(stack, begun),
            generation,
            type_id: TypeId::of::<T>(),
            schema: options.schema,
            source_version: self.source_version,
        };
        let weight = self.weight.unwrap_or_else(|| match packed {
            Some(bytes) => bytes.len() as u64,
            // It cannot be weighed, and a bound of weight must hold: heavier than any.
            None if stack.l2.is_some() && stack.is_l1_weighted() => u64::MAX,
            None => size_of::<T>() as u64,
        });
        (LocalEntry { value: self.erased(), meta, marks }, weight)
    }

    /// The entry for L2, stamped with a run of the server.
    ///
    /// # Errors
    /// [`EncodeError`] for a value that its codec refuses or that is larger than the cache allows.
    pub(crate) fn pack<C: CodecFor<T>>(
        &self,
        stack: &Stack,
        codec: &C,
        options: &Options,
        stamps: &Stamps,
        wire: &[u8],
    ) -> Result<Bytes, EncodeError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let meta = Meta {
            schema: options.schema,
            fresh_ms: millis(self.fresh_for),
            stale_ms: millis(self.stale_for),
            incarnation: stamps.run,
            source_version: self.source_version,
            ..Meta::default()
        };
        stack.tell_of_untraced::<T>(codec.shape());
        // A type's own Serialize may panic; that is no more than a value that cannot be encoded.
        let pack = AssertUnwindSafe(|| {
            codec.pack_tagged(&meta, &stamps.encode(), wire, self.value.as_deref())
        });
        let bytes = std::panic::catch_unwind(pack)
            .unwrap_or_else(|_| Err(EncodeError("its Serialize panicked".into())))?;
        if bytes.len() > stack.max_entry_bytes {
            return Err(EncodeError(format!(
                "it takes {} bytes, and the cache's max_entry_bytes is {}",
                bytes.len(),
                stack.max_entry_bytes
            )));
        }
        Ok(Bytes::from(bytes))
    }

    fn erased(&self) -> Value {
        self.value.clone().map(|value| value as _)
    }
}
