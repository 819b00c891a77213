//! The kind `ReplicationStatus`: how far the images of one source repository are at one destination repository.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::failure_code::FailureCode;
use super::lists::{atomic, keyed_by};
use super::rule::immutable;

/// How far each image of a source repository is at one destination repository. Written by the operator: exactly one per
/// configuration, source repository and destination repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = immutable(SPEC_IS_IMMUTABLE))]
pub struct ReplicationStatusSpec {
    /// The configuration that replicates the pair.
    pub configuration_ref: ConfigurationReference,
    /// Where the images are read.
    pub source: PairEnd,
    /// Where the images are written.
    pub destination: PairEnd,
}

/// The configuration that replicates a pair, by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationReference {
    /// The name of the ReplicationConfiguration of the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its uid: the record of an earlier configuration of the same name does not count.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// One end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairEnd {
    /// The Registry.
    pub registry_ref: ResolvedRegistryReference,
    /// The repository.
    #[schemars(length(min = 1, max = 255))]
    pub repository: String,
}

/// A Registry by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRegistryReference {
    /// Its namespace; absent for the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its uid: the record of an earlier Registry of the same name does not count.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// How far the images of a pair are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationStatusStatus {
    /// The source as `registry/repository`.
    #[schemars(length(max = 400))]
    #[serde(default)]
    pub source: String,
    /// The destination as `registry/repository`, with its namespace in front where that is another one.
    #[schemars(length(max = 400))]
    #[serde(default)]
    pub destination: String,
    /// Counts over all images of the pair.
    pub summary: PairSummary,
    /// The images: failures first, then those under way and waiting, then the newest; at most 250 and about 40 kB. The
    /// summary counts all of them, also those that do not fit here.
    #[serde(default)]
    #[schemars(length(max = 250))]
    #[schemars(transform = atomic)]
    pub images: Vec<ImageStatus>,
    /// Why images failed, grouped, when there are more failures than fit into `images`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[schemars(transform = atomic)]
    pub failure_groups: Vec<FailureGroup>,
    /// A hash of what of the images is copied, as the rule's `platforms` and `platformIndex` say; absent for everything. When it
    /// changes every image is looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub copy_options: Option<String>,
    /// `Replicated`: every image is at the destination, read back and verified. `Permitted`: the destination's owner
    /// consents; the message names the deciding statement.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[schemars(transform = keyed_by("type"))]
    pub conditions: Vec<Condition>,
}

/// Counts over all images of a pair. One image is one tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairSummary {
    /// FAILED if any image failed, else IN_PROGRESS or PENDING if any is, else COMPLETE.
    pub status: ReplicationState,
    /// All images.
    pub images: u64,
    /// Images that are at the destination, verified.
    pub complete: u64,
    /// Images that are being copied.
    pub in_progress: u64,
    /// Images that wait.
    pub pending: u64,
    /// Images that could not be replicated.
    pub failed: u64,
    /// Bytes of the complete images, as their manifests state them; content that images share counts for each.
    pub bytes: u64,
    /// The tag that was completed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub latest: Option<String>,
    /// Since when the oldest image that is not complete waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending_since: Option<Timestamp>,
}

/// How far one image, or a pair, is. ECR's words, and PENDING for what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplicationState {
    /// It is at the destination: tag, manifests and blobs were read back after the last write.
    Complete,
    /// It could not be replicated; it is tried again at `nextAttemptAt`.
    Failed,
    /// It is being copied.
    InProgress,
    /// It waits.
    #[default]
    Pending,
}

/// How far one image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// The tag.
    #[schemars(length(min = 1, max = 128))]
    pub tag: String,
    /// The digest that the tag has at the source, and at the destination once complete.
    #[schemars(length(min = 1, max = 135))]
    pub digest: String,
    /// The digest that the tag has at the destination once complete, where it is another one: that of an index from which other
    /// platforms were removed (`platformIndex: Rewrite`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 135))]
    pub destination_digest: Option<String>,
    /// How far it is.
    pub status: ReplicationState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_code: Option<FailureCode>,
    /// Why it failed, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// How often it was tried without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When it is tried again at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// The bytes of the image, as its manifests state them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When it was verified at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// A fingerprint of what referred to the image at the source when it was verified, all of which is at the destination as well:
    /// signatures, SBOMs, attestations. Absent if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub referrers: Option<String>,
}

/// Failures that have their cause in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureGroup {
    /// The cause.
    pub failure_code: FailureCode,
    /// The sentence of one of them.
    #[schemars(length(max = 512))]
    pub message: String,
    /// How many images.
    pub count: u64,
    /// Up to ten of their tags.
    #[schemars(length(max = 10))]
    pub sample_tags: Vec<String>,
}

const SPEC_IS_IMMUTABLE: &str = "spec is immutable: a ReplicationStatus is written by the operator only";
