//! Tags: what entries depend on, by generations that an invalidation changes.
//!
//! A tag has a *generation* on a server, a random token; an entry carries those of its tags from before its load. A
//! tag that only the loaded value reveals has none from then. For it there is the *epoch*, a generation of the
//! namespace that every invalidation changes as well. All rests on two orders:
//!
//! | who | in this order |
//! |---|---|
//! | an invalidation | the epoch, then the generation: [`Change::ORDER`] |
//! | a load | the epoch, the source, the generations, the epoch: [`Revealing`] |
//!
//! 1. A load that reads the new generation reads the new epoch after it, and keeps nothing.
//! 2. A load that reads the old generation keeps an entry that nobody believes once the generation is changed.
//!
//! A generation that is missing is made anew, and never the same. So is one of another run of its server: a server that comes back
//! with old data would bring back the generation of before an invalidation, and make what it had dropped believed.

use crate::Incarnation;

/// A generation as its server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation<K> {
    token: K,
    run: Option<Incarnation>,
}

impl<K> Generation<K> {
    /// By a token that nobody had before, and the run of the server as it was told *before* this is written.
    pub fn new(token: K, run: Option<Incarnation>) -> Self {
        Self { token, run }
    }

    /// The token, if the server that has it is in the run that it was written in. Else it is as good as missing.
    pub fn in_run(self, present: Option<Incarnation>) -> Option<K> {
        (self.run == present).then_some(self.token)
    }
}

/// What an invalidation of a tag changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The namespace's epoch.
    Epoch,
    /// The tag's generation.
    Generation,
}

impl Change {
    /// Their order; each must be acknowledged before the next.
    pub const ORDER: [Self; 2] = [Self::Epoch, Self::Generation];
}

/// A load of a value that reveals its tags. `K` is a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revealing<K> {
    epoch: K,
    generations: Option<Vec<K>>,
}

/// What such a load looks at next, after it has read the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// The generations of the tags.
    Generations,
    /// The epoch, again.
    Epoch,
}

impl<K: PartialEq> Revealing<K> {
    /// Under the epoch that was read before the load.
    pub fn new(epoch: K) -> Self {
        Self { epoch, generations: None }
    }

    /// What to look at.
    pub fn look(&self) -> Look {
        if self.generations.is_none() { Look::Generations } else { Look::Epoch }
    }

    /// Takes the generations of the tags.
    pub fn generations(&mut self, generations: Vec<K>) {
        self.generations = Some(generations);
    }

    /// Takes the epoch as it is after that. What the entry is to carry; `None` if it must not be kept, for some tag was
    /// invalidated since the load began.
    pub fn epoch(self, epoch: &K) -> Option<Vec<K>> {
        self.generations.filter(|_| self.epoch == *epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_of_one_run() {
        let run = Some(Incarnation::new(7));
        let generation = Generation::new(1, run);
        assert_eq!(generation.in_run(run), Some(1));
        assert_eq!(generation.in_run(Some(Incarnation::new(8))), None);
        assert_eq!(generation.in_run(None), None);
        assert_eq!(Generation::new(1, None).in_run(None), Some(1));
    }

    #[test]
    fn a_load_is_kept_only_under_the_epoch_that_it_began_in() {
        let mut load = Revealing::new("then");
        assert_eq!(load.look(), Look::Generations);
        load.generations(vec!["a", "b"]);
        assert_eq!(load.look(), Look::Epoch);
        assert_eq!(load.clone().epoch(&"then"), Some(vec!["a", "b"]));
        assert_eq!(load.epoch(&"now"), None);
        assert_eq!(Revealing::new("then").epoch(&"then"), None, "it has not looked at its tags");
    }
}
