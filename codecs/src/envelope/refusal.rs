//! Why stored bytes were not believed.

/// Why stored bytes were not believed. One variant per reason; [`label`](Self::label) names it in
/// metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Fewer bytes than a header.
    #[error("shorter than a header")]
    Truncated,
    /// More bytes than the reader's limit.
    #[error("longer than the limit")]
    TooLarge,
    /// The checksum does not match: damaged, or the value of another key.
    #[error("damaged, or another key's value")]
    Checksum,
    /// No envelope of ours.
    #[error("not an envelope")]
    Foreign,
    /// A format version this reader does not know.
    #[error("unknown format version")]
    Format,
    /// A flag this reader does not know, or flags that exclude each other.
    #[error("unknown or contradicting flags")]
    Flags,
    /// Lengths that do not add up.
    #[error("inconsistent lengths")]
    Length,
    /// An extension that is not as it must be.
    #[error("broken extension")]
    Extension,
    /// Sealed where it must not be, not sealed where it must be, under an unknown key, or forged.
    #[error("not sealed as it must be")]
    Sealed,
    /// Written by a codec, or compressed by a method, that this program was not compiled with.
    #[error("a codec that is not compiled in")]
    Codec,
    /// Compressed with a dictionary this reader does not have.
    #[error("unknown dictionary")]
    Dictionary,
    /// Written under an older schema version.
    #[error("older schema version")]
    OlderSchema,
    /// Written under a newer schema version.
    #[error("newer schema version")]
    NewerSchema,
    /// Written for a type of another shape.
    #[error("another shape")]
    Shape,
}

impl Refusal {
    /// The reason's name in metrics: short, snake case, never changed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::Checksum => "checksum",
            Self::Foreign => "foreign",
            Self::Format => "format",
            Self::Flags => "flags",
            Self::Length => "length",
            Self::Extension => "extension",
            Self::Sealed => "sealed",
            Self::Codec => "codec",
            Self::Dictionary => "dictionary",
            Self::OlderSchema => "older_schema",
            Self::NewerSchema => "newer_schema",
            Self::Shape => "shape",
        }
    }
}
