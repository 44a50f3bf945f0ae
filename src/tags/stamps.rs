//! What an entry is stamped with: the run of the server, and `[length u8][tag][generation 16]` for each of its tags.

use super::{Generation, Tag, names::MOST_STAMPS};

/// What an entry depends on, as it was before its load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps {
    /// The run of the server, see `restarts`; it has a place of its own in the envelope.
    pub(crate) run: u64,
    tags: Vec<Tag>,
    generations: Vec<Generation>,
}

impl Stamps {
    pub(super) fn new(tags: &[Tag], generations: &[Generation]) -> Self {
        Self { run: 0, tags: tags.to_vec(), generations: generations.to_vec() }
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    pub(crate) fn has(&self, tag: &Tag) -> bool {
        self.tags.contains(tag)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The same, in another run.
    pub(crate) fn in_run(self, run: u64) -> Self {
        Self { run, ..self }
    }

    /// With those of other tags.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.tags.extend(other.tags);
        self.generations.extend(other.generations);
        self
    }

    /// Whether they are these.
    pub(super) fn are(&self, generations: &[Generation]) -> bool {
        self.generations == generations
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.tags.len() * 32);
        for (tag, generation) in self.tags.iter().zip(&self.generations) {
            // A tag is no longer than that.
            bytes.push(u8::try_from(tag.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(tag.as_bytes());
            bytes.extend_from_slice(generation);
        }
        bytes
    }

    /// Reads them; `None` if they are not what `encode` writes. Each costs whoever reads them a look at its record.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut stamps = Self::default();
        while let Some((len, rest)) = bytes.split_first() {
            if stamps.tags.len() == MOST_STAMPS {
                return None;
            }
            let (tag, rest) = rest.split_at_checked((*len).into())?;
            let (generation, rest) = rest.split_first_chunk()?;
            stamps.tags.push(Tag::heard(tag)?);
            stamps.generations.push(*generation);
            bytes = rest;
        }
        Some(stamps)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn stamps_come_back_whole_or_not_at_all() {
        let tags =
            [Tag::new("team:7").unwrap(), Tag::namespace(), Tag::new(&"x".repeat(255)).unwrap()];
        let stamps = Stamps::new(&tags, &[[1; 16], [2; 16], [3; 16]]);
        let bytes = stamps.encode();
        assert_eq!(Stamps::decode(&bytes), Some(stamps));
        let whole = [0, 1 + 6 + 16, 1 + 6 + 16 + 1 + 16, bytes.len()];
        for len in 0..bytes.len() {
            assert_eq!(Stamps::decode(&bytes[..len]).is_some(), whole.contains(&len), "{len}");
        }
        assert_eq!(Stamps::decode(&[&[2, 0xff, 0xff][..], &[0; 16]].concat()), None);
    }

    /// What was written once is read by every version to come.
    #[test]
    fn golden_stamps_are_what_they_were() {
        let bytes = include_bytes!("../../tests/golden/tags.bin");
        let opened = tiered_codecs::envelope::open(bytes, b"shop:order:506098", 1 << 20).unwrap();
        let generation: Generation = std::array::from_fn(|at| at as u8 * 0x11);
        let reversed = std::array::from_fn(|at| generation[15 - at]);
        let tags = [Tag::new("team:7").unwrap(), Tag::namespace()];
        let stamps = Stamps::new(&tags, &[generation, reversed]);
        assert_eq!(Stamps::decode(opened.extensions.tags), Some(stamps.clone()));
        assert_eq!(stamps.encode(), opened.extensions.tags);
    }

    proptest! {
        /// Whoever can write to the server chooses these bytes.
        #[test]
        fn any_bytes_are_stamps_or_none(bytes in hostile()) {
            if let Some(stamps) = Stamps::decode(&bytes) {
                assert!(stamps.tags.len() <= MOST_STAMPS);
                assert_eq!(stamps.tags.len(), stamps.generations.len());
                assert_eq!(stamps.encode(), bytes, "one form for each");
            }
        }
    }

    /// Anything; and sequences of stamps, well-formed or nearly so, of which some are too many.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let stamp = (any::<u8>(), vec(prop_oneof![Just(b'a'), any::<u8>()], 0..20), any::<bool>());
        let stamp = stamp.prop_map(|(len, tag, lies)| {
            let len = if lies { len } else { tag.len() as u8 };
            [&[len][..], &tag, &[7; 16]].concat()
        });
        let stamps = vec(stamp, 0..200).prop_map(|stamps| stamps.concat());
        prop_oneof![vec(any::<u8>(), 0..600), stamps]
    }
}
