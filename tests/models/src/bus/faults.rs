//! The faults that this model must find.

use crate::{Catch, Figures, Mutant, follower, hunt::hunt};

use super::{Bounds, Bus};

/// What a publisher or a reader does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    MessageBeforeDelete,
    ProofAtReceiveTime,
    AbandonedCounts,
    TicketAfterLoad,
    VoidKeepsLoads,
    MessageKeepsLoads,
}

/// Looks for one of them.
fn seek(fault: Fault) -> Result<Figures, Catch> {
    hunt(Bus::<follower::shipped::Follower<_>>::new(Bounds::CALM, Some(fault)))
}

/// Looks for what is wrong with a copy of the follower, where it may go wrong.
macro_rules! copies {
    ($($copy:ident: $bounds:expr;)*) => {
        [$(Mutant {
            name: stringify!($copy),
            fault: follower::$copy::FAULT,
            hunt: || hunt(Bus::<follower::$copy::Follower<_>>::new($bounds, None)),
        }),*]
    };
}

/// All of them.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let copies = copies! {
        start_at_the_end: Bounds::CALM;
        gaps_are_skipped: Bounds { others: 1, kept: 1, ..Bounds::CALM };
        head_is_not_compared: Bounds { losses: 1, ..Bounds::CALM };
        no_head_is_nothing_new: Bounds { losses: 1, ..Bounds::CALM };
        run_is_not_compared: Bounds { restarts: 1, ..Bounds::CALM };
        a_cut_answer_counts: Bounds { others: 1, ..Bounds::CALM };
    };
    let actors = [
        Mutant {
            name: "message_before_delete",
            fault: "the message goes out before the key is deleted in L2",
            hunt: || seek(Fault::MessageBeforeDelete),
        },
        Mutant {
            name: "proof_at_receive_time",
            fault: "a poll proves the view as of when it was answered",
            hunt: || seek(Fault::ProofAtReceiveTime),
        },
        Mutant {
            name: "abandoned_poll_counts",
            fault: "the answer to a poll that was given up is taken for that to the next",
            hunt: || seek(Fault::AbandonedCounts),
        },
        Mutant {
            name: "ticket_after_load",
            fault: "the ticket of the local fence is captured after the load",
            hunt: || seek(Fault::TicketAfterLoad),
        },
        Mutant {
            name: "void_keeps_loads",
            fault: "a void does not overtake the loads under way",
            hunt: || seek(Fault::VoidKeepsLoads),
        },
        Mutant {
            name: "message_keeps_loads",
            fault: "a message does not overtake the loads under way",
            hunt: || seek(Fault::MessageKeepsLoads),
        },
    ];
    copies.into_iter().chain(actors).collect()
}
