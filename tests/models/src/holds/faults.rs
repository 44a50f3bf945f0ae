//! The faults that this model must find.

use crate::{Catch, Figures, Mutant, hunt::hunt, record};

use super::{Bounds, Holds};

/// What a writer, or the tier that sends its messages, does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    HoldTwice,
    RenewalBegins,
    UnansweredWritesThrough,
    RunAfterHold,
    NeverAsksWhetherAlone,
}

/// Looks for one of them.
fn seek(fault: Fault, bounds: Bounds) -> Result<Figures, Catch> {
    hunt(Holds::<record::shipped::Record<_, _, _>>::new(bounds, Some(fault), true))
}

/// Looks for what is wrong with a copy of the record, where it may go wrong.
macro_rules! copies {
    ($($copy:ident: $bounds:expr;)*) => {
        [$(Mutant {
            name: stringify!($copy),
            fault: record::$copy::FAULT,
            hunt: || hunt(Holds::<record::$copy::Record<_, _, _>>::new($bounds, None, true)),
        }),*]
    };
}

/// All of them.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let copies = copies! {
        single_hold_slot: Bounds { loaders: 1, ..Bounds::CALM };
        leases_on_hold: Bounds { loaders: 1, writers: 1, ..Bounds::CALM };
        delete_leaves_holders_alone: Bounds::CALM;
        end_leaves_holders_alone: Bounds { late: 1, ..Bounds::CALM };
        holds_do_not_overlap: Bounds::CALM;
        later_hold_is_alone: Bounds::CALM;
        renewed_hold_is_alone: Bounds::CALM;
        end_keeps_the_value: Bounds { loaders: 1, ..Bounds::CALM };
        overlapped_gets_a_lease: Bounds::CALM;
    };
    let actors = [
        Mutant {
            name: "renewal_begins_a_hold",
            fault: "a renewal is the same message as the first of a hold",
            hunt: || seek(Fault::RenewalBegins, Bounds::CALM),
        },
        Mutant {
            name: "unanswered_writes_through",
            fault: "a writer writes through under a hold that it got no answer for",
            hunt: || seek(Fault::UnansweredWritesThrough, Bounds { late: 1, ..Bounds::CALM }),
        },
        Mutant {
            name: "hold_is_sent_twice",
            fault: "the first message of a hold is sent again, and its first copy comes late",
            hunt: || seek(Fault::HoldTwice, Bounds::CALM),
        },
        Mutant {
            name: "run_after_hold",
            fault: "who writes through asks for the run of the server after its hold",
            hunt: || seek(Fault::RunAfterHold, Bounds { restarts: 1, ..Bounds::CALM }),
        },
        Mutant {
            name: "never_asks_whether_alone",
            fault: "who writes through does so whoever held meanwhile",
            hunt: || seek(Fault::NeverAsksWhetherAlone, Bounds::CALM),
        },
    ];
    copies.into_iter().chain(actors).collect()
}
