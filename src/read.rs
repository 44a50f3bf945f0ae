//! Reading: what the tiers have of a key, and whether it may be served. Loads nothing.

use std::{
    any::TypeId,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tiered_codecs::{
    CodecFor, Unpacked,
    envelope::{self, Meta, Opened, Refusal},
};
use tiered_tiers::{Found, LocalEntry, LocalMeta, TierError, Value};

use crate::{
    Key, Outcome,
    bus::Proof,
    freshness::{self, Verdict},
    l2::Budget,
    meter::{Op, OpResult, Tier},
    pending::Standing,
    replay,
    restarts::{Belief, believe},
    stack::{Landed, Stack},
    tags::Stamps,
    versions::Version,
    walk::Walk,
};

/// What L1 has to say.
#[derive(Debug)]
pub(crate) enum Local {
    /// An answer that may be served as it is; a negative one too.
    Fresh(Landed),
    /// A value that may be served while a refresh runs, or when the load fails.
    Stale(Landed),
    /// A value that may be served only when L2 and the load fail.
    Unproven(Landed),
    /// Nothing of use.
    Absent,
}

/// What L2 has to say.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart where it is made: a box would be an allocation for each hit"
)]
pub(crate) enum Remote {
    Found(Box<Dated>),
    /// Another version's entry, which lives so much longer.
    Other(Version, Duration),
    /// Nothing of use; a load may fill it.
    Absent,
}

/// An answer out of L2 that may be served, at once or when the load fails.
#[derive(Debug)]
pub(crate) struct Dated {
    pub(crate) landed: Landed,
    pub(crate) keep: Keep,
    /// What it depends on, as it was before its load.
    pub(crate) stamps: Stamps,
    /// It may be served as it is.
    pub(crate) is_fresh: bool,
    /// It was made out of an older version's entry.
    pub(crate) is_upgraded: bool,
}

/// An L2 entry as L1 keeps it, with its weight.
pub(crate) type Keep = (LocalEntry, u64);

/// The shortest way of all: a fresh value out of L1, with no options. Whatever else there is takes
/// the long way, which looks again.
pub(crate) fn hit<T: Send + Sync + 'static>(stack: &Stack, key: &Key) -> Option<Arc<T>> {
    if !stack.is_enabled() || key.check().is_err() {
        return None;
    }
    let proof = stack.proof();
    let LocalEntry { value, meta, marks } = stack.peek(key, TypeId::of::<T>(), 0)?;
    let value = value?;
    let is_fresh = stack.judge(&meta, proof, stack.clock.now()) == Verdict::Fresh;
    if !is_fresh || !stack.tags.stand(marks.as_ref()) {
        return None;
    }
    stack.meter.op(Tier::L1, Op::Get, OpResult::Hit);
    stack.meter.request(Outcome::HitL1);
    value.downcast().ok()
}

/// Looks into L1. No await, no allocation, no lock of ours.
pub(crate) fn local(stack: &Stack, key: &Key, type_id: TypeId, schema: u32) -> Local {
    let proof = stack.proof();
    stack.local(key, type_id, schema).map_or(Local::Absent, |entry| judge(stack, proof, entry))
}

/// Looks into L1 again in the same read: the first look was the one that counts.
pub(crate) fn local_again(stack: &Stack, key: &Key, type_id: TypeId, schema: u32) -> Local {
    let proof = stack.proof();
    stack.peek(key, type_id, schema).map_or(Local::Absent, |entry| judge(stack, proof, entry))
}

fn judge(stack: &Stack, proof: Option<Proof>, entry: LocalEntry) -> Local {
    let LocalEntry { value, meta, marks } = entry;
    if !stack.tags.stand(marks.as_ref()) {
        return Local::Absent;
    }
    let seen = stack.clock.now();
    let negative = value.is_none();
    let landed = |outcome| Landed {
        value,
        outcome: if negative { Outcome::Negative } else { outcome },
        born: meta.born,
        fresh_until: meta.fresh_until,
        usable_until: meta.stale_until,
        seen,
        marks,
    };
    let stands_in_until = freshness::unproven_until(&meta, proof, stack.last_resort_for);
    match stack.judge(&meta, proof, seen) {
        Verdict::Fresh => Local::Fresh(landed(Outcome::HitL1)),
        // An absence is not worth serving late.
        _ if negative => Local::Absent,
        Verdict::Stale => Local::Stale(landed(Outcome::Stale)),
        Verdict::Unproven => {
            Local::Unproven(Landed { usable_until: stands_in_until, ..landed(Outcome::Stale) })
        }
        Verdict::Expired => Local::Absent,
    }
}

/// Replays what is pending for a key, so that L2 may be used for it.
pub(crate) async fn settle(
    stack: &Arc<Stack>,
    key: &Key,
    budget: &mut Budget,
) -> Result<(), TierError> {
    // Its task may have gone with its runtime.
    replay::start(stack);
    match stack.pending.standing(key) {
        Standing::Clear => Ok(()),
        Standing::Delete(count) => replay::drop_pending(stack, key, count, budget).await,
        Standing::Prefix => {
            Err(TierError::Unreachable("an invalidation of a prefix of this key is pending".into()))
        }
        Standing::Void => Err(TierError::Unreachable(
            "too many invalidations are pending: the namespace is to be cleared first".into(),
        )),
    }
}

/// Judges what L2 returned. `asked` is when it was asked: an answer is never younger than that.
pub(crate) fn open<T, C>(walk: &Walk<C>, wire: &[u8], asked: Instant, found: &Found) -> Remote
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Walk { stack, codec, key, .. } = walk;
    let schema = walk.options.schema;
    let refuse = |reason| {
        stack.refused(key, reason);
        Remote::Absent
    };
    let remaining = found.remaining.unwrap_or_default();
    let unpacked = match codec.unpack(&found.bytes, wire, stack.max_entry_bytes) {
        Ok(unpacked) => unpacked,
        Err(Refusal::Sealed) if is_sealed_by_a_newer(walk, wire, found) => {
            stack.meter.decode_failure(Refusal::Sealed.label());
            return Remote::Other(Version::Newer, remaining);
        }
        Err(refusal) => {
            let is_damaged = matches!(
                refusal,
                Refusal::Truncated | Refusal::Checksum | Refusal::Foreign | Refusal::Format
            );
            if let Some(l2) = stack.l2.as_ref().filter(|_| is_damaged) {
                l2.distrust();
            }
            return refuse(refusal.label());
        }
    };
    let header = &unpacked.header;
    let belief = believe(stack, found, &header.meta);
    if belief == Belief::No {
        return Remote::Absent;
    }
    let shape = codec.shape();
    stack.tell_of_untraced::<T>(shape);
    let (value, is_upgraded): (Value, bool) = match header.accept(schema, shape) {
        Ok(()) if header.negative => (None, false),
        Ok(()) => match catch_unwind(AssertUnwindSafe(|| codec.decode(&unpacked))) {
            Ok(Ok(value)) => (Some(Arc::new(value) as _), false),
            Ok(Err(error)) => return refuse(error.label()),
            // A type's own Deserialize may panic; that is no more than an entry that cannot be read.
            Err(_) => return refuse("panic"),
        },
        Err(refusal) => match upgraded(walk, &unpacked, refusal) {
            Some(value) => (Some(value), true),
            None => {
                let version = match refusal {
                    Refusal::OlderSchema => Version::Older,
                    Refusal::NewerSchema => Version::Newer,
                    _ => Version::Unlike,
                };
                if version == Version::Unlike {
                    // Worth a word: a type was changed, and its schema version was not raised.
                    refuse(refusal.label());
                } else {
                    stack.meter.decode_failure(refusal.label());
                }
                return Remote::Other(version, remaining);
            }
        },
    };
    if found.remaining.is_none() {
        return refuse("undated");
    }
    let Some(stamps) = Stamps::decode(unpacked.tags) else { return refuse("tags") };
    match dated::<T, C>(walk, asked, (found, belief), &header.meta, value, stamps, is_upgraded) {
        Some(dated) => Remote::Found(Box::new(dated)),
        None => Remote::Absent,
    }
}

/// What can be made of what is in the other slot, if it is an older version's. Whatever else is there
/// is no concern of this version.
pub(crate) fn open_older<T, C>(
    walk: &Walk<C>,
    wire: &[u8],
    asked: Instant,
    found: &Found,
) -> Option<Dated>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Walk { stack, codec, .. } = walk;
    let unpacked = codec.unpack(&found.bytes, wire, stack.max_entry_bytes).ok()?;
    let refusal = unpacked.header.accept(walk.options.schema, codec.shape()).err()?;
    let belief = believe(stack, found, &unpacked.header.meta);
    if belief == Belief::No {
        return None;
    }
    let value = upgraded(walk, &unpacked, refusal)?;
    let stamps = Stamps::decode(unpacked.tags)?;
    dated::<T, C>(walk, asked, (found, belief), &unpacked.header.meta, Some(value), stamps, true)
}

/// The value that an older version's entry makes.
fn upgraded<C>(walk: &Walk<C>, unpacked: &Unpacked<'_>, refusal: Refusal) -> Value {
    let is_older = refusal == Refusal::OlderSchema && !unpacked.header.negative;
    let upgrade = walk.upgrade.filter(|_| is_older)?;
    // It may panic; that is no more than an entry that cannot be read.
    catch_unwind(AssertUnwindSafe(|| upgrade(&walk.codec, &walk.key, unpacked))).unwrap_or_default()
}

/// A value with its times, unless they are over.
fn dated<T: 'static, C>(
    walk: &Walk<C>,
    asked: Instant,
    (found, belief): (&Found, Belief),
    meta: &Meta,
    value: Value,
    stamps: Stamps,
    is_upgraded: bool,
) -> Option<Dated> {
    let stack = &walk.stack;
    let mut ages = freshness::ages(meta, found.remaining?);
    if belief == Belief::StaleOnly {
        ages.fresh = Duration::ZERO;
    }
    let (negative, is_fresh) = (value.is_none(), !ages.fresh.is_zero());
    // An absence is not worth serving late.
    if ages.usable.is_zero() || (negative && !is_fresh) {
        return None;
    }
    let outcome = if is_fresh { Outcome::HitL2 } else { Outcome::Stale };
    let source_version = meta.source_version;
    let meta = LocalMeta {
        born: asked.checked_sub(ages.age).unwrap_or(asked),
        fresh_until: asked + ages.fresh,
        stale_until: (asked + ages.usable).min(kept_until(stack, asked)),
        proven_until: proven_until(stack, asked),
        generation: 0,
        type_id: TypeId::of::<T>(),
        schema: walk.options.schema,
        source_version,
    };
    let landed = Landed {
        value: value.clone(),
        outcome: if negative { Outcome::Negative } else { outcome },
        born: meta.born,
        fresh_until: meta.fresh_until,
        usable_until: asked + ages.usable,
        seen: asked,
        marks: None,
    };
    let keep = (LocalEntry { value, meta, marks: None }, found.bytes.len() as u64);
    Some(Dated { landed, keep, stamps, is_fresh, is_upgraded })
}

/// Whether an entry, sealed for others, says of itself that it is a newer version's. That is not
/// authenticated: whoever lies gets a slot left alone, and nothing read.
fn is_sealed_by_a_newer<C>(walk: &Walk<C>, wire: &[u8], found: &Found) -> bool {
    let opened = envelope::open(&found.bytes, wire, walk.stack.max_entry_bytes);
    opened.is_ok_and(|Opened { header, .. }| {
        header.sealed && header.meta.schema > walk.options.schema
    })
}

/// Until when L1 may serve what was read or stored at `now` without asking L2 again, whatever is heard on the bus.
pub(crate) fn proven_until(stack: &Stack, now: Instant) -> Instant {
    now + stack.local_for.unwrap_or(EVER)
}

/// Until when L1 need keep it, at most: a bus may prove it for as long as it lives.
pub(crate) fn kept_until(stack: &Stack, now: Instant) -> Instant {
    match stack.bus {
        Some(_) => now + EVER,
        None => proven_until(stack, now) + stack.last_resort_for,
    }
}

/// Far enough to never come; lifetimes are bounded by ten years.
const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
