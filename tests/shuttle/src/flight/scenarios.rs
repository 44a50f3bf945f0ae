//! What must hold for flights, whichever task runs when.

use std::sync::Arc;

use shuttle::{
    future::{JoinHandle, block_on, spawn, yield_now},
    rand::{Rng, thread_rng},
};

use super::{
    Air, Course, Ended, Joined, Walk,
    tower::{Boarding, Tower},
};
use crate::Scenario;

/// All scenarios for one copy.
pub(super) fn all<A: Air>() -> Vec<Scenario> {
    vec![
        Scenario { name: "callers_share_a_walk", run: callers_share_a_walk::<A> },
        Scenario { name: "lost_leaders_are_replaced", run: lost_leaders_are_replaced::<A> },
        Scenario { name: "callers_come_and_go", run: callers_come_and_go::<A> },
        Scenario { name: "detached_flights_end_alone", run: detached_flights_end_alone::<A> },
        Scenario { name: "courses_fly_apart", run: courses_fly_apart::<A> },
        Scenario { name: "solo_flights_fly_alone", run: solo_flights_fly_alone::<A> },
        Scenario { name: "leaders_hand_out_seats", run: leaders_hand_out_seats::<A> },
    ]
}

/// Nobody gives up: everybody gets a result, and nobody takes over.
fn callers_share_a_walk<A: Air>() {
    let tower = Tower::<A>::new();
    let callers = board(&tower, [0; 4], 0);
    assert_eq!(results(callers), [true; 4], "a caller got nothing");
    tower.close();
}

/// Up to three leaders are dropped midway: the last of four callers still gets a result.
fn lost_leaders_are_replaced<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(1..=3);
    let callers = board(&tower, [0; 4], losses);
    let served = results(callers).into_iter().filter(|served| *served).count();
    assert_eq!(served, 4 - losses, "a caller got nothing");
    tower.close();
}

/// Callers are cancelled wherever they are, leading, waiting, woken or done: the others get a
/// result.
fn callers_come_and_go<A: Air>() {
    let tower = Tower::<A>::new();
    let callers = board(&tower, [0; 4], 0);
    let (fickle, faithful) = callers.split_at(2);
    for caller in fickle {
        block_on(pause(2));
        caller.abort();
    }
    for caller in faithful {
        assert!(!caller.is_cancelled(), "nobody cancels it");
    }
    let served = results(callers);
    assert_eq!(served[2..], [true; 2], "a caller got nothing");
    tower.close();
}
