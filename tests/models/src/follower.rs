//! The shipped `follower.rs` and its mutants, as the models use them.

use std::{fmt::Debug, hash::Hash};

// As the copies name what is not in their file.
use tiered_tiers::protocol::{Ask, Polled, Position, Step};

use crate::Token;

/// A follower, of whichever copy. Moments are ages, in ticks; a message says whether it is for the key in question.
pub(crate) trait Following:
    Clone + Debug + Default + Eq + Hash + Send + Sync + 'static
{
    fn ask(&self) -> Ask;
    fn answered(&mut self, sent: u8, polled: Polled<bool, Token>) -> Step<bool, u8>;
}

macro_rules! adapter {
    () => {
        impl $crate::follower::Following for Follower<$crate::Token> {
            fn ask(&self) -> tiered_tiers::protocol::Ask {
                match Follower::ask(self) {
                    Ask::Open => tiered_tiers::protocol::Ask::Open,
                    Ask::After(at) => tiered_tiers::protocol::Ask::After(at),
                }
            }

            fn answered(
                &mut self,
                sent: u8,
                polled: tiered_tiers::protocol::Polled<bool, $crate::Token>,
            ) -> tiered_tiers::protocol::Step<bool, u8> {
                let Step { void, messages, proven } = Follower::answered(self, sent, polled);
                let void = void.map(|void| match void {
                    Void::Opened => tiered_tiers::protocol::Void::Opened,
                    Void::Gap => tiered_tiers::protocol::Void::Gap,
                    Void::Headless => tiered_tiers::protocol::Void::Headless,
                    Void::OtherRun => tiered_tiers::protocol::Void::OtherRun,
                });
                tiered_tiers::protocol::Step { void, messages, proven }
            }
        }
    };
}

/// The shipped one.
pub(crate) mod shipped {
    pub(crate) use tiered_tiers::protocol::Follower;
    use tiered_tiers::protocol::{Ask, Step, Void};

    adapter!();
}

/// The modules of all mutants, and what is wrong with each.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        $(
            #[allow(unused, missing_docs, unreachable_pub, clippy::all, reason = "it is wrong by intention")]
            pub(crate) mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/follower/", stringify!($mutant), ".rs"));
                adapter!();

                pub(crate) const FAULT: &str = $fault;
            }
        )*
    };
}

include!(concat!(env!("OUT_DIR"), "/follower.rs"));
