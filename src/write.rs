//! Writing: `set` and `invalidate`, which win over everything that began before them.
//!
//! The local drop happens twice. The first makes this process forget at once, even if the server
//! hangs. The second, after the server has answered, overtakes reads that began in between: they
//! may have seen the server's old value.

use std::sync::Arc;

use tiered_codecs::CodecFor;

use crate::{
    Ack, Error, Key,
    entry::Entry,
    fence::Ticket,
    pending::Standing,
    replay,
    request::{Options, Told},
    stack::Stack,
    versions::Slot,
};

/// Drops a key from all tiers.
pub(crate) async fn invalidate(stack: &Arc<Stack>, key: &Key) -> Result<Ack, Error> {
    key.check()?;
    let Some(l2) = &stack.l2 else {
        stack.drop_local(key);
        return Ok(Ack::Done);
    };
    stack.require_runtime()?;
    let overwrite = Overwrite::begin(stack, key);
    let deleted = l2.delete(&key.wire(&stack.namespace), &mut l2.budget()).await;
    Ok(match deleted {
        Ok(()) => {
            overwrite.done(|_| stack.remove_local(key));
            Ack::Done
        }
        Err(_) => overwrite.pending(|_| stack.remove_local(key)),
    })
}

/// Stores a value in all tiers.
pub(crate) async fn set<T, C>(
    stack: &Arc<Stack>,
    codec: &C,
    key: &Key,
    options: &Options,
    value: Arc<T>,
) -> Result<Ack, Error>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    if !stack.is_enabled() {
        // What is cached is old now; it must not be there when the cache is switched on again.
        return invalidate(stack, key).await;
    }
    let entry = Entry::new(stack, options, Told::default(), Some(value));
    let wire = key.wire(&stack.namespace);
    let l2 = stack.l2.as_ref();
    // Before anything is changed: a value that cannot be stored loses nothing.
    let packed = match l2 {
        Some(_) if !options.skip_l2 => {
            Some(entry.pack(stack, codec, options, &wire).map_err(Error::Serialization)?)
        }
        // For its weight.
        Some(_) if stack.is_l1_weighted() && entry.needs_weighing() => {
            entry.pack(stack, codec, options, &wire).ok()
        }
        _ => None,
    };
    let begun = stack.clock.now();
    let keep = |holds: bool| {
        if holds && !options.skip_l1 {
            stack.insert_local(key, entry.local(stack, options, begun, packed.as_ref()));
        } else {
            stack.remove_local(key);
        }
    };
    let Some(l2) = l2 else {
        stack.fence.advance(key.fingerprint(), || keep(true));
        stack.flights.detach(key);
        return Ok(Ack::Done);
    };
    stack.require_runtime()?;
    let overwrite = Overwrite::begin(stack, key);
    let mut budget = l2.budget();
    let stored = match &packed {
        Some(bytes) if !options.skip_l2 => {
            l2.set(&wire, Slot::home(options.schema), bytes.clone(), entry.life(), &mut budget)
                .await
        }
        _ => l2.delete(&wire, &mut budget).await,
    };
    match stored {
        Err(_) => Ok(overwrite.pending(keep)),
        Ok(()) if overwrite.done(keep) => Ok(Ack::Done),
        // Another write of this key was under way in this process, and nobody knows which of the
        // two the server executed last. Both see this, and the key ends with neither's value.
        Ok(()) => invalidate(stack, key).await,
    }
}

/// A key that is being overwritten. Dropped midway, by a panic or a cancelled future, it leaves
/// the key invalidated: nobody knows what the server has done.
struct Overwrite<'a> {
    stack: &'a Arc<Stack>,
    key: &'a Key,
    ticket: Ticket,
    before: Standing,
    ended: bool,
}

impl<'a> Overwrite<'a> {
    fn begin(stack: &'a Arc<Stack>, key: &'a Key) -> Self {
        stack.drop_local(key);
        let ticket = stack.capture(key);
        Self { stack, key, ticket, before: stack.pending.standing(key), ended: false }
    }

    /// The server has answered. `local` changes L1, and is told whether no other write of this key
    /// was under way; so is the caller.
    fn done(mut self, local: impl FnOnce(bool)) -> bool {
        if let Standing::Delete(count) = self.before {
            self.stack.pending.confirm(self.key, count);
        }
        replay::start(self.stack);
        self.end(local)
    }

    /// The server has not answered.
    fn pending(mut self, local: impl FnOnce(bool)) -> Ack {
        replay::queue(self.stack, self.key);
        self.end(local);
        Ack::Pending
    }

    fn end(&mut self, local: impl FnOnce(bool)) -> bool {
        self.ended = true;
        let mut held = false;
        self.ticket.supersede(|holds| {
            held = holds;
            local(holds);
        });
        self.stack.flights.detach(self.key);
        held
    }
}

impl Drop for Overwrite<'_> {
    fn drop(&mut self) {
        if !self.ended {
            replay::queue(self.stack, self.key);
            self.end(|_| self.stack.remove_local(self.key));
        }
    }
}
