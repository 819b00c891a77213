//! Ranges of versions, and the version in a tag.

use std::fmt;

use semver::{BuildMetadata, Comparator, Prerelease, Version, VersionReq};

use super::tag_filter_error::FilterProblem;
use crate::terms::VersionSyntax;

/// The range of one filter: alternatives of comparators that all must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionRange {
    alternatives: Vec<VersionReq>,
    syntax: VersionSyntax,
    /// The text of the filter.
    text: String,
}

/// The version in a tag, read in each syntax.
pub(super) struct TagVersion {
    strict: Option<Version>,
    loose: Option<Version>,
}

impl VersionRange {
    /// Parses a range: comparators with commas or spaces between them, `1.2 - 1.4` for both ends, and `||` between
    /// alternatives.
    pub(super) fn parse(text: &str, syntax: VersionSyntax) -> Result<Self, FilterProblem> {
        let alternatives: Vec<VersionReq> =
            text.split("||").map(parse_alternative).collect::<Result<_, _>>().map_err(FilterProblem::Range)?;
        if alternatives.iter().any(is_empty) {
            return Err(FilterProblem::Rule(EMPTY_RANGE));
        }
        Ok(Self { alternatives, syntax, text: text.to_owned() })
    }

    /// Returns the number of comparators that a version is compared with at most.
    pub(super) fn comparators(&self) -> usize {
        self.alternatives.iter().map(|range| range.comparators.len().max(1)).sum()
    }

    /// Returns true if a tag with this version is in the range.
    pub(super) fn takes(&self, version: &TagVersion) -> bool {
        let version = match self.syntax {
            VersionSyntax::Loose => &version.loose,
            VersionSyntax::Strict => &version.strict,
        };
        version.as_ref().is_some_and(|version| self.alternatives.iter().any(|range| range.matches(version)))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TagVersion {
    /// Reads the version in a tag.
    pub(super) fn of(tag: &str) -> Self {
        let strict = Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok();
        Self { loose: strict.clone().or_else(|| loose_version(tag)), strict }
    }
}

/// Returns the version in a tag, read loosely; `None` if it is no version.
pub(in crate::plan) fn version_of(tag: &str) -> Option<Version> {
    TagVersion::of(tag).loose
}

/// Parses comparators with commas or spaces between them, and hyphen ranges, whose hyphen stands between spaces.
///
/// `<=1.4` takes every `1.4.x`, so that it is also the upper end of `1.2 - 1.4`.
fn parse_alternative(text: &str) -> Result<VersionReq, semver::Error> {
    let parts: Vec<&str> = text.split([',', ' ']).filter(|part| !part.is_empty()).collect();
    let mut comparators: Vec<String> = Vec::new();
    let (mut upper_end, mut has_operator_only) = (false, false);
    for (index, part) in parts.iter().enumerate() {
        if *part == "-" && !upper_end && !comparators.is_empty() {
            upper_end = true;
            continue;
        }
        let is_lower_end = parts.get(index + 1) == Some(&"-");
        match comparators.last_mut().filter(|_| has_operator_only) {
            Some(last) => last.push_str(part),
            None if upper_end => comparators.push(format!("<={part}")),
            None if is_lower_end => comparators.push(format!(">={part}")),
            None => comparators.push((*part).to_owned()),
        }
        upper_end = false;
        has_operator_only = part.chars().all(|c| "<>=^~".contains(c));
    }
    if upper_end {
        comparators.push("-".to_owned()); // An end without a version: the parser names it.
    }
    comparators.join(", ").parse()
}

/// Returns true if no version is in `range`: none at its bounds, and none right behind them.
fn is_empty(range: &VersionReq) -> bool {
    let around = |comparator: &Comparator| {
        let (major, minor) = (comparator.major, comparator.minor.unwrap_or(0));
        let patch = comparator.patch.unwrap_or(0);
        let at = Version { pre: comparator.pre.clone(), ..Version::new(major, minor, patch) };
        let next = format!("{at}.0").parse().ok().filter(|_| !at.pre.is_empty());
        let behind = [
            (major, minor, patch),
            (major, minor, patch.saturating_add(1)),
            (major, minor.saturating_add(1), 0),
            (major.saturating_add(1), 0, 0),
        ];
        let behind = behind.map(|(major, minor, patch)| Version::new(major, minor, patch));
        behind.into_iter().chain([at]).chain(next).collect::<Vec<_>>()
    };
    let candidates = range.comparators.iter().flat_map(around).chain([Version::new(0, 0, 0)]);
    candidates.into_iter().all(|version| !range.matches(&version))
}

const EMPTY_RANGE: &str = "filter is a range that no version is in: correct its bounds";

/// Reads a version as tags have them: `v1.2`, `1.2`, `2024.01.15`, `1.2.3_build.5`.
///
/// The numbers may be two, and one after a `v`; they may have zeros in front. The first `_` stands for the `+` of the
/// build, which tags cannot have, as Helm writes it.
fn loose_version(tag: &str) -> Option<Version> {
    let has_prefix = tag.starts_with(['v', 'V']);
    let text = if has_prefix { &tag[1..] } else { tag };
    let (text, build) = text.split_once('_').unwrap_or((text, ""));
    let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
    let numbers: Vec<u64> = numbers.split('.').map(number).collect::<Option<_>>()?;
    let (major, minor, patch) = match numbers[..] {
        [major] if has_prefix => (major, 0, 0),
        [major, minor] => (major, minor, 0),
        [major, minor, patch] => (major, minor, patch),
        _ => return None,
    };
    if pre == Some("") || (tag.contains('_') && build.is_empty()) {
        return None;
    }
    let pre = Prerelease::new(pre.unwrap_or_default()).ok()?;
    let build = BuildMetadata::new(&build.replace('_', "-")).ok()?;
    Some(Version { major, minor, patch, pre, build })
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
