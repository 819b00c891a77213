//! One image to copy, in a form that any process can carry out.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::options::CopyOptions;
use crate::image::{Digest, RepositoryName, Tag};

/// One image to copy to one tag. Its registries are passed separately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRequest {
    /// The repository at the source.
    pub repository: RepositoryName,
    /// The repository at the destination.
    pub target: RepositoryName,
    /// The tag at the destination.
    pub tag: Tag,
    /// The digest at the source, pinned when the copy was decided.
    pub digest: Digest,
    /// The parts of the image that are copied.
    pub options: CopyOptions,
    /// True if the tag is known to have been at the destination: the tag is read first, and the repository only if the
    /// tag is gone.
    #[serde(default)]
    pub was_there: bool,
    /// The digest that this configuration last verified under the tag, which it may replace in any case.
    #[serde(default)]
    pub written: Option<Digest>,
    /// Every tag of the source repository that stands for referrers, if they are known and few.
    #[serde(default)]
    pub referrer_tags: Option<Arc<BTreeSet<Tag>>>,
    /// The uid of the configuration: blobs are mounted only from repositories that it writes to itself.
    pub scope: String,
    /// True if the destination belongs to another owner: only blobs whose bytes the source has served to this process
    /// are mounted, since any source can claim to have a digest.
    pub across_owners: bool,
}
