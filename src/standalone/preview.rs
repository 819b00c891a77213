//! The result of `transship plan`: what `sync` would do, and how it is printed.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::deletions::ListedDeletions;
use super::flags::{DELETIONS_WAIT, Format, HAS_CHANGES};
use super::invalid_lists::InvalidList;
use super::text::{problem_lines, remark_lines, short_digest, table};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::NamespacedName;

/// The images that `sync` would copy, and the reasons why others stay.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Preview {
    /// Every repository of the sources.
    pub(super) repositories: Vec<PlannedRepository>,
    /// Tags of the repositories that match which no rule takes.
    #[serde(rename = "tagsLeftOut")]
    pub(super) excluded_tags: Vec<ExcludedTags>,
    /// Lists with names that are not valid.
    #[serde(rename = "invalidNames")]
    pub(super) invalid_lists: Vec<InvalidList>,
    /// Filters that match nothing of their source.
    pub(super) unused_filters: Vec<String>,
    /// Registries with settings that the registry does not have.
    pub(super) refused_registries: Vec<String>,
    /// Every image of the repositories that match.
    pub(super) images: Vec<PlannedImage>,
    /// Images that left their sources, where a rule deletes such images.
    pub(super) deletions: ListedDeletions,
    /// Problems of more than one image.
    #[serde(rename = "troubles")]
    pub(super) problems: Vec<String>,
}

/// One repository of a source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedRepository {
    pub(super) configuration: String,
    pub(super) repository: String,
    pub(super) matched: bool,
    pub(super) because: String,
}

/// The tags of one repository that no rule takes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExcludedTags {
    pub(super) configuration: String,
    pub(super) repository: String,
    pub(super) tags: usize,
    /// An example of each cause, and the cause.
    pub(super) because: String,
}

/// One image and one destination.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedImage {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) tag: Tag,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    pub(super) action: PlannedAction,
    pub(super) reason: String,
    /// The Registry of the destination.
    #[serde(skip)]
    pub(super) to: NamespacedName,
    /// The repository there.
    #[serde(skip)]
    pub(super) target: RepositoryName,
    /// The digest that `sync` may replace under the tag; `None` if it may replace any.
    #[serde(skip)]
    pub(super) replaceable: Option<Option<Digest>>,
    /// The Registry of the source.
    #[serde(skip)]
    pub(super) from: NamespacedName,
    /// The repository there.
    #[serde(skip)]
    pub(super) repository: RepositoryName,
    /// The public key of the signature that the image needs.
    #[serde(skip)]
    pub(super) signed_by: Option<String>,
    /// True if the destination may have another digest than the source for the same image.
    #[serde(skip)]
    pub(super) may_rewrite: bool,
    /// The step and its reason, if the repository is absent at the destination and may not be created.
    #[serde(skip)]
    pub(super) uncreatable: Option<(PlannedAction, String)>,
}

/// The step that `sync` would take for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum PlannedAction {
    /// It is copied; the tag is absent at the destination, or was not looked at.
    Copy,
    /// Its owner does not consent.
    Denied,
    /// The source lists the tag and does not give it.
    Failed,
    /// It is there.
    Nothing,
    /// It is copied over another image.
    Overwrite,
    /// The destination has the tag with other content, which the rule keeps.
    Skip,
}

impl Preview {
    /// Formats the preview.
    pub(super) fn show(&self, format: Format) -> String {
        match format {
            Format::Json => format!("{:#}\n", json!(self)),
            Format::Text => self.text(),
        }
    }

    fn text(&self) -> String {
        let mut rows = vec![["CONFIGURATION", "REPOSITORY", "MATCHED", "BECAUSE"].map(str::to_owned)];
        rows.extend(self.repositories.iter().map(|repository| {
            let matched = if repository.matched { "yes" } else { "no" };
            [
                repository.configuration.clone(),
                repository.repository.clone(),
                matched.to_owned(),
                repository.because.clone(),
            ]
        }));
        let mut text = table(&rows);
        for ExcludedTags { repository, tags, because, .. } in &self.excluded_tags {
            let _ = write!(text, "\n{tags} tags of {repository} are left out, such as {because}\n");
        }
        text.push_str(&remark_lines(&self.invalid_lists));
        text.push_str(&remark_lines(&self.unused_filters));
        text.push_str(&remark_lines(&self.refused_registries));
        if !self.images.is_empty() {
            let mut rows = vec![["ACTION", "SOURCE", "DESTINATION", "DIGEST", "REASON"].map(str::to_owned)];
            rows.extend(self.images.iter().map(PlannedImage::row));
            text = format!("{text}\n{}", table(&rows));
        }
        if !self.deletions.is_empty() {
            text = format!("{text}\n{}{}", table(&self.deletions.rows()), remark_lines(&self.deletions.held));
        }
        format!("{text}\n{}\n{}{}", self.sentence(), self.deletions.sentence(), problem_lines(&self.problems))
    }

    /// Returns the plan in one sentence.
    fn sentence(&self) -> String {
        let count = |action| self.images.iter().filter(|image| image.action == action).count();
        use PlannedAction::{Copy, Denied, Failed, Nothing, Overwrite, Skip};
        let [copy, overwrite, denied, failed, there] = [Copy, Overwrite, Denied, Failed, Nothing].map(count);
        let skip = count(Skip);
        let skipped = if skip == 0 { String::new() } else { format!(", {skip} to skip") };
        match (self.images.len(), copy + overwrite + denied + failed + skip) {
            (0, _) if self.problems.is_empty() => "nothing to do: no image of a source matches".to_owned(),
            (0, _) => "no image was read".to_owned(),
            (images, 0) => format!("nothing to do: {there} of {images} images are at their destinations"),
            _ => format!(
                "{copy} to copy, {overwrite} to overwrite, {there} already there, {denied} denied, {failed} failed{skipped}"
            ),
        }
    }

    /// Returns 1 if `sync` would fail, 4 if deletions would wait; 0 otherwise, or 3 if that `is_detailed` and there are
    /// changes.
    pub(super) fn exit_code(&self, is_detailed: bool) -> ExitCode {
        let has = |action| self.images.iter().any(|image| image.action == action);
        if !self.problems.is_empty() || has(PlannedAction::Denied) || has(PlannedAction::Failed) {
            return ExitCode::FAILURE;
        }
        if self.deletions.are_held() {
            return ExitCode::from(DELETIONS_WAIT);
        }
        let has_changes = has(PlannedAction::Copy) || has(PlannedAction::Overwrite) || self.deletions.have_changes();
        if is_detailed && has_changes { ExitCode::from(HAS_CHANGES) } else { ExitCode::SUCCESS }
    }
}

impl PlannedImage {
    fn row(&self) -> [String; 5] {
        [
            self.action.word().to_owned(),
            format!("{}:{}", self.source, self.tag),
            format!("{}:{}", self.destination, self.tag),
            short_digest(self.digest.as_ref().map_or("", Digest::as_str)),
            self.reason.clone(),
        ]
    }
}

impl PlannedAction {
    fn word(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Nothing => "nothing",
            Self::Overwrite => "overwrite",
            Self::Skip => "skip",
        }
    }
}
