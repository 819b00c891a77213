//! An image that has left the source, and its fate at the destination.

use jiff::Timestamp;

use super::pair::PairKey;
use crate::image::{Digest, Tag};

/// An image that has left the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DepartedImage {
    /// The pair whose destination has or had it.
    pub key: PairKey,
    /// The tag.
    pub tag: Tag,
    /// The digest that is recorded at the destination.
    pub digest: Digest,
    /// True if the source has it still, and newer tags took its place among the newest.
    pub is_outside: bool,
    /// The fate of the image there.
    pub fate: DepartedFate,
}

/// The fate of an image that has left the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DepartedFate {
    /// It was deleted in this run.
    Deleted,
    /// One list lacks it; another one from this time on proves that it is gone.
    Unproved(Timestamp),
    /// It is proved to be gone, and nothing holds its deletion.
    Due,
    /// Its deletion waits for a person, for the cause in the sentence.
    Held(String),
    /// Its deletion failed, for the cause in the sentence.
    Failed(String),
}
