//! One write of the source under a hold, and the guard that covers its every end.

use std::{
    convert::Infallible,
    fmt::{Debug, Display},
    future::{Future, pending},
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tiered_tiers::{LeaseToken, TierError, protocol::HoldEnd};

use super::Written;
use crate::{
    Ack, Error, Key,
    error::LoaderPanicked,
    replay,
    stack::Stack,
    write::{self, Overwrite},
};

/// How often a hold is renewed, three times in its life: a write that hangs does not hold a key for ever.
const RENEWALS: usize = 36;

/// Drops keys, writes, and drops them again. See [`Tiered::invalidate_after`](crate::Tiered::invalidate_after).
pub(crate) async fn invalidate_after<R, E, F, Fut>(
    stack: &Arc<Stack>,
    keys: &[Key],
    write: F,
) -> Result<Written<R>, Error>
where
    E: Display + Debug + Send + Sync + 'static,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<R, E>>,
{
    keys.iter().try_for_each(Key::check)?;
    write::require(stack)?;
    let mut writing = Writing::begin(stack, keys);
    writing.hold().await;
    let written = writing.run(write).await?;
    let ack = writing.end().await;
    written.map(|value| Written { value, ack })
}

/// A write under way. Dropped midway, by a cancelled future or a panic, it leaves the keys invalidated.
pub(crate) struct Writing<'a> {
    pub(crate) stack: &'a Arc<Stack>,
    pub(crate) keys: &'a [Key],
    pub(crate) wires: Vec<Vec<u8>>,
    /// Of all its holds on the server.
    pub(crate) token: LeaseToken,
    pub(crate) overwrites: Vec<Overwrite<'a>>,
    phase: Phase,
    /// Nobody can have come in between: the hold was answered for when it began, and stood at each renewal.
    pub(crate) is_whole: bool,
}

/// How far a write has got, as far as concerns what is left to do when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The source is not written yet.
    Before,
    /// Nobody knows what the source does.
    During,
    /// The source is written, or has refused.
    After,
    /// All is done.
    Ended,
}

impl<'a> Writing<'a> {
    /// Makes this process forget the keys, and keep nothing of them until the end.
    pub(crate) fn begin(stack: &'a Arc<Stack>, keys: &'a [Key]) -> Self {
        // In this order: what passed the holds before they stood is dropped now.
        keys.iter().for_each(|key| stack.holds.begin(key.fingerprint()));
        Self {
            stack,
            keys,
            wires: keys.iter().map(|key| key.wire(&stack.namespace)).collect(),
            token: LeaseToken::random(),
            overwrites: keys.iter().map(|key| Overwrite::begin(stack, key)).collect(),
            phase: Phase::Before,
            is_whole: false,
        }
    }

    /// Makes the others forget them, and holds them on the server. Where it gives no answer the key is queued: then this
    /// process does not read it there while the source is written.
    pub(crate) async fn hold(&mut self) {
        let Self { stack, keys, .. } = *self;
        let mut budget = stack.budget();
        let mut held: Vec<Result<(), TierError>> = match &stack.l2 {
            Some(l2) => l2.hold(&self.wires, self.token, stack.hold_for, &mut budget).await,
            None => keys.iter().map(|_| Ok(())).collect(),
        };
        let all: Vec<&Key> = keys.iter().collect();
        write::announce(stack, &all, &mut held, &mut budget).await;
        self.is_whole = held.iter().all(Result::is_ok);
        let unanswered = keys.iter().zip(&held).filter(|(_, held)| held.is_err());
        unanswered.for_each(|(key, _)| replay::queue(stack, key));
    }

    /// Runs the write, and renews the holds meanwhile. What the write returned, or that it panicked: then nobody knows
    /// what the source does, and the holds are left to run out.
    pub(crate) async fn run<R, E, F, Fut>(&mut self, write: F) -> Result<Result<R, Error>, Error>
    where
        E: Display + Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<R, E>>,
    {
        self.phase = Phase::During;
        // Called inside the future, so that a panic on the way to its own is caught too. Unwind safety: after a panic
        // nothing of it is used again.
        let writing = AssertUnwindSafe(async { write().await }).catch_unwind();
        let ended = match select(pin!(writing), pin!(self.renew())).await {
            Either::Left((ended, _)) => ended,
            Either::Right((never, _)) => match never {},
        };
        match ended {
            Ok(written) => {
                self.phase = Phase::After;
                Ok(written.map_err(Error::write))
            }
            Err(panic) => {
                let panicked = LoaderPanicked::from_payload(&*panic);
                tracing::error!(message = %panicked.message, "a write of the source panicked");
                Err(Error::write(panicked))
            }
        }
    }

    /// Holds the keys for longer, again and again; never ends. Where the server did not answer before, they are held
    /// from now on, which is no beginning of a hold any more: others may have written since.
    async fn renew(&mut self) -> Infallible {
        let Some(l2) = &self.stack.l2 else { pending().await };
        for _ in 0..RENEWALS {
            tokio::time::sleep(self.stack.hold_for / 3).await;
            let (life, mut budget) = (self.stack.hold_for, l2.budget());
            let renewed = l2.renew_hold(&self.wires, self.token, life, &mut budget).await;
            // One that is not answered stands for a while yet, and is tried again.
            self.is_whole &= renewed.iter().all(|stood| *stood == Ok(true));
        }
        pending().await
    }

    /// Drops the keys, ends the holds, and tells the others.
    pub(crate) async fn end(mut self) -> Ack {
        let Self { stack, keys, .. } = self;
        let mut budget = stack.budget();
        self.overwrites.iter_mut().for_each(Overwrite::refresh);
        let mut ended: Vec<Result<HoldEnd, TierError>> = match &stack.l2 {
            Some(l2) => l2.end_hold(&self.wires, self.token, None, &mut budget).await,
            None => keys.iter().map(|_| Ok(HoldEnd::Alone)).collect(),
        };
        let all: Vec<&Key> = keys.iter().collect();
        write::announce(stack, &all, &mut ended, &mut budget).await;
        let mut ack = Ack::Done;
        for (overwrite, ended) in mem::take(&mut self.overwrites).into_iter().zip(ended) {
            let key = overwrite.key;
            match ended {
                Ok(_) => {
                    overwrite.done(|_| stack.remove_local(key));
                }
                Err(_) => ack = overwrite.pending(|_| stack.remove_local(key)),
            }
        }
        self.settle();
        ack
    }

    /// All is done on the server, or queued.
    pub(crate) fn settle(&mut self) {
        self.phase = Phase::Ended;
    }

    /// Ends the holds in this process: under the fence, or after it was advanced.
    pub(crate) fn open_local(&mut self) {
        let now = self.stack.clock.now();
        for key in mem::take(&mut self.keys) {
            self.stack.holds.end(key.fingerprint(), now);
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Those that have not ended are queued, before the holds end here: what was loaded meanwhile is overtaken.
        self.overwrites.clear();
        if self.phase == Phase::During {
            // The source may commit yet, and the server's holds stand for so long, too.
            let now = self.stack.clock.now();
            let until = now + self.stack.hold_for;
            for key in self.keys {
                self.stack.holds.linger(key.fingerprint(), now, until);
            }
            return;
        }
        self.open_local();
        if self.phase == Phase::Ended {
            return;
        }
        let (stack, wires, token) =
            (Arc::clone(self.stack), mem::take(&mut self.wires), self.token);
        // Outside a runtime they run out by themselves.
        let _ = self.stack.spawn(async move {
            if let Some(l2) = &stack.l2 {
                l2.end_hold(&wires, token, None, &mut l2.budget()).await;
            }
        });
    }
}
