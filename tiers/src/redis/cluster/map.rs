//! Which node has which slot, as far as we know.
//!
//! It is a guess that the servers correct: whoever is asked for a slot that is not its own says whose it
//! is. So a correction changes one slot and costs nothing, and only a node that is gone makes it worth
//! while to ask for all of it again.

use std::{collections::HashMap, sync::Arc};

use ::redis::Value;

use super::{
    super::{endpoint::Address, reply},
    Node,
    slot::SLOTS,
};
use crate::TierError;

/// More nodes than this are refused: the specification allows for about a thousand.
const MAX_NODES: usize = 1_024;

/// No node's index.
const NOBODY: u16 = u16::MAX;

/// The nodes, and who owns what.
#[derive(Debug, Default)]
pub(super) struct Map {
    nodes: Vec<Arc<Node>>,
    /// For each slot an index into `nodes`; empty before the first answer.
    owners: Vec<u16>,
    /// How often all of it was fetched.
    pub(super) version: u64,
}

/// Some slots in a row and the node that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) owner: Address,
}

impl Map {
    /// Whether it was never fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Every node that is known, those included that have no slot any more.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The nodes that have slots.
    pub(super) fn owners(&self) -> Vec<Arc<Node>> {
        let mut seen = vec![false; self.nodes.len()];
        for owner in &self.owners {
            if let Some(seen) = seen.get_mut(usize::from(*owner)) {
                *seen = true;
            }
        }
        let owning = self.nodes.iter().zip(seen).filter(|(_, seen)| *seen);
        owning.map(|(node, _)| Arc::clone(node)).collect()
    }

    /// The node that has a slot. A slot that nobody has is asked of any node: it knows better, or says
    /// that the cluster is down.
    pub(super) fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let owner = *self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(owner)).or(self.nodes.first()).cloned()
    }

    /// Notes that a slot is another node's.
    pub(super) fn correct(&mut self, slot: u16, owner: &Arc<Node>) {
        let known = self.nodes.iter().position(|node| Arc::ptr_eq(node, owner));
        if let Some(index) = known.and_then(|index| u16::try_from(index).ok())
            && let Some(slot) = self.owners.get_mut(usize::from(slot))
        {
            *slot = index;
        }
    }

    /// The node at an address; `None` when there are too many already.
    pub(super) fn node(
        &mut self,
        address: &Address,
        make: impl FnOnce() -> Arc<Node>,
    ) -> Option<Arc<Node>> {
        if let Some(node) = self.nodes.iter().find(|node| node.address == *address) {
            return Some(Arc::clone(node));
        }
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        self.nodes.push(make());
        self.nodes.last().cloned()
    }

    /// Replaces all of it; nodes that are known keep their connections.
    pub(super) fn replace(
        &mut self,
        shares: &[Share],
        known: &[Arc<Node>],
        make: impl Fn(&Address) -> Arc<Node>,
    ) {
        let known: HashMap<&Address, &Arc<Node>> =
            known.iter().chain(&self.nodes).map(|node| (&node.address, node)).collect();
        let mut owners = vec![NOBODY; usize::from(SLOTS)];
        let (mut nodes, mut indexes) = (Vec::new(), HashMap::new());
        for Share { first, last, owner } in shares {
            let index = *indexes.entry(owner).or_insert_with(|| {
                let node = known.get(owner).map_or_else(|| make(owner), |node| Arc::clone(node));
                nodes.push(node);
                u16::try_from(nodes.len() - 1).unwrap_or(NOBODY)
            });
            for slot in *first..=*last {
                if let Some(slot) = owners.get_mut(usize::from(slot)) {
                    *slot = index;
                }
            }
        }
        *self = Self { nodes, owners, version: self.version + 1 };
    }
}

/// What `CLUSTER SLOTS` says, as answered by the node at `asked`.
pub(super) fn shares(answer: Value, asked: &Address) -> Result<Vec<Share>, TierError> {
    let Value::Array(entries) = reply::accepted(answer)? else {
        return Err(reply::unexpected("no slots"));
    };
    let mut shares = Vec::new();
    let mut owners: Vec<Address> = Vec::new();
    for entry in entries.into_iter().take(usize::from(SLOTS)) {
        let Value::Array(parts) = entry else { return Err(reply::unexpected("no share")) };
        let mut parts = parts.into_iter();
        let mut number = || {
            let number = reply::integer(parts.next().unwrap_or(Value::Nil))?;
            let slot = u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
            slot.ok_or_else(|| reply::unexpected("no slot"))
        };
        let (first, last) = (number()?, number()?);
        // A share that nobody has is left out.
        let Some(Value::Array(owner)) = parts.next() else { continue };
        let Some(owner) = address(owner, asked)? else { continue };
        if !owners.contains(&owner) {
            owners.push(owner.clone());
        }
        if owners.len() > MAX_NODES {
            return Err(reply::unexpected("more nodes than a cluster can have"));
        }
        shares.push(Share { first, last, owner });
    }
    if shares.is_empty() {
        return Err(TierError::Refused("CLUSTERDOWN: no slot has a node".into()));
    }
    Ok(shares)
}

/// A node's address: its host, port, id, and perhaps more names. Without a host it is where we asked.
fn address(node: Vec<Value>, asked: &Address) -> Result<Option<Address>, TierError> {
    let mut node = node.into_iter();
    let text = |value: Option<Value>| {
        let bytes = reply::bytes(value.unwrap_or(Value::Nil))?.unwrap_or_default();
        String::from_utf8(bytes.to_vec()).map_err(|_| reply::unexpected("no host"))
    };
    let host = text(node.next())?;
    let port = reply::integer(node.next().unwrap_or(Value::Nil))?;
    let port = u16::try_from(port).map_err(|_| reply::unexpected("no port"))?;
    let host = match host.as_str() {
        "" => asked.host.clone(),
        // It should have announced a hostname and has none; its address stands among the rest.
        "?" => {
            let Some(Value::Array(more)) = node.nth(1) else { return Ok(None) };
            let more = more.into_iter().map(|value| text(Some(value)));
            let more = more.collect::<Result<Vec<_>, _>>()?;
            let ip = more.chunks_exact(2).find_map(|pair| match pair {
                [name, ip] if name == "ip" && !ip.is_empty() => Some(ip.clone()),
                _ => None,
            });
            let Some(ip) = ip else { return Ok(None) };
            ip
        }
        _ => host,
    };
    Ok((port != 0).then_some(Address { host, port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(first: i64, last: i64, node: Vec<Value>) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(node)])
    }

    fn read(entries: Vec<Value>) -> Result<Vec<Share>, TierError> {
        shares(Value::Array(entries), &Address { host: "asked".into(), port: 1 })
    }

    #[test]
    fn nodes_are_found_under_whatever_they_announce() {
        let port = Value::Int(7_000);
        for (host, more, expected) in [
            (text("10.0.0.1"), vec![], Some("10.0.0.1")),
            (text("node.example"), vec![], Some("node.example")),
            (Value::Nil, vec![], Some("asked")),
            (text(""), vec![], Some("asked")),
            (text("?"), vec![text("ip"), text("10.0.0.2")], Some("10.0.0.2")),
            (text("?"), vec![], None),
        ] {
            let node = vec![host, port.clone(), text("id"), Value::Array(more)];
            let sound = entry(1, 1, vec![text("other"), port.clone()]);
            let shares = read(vec![entry(0, 0, node), sound]).unwrap();
            let first = shares.iter().find(|share| share.first == 0);
            assert_eq!(first.map(|share| share.owner.host.as_str()), expected);
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let node = || vec![text("a"), Value::Int(1)];
        assert!(matches!(read(vec![]), Err(TierError::Refused(_))));
        for wrong in [
            vec![Value::Int(1)],
            vec![entry(-1, 5, node())],
            vec![entry(0, 16_384, node())],
            vec![entry(0, 5, vec![text("a"), Value::Int(70_000)])],
            vec![entry(0, 5, vec![Value::Int(1), Value::Int(1)])],
            (0..2_000).map(|n| entry(n, n, vec![text("a"), Value::Int(n + 1)])).collect(),
        ] {
            assert!(matches!(read(wrong), Err(TierError::Protocol(_))));
        }
        assert!(shares(Value::Nil, &Address { host: "a".into(), port: 1 }).is_err());
    }
}
