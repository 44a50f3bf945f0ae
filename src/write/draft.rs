//! A value about to be stored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::CodecFor;
use tiered_tiers::{Fill, TierError};

use super::{Overwrite, require};
use crate::{
    Ack, Error, Key,
    entry::Entry,
    request::{Options, Told},
    stack::Stack,
    tags::{Marks, Stamps},
};

/// A value about to be stored.
pub(crate) struct Draft<'a, T> {
    pub(crate) stack: &'a Arc<Stack>,
    pub(crate) key: &'a Key,
    pub(crate) options: &'a Options,
    pub(crate) entry: Entry<T>,
    pub(crate) wire: Vec<u8>,
    pub(crate) packed: Option<Bytes>,
    /// When it began, and the generation of the bus' view then.
    begun: (Instant, u64),
    stamps: Stamps,
    marks: Option<Marks>,
    /// Why what it is to be stamped with cannot be had: then L2 cannot store it.
    pub(crate) refused: Option<TierError>,
}

impl<'a, T: Send + Sync + 'static> Draft<'a, T> {
    /// Before anything is changed: a value that cannot be stored loses nothing. The marks are from before the stamps.
    pub(crate) fn new<C: CodecFor<T>>(
        stack: &'a Arc<Stack>,
        codec: &C,
        options: &'a Options,
        key: &'a Key,
        value: Arc<T>,
        marks: Option<Marks>,
        stamps: Result<Stamps, TierError>,
    ) -> Result<Self, Error> {
        key.check()?;
        options.check()?;
        require(stack)?;
        let begun = (stack.clock.now(), stack.generation());
        let (stamps, refused) = match stamps {
            Ok(stamps) => (stamps, None),
            Err(error) => (Stamps::default(), Some(error)),
        };
        let entry = Entry::new(stack, options, Told::default(), Some(value));
        let wire = key.wire(&stack.namespace);
        let packed = match &stack.l2 {
            Some(_) if !options.skip_l2 => Some(
                entry.pack(stack, codec, options, &stamps, &wire).map_err(Error::Serialization)?,
            ),
            // For its weight.
            Some(_) if stack.is_l1_weighted() && entry.needs_weighing() => {
                entry.pack(stack, codec, options, &stamps, &wire).ok()
            }
            _ => None,
        };
        Ok(Self { stack, key, options, entry, wire, packed, begun, stamps, marks, refused })
    }

    /// Lets it begin now.
    pub(crate) fn restart(&mut self) {
        self.begun = (self.stack.clock.now(), self.stack.generation());
        self.entry.restart(self.begun.0);
    }

    /// Puts it into L1, if it may and `holds`; else L1 has nothing. What the server has not confirmed has no proof but
    /// its own.
    pub(crate) fn keep(&self, holds: bool, is_confirmed: bool) {
        let Self { stack, key, options, begun: (begun, generation), .. } = self;
        if holds && self.is_superseded_here() {
            // A read has found it on the server since.
        } else if holds && !options.skip_l1 {
            let begun = (*begun, if is_confirmed { *generation } else { 0 });
            let marks = self.marks.clone();
            let keep = self.entry.local(stack, options, begun, marks, self.packed.as_ref());
            stack.insert_local(key, keep);
        } else {
            stack.remove_local(key);
        }
    }

    /// Its bytes for L2, if there is one.
    pub(crate) fn packed(&self) -> Option<Bytes> {
        self.packed.clone()
    }

    /// Its bytes, whether there is an L2 or not.
    pub(crate) fn pack<C: CodecFor<T>>(&self, codec: &C) -> Result<Bytes, Error> {
        let Self { stack, options, entry, stamps, wire, packed, .. } = self;
        match packed {
            Some(bytes) => Ok(bytes.clone()),
            None => entry.pack(stack, codec, options, stamps, wire).map_err(Error::Serialization),
        }
    }

    /// Its key on a server.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How long L2 is to keep it.
    pub(crate) fn life(&self) -> Duration {
        self.entry.life()
    }

    /// Stores it where there are no others.
    pub(crate) fn keep_here(&self) -> Ack {
        let mut is_newest = true;
        self.stack.fence.advance(self.key.fingerprint(), || {
            is_newest = !self.is_superseded_here();
            self.keep(true, true);
        });
        self.stack.flights.detach(self.key);
        if is_newest { Ack::Done } else { Ack::Superseded }
    }

    /// Whether L1 has a newer version.
    pub(crate) fn is_superseded_here(&self) -> bool {
        let version = self.options.source_version;
        version != 0 && self.stack.local_version(self.key) > version
    }

    /// Ends the write as L2 has answered, and as it was `filled` before the others were told. `None` if another write of
    /// this key was under way in this process: nobody knows which of the two the server executed last. Both see
    /// this, and both must invalidate the key, which then has neither's value.
    pub(super) fn end(
        &self,
        overwrite: Overwrite<'_>,
        filled: Option<Fill>,
        stored: Result<Fill, TierError>,
    ) -> Option<Ack> {
        match stored {
            // The server has it, and the others could not be told.
            Err(_) if matches!(filled, Some(Fill::Stored | Fill::Skipped)) => {
                overwrite.untold(|holds| self.keep(holds, false)).then_some(Ack::Pending)
            }
            Err(_) => Some(overwrite.pending(|holds| self.keep(holds, false))),
            // Another process' write came after it, or another's write of the source is under way. Or it was one of this
            // process, which may have ended as the last: its own beginning was before this one's end.
            Ok(Fill::Refused) => {
                let is_alone = overwrite.done(|_| self.stack.remove_local(self.key));
                is_alone.then_some(Ack::Done)
            }
            Ok(Fill::Stored | Fill::Skipped) => {
                overwrite.done(|holds| self.keep(holds, true)).then_some(Ack::Done)
            }
        }
    }
}
