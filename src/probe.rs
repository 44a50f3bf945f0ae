//! Looking without reading: is it there, are the tiers alive.

use std::sync::Arc;

use tiered_codecs::CodecFor;
use tiered_tiers::Found;

use crate::{
    Error, Key, TierHealth,
    freshness::{self, Verdict},
    read, replay,
    restarts::{Belief, believe},
    stack::Stack,
    versions::Slot,
};

/// Whether a fresh value of any type is cached.
pub(crate) async fn contains<C: CodecFor<()>>(
    stack: &Arc<Stack>,
    codec: &C,
    key: &Key,
) -> Result<bool, Error> {
    key.check()?;
    if !stack.is_enabled() {
        return Ok(false);
    }
    let local = stack.l1.as_deref().and_then(|tier| tier.get(key.local()));
    if let Some(entry) = local
        && freshness::judge(&entry.meta, stack.clock.now()) == Verdict::Fresh
    {
        return Ok(entry.value.is_some());
    }
    let Some(l2) = &stack.l2 else { return Ok(false) };
    stack.require_runtime()?;
    let (wire, mut budget) = (key.wire(&stack.namespace), l2.budget());
    read::settle(stack, l2, key, &wire, &mut budget).await.map_err(Error::Backend)?;
    for slot in [Slot::Main, Slot::Beside] {
        let found = l2.get(&slot.key(&wire), &mut budget).await.map_err(Error::Backend)?;
        if found.is_some_and(|found| is_fresh(stack, codec, key, &wire, &found)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what L2 has is a fresh value.
fn is_fresh<C: CodecFor<()>>(
    stack: &Stack,
    codec: &C,
    key: &Key,
    wire: &[u8],
    found: &Found,
) -> bool {
    let header = match codec.unpack(&found.bytes, wire, stack.max_entry_bytes) {
        Ok(unpacked) => unpacked.header,
        Err(refusal) => {
            stack.refused(key, refusal.label());
            return false;
        }
    };
    if believe(stack, found, &header.meta) != Belief::Full {
        return false;
    }
    let fresh = found.remaining.map(|left| freshness::ages(&header.meta, left).fresh);
    !header.negative && fresh.is_some_and(|fresh| !fresh.is_zero())
}

/// A round trip to L2.
pub(crate) async fn ping(stack: &Arc<Stack>) -> Result<(), Error> {
    let Some(l2) = &stack.l2 else { return Ok(()) };
    stack.require_runtime()?;
    replay::start(stack);
    l2.ping(&mut l2.budget()).await.map_err(Error::Backend)
}

/// The state of L2.
pub(crate) async fn l2_health(stack: &Arc<Stack>) -> Option<TierHealth> {
    let l2 = stack.l2.as_ref()?;
    replay::start(stack);
    let start = std::time::Instant::now();
    let down = l2.ping(&mut l2.budget()).await.err();
    Some(TierHealth { name: l2.name(), down, latency: start.elapsed(), entries: None })
}
