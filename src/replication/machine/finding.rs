//! The findings of comparisons, and of looks at single tags.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::image::{Digest, InvalidNames, RepositoryName, Tag};
use crate::plan::{CreationDate, FailedRead, NarrowedTags, Problem};

/// One observation of a comparison. Times are those when the request was sent.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// Every repository of the source that matches; complete.
    Repositories {
        /// The repositories.
        names: BTreeSet<RepositoryName>,
        /// Repositories that are listed and match no rule.
        unmatched: BTreeSet<RepositoryName>,
        /// Listed names that no repository can have.
        invalid: InvalidNames,
        /// The time when the list was requested.
        sent_at: Timestamp,
    },
    /// A repository is about to be listed.
    Opened(RepositoryName),
    /// The tags of a repository that some rule takes; complete.
    Tags(Listed),
    /// A tag of an image.
    Image(Observed),
    /// A listed tag that could not be read.
    Unread(Unread),
    /// Every tag of a repository that stands for referrers; complete. A tag without a digest could not be read.
    ReferrerTags(RepositoryName, BTreeMap<Tag, Option<Digest>>),
    /// The list of the referrers API for an image.
    Referrers {
        /// The repository.
        repository: RepositoryName,
        /// The image.
        subject: Digest,
        /// Its referrers.
        listed: Vec<Digest>,
    },
    /// Every image of a repository was observed; its referrers too, where that was asked for.
    Closed(RepositoryName),
    /// Something could not be read.
    Problem(Problem),
    /// The filters that match nothing of the source, as sentences; every list was read.
    UnusedFilters(Vec<String>),
    /// The comparison ended.
    Done(Coverage),
}

/// The part of the source that a comparison could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Every list: absence counts.
    Whole,
    /// Not every list; each [`Finding::Problem`] says why.
    Partial,
}

/// The tags of one repository.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// The repository.
    pub repository: RepositoryName,
    /// Its tags that some rule takes, without those that stand for referrers.
    pub tags: BTreeSet<Tag>,
    /// The choice of the newest of them, where a rule takes no others.
    pub narrowed: NarrowedTags,
    /// The time when the list was requested.
    pub sent_at: Timestamp,
    /// The number of tags that no rule takes, and examples of them.
    pub left_out: (usize, String),
    /// Listed names that no tag can have.
    pub invalid: InvalidNames,
}

impl Listed {
    /// Returns true if the list has no tag that a rule might take.
    pub(super) fn is_empty(&self) -> bool {
        let NarrowedTags { outside, unknown, .. } = &self.narrowed;
        self.tags.is_empty() && outside.is_empty() && unknown.is_empty()
    }
}

/// One tag as it was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// Its digest.
    pub digest: Digest,
    /// The time when the request was sent.
    pub sent_at: Timestamp,
    /// The time when a notification of the push came.
    pub pushed_at: Option<Timestamp>,
    /// The date of the image, where a rule takes the newest by date and a notification was the cause.
    pub created: CreationDate,
    /// True if the list of the referrers API for the image is known by now; one that could not be read changes nothing.
    pub with_referrers: bool,
}

/// One listed tag that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The failure.
    pub failed: FailedRead,
    /// The time when the request was sent.
    pub sent_at: Timestamp,
}

/// The result of looking at a hinted tag.
#[derive(Clone, Debug)]
pub(crate) enum Looked {
    /// The tag was observed.
    Seen(Observed),
    /// The same, with another digest than the notification says: either may be the later one.
    SeenOtherwise(Observed),
    /// The source has no such tag.
    Absent(RepositoryName, Tag),
    /// It could not be read: the next comparison observes it.
    Unreadable(RepositoryName, Tag),
}
