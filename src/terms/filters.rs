//! Filters of repositories and tags.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::rule::{ValidationRule, ValidationRules, checked_by};

/// A filter of repository names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&REPOSITORY_FILTER_RULES))]
pub struct RepositoryFilter {
    /// The text that names are compared with, 1 to 255 characters; at least 2 for `EXACT_MATCH` and `PREFIX_MATCH`, as
    /// in ECR. All rules together may have 100 globs and regular expressions. An error that the API server cannot find,
    /// such as in a regular expression, stalls the configuration with `InvalidSpec`.
    #[schemars(length(min = 1, max = 255))]
    pub filter: String,
    /// The comparison of `filter` with a name.
    pub filter_type: RepositoryFilterType,
}

/// The comparison of a filter with a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RepositoryFilterType {
    /// The name is `filter`. Needs no listing of repositories.
    ExactMatch,
    /// The name starts with `filter`, character by character, as in ECR: `prod` takes `prod`, `prod-a`, `production/x`.
    PrefixMatch,
    /// The whole name matches the pattern: `*` stands for any characters but `/`, `?` for any one but `/`, `**` for any
    /// characters, `**/` also for no segment at all, `{a,b}` for either: `{prod,staging}/**` takes `prod/team/app`.
    GlobMatch,
    /// The whole name matches the regular expression, in the syntax of the Rust crate `regex` (no look-around, no back
    /// references): `team-[ab]/.+` takes `team-a/app`.
    RegexMatch,
}

/// A filter of tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&TAG_FILTER_RULES))]
pub struct TagFilter {
    /// The text that tags are compared with, 1 to 256 characters. All rules together may have 100 patterns: globs,
    /// regular expressions, those of `immutableTags`, and ranges of versions, which count once for each four
    /// comparators. An error that the API server cannot find, such as in a regular expression, stalls the configuration
    /// with `InvalidSpec`.
    #[schemars(length(min = 1, max = MAX_TAG_FILTER))]
    pub filter: String,
    /// The comparison of `filter` with a tag.
    pub filter_type: TagFilterType,
    /// The tags that `SEMVER_MATCH` reads as versions. Default: Loose.
    #[serde(default, skip_serializing_if = "VersionSyntax::is_default")]
    pub version_syntax: VersionSyntax,
}

/// The tags that are read as versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VersionSyntax {
    /// Versions as tags have them: also of two numbers (`1.2`, `v1.2`), of one after a `v` (`v1`), with zeros in front
    /// (`2024.01.15`), and with `_` for the `+` of a build (`1.2.3_build.5`).
    #[default]
    Loose,
    /// Versions of three numbers, as Semantic Versioning 2.0 defines them; a `v` in front is allowed.
    Strict,
}

impl VersionSyntax {
    /// Returns true for the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The comparison of a filter with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagFilterType {
    /// The tag is `filter`.
    ExactMatch,
    /// The whole tag matches the pattern: `*` stands for any characters, `?` for any one.
    GlobMatch,
    /// The whole tag matches the regular expression, in the syntax of the Rust crate `regex` (no look-around, no back
    /// references): `v[0-9]+` takes `v1`, not `v1-rc`.
    RegexMatch,
    /// The tag is a version in the range; `versionSyntax` says which tags are versions. A range has comparators `=`,
    /// `>`, `>=`, `<`, `<=`, `^`, `~` with commas or spaces between them, and all must match, such as `>=1.2 <2`;
    /// `1.2 - 1.4` means `>=1.2 <=1.4`, and `||` stands between alternatives. `1.2` alone means `^1.2`, which is
    /// `>=1.2.0 <2.0.0`; `*` takes every version. A pre-release, and `1.2.3-alpine` is one, matches only if a
    /// comparator names a pre-release of the same three numbers: `>=1.3.0-rc.0 <2` takes `1.3.0-rc.1` and not
    /// `1.4.0-rc.1`.
    SemverMatch,
}

/// The rules for a filter of repositories.
pub static REPOSITORY_FILTER_RULES: ValidationRules<RepositoryFilter> = ValidationRules::new(|| {
    vec![
        ValidationRule::at(
            ".filter",
            "size(self.filter) > 1 || !(self.filterType in ['PREFIX_MATCH', 'EXACT_MATCH'])",
            "filter must have at least 2 characters, as in ECR",
            |filter| {
                let is_short_type =
                    matches!(filter.filter_type, RepositoryFilterType::GlobMatch | RepositoryFilterType::RegexMatch);
                filter.filter.chars().count() > 1 || is_short_type
            },
        ),
        ValidationRule::at(
            ".filter",
            format!("self.filterType != 'PREFIX_MATCH' || self.filter.matches('{REPOSITORY_PREFIX}')"),
            "filter must be the beginning of a repository name: lower-case letters, digits, '.', '_', '-' and '/'; for wildcards use filterType: GLOB_MATCH",
            |filter| {
                filter.filter_type != RepositoryFilterType::PrefixMatch || REPOSITORY_PREFIX.matches(&filter.filter)
            },
        ),
        ValidationRule::at(
            ".filter",
            format!("self.filterType != 'EXACT_MATCH' || self.filter.matches('{REPOSITORY}')"),
            "filter must be a whole repository name: lower-case letters, digits, '.', '_', '-' and '/'; for wildcards use filterType: GLOB_MATCH",
            |filter| filter.filter_type != RepositoryFilterType::ExactMatch || REPOSITORY.matches(&filter.filter),
        ),
        ValidationRule::at(
            ".filter",
            format!("self.filterType != 'GLOB_MATCH' || self.filter.matches('{REPOSITORY_GLOB}')"),
            "filter must be a pattern of repository names: lower-case letters, digits, '.', '_', '-', '/', '*', '?' and {a,b}",
            |filter| filter.filter_type != RepositoryFilterType::GlobMatch || REPOSITORY_GLOB.matches(&filter.filter),
        ),
    ]
});

/// The rules for a filter of tags.
pub static TAG_FILTER_RULES: ValidationRules<TagFilter> = ValidationRules::new(|| {
    vec![
        ValidationRule::at(
            ".filter",
            format!("self.filterType != 'EXACT_MATCH' || self.filter.matches('{TAG}')"),
            "filter must be a whole tag: letters, digits, '_', '.' and '-'; for wildcards use filterType: GLOB_MATCH",
            |filter| filter.filter_type != TagFilterType::ExactMatch || TAG.matches(&filter.filter),
        ),
        ValidationRule::at(
            ".filter",
            format!("self.filterType != 'GLOB_MATCH' || self.filter.matches('{TAG_GLOB}')"),
            "filter must be a pattern of tags: letters, digits, '_', '.', '-', '*' and '?', not beginning with '.' or '-', at most 128 characters",
            |filter| filter.filter_type != TagFilterType::GlobMatch || TAG_GLOB.matches(&filter.filter),
        ),
        ValidationRule::at(
            ".filter",
            format!("self.filterType != 'SEMVER_MATCH' || self.filter.matches('{VERSION_RANGE}')"),
            "filter must be a range of versions such as '>=1.2 <2'",
            |filter| filter.filter_type != TagFilterType::SemverMatch || VERSION_RANGE.matches(&filter.filter),
        ),
        ValidationRule::at(
            ".versionSyntax",
            "!has(self.versionSyntax) || self.versionSyntax == 'Loose' || self.filterType == 'SEMVER_MATCH'",
            "versionSyntax has an effect only with filterType: SEMVER_MATCH: remove it",
            |filter| filter.version_syntax.is_default() || filter.filter_type == TagFilterType::SemverMatch,
        ),
    ]
});

static REPOSITORY_PREFIX: Pattern =
    Pattern::new("^([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*/)*([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*([.]|_|__|-+)?)?$");
static REPOSITORY: Pattern = Pattern::new("^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$");
static REPOSITORY_GLOB: Pattern = Pattern::new("^[a-z0-9._/*?{},-]+$");
static TAG: Pattern = Pattern::new("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$");
static TAG_GLOB: Pattern = Pattern::new("^[A-Za-z0-9_*?][A-Za-z0-9_.*?-]{0,127}$");
static VERSION_RANGE: Pattern = Pattern::new("^[A-Za-z0-9.*<>=^~|, -]+$");

/// The largest number of filters of one list.
pub const MAX_FILTERS: usize = 100;
/// The largest length of a filter of tags, in characters.
pub const MAX_TAG_FILTER: usize = 256;
