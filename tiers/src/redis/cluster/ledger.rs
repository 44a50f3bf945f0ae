//! Who had which slot before and after each walk of a `clear`, and whether the walks together have seen
//! every key.
//!
//! A key that moves from a node not yet walked to one already walked is missed. So a walk counts for a
//! slot only if the slot stayed where it was. A slot that moves once, from one node to another, is caught
//! by two walks over both: whenever a key moves, during one of the two it stands still.

use std::collections::{HashMap, HashSet};

use ::redis::Value;

use super::{super::reply, slot::SLOTS};
use crate::TierError;

/// What one node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) id: String,
    slots: Vec<(u16, u16)>,
    /// Slots on their way: which, from whom, to whom.
    moves: Vec<(u16, String, String)>,
}

/// Where a slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    At(String),
    Between(String, String),
    /// More than one node has it.
    Disputed,
}

/// Where every slot is at one time.
#[derive(Debug)]
struct Picture {
    places: HashMap<u16, Place>,
    nodes: HashSet<String>,
}

/// All pictures; between each and the next lies a walk over the nodes of the first.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pictures: Vec<Picture>,
}

impl Ledger {
    /// Takes down what the nodes claim; `false` if some slot is claimed by none, and nothing is taken down.
    pub(super) fn take_down(&mut self, claims: &[Claim]) -> bool {
        let mut places: HashMap<u16, Place> = HashMap::with_capacity(usize::from(SLOTS));
        for claim in claims {
            for slot in claim.slots.iter().flat_map(|(first, last)| *first..=*last) {
                let place = places.entry(slot).or_insert_with(|| Place::At(claim.id.clone()));
                if *place != Place::At(claim.id.clone()) {
                    *place = Place::Disputed;
                }
            }
        }
        if places.len() < usize::from(SLOTS) {
            return false;
        }
        for (slot, from, to) in claims.iter().flat_map(|claim| &claim.moves) {
            let between = Place::Between(from.clone(), to.clone());
            match places.get_mut(slot) {
                Some(place @ Place::At(_)) => *place = between,
                Some(place) if *place != between => *place = Place::Disputed,
                _ => {}
            }
        }
        let nodes = claims.iter().map(|claim| claim.id.clone()).collect();
        self.pictures.push(Picture { places, nodes });
        true
    }

    /// Whether every slot has stood still during a walk, or moved once during two.
    pub(super) fn is_complete(&self) -> bool {
        (0..SLOTS).all(|slot| {
            self.pictures.windows(2).any(|walk| stood_still(walk, slot))
                || self.pictures.windows(3).any(|walks| moved_once(walks, slot))
        })
    }
}

fn stood_still(walk: &[Picture], slot: u16) -> bool {
    let [before, after] = walk else { return false };
    match (before.places.get(&slot), after.places.get(&slot)) {
        (Some(Place::At(was)), Some(Place::At(is))) => was == is && before.nodes.contains(was),
        _ => false,
    }
}

fn moved_once(walks: &[Picture], slot: u16) -> bool {
    let [first, second, _] = walks else { return false };
    let places: Vec<&Place> =
        walks.iter().filter_map(|picture| picture.places.get(&slot)).collect();
    let between = places.iter().find_map(|place| match place {
        Place::Between(from, to) => Some((from, to)),
        _ => None,
    });
    let Some((from, to)) = between else { return false };
    // How far along the way from one to the other.
    let along: Option<Vec<u8>> = places
        .iter()
        .map(|place| match place {
            Place::At(node) if node == from => Some(0),
            Place::Between(source, target) if (source, target) == (from, to) => Some(1),
            Place::At(node) if node == to => Some(2),
            _ => None,
        })
        .collect();
    let both = |picture: &Picture| picture.nodes.contains(from) && picture.nodes.contains(to);
    along.is_some_and(|along| along.is_sorted()) && both(first) && both(second)
}

/// What `CLUSTER NODES` says of the node that was asked; `None` if it is no primary.
pub(super) fn claim(answer: Value) -> Result<Option<Claim>, TierError> {
    let text = match reply::accepted(answer)? {
        Value::VerbatimString { text, .. } => text,
        answer => {
            let bytes = reply::bytes(answer)?.unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| reply::unexpected("no nodes"))?
        }
    };
    let myself = text.lines().map(str::split_whitespace).find_map(|mut words| {
        let (id, flags) = (words.next()?, words.nth(1)?);
        flags.split(',').any(|flag| flag == "myself").then_some((id, flags, words))
    });
    let Some((id, flags, words)) = myself else { return Err(reply::unexpected("no node")) };
    if !flags.split(',').any(|flag| flag == "master") {
        return Ok(None);
    }
    let (mut slots, mut moves) = (Vec::new(), Vec::new());
    let number = |text: &str| {
        let slot = text.parse().ok().filter(|slot| *slot < SLOTS);
        slot.ok_or_else(|| reply::unexpected("no slot"))
    };
    // Its primary, two times, its epoch, the state of its link.
    for word in words.skip(5) {
        if let Some(open) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            if let Some((slot, to)) = open.split_once("->-") {
                moves.push((number(slot)?, id.to_owned(), to.to_owned()));
            } else if let Some((slot, from)) = open.split_once("-<-") {
                moves.push((number(slot)?, from.to_owned(), id.to_owned()));
            }
        } else {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            slots.push((number(first)?, number(last)?));
        }
    }
    Ok(Some(Claim { id: id.to_owned(), slots, moves }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(lines: &str) -> Result<Option<Claim>, TierError> {
        claim(Value::BulkString(lines.as_bytes().to_vec()))
    }

    /// A node that has these slots, and others on their way.
    fn node(id: &str, slots: &str) -> Claim {
        let line = format!("{id} 127.0.0.1:1@2 myself,master - 0 0 3 connected {slots}");
        nodes(&line).unwrap().unwrap()
    }

    fn is_complete(pictures: &[[&str; 2]]) -> bool {
        let mut ledger = Ledger::default();
        for [a, b] in pictures {
            assert!(ledger.take_down(&[node("a", a), node("b", b)]));
        }
        ledger.is_complete()
    }

    #[test]
    fn a_node_says_what_it_has() {
        let lines = "b 127.0.0.1:7001@17001,host master - 0 1 2 connected 9-10\n\
                     a 127.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-8 11 [8->-b] [9-<-b]\n";
        let claim = nodes(lines).unwrap().unwrap();
        assert_eq!((claim.id.as_str(), claim.slots.as_slice()), ("a", &[(0, 8), (11, 11)][..]));
        let (a, b) = (String::from("a"), String::from("b"));
        assert_eq!(claim.moves, [(8, a.clone(), b.clone()), (9, b, a)]);
        let replica = "a 127.0.0.1:1@2 myself,slave b 0 0 3 connected\n";
        assert_eq!(nodes(replica), Ok(None));
        for wrong in [
            "",
            "a b c",
            "a x myself,master - 0 0 3 connected 99999",
            "a x myself,master - 0 0 3 up [x->-b]",
        ] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_quiet_walk_is_enough() {
        let quiet = ["0-99", "100-16383"];
        assert!(is_complete(&[quiet, quiet]));
        assert!(!is_complete(&[quiet]), "no walk yet");
        assert!(!Ledger::default().take_down(&[node("a", "0-99")]), "slots without a node");
    }

    #[test]
    fn a_slot_that_moves_takes_another_walk() {
        let before = ["0-99", "100-16383"];
        let open = ["0-99 [99->-b]", "100-16383 [99-<-a]"];
        let after = ["0-98", "99-16383"];
        assert!(!is_complete(&[before, after]));
        assert!(!is_complete(&[before, open]));
        assert!(!is_complete(&[open, open]), "a key may have passed the walk by");
        assert!(is_complete(&[open, open, open]));
        assert!(is_complete(&[before, open, after]));
        assert!(is_complete(&[before, after, after]));
        assert!(!is_complete(&[after, open, before]), "that is no order of things");
        let disputed = ["0-99", "99-16383"];
        assert!(!is_complete(&[before, disputed, after]));
        assert!(!is_complete(&[disputed, disputed, disputed]));
    }
}
