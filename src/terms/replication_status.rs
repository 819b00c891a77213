//! The spec and status of the kind `ReplicationStatus`: the progress of one pair of repositories.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::failure_code::FailureCode;
use super::lists::{atomic, keyed_by};
use super::rule::immutable;

/// The pair whose progress this object shows: one source repository and one destination repository. Written by the
/// operator: exactly one per configuration, source repository and destination repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = immutable(SPEC_IS_IMMUTABLE))]
pub struct ReplicationStatusSpec {
    /// The configuration that replicates the pair.
    pub configuration_ref: ConfigurationReference,
    /// The repository that images are read from.
    pub source: PairEnd,
    /// The repository that images are written to.
    pub destination: PairEnd,
}

/// A reference to the configuration of a pair, by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationReference {
    /// The name of the ReplicationConfiguration of the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The uid of the ReplicationConfiguration: the record of an earlier one of the same name does not count.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// One end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairEnd {
    /// The Registry.
    pub registry_ref: ResolvedRegistryReference,
    /// The name of the repository, 1 to 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub repository: String,
}

/// A reference to a Registry by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRegistryReference {
    /// The namespace of the Registry. Absent: the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The name of the Registry.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The uid of the Registry: the record of an earlier one of the same name does not count. All zeros where the owner of
    /// another namespace has not consented to anything: nothing shows if it exists.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The progress of the images of a pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationStatusStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The source as `registry/repository`.
    #[schemars(length(max = 400))]
    #[serde(default)]
    pub source: String,
    /// The destination as `registry/repository`, with the namespace of its Registry in front if it is another one.
    #[schemars(length(max = 400))]
    #[serde(default)]
    pub destination: String,
    /// Counts over all images of the pair.
    #[serde(default)]
    pub summary: PairSummary,
    /// The images: failed ones first, then those in progress and pending, then the newest; at most 250 and about 40 kB.
    /// The summary counts all images, including those that do not fit here.
    #[serde(default)]
    #[schemars(length(max = 250))]
    #[schemars(transform = atomic)]
    pub images: Vec<ImageStatus>,
    /// The failures grouped by cause, if there are more than fit into `images`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[schemars(transform = atomic)]
    pub failure_groups: Vec<FailureGroup>,
    /// The deletions of images that the source had deleted, by the hour, as far as they count for the limits of
    /// `deleteReplication`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 27), transform = atomic)]
    pub recent_deletions: Vec<RecentDeletions>,
    /// A hash of the rule's `platforms`, `platformIndex` and `referrerArtifactTypes`, as far as they choose parts of an
    /// image; absent if everything is copied. A change makes the operator check every image again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub copy_options_hash: Option<String>,
    /// `Ready`: nothing is left to do; otherwise its reason is the failure code of the first failed image, and its message
    /// the cause. `Replicated`: every image is at the destination, read back and verified. `Permitted`: the destination's
    /// owner permits the replication; the message names the deciding statement.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[schemars(transform = keyed_by("type"))]
    pub conditions: Vec<Condition>,
}

/// Deletions at the destination that began within one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecentDeletions {
    /// The beginning of the hour.
    pub since: Timestamp,
    /// The number of images.
    pub count: u64,
}

/// Counts over all images of a pair. One image is one tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PairSummary {
    /// FAILED if any image failed, else IN_PROGRESS or PENDING if any is, else SKIPPED if any is, else COMPLETE.
    pub status: ReplicationState,
    /// The number of images.
    pub images: u64,
    /// The number of images that are verified at the destination.
    pub complete: u64,
    /// The number of images that are being copied.
    pub in_progress: u64,
    /// The number of images that wait.
    pub pending: u64,
    /// The number of images that could not be replicated.
    pub failed: u64,
    /// The number of images whose tag the destination keeps with other content.
    pub skipped: u64,
    /// The bytes of the complete images, as stated by their manifests; content that images share counts for each.
    pub bytes: u64,
    /// The bytes of blobs that were sent to the destination, failed attempts included, since the first copy. It changes
    /// only together with something else.
    pub bytes_moved: u64,
    /// The bytes of the manifests and blobs of the verified images, content that they share counted once: exact up to 128
    /// of them, estimated beyond. Without referrers. Content that no image has any more leaves it after two days. It
    /// changes only together with something else.
    pub bytes_stored: u64,
    /// The tag that was completed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub latest: Option<String>,
    /// The time since which the oldest incomplete image waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending_since: Option<Timestamp>,
    /// The time from the push of `latest` to its verification, such as `1.4s`. The push is when a notification of it
    /// came, or else when it was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub lag: Option<String>,
}

/// The progress of one image, or of a pair: ECR's words, and PENDING for images that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplicationState {
    /// The image is at the destination: tag, manifests and blobs were read back after the last write.
    Complete,
    /// The image could not be replicated; it is tried again at `nextAttemptAt`, or by the next comparison.
    Failed,
    /// The image is being copied.
    InProgress,
    /// The image waits.
    #[default]
    Pending,
    /// The image is not to be copied: the destination keeps other content under the tag, as it is immutable there or the
    /// rule says `onTagConflict: Keep`, or the signature that the rule wants is missing.
    Skipped,
}

/// The progress of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// The tag, at both ends.
    #[schemars(length(min = 1, max = 128))]
    pub tag: String,
    /// The digest of the tag at the source, and at the destination once complete. Absent if the source lists the tag
    /// and has never given it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 135))]
    pub digest: String,
    /// The digest of the tag at the destination as it was last verified, if it differs: an index was rewritten without
    /// the platforms that are not copied (`platformIndex: Rewrite`), or the tag has moved at the source since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 135))]
    pub destination_digest: Option<String>,
    /// The progress of the image.
    pub status: ReplicationState,
    /// The cause of the failure, or for which the image is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_code: Option<FailureCode>,
    /// The cause of the failure as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// The number of failed attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The latest time of the next attempt. Absent for a tag that cannot be read, which each comparison tries again, and
    /// while another image is tried for the same cause. Of a complete image, the time at which it is read back again,
    /// because an earlier write of its tag was never answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// The bytes of the image, as stated by its manifests; while it is in progress, the bytes read so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The time of the verification at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// A hash of the signatures, SBOMs and attestations that referred to the image at the source when it was
    /// verified; all of them are at the destination as well. Absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub referrers_hash: Option<String>,
}

impl ImageStatus {
    /// Returns the entry of an image that waits.
    pub fn pending(tag: String, digest: String) -> Self {
        Self {
            tag,
            digest,
            destination_digest: None,
            status: ReplicationState::Pending,
            failure_code: None,
            message: None,
            attempts: None,
            next_attempt_at: None,
            bytes: None,
            completed_at: None,
            referrers_hash: None,
        }
    }
}

/// Failures with the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureGroup {
    /// The cause that the failures share.
    pub failure_code: FailureCode,
    /// The sentence of one of the failures.
    #[schemars(length(max = 512))]
    pub message: String,
    /// The number of images.
    pub count: u64,
    /// Up to ten of their tags.
    #[schemars(length(max = 10), transform = atomic)]
    pub sample_tags: Vec<String>,
}

const SPEC_IS_IMMUTABLE: &str = "spec is immutable: a ReplicationStatus is written by the operator only";
