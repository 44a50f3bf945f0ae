//! Operations on L2 that many reads of a batch do together, a piece at a time.

use std::{future::Future, ops::ControlFlow, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::Flying;
use crate::{
    fill::{Leading, Rest, Step},
    l2::{Budget, L2, PIECE},
    session::Session,
    stack::{Stack, Walked},
};

/// Takes one step of all of them, a piece at a time. Those that landed have ended; the others go on.
pub(super) async fn step<'a, C>(
    stack: &Stack,
    flying: Vec<Flying<'a, C>>,
    ended: &mut Vec<(usize, Walked)>,
    take: impl Fn(Leading<'a, C>) -> BoxFuture<'a, Step<'a, C>>,
) -> Vec<Flying<'a, C>> {
    let mut further = Vec::with_capacity(flying.len());
    let mut pieces = Pieces::of(stack);
    let mut flying = flying.into_iter();
    while !flying.as_slice().is_empty() {
        let mut steps = Vec::with_capacity(PIECE);
        for (at, mut leading) in flying.by_ref().take(PIECE) {
            pieces.limit(leading.session.as_mut());
            let taken = take(leading);
            steps.push(async move { (at, taken.await) });
        }
        breathe(PIECE - 1).await;
        for (at, step) in pieces.run(join_all(steps)).await {
            match step {
                ControlFlow::Break(walked) => ended.push((at, walked)),
                ControlFlow::Continue(leading) => further.push((at, leading)),
            }
        }
    }
    further
}

/// Lets other tasks of the thread run, after every piece of a long loop.
pub(super) async fn breathe(count: usize) {
    if count % PIECE == PIECE - 1 {
        tokio::task::yield_now().await;
    }
}

/// Does what is left to do on L2, a piece at a time.
pub(super) async fn finish<C>(stack: &Stack, rests: Vec<Rest<'_, C>>) {
    let mut pieces = Pieces::of(stack);
    let mut rests = rests.into_iter();
    while !rests.as_slice().is_empty() {
        let mut piece = Vec::with_capacity(PIECE);
        for mut rest in rests.by_ref().take(PIECE) {
            pieces.limit(Some(&mut rest.session));
            piece.push(rest.finish());
        }
        pieces.run(join_all(piece)).await;
    }
}

/// Operations on L2 that are done a piece at a time, so that those at the end of many do not run out of
/// their budgets while they queue. After a piece that took a whole budget the others have none: a hung
/// server costs one.
struct Pieces {
    budget: Option<Duration>,
    is_spent: bool,
}

impl Pieces {
    fn of(stack: &Stack) -> Self {
        Self { budget: stack.l2.as_ref().map(L2::grace), is_spent: false }
    }

    fn limit(&self, session: Option<&mut Session<'_>>) {
        if let Some(session) = session.filter(|_| self.is_spent) {
            session.limit(Budget::SPENT);
        }
    }

    async fn run<R>(&mut self, piece: impl Future<Output = R>) -> R {
        let start = Instant::now();
        let done = piece.await;
        self.is_spent |= self.budget.is_some_and(|budget| start.elapsed() >= budget);
        done
    }
}

/// Looks into L2 for all of them in one operation. Each goes on with what that has left of the budget.
pub(super) async fn fetch<C>(stack: &Stack, flying: &mut [Flying<'_, C>], waited: Duration) {
    let Some(l2) = &stack.l2 else { return };
    let keys: Vec<Option<Vec<u8>>> = flying
        .iter()
        .map(|(_, leading)| leading.session.as_ref()?.fetchable(leading.walk))
        .collect();
    let wanted: Vec<&[u8]> = keys.iter().flatten().map(Vec::as_slice).collect();
    if wanted.is_empty() {
        return;
    }
    let (asked, mut budget) = (stack.clock.now(), l2.budget_after(waited));
    let mut found = l2.get_many(&wanted, &mut budget).await.into_iter();
    for ((_, leading), key) in flying.iter_mut().zip(&keys) {
        let Some(session) = &mut leading.session else { continue };
        session.limit(budget);
        if key.is_some()
            && let Some(found) = found.next()
        {
            session.fetched(asked, found);
        }
    }
}
