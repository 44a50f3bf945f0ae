//! Searching a model.

use std::{
    fmt::{self, Debug, Display},
    hash::Hash,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What a search that found no fault has seen.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Distinct states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The steps of the longest way into a state, as the search went.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, took } = self;
        write!(f, "{states} states, {steps} steps, depth {depth}, {:.1} s", took.as_secs_f64())
    }
}

/// The way into a fault.
#[derive(Clone, Debug)]
pub struct Catch {
    /// What does not hold.
    pub property: &'static str,
    /// The states that were seen before.
    pub states: usize,
    /// The steps that lead there.
    pub steps: Vec<String>,
}

impl Display for Catch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { property, states, steps } = self;
        write!(f, "not so: {property} ({} steps, {states} states)", steps.len())?;
        steps.iter().try_for_each(|step| write!(f, "\n    {step}"))
    }
}

/// A fault, and the search that must find it.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// What it does wrong.
    pub fault: &'static str,
    /// Looks for it.
    pub hunt: fn() -> Result<Figures, Catch>,
}

/// A model that can be searched.
pub trait Searched:
    Model<State: Debug + Clone + Eq + Hash + Send + Sync, Action: Debug + Clone + PartialEq>
    + Send
    + Sync
    + 'static
{
}

impl<M> Searched for M where
    M: Model<State: Debug + Clone + Eq + Hash + Send + Sync, Action: Debug + Clone + PartialEq>
        + Send
        + Sync
        + 'static
{
}

/// Visits every state, and sees that the model comes across all that it should.
///
/// # Errors
/// What does not hold, or was never come across.
pub fn exhaust<M: Searched>(model: M, threads: usize) -> Result<Figures, Catch> {
    let begun = Instant::now();
    let search = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let search = search.spawn_dfs().join();
    verdict(&search, begun, true)
}

/// Looks for the shortest way into a fault.
///
/// # Errors
/// The fault.
pub(crate) fn hunt<M: Searched>(model: M) -> Result<Figures, Catch> {
    let begun = Instant::now();
    let search = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    verdict(&search, begun, false)
}

/// What a search came to. Only a `whole` one must have come across all that it should.
fn verdict<M: Searched>(
    search: &impl Checker<M>,
    begun: Instant,
    whole: bool,
) -> Result<Figures, Catch> {
    let (mut found, states) = (search.discoveries(), search.unique_state_count());
    for property in search.model().properties() {
        let way = found.remove(property.name);
        let steps = match (&property.expectation, way) {
            (Expectation::Sometimes, Some(_)) | (Expectation::Always, None) => continue,
            (Expectation::Sometimes, None) if !whole => continue,
            (_, None) => vec!["never come across".to_owned()],
            (_, Some(way)) => {
                let last = way.last_state().clone();
                let steps = way.into_actions().into_iter().map(|step| format!("{step:?}"));
                steps.chain([format!("{last:?}")]).collect()
            }
        };
        return Err(Catch { property: property.name, states, steps });
    }
    let (steps, depth) = (search.state_count(), search.max_depth());
    Ok(Figures { states, steps, depth, took: begun.elapsed() })
}

/// What a search has come across: asked once for each, for the checker writes down every time it is told.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU32);

impl Seen {
    /// Whether this is the first time that `what` is so.
    pub(crate) fn first(&self, bit: u32, what: impl FnOnce() -> bool) -> bool {
        let mask = 1 << bit;
        if self.0.load(Ordering::Relaxed) & mask != 0 || !what() {
            return false;
        }
        self.0.fetch_or(mask, Ordering::Relaxed) & mask == 0
    }
}
