//! [`Ledger`]: what was committed and acknowledged of each key, for all processes to read.
//!
//! A file, written by the database alone and read by position. A record is a head (the last version that was
//! committed, and the highest acknowledged) and a ring of the last acknowledgements with their times. Each
//! part has a sum of its own, so that a read in the middle of a write is seen, and done again.
//!
//! Rejected: asking the database. A read out of L1 costs a tenth of a microsecond, and the question a
//! hundred times that.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Acknowledgements remembered of each key.
const RING: usize = 168;
const HEAD: usize = 32;
const SLOT: usize = 24;
/// A page, so that no record crosses one.
const RECORD: usize = 4096;
/// How often a torn part is read again.
const PATIENCE: usize = 10_000;

const _: () = assert!(HEAD + RING * SLOT <= RECORD);

/// The file of all keys.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last version in the database.
    pub(crate) committed: u64,
    /// The highest version whose invalidation was acknowledged.
    pub(crate) acked: u64,
}

/// An acknowledged invalidation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) version: u64,
    /// When the call returned.
    pub(crate) at: u64,
}

impl Ledger {
    pub(crate) fn create(path: &Path, keys: u32) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(u64::from(keys) * RECORD as u64)?;
        let ledger = Self { file };
        (0..keys).try_for_each(|key| ledger.set_head(key, Head::default()))?;
        Ok(ledger)
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    pub(crate) fn set_head(&self, key: u32, head: Head) -> io::Result<()> {
        let mut bytes = [0; HEAD];
        put(&mut bytes, 0, head.committed);
        put(&mut bytes, 1, head.acked);
        put(&mut bytes, 2, sum(key, head.committed, head.acked));
        self.file.write_all_at(&bytes, start(key))
    }

    /// Writes the `number`th acknowledgement of a key. To be written before the head that tells of it.
    pub(crate) fn set_acked(&self, key: u32, number: u64, acked: Acked) -> io::Result<()> {
        let mut bytes = [0; SLOT];
        put(&mut bytes, 0, acked.version);
        put(&mut bytes, 1, acked.at);
        put(&mut bytes, 2, sum(key, acked.version, acked.at));
        let place = number % RING as u64 * SLOT as u64;
        self.file.write_all_at(&bytes, start(key) + HEAD as u64 + place)
    }

    pub(crate) fn head(&self, key: u32) -> io::Result<Head> {
        let mut bytes = [0; HEAD];
        for _ in 0..PATIENCE {
            self.file.read_exact_at(&mut bytes, start(key))?;
            let (committed, acked) = (get(&bytes, 0), get(&bytes, 1));
            if get(&bytes, 2) == sum(key, committed, acked) {
                return Ok(Head { committed, acked });
            }
        }
        Err(io::Error::other("the head of a record stays torn"))
    }

    /// The acknowledgements of versions above `version` that are remembered, in no order.
    pub(crate) fn acked_above(&self, key: u32, version: u64) -> io::Result<Vec<Acked>> {
        let mut bytes = [0; RING * SLOT];
        'again: for _ in 0..PATIENCE {
            self.file.read_exact_at(&mut bytes, start(key) + HEAD as u64)?;
            let mut above = Vec::new();
            for slot in bytes.chunks_exact(SLOT) {
                let acked = Acked { version: get(slot, 0), at: get(slot, 1) };
                if acked.version > version {
                    if get(slot, 2) != sum(key, acked.version, acked.at) {
                        continue 'again;
                    }
                    above.push(acked);
                }
            }
            return Ok(above);
        }
        Err(io::Error::other("the ring of a record stays torn"))
    }
}

fn start(key: u32) -> u64 {
    u64::from(key) * RECORD as u64
}

fn put(bytes: &mut [u8], word: usize, value: u64) {
    if let Some(place) = bytes.get_mut(word * 8..word * 8 + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn get(bytes: &[u8], word: usize) -> u64 {
    let place = bytes.get(word * 8..word * 8 + 8);
    place.and_then(|place| place.try_into().ok()).map(u64::from_le_bytes).unwrap_or_default()
}

/// Of both words and the key: never that of two words that were not written together.
fn sum(key: u32, one: u64, other: u64) -> u64 {
    let mixed = one.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ other.rotate_left(29);
    mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ u64::from(!key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_read_by_others_and_the_ring_goes_round() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let (writer, reader) = (Ledger::create(&path, 3).unwrap(), Ledger::open(&path).unwrap());
        assert_eq!(reader.head(2).unwrap(), Head::default());
        let last = RING as u64 + 10;
        for version in 1..=last {
            writer.set_acked(2, version, Acked { version, at: version * 7 }).unwrap();
        }
        writer.set_head(2, Head { committed: last, acked: last }).unwrap();
        assert_eq!(reader.head(2).unwrap().acked, last);
        assert_eq!(reader.head(1).unwrap(), Head::default());
        assert_eq!(reader.acked_above(2, last).unwrap(), []);
        let above = reader.acked_above(2, last - 1).unwrap();
        assert_eq!(above, [Acked { version: last, at: last * 7 }]);
        assert_eq!(reader.acked_above(2, 0).unwrap().len(), RING);
    }
}
