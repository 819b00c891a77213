//! Consent: what is asked before anything at a destination changes.

use futures::future::BoxFuture;

use crate::image::{Digest, RepositoryName, Tag};

/// Gives or refuses consent to effects on a destination. It is asked right before each of them, so that a consent that is
/// withdrawn stops a copy that is under way.
pub trait Authority: Send + Sync {
    /// Whether `effect` may happen now. Doubt is a refusal.
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<(), Refusal>>;
}

/// What is about to change at the destination.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// A repository that is absent comes into being by the first push to it.
    CreateRepository {
        /// Its name.
        repository: &'a RepositoryName,
    },
    /// A blob or an untagged manifest is pushed, or anything at all is asked of the destination.
    Upload {
        /// Where to.
        repository: &'a RepositoryName,
    },
    /// A tag is pointed at an image.
    WriteTag {
        /// Where.
        repository: &'a RepositoryName,
        /// The tag.
        tag: &'a Tag,
        /// What it will point at.
        digest: &'a Digest,
        /// What it points at now, if it exists.
        replaces: Option<&'a Digest>,
    },
}

/// Why consent was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// A word that the authority chose, for its own use.
    pub reason: String,
    /// A sentence.
    pub message: String,
}
