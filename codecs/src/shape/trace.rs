//! The walk over all positions of a type, one pass each.
//!
//! The walk is breadth first, so that every type is reached by its shortest path. A container whose
//! visitor was met before is the same node again: that ends recursion, and keeps a type used in many
//! places as cheap as in one. Passes, calls and depth are bounded; what lies beyond is unreached.

use std::{
    any::TypeId,
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::DeserializeOwned;

use super::{
    dummy::{Choice, advance},
    graph::Node,
    label::{Label, Leaf},
    probe::{Found, Pass, Probe, Step, Tag},
};

/// The most passes over one type.
const MAX_PASSES: u32 = 16_384;
/// The most calls a type may make in one pass.
const MAX_CALLS: u32 = 1 << 16;
/// The most calls a type may make in all passes.
const MAX_CALLS_IN_ALL: u32 = 1 << 22;
/// The longest path.
const MAX_STEPS: usize = 128;
/// How deeply made-up values nest, tried in this order: a recursive type's shallow values are few.
const DEPTHS: [usize; 3] = [2, 5, 12];
/// How many made-up values are tried at each depth.
const ATTEMPTS: u32 = 256;
/// From this length on it is worth a pass to learn whether all elements of a tuple are of one type.
const LONG: usize = 8;

/// The graph of `T`'s positions, the root first.
pub(super) fn trace<T: DeserializeOwned>() -> Vec<Node> {
    Tracer {
        run: run::<T>,
        nodes: Vec::new(),
        leaves: HashMap::new(),
        containers: HashMap::new(),
        ahead: VecDeque::new(),
        passes: MAX_PASSES,
        calls: MAX_CALLS_IN_ALL,
    }
    .trace()
}

/// Runs one pass. `false` if `T` panicked.
fn run<T: DeserializeOwned>(pass: &Pass<'_>) -> bool {
    // Nothing that was being changed is looked at after a panic but the pass's own cells.
    catch_unwind(AssertUnwindSafe(|| drop(T::deserialize(Probe::new(pass))))).is_ok()
}

/// A way to a position: steps, and the made-up values on it.
#[derive(Clone, Default)]
struct Route {
    steps: Vec<Step>,
    choices: Vec<Choice>,
    depth: usize,
}

/// A position that was reached.
struct Reached {
    found: Found,
    route: Route,
    /// Who asked for each element of the sequence it is in, itself included.
    elements: Vec<Option<TypeId>>,
}

/// How a pass ended.
struct End {
    found: Option<Found>,
    elements: Vec<Option<TypeId>>,
    /// It panicked, or made too many calls: another attempt would, too.
    cut: bool,
}

/// A trace in progress.
struct Tracer {
    run: fn(&Pass<'_>) -> bool,
    nodes: Vec<Node>,
    leaves: HashMap<Leaf, usize>,
    containers: HashMap<(TypeId, Label), usize>,
    /// Nodes whose parts are not yet known.
    ahead: VecDeque<(usize, Route)>,
    passes: u32,
    calls: u32,
}

impl Tracer {
    /// Traces everything.
    fn trace(mut self) -> Vec<Node> {
        match self.reach(Route::default(), 0, false) {
            Some(root) => self.place(root),
            None => self.leaf(Leaf::Unreached),
        };
        while let Some((node, route)) = self.ahead.pop_front() {
            let parts = self.expand(node, &route);
            if let Some(node) = self.nodes.get_mut(node) {
                node.parts = parts;
            }
        }
        self.nodes
    }

    /// The nodes of a node's parts.
    fn expand(&mut self, node: usize, route: &Route) -> Vec<usize> {
        let Some(label) = self.nodes.get(node).map(|node| node.label) else { return Vec::new() };
        let mut parts = Vec::new();
        // What is made up for one element serves the next.
        let mut last = route.clone();
        let mut in_order = true;
        for index in 0..label.parts() {
            if index == 1 && label.parts() >= LONG && self.is_uniform(&label, route) {
                return vec![parts.first().copied().unwrap_or_default(); label.parts()];
            }
            let mut reached = None;
            for step in label.ways(index).into_iter().flatten() {
                let element = matches!(step, Step::Element(_));
                if reached.is_some() || (element && !in_order) {
                    continue;
                }
                reached = self.step(route, step, &last);
                // Behind an element that cannot be made up nothing is reached in order.
                in_order &= !element || reached.is_some();
            }
            match reached {
                Some(reached) => {
                    last = reached.route.clone();
                    parts.push(self.place(reached));
                }
                None => parts.push(self.leaf(Leaf::Unreached)),
            }
            let only_in_order = label.ways(index).iter().flatten().all(|step| step.is_element());
            if self.passes == 0 || (only_in_order && !in_order) {
                break;
            }
        }
        self.adjacent(&label, route, &parts).unwrap_or(parts)
    }

    /// Whether all elements of a tuple are asked for by one type.
    fn is_uniform(&mut self, label: &Label, route: &Route) -> bool {
        let Some(Step::Element(last)) = label.ways(label.parts() - 1)[0] else { return false };
        let Some(end) = self.step(route, Step::Element(last), route) else { return false };
        match end.elements.split_first() {
            Some((Some(first), rest)) => rest.iter().all(|other| *other == Some(*first)),
            _ => false,
        }
    }

    /// The parts of an adjacently tagged enum: its tag, then the content under each variant. Such an
    /// enum shows itself as a struct of two fields; its content, asked for before the tag is known,
    /// is opaque, and tells its kind once the tag stands before it.
    fn adjacent(&mut self, label: &Label, route: &Route, parts: &[usize]) -> Option<Vec<usize>> {
        let (&[tag, content], Label::Struct([field, name])) = (parts, label) else { return None };
        let Label::Enum(variants) = self.nodes.get(tag)?.label else { return None };
        let opaque = Label::Leaf(Leaf::Opaque);
        if self.nodes.get(content)?.label != opaque {
            return None;
        }
        let mut parts = vec![tag];
        for variant in variants {
            let tag = Tag { field, content: name, variant };
            // A variant without content would take any.
            let reached = self
                .step(route, Step::Content(tag), route)
                .filter(|reached| reached.found.label != opaque)
                .or_else(|| self.step(route, Step::NoContent(tag), route));
            parts.push(match reached {
                Some(reached) => self.place(reached),
                None => content,
            });
        }
        Some(parts)
    }

    /// Goes one step on from `from`, beginning with the made-up values of `guess`, whose choices
    /// begin with those of `from`.
    fn step(&mut self, from: &Route, step: Step, guess: &Route) -> Option<Reached> {
        let mut route = Route { steps: from.steps.clone(), ..guess.clone() };
        route.steps.push(step);
        self.reach(route, from.choices.len(), step.makes_up())
    }

    /// Reaches the end of `route`, changing its choices from `floor` on if it `searches`.
    fn reach(&mut self, mut route: Route, floor: usize, searches: bool) -> Option<Reached> {
        let guess = route.choices.clone();
        let shallowest = route.depth;
        for depth in DEPTHS.into_iter().filter(|depth| *depth >= shallowest) {
            route.depth = depth;
            route.choices.clone_from(&guess);
            for _ in 0..ATTEMPTS {
                let end = self.pass(&mut route)?;
                if let Some(found) = end.found {
                    return Some(Reached { found, route, elements: end.elements });
                }
                if !searches || end.cut {
                    return None;
                }
                if !advance(&mut route.choices, floor) {
                    break;
                }
            }
        }
        None
    }

    /// One pass along `route`, whose choices become those that were made. `None` if there was one
    /// too many already.
    fn pass(&mut self, route: &mut Route) -> Option<End> {
        self.passes = self.passes.checked_sub(1)?;
        let calls = MAX_CALLS.min(self.calls);
        let pass = Pass {
            steps: &route.steps,
            limit: route.depth,
            choices: RefCell::new(std::mem::take(&mut route.choices)),
            made: Cell::new(0),
            found: Cell::new(None),
            elements: RefCell::default(),
            calls: Cell::new(calls),
            overdrawn: Cell::new(0),
        };
        let unwound = !(self.run)(&pass);
        let left = pass.calls.get();
        self.calls = self.calls.saturating_sub(calls - left);
        let (made, found, elements) = (pass.made.get(), pass.found.get(), pass.elements.take());
        route.choices = pass.choices.take();
        route.choices.truncate(made);
        Some(End { found, elements, cut: unwound || left == 0 })
    }

    /// The node of a position: a known one, or a new one whose parts are still to come.
    fn place(&mut self, reached: Reached) -> usize {
        let Found { label, asker } = reached.found;
        if let Label::Leaf(leaf) = label {
            return self.leaf(leaf);
        }
        let key = asker.map(|asker| (asker, label));
        if let Some(known) = key.and_then(|key| self.containers.get(&key)) {
            return *known;
        }
        let node = self.nodes.len();
        self.nodes.push(Node { label, parts: Vec::new() });
        if let Some(key) = key {
            self.containers.insert(key, node);
        }
        if reached.route.steps.len() < MAX_STEPS {
            self.ahead.push_back((node, reached.route));
        } else {
            let beyond = self.leaf(Leaf::Unreached);
            if let Some(node) = self.nodes.get_mut(node) {
                node.parts = vec![beyond];
            }
        }
        node
    }

    /// The node of a leaf.
    fn leaf(&mut self, leaf: Leaf) -> usize {
        let nodes = &mut self.nodes;
        *self.leaves.entry(leaf).or_insert_with(|| {
            nodes.push(Node { label: Label::Leaf(leaf), parts: Vec::new() });
            nodes.len() - 1
        })
    }
}
