//! Prints the result of `sync`: lines and a table for people, one document for programs.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::json;

use super::flags::Format;
use super::text::{bytes, problem_lines, short_digest, short_name, table};
use super::wiring::name_of;
use crate::copy::{CodedError, Copied};
use crate::image::{Digest, Tag};
use crate::plan::{LedgerEntry, RowState};
use crate::replication::machine::{Assignment, Machine};
use crate::terms::FailureCode;

/// The end of one image and one destination.
#[derive(Clone, Debug)]
pub(super) struct ImageResult {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) tag: Tag,
    /// The digest at the source; `None` if the source lists the tag and has never given it.
    pub(super) digest: Option<Digest>,
    /// The copy; `None` if nothing was to be done.
    pub(super) copied: Option<Result<Copied, CodedError>>,
}

impl ImageResult {
    /// Returns the result of a copy.
    pub(super) fn of_copy(assignment: &Assignment, copied: Result<Copied, CodedError>) -> Self {
        let Assignment { repository, source, destination, tag, digest, configuration, .. } = assignment;
        Self {
            source: format!("{}/{repository}", source.name),
            destination: format!("{}/{repository}", short_name(destination, &configuration.0)),
            tag: tag.clone(),
            digest: Some(digest.clone()),
            copied: Some(copied),
        }
    }

    /// Returns the result for an image that was not copied in this run.
    fn of_entry(entry: LedgerEntry<'_>, source: &str, destination: &str, tag: &Tag) -> Self {
        let failed = |code, message: &str| Some(Err(CodedError::new(code, message.to_owned())));
        let (digest, copied) = match entry {
            LedgerEntry::Unread(unread, digest) => (digest, failed(unread.code, &unread.message)),
            LedgerEntry::Row(row) => {
                let copied = match &row.state {
                    RowState::Complete { .. } => None,
                    RowState::Failed(failure) => failed(failure.code, &failure.message),
                    RowState::InProgress { .. } | RowState::Pending => {
                        failed(FailureCode::SourceUnavailable, "it was not copied: sync again")
                    }
                };
                (Some(&row.digest), copied)
            }
        };
        let (source, destination) = (source.to_owned(), destination.to_owned());
        Self { source, destination, tag: tag.clone(), digest: digest.cloned(), copied }
    }

    fn failed(&self) -> Option<&CodedError> {
        self.copied.as_ref()?.as_ref().err()
    }

    fn copy(&self) -> Option<&Copied> {
        self.copied.as_ref()?.as_ref().ok()
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
            let observed = pair.ledger.entries().filter(|(_, entry)| entry.observed_at() > Timestamp::MIN);
            let results = observed.map(|(tag, entry)| {
                copied.remove(&(source.clone(), destination.clone(), tag.clone())).unwrap_or_else(|| {
                    let result = ImageResult::of_entry(entry, &source, &destination, tag);
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

/// Returns the line of one image.
pub(super) fn line(image: &ImageResult) -> String {
    let what = format!("{}:{} -> {}:{}", image.source, image.tag, image.destination, image.tag);
    let digest = short_digest(image.digest.as_ref().map_or("", Digest::as_str));
    match &image.copied {
        Some(Err(failed)) => format!("FAILED    {what}  {:?}: {}", failed.code, failed.message),
        Some(Ok(copied)) if !copied.already_there => {
            format!("COMPLETE  {what}  {digest}  {}{}", bytes(copied.size), skipped(copied))
        }
        Some(Ok(copied)) => format!("COMPLETE  {what}  {digest}  already there{}", skipped(copied)),
        None => format!("COMPLETE  {what}  {digest}  already there"),
    }
}

/// Names the layers that are not copied by intent.
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
        "status": if image.failed().is_some() { "FAILED" } else { "COMPLETE" },
    });
    if let Some(digest) = &image.digest {
        document["digest"] = json!(digest);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_are_not_copied_are_counted() {
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
