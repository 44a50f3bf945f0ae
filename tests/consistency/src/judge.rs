//! The judgement of one read: pure, but for the ledger it looks into.
//!
//! The ledger is read *after* the cache, so that acknowledgements that were written down late count too. What
//! counts is not when they were written but when the invalidation returned: before the read began, or not.

use std::io;

use crate::ledger::Ledger;

/// A read that has ended with a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) key: u32,
    pub(crate) version: u64,
    /// When it began.
    pub(crate) from: u64,
}

/// What is to be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing newer had been acknowledged when it began.
    Fresh,
    /// A newer version had been acknowledged.
    Stale(Staleness),
    /// A version that the database never had.
    Invented {
        /// The last one it had.
        committed: u64,
    },
}

/// How stale a read was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// From the first acknowledgement of a newer version to the read's beginning: the least it can have been
    /// when the value was served.
    pub(crate) by: u64,
    /// When that was.
    pub(crate) since: u64,
    /// That newer version.
    pub(crate) version: u64,
}

pub(crate) fn judge(ledger: &Ledger, read: Read) -> io::Result<Verdict> {
    let head = ledger.head(read.key)?;
    if read.version > head.committed || read.version == 0 {
        return Ok(Verdict::Invented { committed: head.committed });
    }
    if read.version >= head.acked {
        return Ok(Verdict::Fresh);
    }
    let newer = ledger.acked_above(read.key, read.version)?;
    let first =
        newer.into_iter().filter(|acked| acked.at <= read.from).min_by_key(|acked| acked.at);
    Ok(match first {
        None => Verdict::Fresh,
        Some(acked) => Verdict::Stale(Staleness {
            by: read.from - acked.at,
            since: acked.at,
            version: acked.version,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Acked, Head};

    #[test]
    fn a_read_is_stale_by_the_first_acknowledgement_that_it_should_have_seen() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(&directory.path().join("ledger"), 1).unwrap();
        for (number, (version, at)) in [(2, 100), (4, 300), (3, 400)].into_iter().enumerate() {
            ledger.set_acked(0, number as u64, Acked { version, at }).unwrap();
        }
        ledger.set_head(0, Head { committed: 5, acked: 4 }).unwrap();
        let judged = |version, from| judge(&ledger, Read { key: 0, version, from }).unwrap();
        let stale = |by, since, version| Verdict::Stale(Staleness { by, since, version });
        assert_eq!(judged(5, 500), Verdict::Fresh);
        assert_eq!(judged(4, 500), Verdict::Fresh);
        assert_eq!(judged(3, 500), stale(200, 300, 4));
        assert_eq!(judged(2, 500), stale(200, 300, 4));
        assert_eq!(judged(1, 500), stale(400, 100, 2));
        // It began before.
        assert_eq!(judged(2, 299), Verdict::Fresh);
        assert_eq!(judged(2, 300), stale(0, 300, 4));
        // Nobody has written these.
        assert_eq!(judged(6, 500), Verdict::Invented { committed: 5 });
        assert_eq!(judged(0, 500), Verdict::Invented { committed: 5 });
    }
}
