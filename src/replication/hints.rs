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

/// Hints that wait, above which a tag is looked at only once.
pub(super) const MAX_LOOKED_AT_AGAIN: usize = 64;

/// Returns the memory of a hint of `namespace` with its digest and its observation, in as many mailboxes.
pub(super) fn bytes_of(namespace: &str, repository: &RepositoryName, tag: &Tag, mailboxes: usize) -> usize {
    let names = 2 * (repository.as_str().len() + tag.as_str().len() + namespace.len());
    HINT_BYTES + names + mailboxes * ENTRY_BYTES
}

/// The memory of a hint with its digest and its observation, without the names.
const HINT_BYTES: usize = 448;
/// The memory of a hint in one mailbox.
const ENTRY_BYTES: usize = 24;
