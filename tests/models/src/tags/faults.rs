//! The faults that this model must find.

use crate::{Catch, Figures, Mutant, hunt::hunt, tagging};

use super::{Bounds, Tags};

/// What a load or a writer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    GenerationAfterLoad,
    NoEpoch,
    EpochFirst,
    Counter,
}

/// One of each, and nothing goes wrong.
const CALM: Bounds = Bounds { loaders: 1, writers: 1, late: 0, evictions: 0, restarts: 0 };

/// Looks for one of them.
fn seek(fault: Fault, bounds: Bounds) -> Result<Figures, Catch> {
    hunt(Tags::<tagging::shipped::Text>::new(bounds, Some(fault)))
}

/// Looks for what is wrong with a copy of the decisions, where it may go wrong.
macro_rules! copies {
    ($($copy:ident: $bounds:expr;)*) => {
        [$(Mutant {
            name: stringify!($copy),
            fault: tagging::$copy::FAULT,
            hunt: || hunt(Tags::<tagging::$copy::Text>::new($bounds, None)),
        }),*]
    };
}

/// All of them.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let copies = copies! {
        generation_before_epoch: CALM;
        epoch_is_not_compared: CALM;
        generation_of_any_run: Bounds { restarts: 1, ..CALM };
    };
    let actors = [
        Mutant {
            name: "generation_after_load",
            fault: "the generation of a tag is read after the load",
            hunt: || seek(Fault::GenerationAfterLoad, CALM),
        },
        Mutant {
            name: "no_epoch",
            fault: "a load that reveals its tag takes the generation as it is then",
            hunt: || seek(Fault::NoEpoch, CALM),
        },
        Mutant {
            name: "epoch_is_looked_at_first",
            fault: "a load that reveals its tag looks at the epoch, and then at the generation",
            hunt: || seek(Fault::EpochFirst, CALM),
        },
        Mutant {
            name: "counter_generation",
            fault: "generations are counted, and begin anew where they were lost",
            hunt: || seek(Fault::Counter, Bounds { evictions: 1, ..CALM }),
        },
    ];
    copies.into_iter().chain(actors).collect()
}
