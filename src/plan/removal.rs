//! The result of a deletion.

use crate::image::Digest;

/// The result of a deletion that met no failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The tag was deleted, and is absent.
    Done,
    /// The destination did not have the tag any more.
    Absent,
    /// The destination has another digest under the tag: it stays.
    Changed(Digest),
    /// The source has the tag: it stays.
    AtSource,
}
