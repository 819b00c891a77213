//! Deletions in the output of `plan` and `sync`.

use serde::Serialize;

use super::text::{short_digest, short_name};
use super::wiring::name_of;
use crate::image::{Digest, Tag};
use crate::replication::machine::{DepartedFate, DepartedImage, Machine};

/// The images of all configurations that have left their sources.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct ListedDeletions {
    images: Vec<ListedDeletion>,
    /// Sentences about deletions that wait for a person, and how to have them made.
    #[serde(skip)]
    pub(super) held: Vec<String>,
    /// True if the run deletes, or is planned to.
    #[serde(skip)]
    is_wanted: bool,
}

/// An image that has left its source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedDeletion {
    destination: String,
    tag: Tag,
    digest: Digest,
    status: DeletionStatus,
    reason: String,
}

/// The state of the deletion of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum DeletionStatus {
    /// Only one list lacks it.
    Absent,
    /// It is to be deleted.
    Delete,
    Deleted,
    Failed,
    /// It waits for a person.
    Held,
}

impl ListedDeletions {
    /// Returns the images of these configurations.
    pub(super) fn of(machines: &[Machine]) -> Self {
        let mut listed = Self::default();
        machines.iter().for_each(|machine| listed.take(machine));
        listed
    }

    fn take(&mut self, machine: &Machine) {
        let Some(configuration) = machine.configuration() else { return };
        let is_wanted = machine.orders().deletes;
        self.is_wanted |= is_wanted;
        self.images.extend(machine.departed().into_iter().map(|departed| {
            let DepartedImage { key, tag, digest, is_outside, fate } = departed;
            let destination = format!("{}/{}", short_name(&key.destination, &configuration.namespace), key.target);
            let (status, reason) = explain(fate, is_outside, is_wanted);
            ListedDeletion { destination, tag, digest, status, reason }
        }));
        let held = machine.held_deletions().map(|(_, sentence)| format!("{}: {sentence}", name_of(configuration)));
        self.held.extend(held);
    }

    /// Returns true if there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Returns the rows of a table, with its head.
    pub(super) fn rows(&self) -> Vec<[String; 4]> {
        let head = ["DELETION", "DESTINATION", "DIGEST", "REASON"].map(str::to_owned);
        std::iter::once(head).chain(self.images.iter().map(ListedDeletion::row)).collect()
    }

    /// Returns a line an image; of a quiet run those that were deleted, failed or are held.
    pub(super) fn lines(&self, is_quiet: bool) -> String {
        let is_shown = |image: &&ListedDeletion| !is_quiet || image.status >= DeletionStatus::Deleted;
        self.images.iter().filter(is_shown).map(ListedDeletion::line).collect()
    }

    /// Returns the counts in one sentence with a line end; nothing without an image.
    pub(super) fn sentence(&self) -> String {
        use DeletionStatus::{Absent, Delete, Deleted, Failed, Held};
        if self.is_empty() {
            return String::new();
        }
        let words = [
            (Deleted, "deleted"),
            (Delete, "to delete"),
            (Failed, "not deleted"),
            (Held, "held"),
            (Absent, "absent from one list"),
        ];
        let counted = words.map(|(status, word)| (self.count(status), word));
        let parts: Vec<String> =
            counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        format!("of images that left the source: {}\n", parts.join(", "))
    }

    /// Returns the number of deletions that failed.
    pub(super) fn failed(&self) -> usize {
        self.count(DeletionStatus::Failed)
    }

    /// Returns true if deletions that were asked for wait for a person.
    pub(super) fn are_held(&self) -> bool {
        self.is_wanted && self.count(DeletionStatus::Held) > 0
    }

    /// Returns true if images were deleted, or are to be by the run that was asked for.
    pub(super) fn have_changes(&self) -> bool {
        self.count(DeletionStatus::Deleted) > 0 || (self.is_wanted && self.count(DeletionStatus::Delete) > 0)
    }

    fn count(&self, status: DeletionStatus) -> usize {
        self.images.iter().filter(|image| image.status == status).count()
    }
}

impl ListedDeletion {
    fn row(&self) -> [String; 4] {
        [
            self.status.word().to_owned(),
            format!("{}:{}", self.destination, self.tag),
            short_digest(self.digest.as_str()),
            self.reason.clone(),
        ]
    }

    fn line(&self) -> String {
        let digest = short_digest(self.digest.as_str());
        let status = self.status.word().to_uppercase();
        format!("{status:<9} {}:{}  {digest}  {}\n", self.destination, self.tag, self.reason)
    }
}

impl DeletionStatus {
    fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Delete => "delete",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
            Self::Held => "held",
        }
    }
}

fn explain(fate: DepartedFate, is_outside: bool, is_wanted: bool) -> (DeletionStatus, String) {
    match fate {
        DepartedFate::Deleted if is_outside => (DeletionStatus::Deleted, "newer tags took its place".to_owned()),
        DepartedFate::Unproved(from) if is_outside => (
            DeletionStatus::Absent,
            format!("newer tags took its place; a list from {from:.0} on has to show that, too"),
        ),
        DepartedFate::Due if is_outside => {
            let how = if is_wanted { "" } else { "; sync deletes it with --delete" };
            (DeletionStatus::Delete, format!("newer tags took its place in two lists of the source{how}"))
        }
        DepartedFate::Deleted => (DeletionStatus::Deleted, "it left the source".to_owned()),
        DepartedFate::Unproved(from) => {
            (DeletionStatus::Absent, format!("a list from {from:.0} on has to lack it, too"))
        }
        DepartedFate::Due if is_wanted => (DeletionStatus::Delete, "two lists of the source lack it".to_owned()),
        DepartedFate::Due => {
            (DeletionStatus::Delete, "two lists of the source lack it; sync deletes it with --delete".to_owned())
        }
        DepartedFate::Held(because) => (DeletionStatus::Held, because),
        DepartedFate::Failed(because) => (DeletionStatus::Failed, because),
    }
}
