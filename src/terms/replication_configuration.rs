//! The kind `ReplicationConfiguration`: what goes from a source registry where.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::filters::{MAX_FILTERS, RepositoryFilter, TagFilter};
use super::interval::parse_interval;
use super::lists::{atomic, keyed_by};
use super::pattern::Pattern;
use super::platform_index::PlatformIndex;
use super::references::{LocalRegistryReference, RegistryReference};
use super::referrers_mode::ReferrersMode;
use super::rule::{ValidationRule, ValidationRules, checked_by};

/// What is replicated from one source registry, and where to. Owned by the side of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationConfigurationSpec {
    /// Where images are read.
    pub source: ConfigurationSource,
    /// What goes where, at most 25 rules. A repository that several rules match goes to the destinations of all of them.
    /// No rules: nothing is replicated.
    #[serde(default)]
    #[schemars(length(max = MAX_RULES), transform = keyed_by("name"))]
    pub rules: Vec<ReplicationRule>,
    /// How often the source is compared, from 10s to 24h, such as `90s`, `10m` or `1h30m`. Pushes that the registry
    /// notifies arrive within seconds whatever the interval is. Default: 10m.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 16), regex(pattern = "^([0-9]{1,6}(s|m|h))+$"), transform = checked_by(&INTERVAL_RULES))]
    pub interval: String,
    /// Stops replicating while true: nothing is read or written, what is there stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Where images are copied. Absent: as the operator's settings say, which is by Jobs unless they say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
}

/// Where images are copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// `Job`: by Jobs in the operator's namespace, one for each source and destination. `InProcess`: by the operator itself, for
    /// small set-ups. Absent: as the operator's settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ExecutionMode>,
    /// The execution class of the Jobs: resources, nodes and labels that the operator's administrator has set up. A class that
    /// is absent or that this namespace may not use stalls the configuration. Default: default.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub class: String,
}

/// How images are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExecutionMode {
    /// By Jobs.
    Job,
    /// By the operator itself.
    InProcess,
}

fn default_class() -> String {
    DEFAULT_EXECUTION_CLASS.to_owned()
}

/// The execution class where none is given.
pub const DEFAULT_EXECUTION_CLASS: &str = "default";

fn default_interval() -> String {
    "10m".to_owned()
}

/// Where images are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationSource {
    /// The Registry to read from: always one of the own namespace.
    pub registry_ref: LocalRegistryReference,
}

/// Which repositories go to which destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationRule {
    /// Names the rule, unique in the configuration.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Which repositories the rule takes: those that any filter matches, at most 100 filters. Absent means every repository
    /// that the source lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_FILTERS))]
    pub repository_filters: Option<Vec<RepositoryFilter>>,
    /// Which tags the rule takes: those that any filter matches, at most 100 filters. Absent means every tag. A tag that no filter
    /// takes is not looked at, is in no status and no count, and stays where it was replicated before. Where several rules send a
    /// repository to the same destination, a tag goes there if any of them takes it; how it is copied the first of these rules
    /// decides, whichever takes the tag. Tags that stand for signatures and other referrers are not images: they go with the images
    /// that they refer to, whatever the filters say. At most 100,000 tags of a repository may be taken, of any number that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_FILTERS))]
    #[schemars(transform = atomic)]
    pub tag_filters: Option<Vec<TagFilter>>,
    /// Tags that the rule does not take even where `tagFilters` do: those that any filter matches, at most 100 filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FILTERS), transform = atomic)]
    pub exclude_tag_filters: Vec<TagFilter>,
    /// Platforms that are copied of multi-platform images, such as `linux/amd64` or `linux/arm/v7`, at most 20; one without a
    /// variant takes every variant. Absent: all. Images of a single platform are copied whatever it is; what an index names without
    /// a platform (artifacts, nested indexes) and attestations of the chosen platforms go along. An image of several platforms, none
    /// of them chosen, fails with `PlatformNotFound`. When this changes every image is looked at again. Where several rules send a repository to the same destination, the first of them decides this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_PLATFORMS),
        inner(length(max = 100), regex(pattern = "^[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?$"))
    )]
    #[schemars(transform = atomic)]
    pub platforms: Vec<String>,
    /// What becomes of the index of an image of which only some `platforms` are copied. `Keep`: its bytes and its digest stay, and
    /// name platforms that the destination does not have; an image fails with `SparseIndexRefused` where the destination does
    /// not take that. `Rewrite`: a new index of the chosen platforms is written; the status shows both digests. Default: Keep.
    #[serde(default, skip_serializing_if = "PlatformIndex::is_default")]
    pub platform_index: PlatformIndex,
    /// Whether signatures, SBOMs and attestations go with the images that they refer to: what the source's referrers API or
    /// its fallback tags name, and the tags `sha256-….sig`, `.att` and `.sbom` of cosign. Default: Replicate.
    #[serde(default, skip_serializing_if = "ReferrersMode::is_default")]
    pub referrers: ReferrersMode,
    /// Artifact types of signatures, SBOMs and attestations that go with the images, such as
    /// `application/vnd.dev.sigstore.bundle.v0.3+json`, at most 20, compared letter by letter; the others stay. Absent: all. The
    /// type of an artifact is its manifest's `artifactType`, else the media type of its configuration. Tags of cosign state none
    /// of their own and count by the media types of their layers as well: `application/vnd.dev.cosign.simplesigning.v1+json` takes
    /// the `.sig` tags. It holds at every level: of what goes along, that which refers to it and is of one of these types goes
    /// along too; so to have the signature of an SBOM, name both types. Attestations inside of an index are parts of the image and
    /// always go along. When this changes every image is looked at again, and nothing is removed from a destination. Means nothing
    /// with `referrers: Ignore`. Where several rules send a repository to the same destination, the first of them decides this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_ARTIFACT_TYPES),
        inner(length(max = 255), regex(pattern = ARTIFACT_TYPE))
    )]
    #[schemars(transform = atomic)]
    pub referrer_artifact_types: Vec<String>,
    /// Tags that are promised never to move, at most 100 patterns of `*` (any characters) and `?` (any one). Once replicated,
    /// the source is not asked about them any more. What any rule promises holds for all destinations of the repositories that it
    /// takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_IMMUTABLE_TAGS), inner(length(min = 1, max = MAX_TAG_PATTERN), regex(pattern = TAG_PATTERN)))]
    #[schemars(transform = atomic)]
    pub immutable_tags: Vec<String>,
    /// Where the repositories go, 1 to 25 destinations, each once. A repository keeps its name.
    #[schemars(length(min = 1, max = MAX_DESTINATIONS), transform = atomic, transform = checked_by(&DESTINATIONS_RULES))]
    pub destinations: Vec<RuleDestination>,
}

/// Where repositories go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleDestination {
    /// The Registry to write to. One of another namespace needs a RegistryPermissionPolicy there.
    pub registry_ref: RegistryReference,
}

/// How far a configuration is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationConfigurationStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the last complete comparison left nothing failed. `Reconciling`: work is under way. `Stalled`: somebody has
    /// to change something.
    #[serde(default)]
    #[schemars(length(max = 8))]
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
}

/// Counts over all pairs of a configuration. One image is one tag at one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationSummary {
    /// ConfigurationSource repositories that the rules match.
    pub repositories: u64,
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
    /// Bytes of the complete images, as their manifests state them.
    pub bytes: u64,
}

/// Counts of one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationSummary {
    /// The destination.
    pub registry_ref: RegistryReference,
    /// All images.
    pub images: u64,
    /// Images that are at the destination, verified.
    pub complete: u64,
    /// Images that could not be replicated.
    pub failed: u64,
    /// Since when the oldest image that is not complete waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending_since: Option<Timestamp>,
}

/// The rules for `spec.interval`.
pub static INTERVAL_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "duration(self) >= duration('10s') && duration(self) <= duration('24h')",
        "spec.interval must be from 10s to 24h",
        |interval| parse_interval(interval).is_some(),
    )]
});

/// The rules for the destinations of a rule.
pub static DESTINATIONS_RULES: ValidationRules<[RuleDestination]> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "self.all(x, self.exists_one(y, x == y))",
        "destinations of a rule must be unique: remove the repeated registryRef",
        |destinations| destinations.iter().all(|x| destinations.iter().filter(|y| x == *y).count() == 1),
    )]
});

/// The largest number of rules of a configuration.
pub const MAX_RULES: usize = 25;
/// The largest number of destinations of a rule.
pub const MAX_DESTINATIONS: usize = 25;
/// The largest number of platforms of a rule.
pub const MAX_PLATFORMS: usize = 20;
/// The largest number of artifact types of a rule.
pub const MAX_ARTIFACT_TYPES: usize = 20;
/// The largest number of patterns of immutable tags of a rule.
pub const MAX_IMMUTABLE_TAGS: usize = 100;
/// The largest length of a pattern of immutable tags, in characters.
pub const MAX_TAG_PATTERN: usize = 128;
/// The patterns of `immutableTags`.
pub static TAG_PATTERN: Pattern = Pattern::new("^[A-Za-z0-9_.*?-]+$");
/// The media types of `referrerArtifactTypes`.
pub static ARTIFACT_TYPE: Pattern =
    Pattern::new("^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$");
