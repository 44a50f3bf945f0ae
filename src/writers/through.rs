//! Writing through: the source first, under a hold, and then the cache, with the same value.
//!
//! The value is stored only by a writer that was alone: of two whose writes overlap nobody knows which the source did
//! last. The lease to store it comes with the end of the hold, in one step: whoever writes next takes it away.

use std::{
    fmt::{Debug, Display},
    future::Future,
    mem, slice,
    sync::Arc,
};

use tiered_codecs::CodecFor;
use tiered_tiers::{Fill, TierError, protocol::HoldEnd};

use super::{Writing, Written, invalidate_after};
use crate::{
    Ack, Error, Key,
    l2::Budget,
    request::Options,
    session::Token,
    stack::Stack,
    versions::Slot,
    write::{self, Draft},
};

/// Writes a value to the source, and stores it. See [`Request::write_through`](crate::Request::write_through).
pub(crate) async fn write_through<T, C, R, E, F, Fut>(
    stack: &Arc<Stack>,
    codec: &C,
    key: &Key,
    options: &Options,
    value: T,
    write: F,
) -> Result<Written<R>, Error>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
    E: Display + Debug + Send + Sync + 'static,
    F: FnOnce(Arc<T>) -> Fut,
    Fut: Future<Output = Result<R, E>>,
{
    let value = Arc::new(value);
    if !stack.is_enabled() {
        return invalidate_after(stack, slice::from_ref(key), || write(value)).await;
    }
    // Before anything is written: a value that cannot be stored changes nothing.
    let draft = write::prepare(stack, codec, options, key, Arc::clone(&value)).await?;
    let mut writing = Writing::begin(stack, slice::from_ref(key));
    writing.hold().await;
    let written = writing.run(|| write(value)).await?;
    let ack = match written {
        Ok(_) => store(writing, draft).await,
        Err(_) => writing.end().await,
    };
    written.map(|value| Written { value, ack })
}

/// Ends the hold, and stores what was written under it.
async fn store<T: Send + Sync + 'static>(mut writing: Writing<'_>, mut draft: Draft<'_, T>) -> Ack {
    let stack = writing.stack;
    let mut budget = stack.budget();
    draft.restart();
    writing.overwrites.iter_mut().for_each(write::Overwrite::refresh);
    let stored = settle(&writing, &draft, &mut budget).await;
    let mut told = [stored];
    write::announce(stack, &[draft.key], &mut told, &mut budget).await;
    let [stored] = told;
    writing.settle();
    let mut ack = Ack::Done;
    for overwrite in mem::take(&mut writing.overwrites) {
        match &stored {
            Ok(is_last) => {
                overwrite.done(|holds| {
                    writing.open_local();
                    draft.keep(holds && *is_last, true);
                });
            }
            Err(_) => ack = overwrite.pending(|_| stack.remove_local(draft.key)),
        }
    }
    ack
}

/// Says whether this write is known to be the source's last.
async fn settle<T: Send + Sync + 'static>(
    writing: &Writing<'_>,
    draft: &Draft<'_, T>,
    budget: &mut Budget,
) -> Result<bool, TierError> {
    let stack = writing.stack;
    // An invalidation or a `set` in this process, or a change that was heard of, came in between.
    let is_untouched = || writing.overwrites.iter().all(write::Overwrite::holds);
    let is_whole = writing.is_whole && is_untouched();
    let Some(l2) = &stack.l2 else { return Ok(is_whole) };
    let home = Slot::home(draft.options.schema);
    let key = home.key(&draft.wire);
    let mut lease = Token::new(stack, &key);
    let is_storable = is_whole && !draft.options.skip_l2 && draft.refused.is_none();
    let bytes = draft.packed.as_ref().filter(|_| is_storable);
    let asked = bytes.map(|_| (home, lease.token));
    if asked.is_none() {
        lease.settle();
    }
    let ended = l2.end_hold(&writing.wires, writing.token, asked, budget).await;
    for end in ended {
        if end? != HoldEnd::Alone || !is_whole {
            return Ok(false);
        }
    }
    let Some(bytes) = bytes.filter(|_| is_untouched()) else {
        return Ok(draft.options.skip_l2);
    };
    let filled = l2.fill(&key, lease.token, bytes.clone(), draft.entry.life(), budget).await?;
    lease.settle();
    Ok(filled != Fill::Refused)
}
