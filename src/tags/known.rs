//! Generations that were read from L2 and are still proven by the bus: an L2 hit of a tagged entry costs no second
//! round trip then.

use std::collections::HashMap;

use super::{Generation, Tag};
use crate::sync::Mutex;

/// How many are remembered. More, and all are forgotten: they are read again as they are needed.
const MOST: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Tag, Remembered>>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    generation: Generation,
    /// The view of the bus that it was read under.
    view: u64,
    /// The count of its place in the table then.
    count: u64,
}

impl Known {
    /// The generations of all of `tags`, if they are known under this view and nothing was heard since.
    pub(super) fn of(&self, tags: &[Tag], view: u64, counts: &[u64]) -> Option<Vec<Generation>> {
        let known = self.0.lock();
        let generation = |(tag, count): (&Tag, &u64)| {
            let remembered = known.get(tag)?;
            let is_valid = remembered.view == view && remembered.count == *count;
            is_valid.then_some(remembered.generation)
        };
        tags.iter().zip(counts).map(generation).collect()
    }

    pub(super) fn remember(
        &self,
        tags: &[Tag],
        view: u64,
        counts: &[u64],
        generations: &[Generation],
    ) {
        let mut known = self.0.lock();
        if known.len() + tags.len() > MOST {
            known.clear();
        }
        for ((tag, count), generation) in tags.iter().zip(counts).zip(generations) {
            let remembered = Remembered { generation: *generation, view, count: *count };
            known.insert(tag.clone(), remembered);
        }
    }

    pub(super) fn forget(&self, tag: &str) {
        self.0.lock().remove(tag);
    }
}
