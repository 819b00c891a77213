//! Prints what happened or would happen: lines and a table for people, one document for programs.

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;

use super::flags::Format;
use super::plan::{ExcludedTags, Plan, PlannedAction};
use super::table::table;
use super::wiring::name_of;
use crate::copy::{CodedError, Copied};
use crate::image::{Digest, Tag};
use crate::plan::{DestinationReference, Row, State};
use crate::replication::machine::{Assignment, Machine};
use crate::terms::FailureCode;

/// How it ended with one image and one destination.
#[derive(Clone, Debug)]
pub(super) struct ImageResult {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    /// The copy; `None` if nothing was to be done.
    pub(super) copied: Option<Result<Copied, CodedError>>,
}

impl ImageResult {
    /// The result of a copy.
    pub(super) fn of_copy(assignment: &Assignment, copied: Result<Copied, CodedError>) -> Self {
        let Assignment { repository, source, destination, tag, digest, configuration, .. } = assignment;
        Self {
            source: format!("{}/{repository}", source.name),
            destination: format!("{}/{repository}", short_name(destination, &configuration.0)),
            tag: tag.clone(),
            digest: digest.clone(),
            copied: Some(copied),
        }
    }

    fn failed(&self) -> Option<&CodedError> {
        self.copied.as_ref()?.as_ref().err()
    }

    fn copy(&self) -> Option<&Copied> {
        self.copied.as_ref()?.as_ref().ok()
    }
}

/// A registry as `name`, with its namespace in front where that is not `own`.
pub(super) fn short_name(reference: &DestinationReference, own: &str) -> String {
    if reference.namespace == own {
        reference.name.clone()
    } else {
        format!("{}/{}", reference.namespace, reference.name)
    }
}

/// Prints images while they are copied, and sums up at the end.
#[derive(Clone, Copy)]
pub(super) struct Printer(Format);

/// The end of a run.
pub(super) struct Summary {
    /// The text to print.
    pub(super) text: String,
    failed: usize,
    problems: usize,
}

impl Summary {
    /// Returns true if everything is done.
    pub(super) fn is_good(&self) -> bool {
        self.failed == 0 && self.problems == 0
    }
}

impl Printer {
    /// Prints in `format`.
    pub(super) fn new(format: Format) -> Self {
        Self(format)
    }

    /// Prints one image; in JSON everything comes at the end.
    pub(super) fn print(self, result: &ImageResult) {
        if self.0 == Format::Text {
            println!("{}", line(result));
        }
    }

    /// Prints the images that needed nothing, and sums up.
    pub(super) fn finish(self, machines: &[Machine], results: Vec<ImageResult>) -> Summary {
        let mut copied: HashMap<(String, String, Tag), ImageResult> = HashMap::new();
        for result in results {
            copied.insert((result.source.clone(), result.destination.clone(), result.tag.clone()), result);
        }
        let mut pairs = Vec::new();
        for (configuration, pair) in
            machines.iter().flat_map(|m| m.pairs().filter_map(move |pair| Some((m.configuration()?, pair))))
        {
            let source = format!("{}/{}", configuration.source, pair.key.repository);
            let to = short_name(&pair.key.destination, &configuration.namespace);
            let destination = format!("{to}/{}", pair.key.repository);
            // A tag that this run did not observe is no longer at the source.
            let observed = pair.ledger.rows().filter(|(_, row)| row.observed_at > Timestamp::MIN);
            let results = observed.map(|(tag, row)| {
                copied.remove(&(source.clone(), destination.clone(), tag.clone())).unwrap_or_else(|| {
                    let result = result_of(row, (&source, &destination), tag);
                    self.print(&result);
                    result
                })
            });
            pairs.push(results.collect::<Vec<_>>());
        }
        pairs.retain(|results| !results.is_empty());
        let problems: Vec<String> = machines.iter().flat_map(problems).collect();
        let failed = pairs.iter().flatten().filter(|result| result.failed().is_some()).count();
        let text = match self.0 {
            Format::Json => document(&pairs, failed, &problems),
            Format::Text => format!("\n{}{}", summary_table(&pairs), problem_lines(&problems)),
        };
        Summary { text, failed, problems: problems.len() }
    }
}

/// The result for an image that was not copied in this run.
fn result_of(row: &Row, (source, destination): (&str, &str), tag: &Tag) -> ImageResult {
    let copied = match &row.state {
        State::Complete { .. } => None,
        State::Failed(failure) => Some(Err(CodedError::new(failure.code, failure.message.clone()))),
        State::InProgress { .. } | State::Pending => {
            Some(Err(CodedError::new(FailureCode::SourceUnavailable, "it was not copied: sync again".to_owned())))
        }
    };
    let (source, destination) = (source.to_owned(), destination.to_owned());
    ImageResult { source, destination, tag: tag.clone(), digest: row.digest.clone(), copied }
}

fn problems(machine: &Machine) -> impl Iterator<Item = String> {
    let name = machine.configuration().map(|configuration| name_of(configuration)).unwrap_or_default();
    machine.problems().map(move |problem| format!("{name}: {}", problem.message))
}

fn document(pairs: &[Vec<ImageResult>], failed: usize, problems: &[String]) -> String {
    let images: Vec<_> = pairs.iter().flatten().map(image_document).collect();
    let summary = json!({"images": images.len(), "complete": images.len() - failed, "failed": failed});
    format!("{:#}\n", json!({"images": images, "summary": summary, "troubles": problems}))
}

fn summary_table(pairs: &[Vec<ImageResult>]) -> String {
    let mut rows =
        vec![["SOURCE", "DESTINATION", "IMAGES", "COMPLETE", "COPIED", "FAILED", "MOVED"].map(str::to_owned)];
    for results in pairs {
        let failed = results.iter().filter(|result| result.failed().is_some()).count();
        let copies = results.iter().filter_map(ImageResult::copy);
        let (copied, moved) =
            copies.fold((0, 0), |(copied, moved), one| (copied + u64::from(!one.already_there), moved + one.moved));
        rows.push([
            results[0].source.clone(),
            results[0].destination.clone(),
            results.len().to_string(),
            (results.len() - failed).to_string(),
            copied.to_string(),
            failed.to_string(),
            bytes(moved),
        ]);
    }
    table(&rows)
}

/// A plan as it is shown by `transship plan`.
pub(super) fn show_plan(format: Format, plan: &Plan) -> String {
    if format == Format::Json {
        return format!("{:#}\n", json!(plan));
    }
    let mut rows = vec![["CONFIGURATION", "REPOSITORY", "MATCHED", "BECAUSE"].map(str::to_owned)];
    rows.extend(plan.repositories.iter().map(|repository| {
        let matched = if repository.matched { "yes" } else { "no" };
        [
            repository.configuration.clone(),
            repository.repository.clone(),
            matched.to_owned(),
            repository.because.clone(),
        ]
    }));
    let mut text = table(&rows);
    for left_out in &plan.tags_left_out {
        let ExcludedTags { repository, tags, because, .. } = left_out;
        let _ = write!(text, "\n{tags} tags of {repository} are left out, such as {because}\n");
    }
    if !plan.images.is_empty() {
        let mut rows = vec![["ACTION", "SOURCE", "DESTINATION", "DIGEST", "REASON"].map(str::to_owned)];
        rows.extend(plan.images.iter().map(|image| {
            [
                word(image.action).to_owned(),
                format!("{}:{}", image.source, image.tag),
                format!("{}:{}", image.destination, image.tag),
                short(image.digest.as_str()),
                image.reason.clone(),
            ]
        }));
        text = format!("{text}\n{}", table(&rows));
    }
    text + &problem_lines(&plan.troubles)
}

/// The line of one image.
pub(super) fn line(image: &ImageResult) -> String {
    let what = format!("{}:{} -> {}:{}", image.source, image.tag, image.destination, image.tag);
    let digest = short(image.digest.as_str());
    match &image.copied {
        Some(Err(failed)) => format!("FAILED    {what}  {:?}: {}", failed.code, failed.message),
        Some(Ok(copied)) if !copied.already_there => {
            format!("COMPLETE  {what}  {digest}  {}{}", bytes(copied.size), skipped(copied))
        }
        Some(Ok(copied)) => format!("COMPLETE  {what}  {digest}  already there{}", skipped(copied)),
        None => format!("COMPLETE  {what}  {digest}  already there"),
    }
}

/// What of an image is not copied by intent.
fn skipped(copied: &Copied) -> String {
    match copied.foreign_layers {
        0 => String::new(),
        1 => "  1 foreign layer skipped".to_owned(),
        many => format!("  {many} foreign layers skipped"),
    }
}

fn image_document(image: &ImageResult) -> serde_json::Value {
    let mut document = json!({
        "source": image.source,
        "destination": image.destination,
        "tag": image.tag,
        "digest": image.digest,
        "status": if image.failed().is_some() { "FAILED" } else { "COMPLETE" },
    });
    if let Some(failed) = image.failed() {
        document["failureCode"] = json!(failed.code);
        document["message"] = json!(failed.message);
    }
    if let Some(copied) = image.copy() {
        document["bytes"] = json!(copied.size);
        document["moved"] = json!(copied.moved);
        if copied.foreign_layers > 0 {
            document["foreignLayersSkipped"] = json!(copied.foreign_layers);
        }
        if let Some(digest) = &copied.destination_digest {
            document["destinationDigest"] = json!(digest);
        }
    }
    document
}

fn problem_lines(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = write!(text, "\n! {problem}\n");
        text
    })
}

fn word(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Copy => "copy",
        PlannedAction::Denied => "denied",
        PlannedAction::Nothing => "nothing",
        PlannedAction::Overwrite => "overwrite",
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(19).collect()
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_are_not_copied_are_told() {
        let copied = |foreign_layers| Copied {
            size: 1,
            moved: 0,
            already_there: false,
            referrers: 0,
            foreign_layers,
            destination_digest: None,
        };
        assert_eq!(
            [0, 1, 2].map(|count| skipped(&copied(count))),
            ["", "  1 foreign layer skipped", "  2 foreign layers skipped"]
        );
    }
}
