//! The spec of the kind `ReplicationConfiguration`: the replication from one source registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delete_replication::DeleteReplication;
use super::filters::{MAX_FILTERS, RepositoryFilter, TagFilter};
use super::interval::{parse_interval, parse_lag_objective};
use super::lists::{atomic, keyed_by};
use super::newest::Newest;
use super::pattern::Pattern;
use super::platform_index::PlatformIndex;
use super::references::{LocalRegistryReference, RegistryReference};
use super::referrers_mode::ReferrersMode;
use super::rule::{ValidationRule, ValidationRules, checked_by};
use super::schedule::{AllowedWindow, MAX_WINDOWS, Schedule};
use super::tag_conflict::TagConflict;
use super::verification::SignatureVerification;

/// The replication from one source registry to its destinations. The owner of the source owns this object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&CONFIGURATION_RULES))]
pub struct ReplicationConfigurationSpec {
    /// The registry that images are read from.
    pub source: ConfigurationSource,
    /// The rules, at most 25: which repositories and tags go to which destinations. A repository that several rules
    /// match goes to the destinations of all of them. Without rules nothing is replicated.
    #[serde(default)]
    #[schemars(length(max = MAX_RULES), transform = keyed_by("name"))]
    pub rules: Vec<ReplicationRule>,
    /// The interval between two comparisons of the source, from 10s to 24h, such as `90s`, `10m` or `1h30m`. Pushes
    /// that the registry notifies arrive within seconds, independent of the interval. Not together with `schedule`.
    /// Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^([0-9]{1,6}(s|m|h))+$"), transform = checked_by(&INTERVAL_RULES))]
    pub interval: Option<String>,
    /// The times at which the source is compared, in place of an interval; each configuration adds up to a minute of
    /// its own, so that not all of one schedule begin together. It is also compared when the operator starts, when the
    /// spec changes and at request, and again after a comparison that was not complete. Pushes that the registry
    /// notifies arrive within seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The windows during which copies may start, at most 10. Outside of them the source is compared and pushes are
    /// noted, their images wait, and the condition `Ready` says so; what has begun goes on. Absent: always. `transship
    /// sync` copies at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_WINDOWS), transform = atomic)]
    pub allowed_windows: Vec<AllowedWindow>,
    /// The order of the copies of this configuration among those of its namespace, from -100 to 100: of images that
    /// wait, those of the higher priority start first, after pushes that were notified. The share of the namespace stays
    /// as it is, and what has begun goes on. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = -100, max = 100))]
    pub priority: i32,
    /// The longest time that an image should wait for its replication, from 1s to 168h, such as `60s`. While one waits
    /// for longer, or has failed for so long, the condition `LagObjectiveMissed` says so. Nothing is copied faster for
    /// it. Absent: no objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 16),
        regex(pattern = "^([0-9]{1,6}(s|m|h))+$"),
        transform = checked_by(&LAG_OBJECTIVE_RULES)
    )]
    pub lag_objective: Option<String>,
    /// Stops replication while true: nothing is read or written; images already replicated stay. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// The place where images are copied. Absent: as in the operator's settings, which use Jobs by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// The place where images are copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// `Job`: by Jobs in the operator's namespace, one for each source and destination. `InProcess`: by the operator
    /// itself, for small installations. Absent: as in the operator's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ExecutionMode>,
    /// The execution class of the Jobs: resources, nodes and labels that the operator's administrator has set up. A
    /// class that does not exist, or that this namespace may not use, stalls the configuration. Default: default.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub class: String,
}

/// The process that copies images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExecutionMode {
    /// The pods of Jobs.
    Job,
    /// The operator itself.
    InProcess,
}

fn default_class() -> String {
    DEFAULT_EXECUTION_CLASS.to_owned()
}

/// The execution class of a spec that names none.
pub const DEFAULT_EXECUTION_CLASS: &str = "default";

/// The registry that images are read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationSource {
    /// The Registry to read from, in the namespace of this object.
    pub registry_ref: LocalRegistryReference,
}

/// A rule: which repositories and tags go to which destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&REPLICATION_RULE_RULES))]
pub struct ReplicationRule {
    /// The name of the rule, unique in the configuration.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The repositories that the rule takes: those that any filter matches, at most 100 filters. Absent: every
    /// repository that the source lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_FILTERS), transform = atomic)]
    pub repository_filters: Option<Vec<RepositoryFilter>>,
    /// The repositories that the rule excludes even if `repositoryFilters` take them: those that any filter matches, at
    /// most 100 filters. What was replicated before stays at the destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FILTERS), transform = atomic)]
    pub exclude_repository_filters: Vec<RepositoryFilter>,
    /// The tags that the rule takes: those that any filter matches, at most 100 filters. Absent: every tag. A tag that
    /// no filter takes is not read and appears in no status and no count; it stays at destinations that it was
    /// replicated to before. If several rules send a repository to the same destination, a tag goes there if any of
    /// them takes it; the first of these rules decides how it is copied, even if another takes the tag. Tags that stand
    /// for signatures and other referrers are not images: they go with the images that they refer to, independent of
    /// the filters. At most 32 MiB of tags of a repository may be taken, about half a million; the source may have any
    /// number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_FILTERS))]
    #[schemars(transform = atomic)]
    pub tag_filters: Option<Vec<TagFilter>>,
    /// The tags that the rule excludes even if `tagFilters` take them: those that any filter matches, at most 100
    /// filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FILTERS), transform = atomic)]
    pub exclude_tag_filters: Vec<TagFilter>,
    /// The newest tags of each repository that the rule takes, of those that the filters take. Absent: all. A tag that
    /// falls out of them leaves the status, and is deleted at the destination only with `deleteReplication`; never
    /// because this spec was changed. If several rules send a repository to the same destination, a tag goes there if
    /// any of them takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    /// The platforms of multi-platform images that are copied, such as `linux/amd64` or `linux/arm/v7`, at most 20; one
    /// without a variant takes every variant. Absent: all. Images of a single platform are always copied. Entries of an
    /// index without a platform (artifacts, nested indexes) and attestations of the chosen platforms are copied too. A
    /// multi-platform image that has none of these platforms fails with `PlatformNotFound`. A change makes the operator
    /// check every image again. If several rules send a repository to the same destination, the first of them decides
    /// this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_PLATFORMS),
        inner(length(max = 100), regex(pattern = "^[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?$"))
    )]
    #[schemars(transform = atomic)]
    pub platforms: Vec<String>,
    /// The treatment of the index when only some `platforms` of an image are copied. `Keep`: its bytes and its digest
    /// stay, so it names platforms that the destination does not have; the image fails with `SparseIndexRefused` if the
    /// destination refuses that. `Rewrite`: a new index of the chosen platforms is written, and the status shows both
    /// digests; needs `platforms`. Default: Keep.
    #[serde(default, skip_serializing_if = "PlatformIndex::is_default")]
    #[schemars(extend("default" = "Keep"))]
    pub platform_index: PlatformIndex,
    /// The treatment of signatures, SBOMs and attestations that refer to images: those that the source's referrers API
    /// or its fallback tags name, and the tags `sha256-….sig`, `.att` and `.sbom` of cosign. `Replicate` copies them
    /// with the images, `Ignore` leaves them at the source. Default: Replicate.
    #[serde(default, skip_serializing_if = "ReferrersMode::is_default")]
    #[schemars(extend("default" = "Replicate"))]
    pub referrers: ReferrersMode,
    /// The artifact types of the signatures, SBOMs and attestations that are copied with the images, such as
    /// `application/vnd.dev.sigstore.bundle.v0.3+json`, at most 20, compared letter by letter; others stay at the
    /// source. Absent: all. The type of an artifact is its manifest's `artifactType`, else the media type of its
    /// configuration. Tags of cosign state no type of their own and also count by the media types of their layers:
    /// `application/vnd.dev.cosign.simplesigning.v1+json` takes the `.sig` tags. The list applies at every level: an
    /// artifact that refers to a copied artifact is copied if its own type is listed. To have the signature of an SBOM,
    /// name both types. Attestations inside an index are parts of the image and are always copied. A change makes the
    /// operator check every image again and removes nothing from a destination. Not together with `referrers:
    /// Ignore`. If several rules send a repository to the same destination, the first of them decides this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_ARTIFACT_TYPES),
        inner(length(max = 255), regex(pattern = ARTIFACT_TYPE))
    )]
    #[schemars(transform = atomic)]
    pub referrer_artifact_types: Vec<String>,
    /// The treatment of a tag that the destination has with other content. `Overwrite` points it at the image of the
    /// source. `Keep` leaves it, and the image is `SKIPPED` with both digests, unless the configuration itself wrote what
    /// the tag points at. Tags that the destination does not let be moved are `SKIPPED` in either case. If several rules
    /// send a repository to the same destination, the first of them decides this. Default: Overwrite.
    #[serde(default, skip_serializing_if = "TagConflict::is_default")]
    #[schemars(extend("default" = "Overwrite"))]
    pub on_tag_conflict: TagConflict,
    /// The signature without which an image is not copied: one of its very digest at the source, which is verified before
    /// each copy. An image without any signature is `SKIPPED` with `SignatureMissing` and looked at again every few
    /// minutes; one whose signatures are all invalid is `FAILED` with `SignatureInvalid`. A change makes the operator
    /// check every image again and removes nothing from a destination. If several rules send a repository to the same
    /// destination, the first of them decides this. Absent: no signature is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<SignatureVerification>,
    /// The deletion of images at the destinations that the source has deleted. Absent: nothing is ever deleted. A tag is
    /// deleted if this configuration put it there, the destination has the recorded digest under it still, a
    /// RegistryPermissionPolicy allows `DeleteImage`, and two complete lists of the tags, with at least the `interval`
    /// between them (10m with a `schedule`), lacked it. A list that fails or is empty deletes nothing; neither does a
    /// repository that disappears, nor a change of this spec. If several rules send a repository to the same
    /// destination, the first of them decides this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_replication: Option<DeleteReplication>,
    /// Tags that are promised never to move, at most 100 patterns of `*` (any characters) and `?` (any one), which count
    /// among the patterns of tags of all rules. Once such a tag is replicated, the source is not asked about it any more. The promise of any rule holds for all
    /// destinations of the repositories that the rule takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_IMMUTABLE_TAGS),
        inner(length(min = 1, max = MAX_TAG_PATTERN), regex(pattern = TAG_PATTERN))
    )]
    #[schemars(transform = atomic)]
    pub immutable_tags: Vec<String>,
    /// The destinations, 1 to 25, each once.
    #[schemars(
        length(min = 1, max = MAX_DESTINATIONS),
        transform = atomic,
        transform = checked_by(&DESTINATIONS_RULES)
    )]
    pub destinations: Vec<RuleDestination>,
}

/// A destination of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleDestination {
    /// The Registry to write to. A Registry of another namespace needs a RegistryPermissionPolicy there.
    pub registry_ref: RegistryReference,
    /// The name of a repository at the destination: text with the placeholders `{repository}` (the whole name at the
    /// source), `{basename}` (its last segment), `{dirname}` (all segments before that) and `{segment:N}` (the Nth,
    /// counted from 1), such as `mirror/{repository}`. Default: `{repository}`. The result must be a valid name of at
    /// most 255 characters; a repository for which it is not stays where it is, and the condition `Stalled` names it.
    /// Two repositories of the source that would get one name are not copied, unless one of them was before: then that
    /// one goes on. Policies are asked about the name at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_TEMPLATE),
        transform = checked_by(&DESTINATION_TEMPLATE_RULES),
        extend("default" = SAME_REPOSITORY)
    )]
    pub repository: Option<String>,
}

/// The rules for the spec as a whole.
pub static CONFIGURATION_RULES: ValidationRules<ReplicationConfigurationSpec> = ValidationRules::new(|| {
    vec![ValidationRule::at(
        ".interval",
        "!(has(self.interval) && has(self.schedule))",
        "spec.interval and spec.schedule exclude each other: remove one",
        |spec| spec.interval.is_none() || spec.schedule.is_none(),
    )]
});

/// The rules for `spec.interval`.
pub static INTERVAL_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "duration(self) >= duration('10s') && duration(self) <= duration('24h')",
        "spec.interval must be from 10s to 24h",
        |interval| parse_interval(interval).is_some(),
    )]
});

/// The rules for `spec.lagObjective`.
pub static LAG_OBJECTIVE_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "duration(self) >= duration('1s') && duration(self) <= duration('168h')",
        "spec.lagObjective must be from 1s to 168h",
        |objective| parse_lag_objective(objective).is_some(),
    )]
});

/// The rules for a rule as a whole.
pub static REPLICATION_RULE_RULES: ValidationRules<ReplicationRule> = ValidationRules::new(|| {
    vec![
        ValidationRule::at(
            ".platformIndex",
            "!has(self.platformIndex) || self.platformIndex == 'Keep' || (has(self.platforms) && size(self.platforms) > 0)",
            "platformIndex has no effect without platforms: name platforms, or remove it",
            |rule| rule.platform_index.is_default() || !rule.platforms.is_empty(),
        ),
        ValidationRule::at(
            ".referrerArtifactTypes",
            "!has(self.referrers) || self.referrers != 'Ignore' || !has(self.referrerArtifactTypes) || size(self.referrerArtifactTypes) == 0",
            "referrerArtifactTypes has no effect with referrers: Ignore: remove one of them",
            |rule| rule.referrers != ReferrersMode::Ignore || rule.referrer_artifact_types.is_empty(),
        ),
    ]
});

/// The rules for the destinations of a rule.
pub static DESTINATIONS_RULES: ValidationRules<[RuleDestination]> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "self.all(x, self.exists_one(y, x == y))",
        "destinations of a rule must be unique: remove the repeated one",
        |destinations| {
            let written = |destination: &RuleDestination| {
                let template = destination.repository.as_deref().unwrap_or(SAME_REPOSITORY).to_owned();
                (destination.registry_ref.clone(), template)
            };
            let written: Vec<_> = destinations.iter().map(written).collect();
            written.iter().all(|x| written.iter().filter(|y| x == *y).count() == 1)
        },
    )]
});

/// The rules for the template of a destination repository.
pub static DESTINATION_TEMPLATE_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        format!("self.matches('{DESTINATION_TEMPLATE}')"),
        "must be a repository name with the placeholders {repository}, {basename}, {dirname} and {segment:1} to {segment:99}, such as 'mirror/{repository}'",
        |template| DESTINATION_TEMPLATE.matches(template),
    )]
});

/// A placeholder counts as a letter: what it stands for begins and ends with a letter or digit.
static DESTINATION_TEMPLATE: Pattern = Pattern::new(
    "^([a-z0-9]|[{](repository|basename|dirname|segment:[1-9][0-9]?)[}])+(([.]|_|__|-+)([a-z0-9]|[{](repository|basename|dirname|segment:[1-9][0-9]?)[}])+)*(/([a-z0-9]|[{](repository|basename|dirname|segment:[1-9][0-9]?)[}])+(([.]|_|__|-+)([a-z0-9]|[{](repository|basename|dirname|segment:[1-9][0-9]?)[}])+)*)*$",
);

/// The largest length of a template of a destination repository, in characters.
pub const MAX_TEMPLATE: usize = 255;
/// The template that keeps names.
pub const SAME_REPOSITORY: &str = "{repository}";
/// The interval of a spec that states neither an interval nor a schedule.
pub const DEFAULT_INTERVAL: &str = "10m";
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
