//! The four strategies, as one pure decision: which steps of the walk a call takes.

/// Which way a read walks the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheStrategy {
    /// The cache only; the database is never asked. Alone in reporting a cache server that fails,
    /// and only after L1 missed.
    Fresh,
    /// The cache, else the database.
    #[default]
    Refresh,
    /// Drop what the cache holds, load, store.
    Invalidate,
    /// Load whatever the cache holds, then store over it.
    Bypass,
}

/// The steps of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Drop the entry from all tiers before anything else.
    pub(crate) drop_first: bool,
    /// Look into L1 and L2.
    pub(crate) read: bool,
    /// Ask the loader if the cache had nothing.
    pub(crate) load: bool,
    /// Share a walk that is already under way. A `Bypass` must see the database as it is after
    /// the call began, so it never does.
    pub(crate) join: bool,
}

impl CacheStrategy {
    /// The strategy's row of the table.
    pub(crate) fn plan(self) -> Plan {
        let plan = Plan { drop_first: false, read: true, load: true, join: true };
        match self {
            Self::Fresh => Plan { load: false, ..plan },
            Self::Refresh => plan,
            Self::Invalidate => Plan { drop_first: true, read: false, ..plan },
            Self::Bypass => Plan { read: false, join: false, ..plan },
        }
    }
}
