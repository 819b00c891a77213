//! The observations that a comparison makes of the tags of one repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::SeenTags;

/// The observations to make of the tags of one repository.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    /// The repository.
    pub repository: RepositoryName,
    /// Tags that need no request, with their digests: promised never to move and verified everywhere.
    pub settled: BTreeMap<Tag, Digest>,
    /// Tags of which nothing is verified: their manifests are read with them, as they are about to be copied.
    pub new: BTreeSet<Tag>,
    /// The other tags, of which the list has no digest.
    pub known: KnownLooks,
    /// Tags that stand for referrers and were read before, which need a look of their own no more than known tags.
    pub referrer_tags: Arc<SeenTags>,
    /// The places where referrers are looked for.
    pub referrers: ReferrerLooks,
    /// True if nothing of the repository is recorded: the lists of referrers are read with their tags.
    pub is_first: bool,
}

/// The observations to make of tags that are verified already, to see if they have moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KnownLooks {
    /// Each tag is observed.
    All,
    /// These are observed, for a reason of their own, and others as far as the budget allows it at once. The sweep
    /// observes the rest.
    WithinBudget(BTreeSet<Tag>),
    /// These are observed, for a reason of their own. A sweep is under way, and observes the others.
    Only(BTreeSet<Tag>),
}

/// The places where referrers are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReferrerLooks {
    /// Nowhere.
    Nowhere,
    /// At the tags that stand for them.
    Tags,
    /// At their tags and by the referrers API.
    Everywhere,
}
