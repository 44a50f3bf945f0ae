//! The shipped `tags.rs` and its mutants, as the model uses them.

use std::{fmt::Debug, hash::Hash};

// As the copies name what is not in their file.
use tiered_tiers::protocol::{Change, Look};

use crate::{Incarnation, Token};

/// What a copy of the text decides.
pub(crate) trait Tagging: Debug + Send + Sync + 'static {
    type Generation: Copy + Debug + Eq + Hash + Send + Sync;
    type Revealing: Clone + Debug + Eq + Hash + Send + Sync;

    fn generation(token: Token, run: Option<Incarnation>) -> Self::Generation;
    fn in_run(generation: Self::Generation, present: Option<Incarnation>) -> Option<Token>;
    fn order() -> [Change; 2];
    fn revealing(epoch: Token) -> Self::Revealing;
    fn look(load: &Self::Revealing) -> Look;
    fn generations(load: &mut Self::Revealing, generations: Vec<Token>);
    fn epoch(load: Self::Revealing, epoch: Token) -> Option<Vec<Token>>;
}

macro_rules! adapter {
    () => {
        #[derive(Debug)]
        pub(crate) struct Text;

        impl $crate::tagging::Tagging for Text {
            type Generation = Generation<$crate::Token>;
            type Revealing = Revealing<$crate::Token>;

            fn generation(
                token: $crate::Token,
                run: Option<$crate::Incarnation>,
            ) -> Self::Generation {
                Generation::new(token, run)
            }

            fn in_run(
                generation: Self::Generation,
                present: Option<$crate::Incarnation>,
            ) -> Option<$crate::Token> {
                generation.in_run(present)
            }

            fn order() -> [tiered_tiers::protocol::Change; 2] {
                Change::ORDER.map(|change| match change {
                    Change::Epoch => tiered_tiers::protocol::Change::Epoch,
                    Change::Generation => tiered_tiers::protocol::Change::Generation,
                })
            }

            fn revealing(epoch: $crate::Token) -> Self::Revealing {
                Revealing::new(epoch)
            }

            fn look(load: &Self::Revealing) -> tiered_tiers::protocol::Look {
                match load.look() {
                    Look::Generations => tiered_tiers::protocol::Look::Generations,
                    Look::Epoch => tiered_tiers::protocol::Look::Epoch,
                }
            }

            fn generations(load: &mut Self::Revealing, generations: Vec<$crate::Token>) {
                load.generations(generations);
            }

            fn epoch(load: Self::Revealing, epoch: $crate::Token) -> Option<Vec<$crate::Token>> {
                load.epoch(&epoch)
            }
        }
    };
}

/// The shipped one.
pub(crate) mod shipped {
    use tiered_tiers::protocol::{Change, Generation, Look, Revealing};

    adapter!();
}

/// The modules of all mutants, and what is wrong with each.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        $(
            #[allow(unused, missing_docs, unreachable_pub, clippy::all, reason = "it is wrong by intention")]
            pub(crate) mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/tags/", stringify!($mutant), ".rs"));
                adapter!();

                pub(crate) const FAULT: &str = $fault;
            }
        )*
    };
}

include!(concat!(env!("OUT_DIR"), "/tags.rs"));
