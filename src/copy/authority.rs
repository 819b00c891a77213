//! Consent: what is asked before anything at a destination changes.

use std::time::Instant;

use futures::future::BoxFuture;

use crate::image::{Digest, RepositoryName, Tag};
use crate::terms::Action;

/// Gives or refuses consent to effects on a destination.
///
/// It is asked right before each effect, and again whenever its answer has run out while the effect lasts (a large blob, a request
/// that is repeated), so that a consent that is withdrawn stops a copy that is under way. What is under way pauses while the
/// answer is awaited.
pub trait Authority: Send + Sync {
    /// Until when `effect` may happen, 5 seconds and more from now where nothing is in doubt. Doubt is a refusal.
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<Instant, Refusal>>;
}

/// What is about to change at the destination.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// A repository that is absent comes into being by the first push to it. Asked once an image, until a manifest is there.
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
        /// The other image that it points at now, as seen at most 5 seconds ago; `None` if the tag is absent, or has `digest`
        /// already and only what is below it is repaired.
        replaces: Option<&'a Digest>,
    },
}

impl Effect<'_> {
    /// What a policy has to allow for this effect: all of it.
    pub fn actions(&self) -> &'static [Action] {
        match self {
            Self::CreateRepository { .. } => &[Action::ReplicateImage, Action::CreateRepository],
            Self::WriteTag { replaces: Some(_), .. } => &[Action::ReplicateImage, Action::OverwriteTag],
            Self::Upload { .. } | Self::WriteTag { .. } => &[Action::ReplicateImage],
        }
    }
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

impl Refusal {
    /// The repository is absent, and its Registry does not let any be created.
    pub fn repository_not_found(repository: &RepositoryName, registry: &str) -> Self {
        let message =
            format!("repository {repository} does not exist and Registry {registry} has createRepositories: Never");
        Self { reason: REPOSITORY_NOT_FOUND.to_owned(), message }
    }
}

/// The reason of [`Refusal::repository_not_found`].
pub(super) const REPOSITORY_NOT_FOUND: &str = "RepositoryNotFound";
