//! How many messages are asked for at once: as many as a line carries in good time.
//!
//! The server cannot be asked for so many bytes, and an answer that is too long for its deadline would be asked for
//! again and again, and never arrive. So it begins with few, asks for more while answers are small, and for fewer
//! when one was long, or late. One message is always asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

const FIRST: usize = 16;
const MOST: usize = 1_024;
/// Bytes of messages above which an answer is long.
const LONG: usize = 512 * 1_024;

/// The number for one runtime. It is a guess, and may be changed by several at once.
#[derive(Debug)]
pub(super) struct Piece(AtomicUsize);

impl Piece {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(FIRST))
    }

    /// How many to ask for.
    pub(super) fn size(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Notes what so many asked for came to.
    pub(super) fn came(&self, asked: usize, messages: usize, bytes: usize) {
        if bytes > LONG {
            self.set(asked / 2);
        } else if messages >= asked && bytes <= LONG / 2 {
            self.set(asked.saturating_mul(2));
        }
    }

    /// Notes that so many did not come in time.
    pub(super) fn was_late(&self, asked: usize) {
        self.set(asked / 8);
    }

    fn set(&self, size: usize) {
        self.0.store(size.clamp(1, MOST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_while_they_are_small_and_shrink_when_they_are_long_or_late() {
        let piece = Piece::new();
        for _ in 0..20 {
            piece.came(piece.size(), piece.size(), 100);
        }
        assert_eq!(piece.size(), MOST);
        piece.came(MOST, 3, 100);
        assert_eq!(piece.size(), MOST, "few came, for there were few");
        piece.came(MOST, MOST, LONG * 3 / 4);
        assert_eq!(piece.size(), MOST, "neither long nor short");
        for _ in 0..20 {
            piece.came(piece.size(), 1, LONG + 1);
        }
        assert_eq!(piece.size(), 1);
        piece.was_late(1);
        assert_eq!(piece.size(), 1);
        piece.was_late(64);
        assert_eq!(piece.size(), 8);
    }
}
