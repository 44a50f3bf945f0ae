//! The shipped `flight.rs`, its mutants, and the scenarios over them.

mod scenarios;
mod tower;

use std::{fmt::Debug, future::Future};

use crate::Subject;

/// What every flight here is about. One key: its shard is chosen by a hash that differs from run to
/// run, which must not decide anything.
const KEY: u8 = 7;

/// What of a key is loaded.
type Course = u8;

/// A walk, as its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Which one it was, from 0.
    number: usize,
    course: Course,
    solo: bool,
    /// The detaches that had been called when it began.
    detaches: usize,
}

/// The surface of `flight.rs`, of whichever copy.
pub(crate) trait Air: 'static {
    type Flights: Clone + Send + Sync + 'static;
    type Leader: Send + 'static;
    type Waiter: Send + 'static;

    fn flights() -> Self::Flights;
    fn join(flights: &Self::Flights, course: Course) -> Joined<Self>;
    fn solo(flights: &Self::Flights, course: Course) -> Self::Leader;
    fn detach(flights: &Self::Flights);
    /// The number of flights that can be joined.
    fn len(flights: &Self::Flights) -> usize;
    /// The number of keys in the map.
    fn keys(flights: &Self::Flights) -> usize;

    fn waiter(leader: &Self::Leader) -> Self::Waiter;
    fn land(leader: Self::Leader, walk: Walk);
    fn wait(waiter: Self::Waiter) -> impl Future<Output = Ended<Self>> + Send;
}

/// A caller's part.
pub(crate) enum Joined<A: Air + ?Sized> {
    Lead(A::Leader),
    Wait(A::Waiter),
}

/// How waiting ended.
pub(crate) enum Ended<A: Air + ?Sized> {
    Landed(Walk),
    Lead(A::Leader),
}

/// The modules of all copies. Each adapter stands beside the copy, where it sees what is private.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        #[allow(dead_code, reason = "the cache uses more of it than the scenarios")]
        mod shipped {
            include!(concat!(env!("OUT_DIR"), "/flight/shipped.rs"));
            adapter!();
        }
        $(
            #[allow(dead_code, unused, clippy::all, reason = "it is wrong by intention")]
            mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/flight/", stringify!($mutant), ".rs"));
                adapter!();
            }
        )*

        /// The shipped file.
        pub fn shipped() -> Subject {
            let scenarios = scenarios::all::<shipped::Copy>();
            Subject { name: "shipped", fault: "", scenarios }
        }

        /// Its mutants.
        pub fn mutants() -> Vec<Subject> {
            vec![$(Subject {
                name: stringify!($mutant),
                fault: $fault,
                scenarios: scenarios::all::<$mutant::Copy>(),
            }),*]
        }
    };
}

macro_rules! adapter {
    () => {
        pub(super) struct Copy;

        impl super::Air for Copy {
            type Flights = Arc<Flights<u8, super::Course, super::Walk>>;
            type Leader = Leader<u8, super::Course, super::Walk>;
            type Waiter = Waiter<u8, super::Course, super::Walk>;

            fn flights() -> Self::Flights {
                Flights::new()
            }

            fn join(flights: &Self::Flights, course: super::Course) -> super::Joined<Self> {
                match flights.join(&super::KEY, &course) {
                    Role::Lead(leader) => super::Joined::Lead(leader),
                    Role::Wait(waiter) => super::Joined::Wait(waiter),
                }
            }

            fn solo(flights: &Self::Flights, course: super::Course) -> Self::Leader {
                flights.solo(&super::KEY, &course)
            }

            fn detach(flights: &Self::Flights) {
                flights.detach(&super::KEY);
            }

            fn len(flights: &Self::Flights) -> usize {
                flights.len()
            }

            fn keys(flights: &Self::Flights) -> usize {
                flights.shards.iter().map(|shard| shard.lock().len()).sum()
            }

            fn waiter(leader: &Self::Leader) -> Self::Waiter {
                leader.waiter()
            }

            fn land(leader: Self::Leader, walk: super::Walk) {
                leader.land(walk);
            }

            async fn wait(waiter: Self::Waiter) -> super::Ended<Self> {
                match waiter.wait().await {
                    Waited::Landed(walk) => super::Ended::Landed(walk),
                    Waited::Lead(leader) => super::Ended::Lead(leader),
                }
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/flight.rs"));
