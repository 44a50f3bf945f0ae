//! From a graph of positions to one number.
//!
//! A type that refers to itself is a graph with loops, and one shape has many graphs: a struct used
//! twice is one node or two. So the graph is first reduced to its smallest form, in which two
//! positions are one if no sequence of steps tells them apart (partition refinement, as for automata:
//! E. F. Moore, "Gedanken-experiments on Sequential Machines", 1956). That form is written out depth
//! first; a position met again is written as its ordinal.
//!
//! Rejected: hashing while tracing, with back references to types. A struct whose two fields are of
//! one type would then differ from one whose fields are of two equal types.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::label::{Label, Leaf};

/// Precedes everything that is hashed; another encoding gets another.
const PREFIX: &[u8] = b"tiered shape 1";
/// Written before the ordinal of a position met again. No label's tag.
const AGAIN: u8 = 255;

/// A position of the type and the positions of its parts. The first node of a graph is its root.
#[derive(Debug)]
pub(super) struct Node {
    /// What is there.
    pub(super) label: Label,
    /// Its parts, as indices into the graph.
    pub(super) parts: Vec<usize>,
}

/// The graph's fingerprint, and whether all of the type is in it.
pub(super) fn fingerprint(nodes: &[Node]) -> (u64, bool) {
    let classes = classes(nodes);
    let class = |node: usize| classes.get(node).copied().unwrap_or_default();
    let mut bytes = PREFIX.to_vec();
    let mut complete = true;
    let mut ordinals = HashMap::new();
    let mut ahead = vec![0];
    while let Some(index) = ahead.pop() {
        let Some(node) = nodes.get(index) else { continue };
        let next = ordinals.len() as u64;
        if let Some(ordinal) = ordinals.get(&class(index)) {
            bytes.push(AGAIN);
            bytes.extend_from_slice(&u64::to_le_bytes(*ordinal));
            continue;
        }
        ordinals.insert(class(index), next);
        complete &= !matches!(node.label, Label::Leaf(Leaf::Opaque | Leaf::Unreached));
        node.label.write(&mut bytes);
        // The label does not tell the number of parts where tracing was cut short.
        bytes.extend_from_slice(&(node.parts.len() as u64).to_le_bytes());
        ahead.extend(node.parts.iter().rev());
    }
    (xxh3_64(&bytes), complete)
}

/// The class of each node: nodes of one class cannot be told apart.
fn classes(nodes: &[Node]) -> Vec<usize> {
    let mut seen = HashMap::new();
    let mut classes: Vec<usize> = nodes
        .iter()
        .map(|node| {
            let next = seen.len();
            *seen.entry(node.label).or_insert(next)
        })
        .collect();
    let mut count = seen.len();
    loop {
        let mut seen = HashMap::new();
        let finer: Vec<usize> = nodes
            .iter()
            .zip(&classes)
            .map(|(node, class)| {
                let parts: Vec<_> = node.parts.iter().map(|part| classes.get(*part)).collect();
                let next = seen.len();
                *seen.entry((class, parts)).or_insert(next)
            })
            .collect();
        // Classes only ever split: as many as before means none did.
        let stable = seen.len() == count;
        count = seen.len();
        drop(seen);
        classes = finer;
        if stable {
            return classes;
        }
    }
}
