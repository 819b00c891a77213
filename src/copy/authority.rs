//! Consent to changes at a destination.

use std::time::Instant;

use futures::future::BoxFuture;

use crate::image::{Digest, RepositoryName, Tag};
use crate::terms::Action;

/// Gives or refuses consent to changes at a destination.
///
/// It is asked right before each change, and again whenever its answer has run out while the change lasts (a large
/// blob, a request that is repeated), so that a consent that is withdrawn stops a copy that is under way. A copy pauses
/// while the answer is awaited.
pub trait Authority: Send + Sync {
    /// Returns the end of the consent to `mutation`, [`CONSENT_LASTS`](super::CONSENT_LASTS) from the decision where
    /// nothing is in doubt.
    ///
    /// # Errors
    /// [`Denied`]. Doubt is a refusal.
    fn permit<'a>(&'a self, mutation: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>>;
}

/// A change at the destination.
#[derive(Clone, Copy, Debug)]
pub enum Mutation<'a> {
    /// A repository that is absent is created by the first push to it. Asked once an image, until a manifest is there.
    CreateRepository {
        /// The repository that is created.
        repository: &'a RepositoryName,
    },
    /// A blob or an untagged manifest is pushed, or any request at all is sent to the destination.
    Upload {
        /// The repository that is pushed to.
        repository: &'a RepositoryName,
    },
    /// A tag is deleted that points at an image of this configuration, or the image itself, which no other tag needs.
    DeleteTag {
        /// The tag that is deleted.
        tag: &'a Tag,
    },
    /// A tag is pointed at an image.
    WriteTag {
        /// The repository of the tag.
        repository: &'a RepositoryName,
        /// The tag that is written.
        tag: &'a Tag,
        /// The digest that it will point at.
        digest: &'a Digest,
        /// The other image that it points at now, as seen at most [`CONSENT_LASTS`](super::CONSENT_LASTS) ago; `None`
        /// if the tag is absent, or has `digest` already and only content below it is repaired.
        replaces: Option<&'a Digest>,
    },
}

impl Mutation<'_> {
    /// Returns the actions that a policy has to allow for this change: all of them.
    pub fn actions(&self) -> &'static [Action] {
        match self {
            Self::CreateRepository { .. } => &[Action::ReplicateImage, Action::CreateRepository],
            Self::DeleteTag { .. } => &[Action::DeleteImage],
            Self::WriteTag { replaces: Some(_), .. } => &[Action::ReplicateImage, Action::OverwriteTag],
            Self::Upload { .. } | Self::WriteTag { .. } => &[Action::ReplicateImage],
        }
    }
}

/// A refusal by an authority.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// A word that the authority chose, for its own use.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

impl Denied {
    /// Returns the refusal for a repository that is absent where its Registry does not let any be created.
    pub fn repository_not_found(repository: &RepositoryName, registry: &str) -> Self {
        let message =
            format!("repository {repository} does not exist and Registry {registry} has createRepositories: Never");
        Self { reason: REPOSITORY_NOT_FOUND.to_owned(), message }
    }

    /// Returns the refusal of a tag in a repository that another configuration writes to. It is shown only after the
    /// registry has taken the same manifest without the tag.
    pub fn destination_taken() -> Self {
        let message = "another configuration writes to the destination repository".to_owned();
        Self { reason: DESTINATION_TAKEN.to_owned(), message }
    }

    /// Returns true for [`Denied::destination_taken`].
    pub(super) fn is_taken(&self) -> bool {
        self.reason == DESTINATION_TAKEN
    }
}

/// The reason of [`Denied::repository_not_found`].
pub(super) const REPOSITORY_NOT_FOUND: &str = "RepositoryNotFound";
/// The reason of [`Denied::destination_taken`].
const DESTINATION_TAKEN: &str = "DestinationConflict";
