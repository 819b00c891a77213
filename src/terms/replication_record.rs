//! The spec of the kind `ReplicationRecord`: a part of the record of a pair that outgrows its status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lists::atomic;

/// A part of the record of the verified images of one ReplicationStatus whose images do not all fit into it. Written and
/// read by the operator only, which verifies images anew that no record names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationRecordSpec {
    /// The ReplicationStatus that the record belongs to.
    pub status_ref: StatusReference,
    /// The number of this part, from 0. An image belongs to a part by the hash of its tag.
    #[schemars(range(max = 1023))]
    pub bucket: u32,
    /// The number of parts of the record.
    #[schemars(range(min = 1, max = 1024))]
    pub buckets: u32,
    /// The hash of the options by which the images were copied, as `copyOptionsHash` of the status: a record of other
    /// options does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub copy_options_hash: Option<String>,
    /// The images, each as `TAG DIGEST COMPLETED-AT BYTES DESTINATION-DIGEST REFERRERS-HASH` with a dash for what it has
    /// not; times in seconds since 1970.
    #[serde(default)]
    #[schemars(length(max = 2400), inner(length(max = 512)), transform = atomic)]
    pub rows: Vec<String>,
}

/// A reference to a ReplicationStatus by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusReference {
    /// The name of the ReplicationStatus of the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The uid of the ReplicationStatus: the record of an earlier one of the same name does not count.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}
