//! The shipped `fence.rs`, its mutants, and the scenarios over them.

mod model;
mod scenarios;

use crate::Subject;

/// The surface of `fence.rs`, of whichever copy.
pub(crate) trait Fencing: 'static {
    type Fence: Clone + Send + Sync + 'static;
    type Ticket: Send + 'static;

    fn fence() -> Self::Fence;
    fn capture(fence: &Self::Fence, hash: u64) -> Self::Ticket;
    fn advance(fence: &Self::Fence, hash: u64, change: impl FnOnce());
    /// The number of keys in the map.
    fn slots(fence: &Self::Fence) -> usize;

    fn holds(ticket: &Self::Ticket) -> bool;
    fn admit(ticket: &Self::Ticket, insert: impl FnOnce()) -> bool;
    fn supersede(ticket: &Self::Ticket, change: impl FnOnce(bool));
}

/// The modules of all copies. Each adapter stands beside the copy, where it sees what is private.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        #[allow(dead_code, reason = "the cache uses more of it than the scenarios")]
        mod shipped {
            include!(concat!(env!("OUT_DIR"), "/fence/shipped.rs"));
            adapter!();
        }
        $(
            #[allow(dead_code, unused, clippy::all, reason = "it is wrong by intention")]
            mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/fence/", stringify!($mutant), ".rs"));
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

        impl super::Fencing for Copy {
            type Fence = Arc<Fence>;
            type Ticket = Ticket;

            fn fence() -> Self::Fence {
                Fence::new()
            }

            fn capture(fence: &Self::Fence, hash: u64) -> Ticket {
                fence.capture(hash, b"key")
            }

            fn advance(fence: &Self::Fence, hash: u64, change: impl FnOnce()) {
                fence.advance(hash, change);
            }

            fn slots(fence: &Self::Fence) -> usize {
                fence.shards.iter().map(|shard| shard.lock().len()).sum()
            }

            fn holds(ticket: &Ticket) -> bool {
                ticket.holds()
            }

            fn admit(ticket: &Ticket, insert: impl FnOnce()) -> bool {
                ticket.admit(insert)
            }

            fn supersede(ticket: &Ticket, change: impl FnOnce(bool)) {
                ticket.supersede(change);
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/fence.rs"));
