//! Names and digests of the model: repositories, tags, registries and contents by number.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;

use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{DestinationTemplate, NamespacedName, RepositoryAddress, RuleTarget};
use crate::replication::machine::{Assignment, Pair};

/// Milliseconds since the simulation began.
pub(super) type Millis = i64;

/// A content; two pushes of the same content have the same digest.
pub(super) type Content = usize;

/// A tag of a repository at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub destination: usize,
    pub repository: usize,
    /// True if it goes where all repositories would merge: another place than its own.
    pub is_merged: bool,
    pub tag: usize,
}

impl Key {
    /// Returns the tag to which an assignment writes.
    pub(super) fn of(assignment: &Assignment) -> Self {
        Self::at(&assignment.destination, &assignment.place, &assignment.repository, &assignment.tag)
    }

    /// Returns a tag of the place of a pair.
    pub(super) fn in_pair(pair: &Pair, tag: &Tag) -> Self {
        Self::at(&pair.key.destination, &pair.place, &pair.key.repository, tag)
    }

    fn at(to: &NamespacedName, place: &RepositoryAddress, from: &RepositoryName, tag: &Tag) -> Self {
        let (destination, repository) = (destination_index(to), repository_index(from.as_str()));
        let is_merged = *place != super::cluster::place(destination, repository);
        Self { destination, repository, is_merged, tag: tag_index(tag) }
    }

    /// Returns the place in the model of its destination.
    pub(super) fn slot(self) -> (usize, usize) {
        (self.repository + if self.is_merged { REPOSITORIES } else { 0 }, self.tag)
    }
}

pub(super) const REPOSITORIES: usize = 3;
pub(super) const TAGS: usize = 3;
pub(super) const DESTINATIONS: usize = 2;
pub(super) const CONFIGURATIONS: usize = 2;
pub(super) const NAMESPACE: &str = "team-a";
const CONTENTS: usize = 2048;
/// The template of [`target`], and the repositories that the owner of the second destination consents to.
pub(super) const MIRRORED: &str = "mirror/*";
/// The template by which all repositories would merge.
pub(super) static MERGING: LazyLock<DestinationTemplate> =
    LazyLock::new(|| DestinationTemplate::parse("repository", "mirror/{dirname}/all").expect("a template"));
static MIRROR: LazyLock<DestinationTemplate> =
    LazyLock::new(|| DestinationTemplate::parse("repository", "mirror/{repository}").expect("a template"));

pub(super) fn at(millis: Millis) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).expect("within range")
}

pub(super) fn millis(at: Timestamp) -> Millis {
    at.as_millisecond() - 1_800_000_000_000
}

pub(super) fn repository(index: usize) -> RepositoryName {
    NAMES.0[index].clone()
}

/// The repositories of the second destination have other names than those of the source.
pub(super) fn target(destination: usize) -> RuleTarget {
    let template = if destination == 1 { MIRROR.clone() } else { DestinationTemplate::default() };
    RuleTarget { registry: self::destination(destination), template }
}

pub(super) fn repository_index(name: &str) -> usize {
    last_digit(name)
}

pub(super) fn tag(index: usize) -> Tag {
    NAMES.1[index].clone()
}

pub(super) fn tag_index(tag: &Tag) -> usize {
    last_digit(tag.as_str())
}

pub(super) fn source() -> NamespacedName {
    NamespacedName { namespace: NAMESPACE.to_owned(), name: "source".to_owned() }
}

pub(super) fn destination(index: usize) -> NamespacedName {
    NAMES.2[index].clone()
}

pub(super) fn destination_index(reference: &NamespacedName) -> usize {
    last_digit(&reference.name)
}

pub(super) fn digest(content: Content) -> Digest {
    DIGESTS.0[content].clone()
}

pub(super) fn content(digest: &Digest) -> Content {
    DIGESTS.1[digest]
}

pub(super) fn last_digit(text: &str) -> usize {
    usize::from(text.as_bytes()[text.len() - 1] - b'0')
}

/// Repositories, tags and destinations: to parse a name takes long.
static NAMES: LazyLock<(Vec<RepositoryName>, Vec<Tag>, Vec<NamespacedName>)> = LazyLock::new(|| {
    let repositories = (0..REPOSITORIES).map(|index| format!("app/r{index}").parse().expect("a repository name"));
    let tags = (0..TAGS).map(|index| format!("t{index}").parse().expect("a tag"));
    let destinations = (0..DESTINATIONS)
        .map(|index| NamespacedName { namespace: format!("team-b{index}"), name: format!("d{index}") });
    (repositories.collect(), tags.collect(), destinations.collect())
});

static DIGESTS: LazyLock<(Vec<Digest>, HashMap<Digest, Content>)> = LazyLock::new(|| {
    let digests: Vec<Digest> = (0..CONTENTS).map(|content| Digest::sha256(&content.to_le_bytes())).collect();
    let contents = digests.iter().cloned().enumerate().map(|(content, digest)| (digest, content)).collect();
    (digests, contents)
});
