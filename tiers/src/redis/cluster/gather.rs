//! Several keys at once: a pipeline to each node, all nodes at once.

use std::{collections::HashMap, sync::Arc};

use ::redis::{Pipeline, Value};
use futures_util::{StreamExt, stream};

use super::{
    super::{
        batch::{Each, PIECE, PIECES_AT_ONCE},
        budget::Budget,
        connection::{Failure, Request},
        reply,
    },
    Cluster, Lost, Node, Redirect, Stop, slot,
};
use crate::TierError;

/// What became of one key of a batch.
#[derive(Debug)]
pub(in super::super) enum Gathered<R> {
    /// Its own outcome.
    Done(Result<R, TierError>),
    /// Not executed: its slot has moved, or moves.
    Redirected,
}

/// Keys, by their place in the batch, that one node has.
struct Piece {
    node: Arc<Node>,
    places: Vec<usize>,
}

impl Cluster {
    /// Asks every node for the keys it has. Keys whose node could not be reached are asked for once more if
    /// they have another by then; so are all of a connection that broke.
    pub(in super::super) async fn gather<R>(
        &self,
        keys: &[&[u8]],
        each: &Each<R>,
    ) -> Vec<Gathered<R>> {
        let mut outcomes: Vec<Option<Gathered<R>>> = keys.iter().map(|_| None).collect();
        let mut waiting: Vec<usize> = (0..keys.len()).collect();
        for is_last in [false, true] {
            let budget = &mut Budget::new(&self.options);
            let pieces = match self.pieces(keys, &waiting, budget).await {
                Ok(pieces) => pieces,
                Err(error) => {
                    for place in waiting.drain(..) {
                        put(&mut outcomes, place, Gathered::Done(Err(error.clone())));
                    }
                    break;
                }
            };
            waiting.clear();
            let asked = pieces.into_iter().map(|piece| async move {
                let answer = self.ask_piece(keys, &piece, each).await;
                (piece, answer)
            });
            let asked: Vec<_> = asked.collect();
            let at_once = PIECES_AT_ONCE.max(self.map().nodes().len());
            let mut asked = stream::iter(asked).buffer_unordered(at_once);
            while let Some((piece, answer)) = asked.next().await {
                match answer {
                    Ok(gathered) => {
                        for (place, outcome) in piece.places.into_iter().zip(gathered) {
                            put(&mut outcomes, place, outcome);
                        }
                    }
                    Err(lost) => {
                        let (may_repeat, must_move) = match &lost {
                            Lost::Unsent(_) => (true, true),
                            Lost::Sent(Failure::Broken(_)) => (true, false),
                            Lost::Sent(Failure::Late) => (false, false),
                        };
                        self.note_failure();
                        let error = TierError::from(lost);
                        if may_repeat && !is_last {
                            let seen = self.map().version;
                            let _ = self.refresh(seen, &mut Budget::new(&self.options)).await;
                        }
                        for place in piece.places {
                            let key = keys.get(place).copied().unwrap_or_default();
                            let moved = !self.owner_is(slot(key), &piece.node);
                            if may_repeat && !is_last && (moved || !must_move) {
                                waiting.push(place);
                            } else {
                                put(&mut outcomes, place, Gathered::Done(Err(error.clone())));
                            }
                        }
                    }
                }
            }
            if waiting.is_empty() {
                break;
            }
        }
        let missing = || Gathered::Done(Err(TierError::Timeout));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    async fn pieces(
        &self,
        keys: &[&[u8]],
        waiting: &[usize],
        budget: &mut Budget,
    ) -> Result<Vec<Piece>, TierError> {
        let Some(first) = waiting.first().and_then(|place| keys.get(*place)) else {
            return Ok(Vec::new());
        };
        // Fetches the map, if there is none.
        self.owner(slot(first), budget).await?;
        let map = self.map();
        let mut nodes: HashMap<*const Node, Piece> = HashMap::new();
        for place in waiting {
            let key = keys.get(*place).copied().unwrap_or_default();
            let Some(node) = map.owner(slot(key)) else { continue };
            let piece = nodes.entry(Arc::as_ptr(&node));
            piece.or_insert_with(|| Piece { node, places: Vec::new() }).places.push(*place);
        }
        drop(map);
        let cut = |all: Piece| {
            let places: Vec<_> = all.places.chunks(PIECE).map(<[usize]>::to_vec).collect();
            places.into_iter().map(move |places| Piece { node: Arc::clone(&all.node), places })
        };
        Ok(nodes.into_values().flat_map(cut).collect())
    }

    async fn ask_piece<R>(
        &self,
        keys: &[&[u8]],
        piece: &Piece,
        each: &Each<R>,
    ) -> Result<Vec<Gathered<R>>, Lost> {
        let mut commands = Pipeline::with_capacity(piece.places.len() * each.width);
        for key in piece.places.iter().filter_map(|place| keys.get(*place)) {
            (each.commands)(&mut commands, key);
        }
        let stop = Stop { node: Arc::clone(&piece.node), asking: false };
        let budget = &mut Budget::new(&self.options);
        let answer = self.ask_at(&stop, &Request::Several(commands), budget).await?;
        let Value::Array(answers) = answer.value else {
            return Err(Lost::Sent(Failure::Broken(reply::unexpected("not an array"))));
        };
        let mut answers = answers.into_iter();
        let gathered = piece.places.iter().map(|_| {
            let own = Value::Array(answers.by_ref().take(each.width).collect());
            if Redirect::of(&own, &piece.node.address).is_some() || is_moving(&own) {
                return Gathered::Redirected;
            }
            match own {
                Value::Array(own) => Gathered::Done((each.read)(own, answer.run)),
                _ => Gathered::Redirected,
            }
        });
        Ok(gathered.collect())
    }

    fn note_failure(&self) {
        self.is_stale.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn put<R>(outcomes: &mut [Option<Gathered<R>>], place: usize, outcome: Gathered<R>) {
    if let Some(slot) = outcomes.get_mut(place) {
        *slot = Some(outcome);
    }
}

fn is_moving(answers: &Value) -> bool {
    let Value::Array(answers) = answers else { return false };
    answers
        .iter()
        .any(|answer| matches!(answer, Value::ServerError(error) if error.code() == "TRYAGAIN"))
}
