//! What must hold for flights, whichever task runs when.

use std::sync::Arc;

use shuttle::{
    future::{JoinHandle, block_on, spawn, yield_now},
    rand::{Rng, thread_rng},
};

use super::{
    Air, Course, Ended, Joined,
    tower::{Boarding, Tower},
};
use crate::Scenario;

/// All scenarios for one copy.
pub(super) fn all<A: Air>() -> Vec<Scenario> {
    vec![
        Scenario { name: "two_callers_meet", run: two_callers_meet::<A> },
        Scenario { name: "callers_share_a_walk", run: callers_share_a_walk::<A> },
        Scenario { name: "lost_leaders_are_replaced", run: lost_leaders_are_replaced::<A> },
        Scenario { name: "callers_come_and_go", run: callers_come_and_go::<A> },
        Scenario { name: "detached_flights_end_alone", run: detached_flights_end_alone::<A> },
        Scenario { name: "courses_fly_apart", run: courses_fly_apart::<A> },
        Scenario { name: "solo_flights_fly_alone", run: solo_flights_fly_alone::<A> },
        Scenario { name: "leaders_hand_out_seats", run: leaders_hand_out_seats::<A> },
    ]
}

/// The smallest case: one leads and one waits, or takes over.
fn two_callers_meet<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(0..=1);
    let callers = board(&tower, [0; 2], losses);
    assert_eq!(served(callers), 2 - losses, "a caller got nothing");
    tower.close();
}

/// Nobody gives up: everybody gets a result, and nobody takes over.
fn callers_share_a_walk<A: Air>() {
    let tower = Tower::<A>::new();
    let callers = board(&tower, [0; 4], 0);
    assert_eq!(served(callers), 4, "a caller got nothing");
    tower.close();
}

/// Leaders are dropped midway, up to three of four: the others get a result.
fn lost_leaders_are_replaced<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(1..=3);
    let callers = board(&tower, [0; 4], losses);
    assert_eq!(served(callers), 4 - losses, "a caller got nothing");
    tower.close();
}

/// Callers are cancelled wherever they are, leading, waiting, woken or done: the others get a
/// result.
fn callers_come_and_go<A: Air>() {
    let tower = Tower::<A>::new();
    let fickle = board(&tower, [0; 3], 0);
    let faithful = board(&tower, [0; 2], 0);
    for caller in &fickle {
        block_on(pause());
        caller.abort();
    }
    assert_eq!(served(faithful), 2, "a caller got nothing");
    served(fickle);
    tower.close();
}

/// Detaches come at any time, and a leader may be dropped: nobody gets a result from before a
/// detach that had returned when it came.
fn detached_flights_end_alone<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(0..=1);
    let callers = board(&tower, [0; 4], losses);
    let detaching = {
        let tower = Arc::clone(&tower);
        spawn(async move {
            for _ in 0..2 {
                tower.detach();
                pause().await;
            }
            true
        })
    };
    assert_eq!(served(vec![detaching]), 1);
    assert_eq!(served(callers), 4 - losses, "a caller got nothing");
    tower.close();
}

/// Two courses of one key share nothing.
fn courses_fly_apart<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(0..=1);
    let callers = board(&tower, [0, 1, 0, 1], losses);
    assert_eq!(served(callers), 4 - losses, "a caller got nothing");
    tower.close();
}

/// A solo flight is under way beside others of its key. Its leader's own waiter gets its result, or
/// takes over.
fn solo_flights_fly_alone<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(0..=1);
    let callers = board(&tower, [0; 3], losses);
    let solo = {
        let tower = Arc::clone(&tower);
        spawn(async move {
            let boarding = tower.boarding_solo(0);
            let leader = A::solo(&tower.flights, 0);
            hand_out(tower, boarding, leader, losses).await
        })
    };
    let served = served(callers) + served(vec![solo]);
    assert!(served >= 4 - losses, "a caller got nothing");
    tower.close();
}

/// Leaders have somebody else wait for their walk, and may be dropped: whoever waits gets a result.
fn leaders_hand_out_seats<A: Air>() {
    let tower = Tower::<A>::new();
    let losses = thread_rng().gen_range(0..=1);
    let leading = || {
        let tower = Arc::clone(&tower);
        spawn(async move {
            delay().await;
            let mut boarding = tower.boarding(0);
            let joined = A::join(&tower.flights, 0);
            tower.boarded(&mut boarding);
            match joined {
                Joined::Lead(leader) => hand_out(tower, boarding, leader, losses).await,
                Joined::Wait(waiter) => wait(tower, boarding, waiter, losses).await,
            }
        })
    };
    let callers = (0..3).map(|_| leading()).collect();
    assert!(served(callers) >= 3 - losses, "a caller got nothing");
    tower.close();
}

/// Starts one caller for each of `courses`; the first `losses` walks are lost.
fn board<A: Air, const N: usize>(
    tower: &Arc<Tower<A>>,
    courses: [Course; N],
    losses: usize,
) -> Vec<JoinHandle<bool>> {
    courses.map(|course| spawn(call(Arc::clone(tower), course, losses))).into()
}

/// Waits for all callers, and counts those that got a result.
fn served(callers: Vec<JoinHandle<bool>>) -> usize {
    callers.into_iter().filter_map(|caller| block_on(caller).ok()).filter(|served| *served).count()
}

async fn call<A: Air>(tower: Arc<Tower<A>>, course: Course, losses: usize) -> bool {
    delay().await;
    let mut boarding = tower.boarding(course);
    let joined = A::join(&tower.flights, course);
    tower.boarded(&mut boarding);
    match joined {
        Joined::Lead(leader) => fly(tower, boarding, leader, losses).await,
        Joined::Wait(waiter) => wait(tower, boarding, waiter, losses).await,
    }
}

async fn wait<A: Air>(
    tower: Arc<Tower<A>>,
    boarding: Boarding,
    waiter: A::Waiter,
    losses: usize,
) -> bool {
    match A::wait(waiter).await {
        Ended::Landed(walk) => {
            tower.arrived(&boarding, walk);
            true
        }
        Ended::Lead(leader) => {
            tower.took_over();
            fly(tower, boarding, leader, losses).await
        }
    }
}

/// Walks, and lands unless the walk is to be lost. Dropped midway, the walk ends before its leader.
async fn fly<A: Air>(
    tower: Arc<Tower<A>>,
    boarding: Boarding,
    leader: A::Leader,
    losses: usize,
) -> bool {
    let flying = tower.take_off(&boarding);
    pause().await;
    if flying.number() < losses {
        return false;
    }
    let walk = flying.end();
    A::land(leader, walk);
    tower.landed(walk);
    true
}

/// Walks while another task waits for it.
async fn hand_out<A: Air>(
    tower: Arc<Tower<A>>,
    boarding: Boarding,
    leader: A::Leader,
    losses: usize,
) -> bool {
    let waiter = A::waiter(&leader);
    let waiting = spawn(wait(Arc::clone(&tower), boarding, waiter, losses));
    let flown = fly(tower, boarding, leader, losses).await;
    waiting.await.is_ok_and(|waited| waited) && flown
}

/// Half of the callers come while others are under way already, wherever those are.
async fn delay() {
    let longest = if thread_rng().r#gen() { 20 } else { 0 };
    for _ in 0..thread_rng().gen_range(0..=longest) {
        yield_now().await;
    }
}

/// Up to two places for a cancellation, and for others to run.
async fn pause() {
    let yields = thread_rng().gen_range(0..=2);
    for _ in 0..yields {
        yield_now().await;
    }
}
