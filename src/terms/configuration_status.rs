//! The status of the kind `ReplicationConfiguration`: the progress of a configuration.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::lists::{atomic, keyed_by};
use super::references::RegistryReference;

/// The progress of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationConfigurationStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the last complete comparison left nothing failed. While it is not: `Reconciling` if work is under way or
    /// tried again, `Stalled` if a user must change something. `Suspended`: `spec.suspend` is true, and `Ready` is as it
    /// was before. `NamesSkipped`: the source lists names that are not valid, which are not replicated.
    /// `BackfillStopped`: at least half of the first images at a destination failed, and the others wait.
    /// `DeletionsHeld`: images that the source has deleted wait to be deleted at a destination.
    /// `LagObjectiveMissed`: an image waits for longer than `spec.lagObjective`.
    /// `SweepExceedsLagObjective`: a sweep of known tags takes longer than that.
    /// `EnvelopeExceeded`: some statuses are not written, or without their images.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[schemars(transform = keyed_by("type"))]
    pub conditions: Vec<Condition>,
    /// Counts over all pairs of a source repository and a destination repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<ConfigurationSummary>,
    /// Counts per destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 625))]
    #[schemars(transform = atomic)]
    pub destinations: Vec<DestinationSummary>,
    /// The last value of the annotation `transship.dev/replicate-requested-at` whose comparison is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_replicate_request: Option<String>,
    /// Deletions of the last day in pairs that have left the rules, for the brake of `deleteReplication`: a pair that
    /// comes back goes on counting. Of more than 256 the largest are here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(transform = atomic)]
    pub recent_deletions: Vec<FormerDeletions>,
    /// The value of the annotation `transship.dev/approve-deletions` that was carried out last. Each approval counts
    /// once: the hash of later deletions depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub approved_deletions: Option<String>,
}

/// Deletions that began within one hour in a pair that has left the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerDeletions {
    /// The Registry of the destination.
    pub registry_ref: RegistryReference,
    /// The repository at the destination.
    pub repository: String,
    /// The beginning of the hour.
    pub since: Timestamp,
    /// The number of images.
    pub count: u64,
}

impl ReplicationConfigurationStatus {
    /// Returns true if an operator wrote the status; the API server gives a new object one without.
    pub fn is_observed(&self) -> bool {
        self.observed_generation.is_some_and(|generation| generation >= 0)
    }
}

/// Counts over all pairs of a configuration. One image is one tag at one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigurationSummary {
    /// The number of source repositories that the rules match.
    pub repositories: u64,
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
    /// The number of images whose tag a destination keeps with other content.
    pub skipped: u64,
    /// The bytes of the complete images, as stated by their manifests.
    pub bytes: u64,
    /// The sum of `bytesMoved` over all pairs.
    pub bytes_moved: u64,
    /// The sum of `bytesStored` over all pairs: content that repositories share counts for each.
    pub bytes_stored: u64,
    /// The largest `p99Milliseconds` of the destinations, such as `1.4s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub lag: Option<String>,
    /// The time in which a sweep looked at every known tag, to see if it has moved, such as `83m`; `0ms` where each
    /// comparison looks at all of them. It changes only together with something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub sweep: Option<String>,
}

/// Counts of one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationSummary {
    /// The Registry of the destination.
    pub registry_ref: RegistryReference,
    /// The number of images.
    #[serde(default)]
    pub images: u64,
    /// The number of images that are verified at the destination.
    #[serde(default)]
    pub complete: u64,
    /// The number of images that could not be replicated.
    #[serde(default)]
    pub failed: u64,
    /// The number of images whose tag a destination keeps with other content.
    #[serde(default)]
    pub skipped: u64,
    /// The bytes of blobs that were sent to the destination, failed attempts included, for the cost of transfer. It changes
    /// only together with something else.
    #[serde(default)]
    pub bytes_moved: u64,
    /// The bytes that the images occupy at the destination, content that the images of a repository share counted once,
    /// for the cost of storage. It changes only together with something else.
    #[serde(default)]
    pub bytes_stored: u64,
    /// The time since which the oldest incomplete image waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending_since: Option<Timestamp>,
    /// The lag of the images that were verified last, at most 128 since the operator started. It changes only together
    /// with something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<DestinationLag>,
}

/// The lag of images: the time from a push to the verification at the destination. The push is when a notification of
/// it came, or else when it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationLag {
    /// The lag that half of the images did not exceed.
    pub p50_milliseconds: u64,
    /// The lag that 99 of 100 images did not exceed.
    pub p99_milliseconds: u64,
}
