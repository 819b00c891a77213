//! The choice of the newest tags of each repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The newest tags of each repository, of those that the filters take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Newest {
    /// The number of tags, 1 to 10,000.
    #[schemars(range(min = 1, max = MAX_NEWEST))]
    pub count: u32,
    /// The order of the tags.
    pub by: NewestBy,
}

/// The order by which tags are newer than others. Of equals, the tag whose name is larger is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NewestBy {
    /// By the version in the tag, read as `SEMVER_MATCH` does with `versionSyntax: Loose`. Tags that are no versions sort
    /// last.
    Semver,
    /// By the name of the tag, byte by byte: for dates such as `2024-01-15`.
    Name,
    /// By the date of creation in the image configuration; of a multi-platform image, in that of its first image. The
    /// digest of every tag that the filters take is read in each comparison, and the date once for each digest. Tags
    /// without a date, such as most artifacts, sort last, and the condition `Ready` says so.
    Created,
}

/// The largest number of newest tags.
pub const MAX_NEWEST: u32 = 10_000;
