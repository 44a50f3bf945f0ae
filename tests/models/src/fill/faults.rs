//! The faults that this model must find.

use crate::{Catch, Figures, Mutant, hunt::hunt, record};

use super::{Bounds, Fill};

/// What a client, or the server, does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    CounterToken,
    TokenPerProcess,
    NoIncarnation,
    RunAfterLoad,
    DoubleDelete,
    SetKeepsLease,
}

/// Looks for one of them.
fn seek(fault: Fault) -> Result<Figures, Catch> {
    // A counter that the server keeps is found out by a server that does not tell its run.
    let tells_run = fault != Fault::CounterToken;
    // A late `set` that asks for no lease is another fault.
    let late = usize::from(fault != Fault::SetKeepsLease);
    let bounds = Bounds { tells_run, late, ..Bounds::TELLING };
    hunt(Fill::<record::shipped::Record<_, _, _>>::new(bounds, Some(fault), true))
}

/// Looks for what is wrong with a copy of the record.
macro_rules! copies {
    ($($copy:ident)*) => {
        [$(Mutant {
            name: stringify!($copy),
            fault: record::$copy::FAULT,
            hunt: || hunt(Fill::<record::$copy::Record<_, _, _>>::new(Bounds::TELLING, None, true)),
        }),*]
    };
}

/// All of them.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let copies = copies![no_token_check delete_keeps_the_lease renewal_takes_the_lease];
    let actors = [
        Mutant {
            name: "counter_token",
            fault: "tokens are the server's counter, which begins anew with the server",
            hunt: || seek(Fault::CounterToken),
        },
        Mutant {
            name: "token_per_process",
            fault: "the loads of a process share one token",
            hunt: || seek(Fault::TokenPerProcess),
        },
        Mutant {
            name: "no_incarnation",
            fault: "a reader believes entries of any run of the server",
            hunt: || seek(Fault::NoIncarnation),
        },
        Mutant {
            name: "run_after_load",
            fault: "the run of the server is asked for after the load",
            hunt: || seek(Fault::RunAfterLoad),
        },
        Mutant {
            name: "double_delete",
            fault: "no lease: loads store what they have, and writers delete twice",
            hunt: || seek(Fault::DoubleDelete),
        },
        Mutant {
            name: "set_keeps_the_lease",
            fault: "a `set` stores its value and leaves the lease of a load under way",
            hunt: || seek(Fault::SetKeepsLease),
        },
    ];
    copies.into_iter().chain(actors).collect()
}
