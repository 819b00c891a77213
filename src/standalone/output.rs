//! Prints the result of `sync`: lines and a table for people, one document for programs.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::UsageError;
use super::deletions::ListedDeletions;
use super::flags::{DELETIONS_WAIT, Format, HAS_CHANGES};
use super::invalid_lists::InvalidList;
use super::template_check::refused_registries;
use super::text::{bytes, problem_lines, remark_lines, short_digest, short_name, table};
use super::usage_totals::UsageTotals;
use super::wiring::{name_of, stopped_backfill, unused_filters};
use crate::console;
use crate::copy::Copied;
use crate::image::{Digest, Tag};
use crate::locked::Locked;
use crate::plan::{CodedError, LedgerEntry, RowState};
use crate::replication::machine::{Assignment, Machine};

/// The end of one image and one destination.
#[derive(Clone, Debug)]
pub(super) struct ImageResult {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) tag: Tag,
    /// The digest at the source; `None` if the source lists the tag and has never given it.
    pub(super) digest: Option<Digest>,
    pub(super) end: ImageEnd,
    /// True once its line is printed.
    is_printed: bool,
}

/// The way in which the work on one image ended.
#[derive(Clone, Debug)]
pub(super) enum ImageEnd {
    /// It was verified by an earlier run, and nothing was to be done.
    Verified,
    /// It was copied, or found at the destination.
    Copied(Copied),
    /// It failed, or the destination keeps the tag with other content.
    Failed(CodedError),
    /// The run was ended before its turn.
    Pending,
}

impl ImageResult {
    /// Returns the result of a copy.
    pub(super) fn of_copy(assignment: &Assignment, copied: Result<Copied, CodedError>) -> Self {
        let Assignment { repository, place, source, destination, tag, digest, configuration, .. } = assignment;
        Self {
            source: format!("{}/{repository}", source.name),
            destination: format!("{}/{}", short_name(destination, &configuration.0), place.repository),
            tag: tag.clone(),
            digest: Some(digest.clone()),
            end: match copied {
                Ok(copied) => ImageEnd::Copied(copied),
                Err(error) => ImageEnd::Failed(error),
            },
            is_printed: false,
        }
    }

    /// Returns the result for an image that was not copied in this run.
    fn of_entry(entry: LedgerEntry<'_>, source: &str, destination: &str, tag: &Tag) -> Self {
        let failed = |code, message: &str| ImageEnd::Failed(CodedError::new(code, message.to_owned()));
        let (digest, end) = match entry {
            LedgerEntry::Unread(unread, digest) => (digest, failed(unread.code, &unread.message)),
            LedgerEntry::Row(row) => {
                let end = match &row.state {
                    RowState::Complete { .. } => ImageEnd::Verified,
                    RowState::Failed(failure) => failed(failure.code, &failure.message),
                    RowState::InProgress { .. } | RowState::Pending => ImageEnd::Pending,
                };
                (Some(&row.digest), end)
            }
        };
        let (source, destination) = (source.to_owned(), destination.to_owned());
        Self { source, destination, tag: tag.clone(), digest: digest.cloned(), end, is_printed: false }
    }

    /// Returns true if it failed in a way that may pass by itself: another result may follow.
    pub(super) fn may_be_tried_again(&self) -> bool {
        self.failed().is_some_and(|failed| failed.is_transient)
    }

    fn failed(&self) -> Option<&CodedError> {
        self.error().filter(|error| !error.code.is_skip())
    }

    /// Returns the cause for which it failed, or is skipped.
    fn error(&self) -> Option<&CodedError> {
        match &self.end {
            ImageEnd::Failed(error) => Some(error),
            _ => None,
        }
    }

    fn copy(&self) -> Option<&Copied> {
        match &self.end {
            ImageEnd::Copied(copied) => Some(copied),
            _ => None,
        }
    }

    fn is_new(&self) -> bool {
        self.copy().is_some_and(|copied| !copied.already_there)
    }

    fn is_complete(&self) -> bool {
        matches!(self.end, ImageEnd::Verified | ImageEnd::Copied(_))
    }
}

/// Prints images while they are copied, and sums up at the end.
pub(super) struct Printer {
    format: Format,
    is_quiet: bool,
    /// The first error of standard output.
    failed: Locked<Option<io::Error>>,
}

/// The end of a run.
pub(super) struct Summary {
    /// The text to print.
    pub(super) text: String,
    counts: ImageCounts,
    deletions: ListedDeletions,
    problems: usize,
}

impl Summary {
    /// Returns 1 if something failed, 4 if deletions wait for a person; 0 otherwise, or 3 if that `is_detailed` and images
    /// were copied or deleted.
    pub(super) fn exit_code(&self, is_detailed: bool) -> ExitCode {
        let ImageCounts { failed, pending, copied, .. } = self.counts;
        let has_changes = copied > 0 || self.deletions.have_changes();
        if failed + pending + self.problems + self.deletions.failed() > 0 {
            ExitCode::FAILURE
        } else if self.deletions.are_held() {
            ExitCode::from(DELETIONS_WAIT)
        } else if is_detailed && has_changes {
            ExitCode::from(HAS_CHANGES)
        } else {
            ExitCode::SUCCESS
        }
    }
}

impl Printer {
    /// Prints in `format`, in case of `is_quiet` only images that failed.
    pub(super) fn new(format: Format, is_quiet: bool) -> Self {
        Self { format, is_quiet, failed: Locked::default() }
    }

    /// Prints one image; in JSON everything comes at the end.
    pub(super) fn print(&self, result: &mut ImageResult) {
        let is_wanted = self.format == Format::Text && !(self.is_quiet && result.is_complete());
        if is_wanted
            && !result.is_printed
            && let Err(error) = console::print(&format!("{}\n", line(result)))
        {
            self.failed.lock().get_or_insert(error);
        }
        result.is_printed = true;
    }

    /// Checks that everything could be printed.
    ///
    /// # Errors
    /// The first error of standard output.
    pub(super) fn printed(&self) -> Result<(), UsageError> {
        self.failed.lock().take().map_or(Ok(()), |error| Err(UsageError::Output(error)))
    }

    /// Prints the images that needed nothing, and those whose failure did not pass; and sums up.
    pub(super) fn finish(&self, machines: &[Machine], results: Vec<ImageResult>, is_stopped: bool) -> Summary {
        let mut ended: HashMap<(String, String, Tag), ImageResult> = HashMap::new();
        for result in results {
            ended.insert((result.source.clone(), result.destination.clone(), result.tag.clone()), result);
        }
        let mut pairs = Vec::new();
        for (configuration, pair) in
            machines.iter().flat_map(|m| m.pairs().filter_map(move |pair| Some((m.configuration()?, pair))))
        {
            let source = format!("{}/{}", configuration.source, pair.key.repository);
            let to = short_name(&pair.key.destination, &configuration.namespace);
            let destination = format!("{to}/{}", pair.key.target);
            // A tag that this run did not observe is no longer at the source.
            let observed = pair.ledger.entries().filter(|(_, entry)| entry.observed_at() > Timestamp::MIN);
            let results = observed.map(|(tag, entry)| {
                let ended = ended.remove(&(source.clone(), destination.clone(), tag.clone()));
                let mut result = ended.unwrap_or_else(|| ImageResult::of_entry(entry, &source, &destination, tag));
                self.print(&mut result);
                result
            });
            pairs.push(results.collect::<Vec<_>>());
        }
        pairs.retain(|results| !results.is_empty());
        let problems: Vec<String> = machines.iter().flat_map(problems).collect();
        let invalid: Vec<InvalidList> = machines.iter().flat_map(InvalidList::of).collect();
        let unused: Vec<String> = machines.iter().flat_map(unused_filters).collect();
        let refused = refused_registries(machines);
        let stopped: Vec<String> = machines.iter().flat_map(stopped_backfill).collect();
        let counts = ImageCounts::of(pairs.iter().flatten());
        let (deletions, usage) = (ListedDeletions::of(machines), UsageTotals::of(machines));
        let text = match self.format {
            Format::Json => {
                let mut document = document(&pairs, &counts, &problems);
                (document["invalidNames"], document["unusedFilters"]) = (json!(invalid), json!(unused));
                document["summary"]["bytesMoved"] = json!(usage.moved);
                document["summary"]["bytesStored"] = json!(usage.stored);
                (document["stoppedBackfills"], document["deletions"]) = (json!(stopped), json!(deletions));
                document["refusedRegistries"] = json!(refused);
                format!("{document:#}\n")
            }
            Format::Text => {
                let sentence = counts.sentence(is_stopped, !problems.is_empty());
                let (invalid, problems) = (remark_lines(&invalid), problem_lines(&problems));
                let (unused, stopped) = (remark_lines(&unused), remark_lines(&stopped));
                let refused = remark_lines(&refused);
                let (deleted, held) = (deletions.lines(self.is_quiet), remark_lines(&deletions.held));
                let counted = deletions.sentence();
                let (table, usage) = (summary_table(&pairs), usage.line());
                let remarks = format!("{invalid}{unused}{refused}{stopped}{held}");
                format!("{deleted}\n{table}{remarks}\n{usage}{sentence}\n{counted}{problems}")
            }
        };
        Summary { text, counts, deletions, problems: problems.len() }
    }
}

/// Counts of the images of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ImageCounts {
    images: usize,
    /// Those that this run copied.
    copied: usize,
    failed: usize,
    /// Those whose tag the destination keeps with other content.
    skipped: usize,
    /// Those whose turn did not come.
    pending: usize,
}

impl ImageCounts {
    fn of<'a>(results: impl IntoIterator<Item = &'a ImageResult>) -> Self {
        let mut counts = Self::default();
        for result in results {
            counts.images += 1;
            counts.copied += usize::from(result.is_new());
            counts.failed += usize::from(result.failed().is_some());
            counts.skipped += usize::from(result.error().is_some_and(|error| error.code.is_skip()));
            counts.pending += usize::from(matches!(result.end, ImageEnd::Pending));
        }
        counts
    }

    fn complete(&self) -> usize {
        self.images - self.failed - self.skipped - self.pending
    }

    /// Returns the result of the run in one sentence.
    fn sentence(&self, is_stopped: bool, has_problems: bool) -> String {
        let there = self.complete() - self.copied;
        match self {
            Self { images: 0, .. } if has_problems || is_stopped => "no image was read".to_owned(),
            Self { images: 0, .. } => "nothing to do: no image of a source matches".to_owned(),
            Self { copied: 0, failed: 0, skipped: 0, pending: 0, .. } => {
                format!("nothing to do: {there} of {there} images are at their destinations")
            }
            Self { copied, failed, skipped, pending, .. } => {
                let skipped = if *skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
                let rest = if *pending == 0 { String::new() } else { format!(", {pending} not begun: sync again") };
                format!("{copied} copied, {there} already there, {failed} failed{skipped}{rest}")
            }
        }
    }
}

fn problems(machine: &Machine) -> impl Iterator<Item = String> {
    let name = machine.configuration().map(|configuration| name_of(configuration)).unwrap_or_default();
    machine.problems().map(move |problem| format!("{name}: {}", problem.message))
}

fn document(pairs: &[Vec<ImageResult>], counts: &ImageCounts, problems: &[String]) -> serde_json::Value {
    let images: Vec<_> = pairs.iter().flatten().map(image_document).collect();
    let mut summary = json!({"images": counts.images, "complete": counts.complete(), "failed": counts.failed});
    if counts.skipped > 0 {
        summary["skipped"] = json!(counts.skipped);
    }
    if counts.pending > 0 {
        summary["pending"] = json!(counts.pending);
    }
    json!({"images": images, "summary": summary, "troubles": problems})
}

fn summary_table(pairs: &[Vec<ImageResult>]) -> String {
    let mut rows =
        vec![["SOURCE", "DESTINATION", "IMAGES", "COMPLETE", "COPIED", "FAILED", "MOVED"].map(str::to_owned)];
    for results in pairs {
        let counts = ImageCounts::of(results);
        let moved = results.iter().filter_map(ImageResult::copy).map(|copied| copied.moved).sum();
        rows.push([
            results[0].source.clone(),
            results[0].destination.clone(),
            counts.images.to_string(),
            counts.complete().to_string(),
            counts.copied.to_string(),
            counts.failed.to_string(),
            bytes(moved),
        ]);
    }
    table(&rows)
}

/// Returns the line of one image.
pub(super) fn line(image: &ImageResult) -> String {
    let what = format!("{}:{} -> {}:{}", image.source, image.tag, image.destination, image.tag);
    let digest = short_digest(image.digest.as_ref().map_or("", Digest::as_str));
    match &image.end {
        ImageEnd::Failed(error) if error.code.is_skip() => {
            format!("SKIPPED   {what}  {:?}: {}", error.code, error.message)
        }
        ImageEnd::Failed(failed) => format!("FAILED    {what}  {:?}: {}", failed.code, failed.message),
        ImageEnd::Copied(copied) if !copied.already_there => {
            format!("COMPLETE  {what}  {digest}  {}{}", bytes(copied.size), skipped(copied))
        }
        ImageEnd::Copied(copied) => format!("COMPLETE  {what}  {digest}  already there{}", skipped(copied)),
        ImageEnd::Verified => format!("COMPLETE  {what}  {digest}  already there"),
        ImageEnd::Pending => format!("PENDING   {what}  {digest}  not begun: sync again"),
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
        "status": match image.end {
            ImageEnd::Failed(ref error) if error.code.is_skip() => "SKIPPED",
            ImageEnd::Failed(_) => "FAILED",
            ImageEnd::Pending => "PENDING",
            ImageEnd::Verified | ImageEnd::Copied(_) => "COMPLETE",
        },
    });
    if let Some(digest) = &image.digest {
        document["digest"] = json!(digest);
    }
    if let Some(error) = image.error() {
        document["failureCode"] = json!(error.code);
        document["message"] = json!(error.message);
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
    fn the_last_sentence_says_if_there_was_anything_to_do() {
        let sentence = |images, copied, failed, pending| {
            ImageCounts { images, copied, failed, pending, skipped: 0 }.sentence(pending > 0, failed > 0)
        };
        assert_eq!(sentence(0, 0, 0, 0), "nothing to do: no image of a source matches");
        assert_eq!(sentence(5, 0, 0, 0), "nothing to do: 5 of 5 images are at their destinations");
        assert_eq!(sentence(5, 2, 1, 0), "2 copied, 2 already there, 1 failed");
        assert_eq!(sentence(5, 0, 0, 4), "0 copied, 1 already there, 0 failed, 4 not begun: sync again");
        let skipped = ImageCounts { images: 3, skipped: 2, ..ImageCounts::default() };
        assert_eq!(skipped.sentence(false, false), "0 copied, 1 already there, 0 failed, 2 skipped");
        assert_eq!(ImageCounts::default().sentence(false, true), "no image was read");
    }

    #[test]
    fn layers_that_are_not_copied_are_counted() {
        let copied = |foreign_layers| Copied {
            size: 1,
            moved: 0,
            already_there: false,
            referrers: 0,
            listed: None,
            foreign_layers,
            destination_digest: None,
            content: crate::plan::ContentSketch::default(),
        };
        assert_eq!(
            [0, 1, 2].map(|count| skipped(&copied(count))),
            ["", "  1 foreign layer skipped", "  2 foreign layers skipped"]
        );
    }
}
