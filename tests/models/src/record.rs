//! The shipped `record.rs` and its mutants, as the models use them.

use std::{fmt::Debug, hash::Hash};

use tiered_tiers::{
    Claim,
    protocol::{Granted, HoldEnd},
};

use crate::{Tick, Token};

/// A key on a server, of whichever copy. `V` is what is stored.
pub(crate) trait Key<V>:
    Clone + Debug + Default + Eq + Hash + Send + Sync + 'static
{
    fn value(&self, now: Tick) -> Option<&V>;
    fn is_leased_to(&self, now: Tick, token: Token) -> bool;
    fn is_on_hold(&self, now: Tick) -> bool;
    fn is_held_by(&self, now: Tick, token: Token) -> bool;
    fn lease(&mut self, now: Tick, token: Token, end: Tick, claim: Claim) -> Granted;
    fn renew(&mut self, now: Tick, token: Token, end: Tick) -> bool;
    fn fill(&mut self, now: Tick, token: Token, value: V) -> bool;
    fn release(&mut self, now: Tick, token: Token);
    fn delete(&mut self);
    /// The lease or the hold that ends first.
    fn evict_guard(&mut self);
    fn hold(&mut self, now: Tick, token: Token, end: Tick);
    fn renew_hold(&mut self, now: Tick, token: Token, end: Tick);
    fn end_hold(&mut self, now: Tick, token: Token, lease: Option<(Token, Tick)>) -> HoldEnd;
}

/// Longer than any search runs.
const FOREVER: Tick = Tick::MAX;

macro_rules! adapter {
    () => {
        impl<V> $crate::record::Key<V> for Record<V, $crate::Token, $crate::Tick>
        where
            V: Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static,
        {
            fn value(&self, now: $crate::Tick) -> Option<&V> {
                Record::value(self, now).map(|(value, _)| value)
            }

            fn is_leased_to(&self, now: $crate::Tick, token: $crate::Token) -> bool {
                Record::is_leased_to(self, now, &token)
            }

            fn is_on_hold(&self, now: $crate::Tick) -> bool {
                Record::is_on_hold(self, now)
            }

            fn is_held_by(&self, now: $crate::Tick, token: $crate::Token) -> bool {
                Record::is_held_by(self, now, &token)
            }

            fn lease(
                &mut self,
                now: $crate::Tick,
                token: $crate::Token,
                end: $crate::Tick,
                claim: tiered_tiers::Claim,
            ) -> tiered_tiers::protocol::Granted {
                match Record::lease(self, now, token, end, claim) {
                    Granted::Yes => tiered_tiers::protocol::Granted::Yes,
                    Granted::Held => tiered_tiers::protocol::Granted::Held,
                    Granted::OnHold => tiered_tiers::protocol::Granted::OnHold,
                }
            }

            fn renew(
                &mut self,
                now: $crate::Tick,
                token: $crate::Token,
                end: $crate::Tick,
            ) -> bool {
                Record::renew(self, now, &token, end)
            }

            fn fill(&mut self, now: $crate::Tick, token: $crate::Token, value: V) -> bool {
                Record::fill(self, now, &token, value, $crate::record::FOREVER)
            }

            fn release(&mut self, now: $crate::Tick, token: $crate::Token) {
                Record::release(self, now, &token);
            }

            fn delete(&mut self) {
                Record::delete(self);
            }

            fn evict_guard(&mut self) {
                Record::evict_first_guard(self);
            }

            fn hold(&mut self, now: $crate::Tick, token: $crate::Token, end: $crate::Tick) {
                Record::hold(self, now, token, end);
            }

            fn renew_hold(&mut self, now: $crate::Tick, token: $crate::Token, end: $crate::Tick) {
                Record::renew_hold(self, now, token, end);
            }

            fn end_hold(
                &mut self,
                now: $crate::Tick,
                token: $crate::Token,
                lease: Option<($crate::Token, $crate::Tick)>,
            ) -> tiered_tiers::protocol::HoldEnd {
                match Record::end_hold(self, now, &token, lease) {
                    HoldEnd::Alone => tiered_tiers::protocol::HoldEnd::Alone,
                    HoldEnd::Overlapped => tiered_tiers::protocol::HoldEnd::Overlapped,
                    HoldEnd::Lost => tiered_tiers::protocol::HoldEnd::Lost,
                }
            }
        }
    };
}

/// The shipped one.
pub(crate) mod shipped {
    pub(crate) use tiered_tiers::protocol::Record;
    use tiered_tiers::protocol::{Granted, HoldEnd};

    adapter!();
}

/// The modules of all mutants, and what is wrong with each.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        $(
            #[allow(unused, missing_docs, unreachable_pub, clippy::all, reason = "it is wrong by intention")]
            pub(crate) mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/record/", stringify!($mutant), ".rs"));
                adapter!();

                pub(crate) const FAULT: &str = $fault;
            }
        )*
    };
}

include!(concat!(env!("OUT_DIR"), "/record.rs"));
