//! A hint: a tag that was pushed, as a notification says.

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::hint_space::HintReservation;
use super::machine::Looked;
use crate::image::{Digest, RepositoryName, Tag};

/// A pushed tag of a notification, with the digest that it is said to have.
pub(crate) type PushedTag = (RepositoryName, Tag, Option<Digest>);

/// A tag that was pushed, as a notification says; one for all configurations that want it.
pub(crate) struct Hint {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The digest that it is said to have.
    pub digest: Option<Digest>,
    /// The time when the notification came.
    pub received_at: Timestamp,
    /// True if so many others were notified with it that it is looked at only once: one that cannot be read yet is
    /// found by the next comparison.
    pub is_one_of_many: bool,
    /// The observation: the first configuration makes it, the others take it over.
    pub looked: OnceCell<Looked>,
    /// The memory that it takes.
    pub _reservation: HintReservation,
}
