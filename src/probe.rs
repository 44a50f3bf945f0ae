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
    tags::Stamps,
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
    let proof = stack.proof();
    let local = stack.l1.as_deref().and_then(|tier| tier.get(key.local()));
    if let Some(entry) = local
        && stack.judge(&entry.meta, proof, stack.clock.now()) == Verdict::Fresh
        && stack.tags.stand(entry.marks.as_ref())
    {
        return Ok(entry.value.is_some());
    }
    let Some(l2) = &stack.l2 else { return Ok(false) };
    stack.require_runtime()?;
    let (wire, mut budget) = (key.wire(&stack.namespace), l2.budget());
    read::settle(stack, key, &mut budget).await.map_err(Error::Backend)?;
    for slot in [Slot::Main, Slot::Beside] {
        let found = l2.get(&slot.key(&wire), &mut budget).await.map_err(Error::Backend)?;
        if let Some(stamps) = found.and_then(|found| fresh(stack, codec, key, &wire, &found))
            && stack.verify(&stamps, &mut budget).await.map_err(Error::Backend)?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the value that L2 has depends on, if it is fresh.
fn fresh<C: CodecFor<()>>(
    stack: &Stack,
    codec: &C,
    key: &Key,
    wire: &[u8],
    found: &Found,
) -> Option<Stamps> {
    let unpacked = match codec.unpack(&found.bytes, wire, stack.max_entry_bytes) {
        Ok(unpacked) => unpacked,
        Err(refusal) => {
            stack.refused(key, refusal.label());
            return None;
        }
    };
    if believe(stack, found, &unpacked.header.meta) != Belief::Full {
        return None;
    }
    let fresh = freshness::ages(&unpacked.header.meta, found.remaining?).fresh;
    let is_fresh = !unpacked.header.negative && !fresh.is_zero();
    let stamps = Stamps::decode(unpacked.tags)?;
    (is_fresh && stack.is_of_namespace(&stamps)).then_some(stamps)
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
