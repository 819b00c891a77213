//! Turns ledgers into the statuses of pairs and configurations.

use std::time::Duration;

use jiff::Timestamp;

use super::deletion::DeletionHistory;
use super::image_entries::{group_failures, image_status, interesting, whole_seconds};
use super::lag::{LagQuantiles, lag_text};
use super::ledger::{Counts, Ledger, LedgerEntry, Row, RowState};
use super::namespaced_name::{ByRegistry, NamespacedName};
use super::pair_conditions::{GENERATION, pair_conditions};
use crate::image::Tag;
use crate::policy::Decision;
use crate::terms::{
    Condition, Conditions, ConfigurationSummary, DestinationLag, DestinationSummary, ObjectState, PairSummary,
    RegistryReference, ReplicationConfigurationStatus, ReplicationState, ReplicationStatusStatus, condition_type,
    reason, shorten,
};

/// Returns the status of one pair.
///
/// `source` and `destination` are the texts of the columns of those names; `permission` is the last decision about the
/// pair, if there was one; `previous` are its present conditions.
pub fn pair_status(
    source: &str,
    destination: &str,
    ledger: &Ledger,
    permission: Option<&Decision>,
    previous: &[Condition],
    now: Timestamp,
) -> ReplicationStatusStatus {
    let summary = summarize(ledger);
    let images = interesting(ledger);
    let conditions = pair_conditions(&summary, &images, permission, previous, now);
    let shown_failures = images.iter().filter(|image| image.status == ReplicationState::Failed).count() as u64;
    let failure_groups = if shown_failures < summary.failed { group_failures(ledger) } else { Vec::new() };
    ReplicationStatusStatus {
        observed_generation: Some(GENERATION),
        source: source.to_owned(),
        destination: destination.to_owned(),
        summary,
        images,
        failure_groups,
        recent_deletions: Vec::new(),
        copy_options_hash: None,
        conditions,
    }
}

/// Returns `status` without the images that it says are complete and the ledger says are not; everything else stays as
/// it is. For a ledger that knows less than the status.
pub fn withdraw(
    mut status: ReplicationStatusStatus,
    ledger: &Ledger,
    permission: Option<&Decision>,
    now: Timestamp,
) -> ReplicationStatusStatus {
    let summary = &mut status.summary;
    for image in status.images.iter_mut().filter(|image| image.status == ReplicationState::Complete) {
        let Ok(tag) = image.tag.parse::<Tag>() else { continue };
        let Some(row) = ledger.row(&tag).filter(|_| !ledger.is_complete(&tag)) else { continue };
        summary.complete = summary.complete.saturating_sub(1);
        summary.bytes = summary.bytes.saturating_sub(image.bytes.unwrap_or(0));
        match &row.state {
            RowState::Failed(failure) if failure.code.is_skip() => summary.skipped += 1,
            RowState::Failed(_) => summary.failed += 1,
            RowState::InProgress { .. } => summary.in_progress += 1,
            RowState::Pending | RowState::Complete { .. } => summary.pending += 1,
        }
        *image = image_status(&tag, row);
    }
    summary.status = summary_state(summary);
    status.observed_generation = Some(GENERATION);
    status.conditions = pair_conditions(&status.summary, &status.images, permission, &status.conditions, now);
    status
}

/// The state of a configuration, as far as its status shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigurationReport {
    /// The generation of the spec that is reported.
    pub generation: Option<i64>,
    /// The problem of the whole configuration.
    pub problem: Option<Problem>,
    /// A dependency that is not there, although nothing has failed for that yet.
    pub blocked: Option<Problem>,
    /// The names in the lists of the source that are not valid, as a sentence.
    pub invalid_names: Option<String>,
    /// The bound of status objects that the configuration meets, with a sentence.
    pub envelope: Option<(&'static str, String)>,
    /// The filters that match nothing of the source, or more than their words, as sentences.
    pub unused_filters: Vec<String>,
    /// The deletions that wait, with the reason and a sentence.
    pub held_deletions: Option<(&'static str, String)>,
    /// The progress of the comparison of this generation.
    pub phase: ComparisonPhase,
    /// The time since which an image waits for longer than the objective of the spec.
    pub late_since: Option<Timestamp>,
    /// The time that known tags waited to be observed after a comparison, in the last whole sweep.
    pub sweep: Option<Duration>,
    /// True if that is longer than the objective of the spec.
    pub is_sweep_slow: bool,
    /// True if images wait for a window of `spec.allowedWindows`.
    pub waits_for_window: bool,
    /// The destinations whose first fill is stopped, as a sentence.
    pub stopped_backfill: Option<String>,
    /// The number of source repositories that the rules match.
    pub repositories: u64,
    /// The sums over the pairs of each destination.
    pub destinations: ByRegistry<DestinationTotals>,
    /// The request whose comparison is finished.
    pub handled_request: Option<String>,
    /// The deletions that no pair knows.
    pub deletion_history: DeletionHistory,
}

impl ConfigurationReport {
    /// Returns true if nothing is left to do.
    pub fn is_ready(&self) -> bool {
        readiness(self, &total(self)).is_some_and(|(state, ..)| state == ObjectState::Ready)
    }

    /// Returns true if the reports differ at most in lags, usage and the time of a sweep, which are not worth a write.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        let reduced = |report: &Self| {
            let mut report = report.clone();
            for (_, totals) in report.destinations.iter_mut() {
                totals.lag = None;
                (totals.counts.bytes_moved, totals.counts.bytes_stored) = (0, 0);
            }
            report.sweep = None;
            report
        };
        reduced(self) == reduced(other)
    }
}

/// Sums over the pairs of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestinationTotals {
    /// Counts of images.
    pub counts: Counts,
    /// The time since which the oldest incomplete image waits.
    pub oldest_pending_since: Option<Timestamp>,
    /// The lag of the images that were verified last.
    pub lag: Option<LagQuantiles>,
}

/// The progress of the comparison of a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComparisonPhase {
    /// No comparison of this generation is complete yet.
    #[default]
    Comparing,
    /// A comparison of this generation was complete.
    Compared,
    /// The configuration is suspended.
    Suspended,
}

/// A problem of a whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// True if a user must change something.
    pub stalled: bool,
    /// One of [`crate::terms::reason`].
    pub reason: &'static str,
    /// A sentence that names the cause and the remedy.
    pub message: String,
}

/// Returns the status of a configuration of `namespace`.
pub fn configuration_status(
    namespace: &str,
    report: &ConfigurationReport,
    previous: &ReplicationConfigurationStatus,
    now: Timestamp,
) -> ReplicationConfigurationStatus {
    let counts = total(report);
    let late = report.late_since.map(late_message);
    let late = late.as_deref().map(|message| (reason::IMAGE_WAITS_TOO_LONG, message));
    let invalid_names = report.invalid_names.as_deref().map(|names| (reason::INVALID_NAMES, names));
    let stopped_backfill = report.stopped_backfill.as_deref().map(|stopped| (reason::TOO_MANY_FAILED, stopped));
    let held = report.held_deletions.as_ref().map(|(why, message)| (*why, message.as_str()));
    let envelope = report.envelope.as_ref().map(|(reason, message)| (*reason, message.as_str()));
    let conditions = Conditions::of(&previous.conditions, report.generation, now)
        .set_or_remove(condition_type::NAMES_SKIPPED, invalid_names)
        .set_or_remove(condition_type::BACKFILL_STOPPED, stopped_backfill)
        .set_or_remove(condition_type::ENVELOPE_EXCEEDED, envelope)
        .set_or_remove(condition_type::LAG_OBJECTIVE_MISSED, late)
        .set_or_remove(condition_type::SWEEP_EXCEEDS_OBJECTIVE, report.is_sweep_slow.then_some(SLOW_SWEEP))
        .set_or_remove(condition_type::DELETIONS_HELD, held);
    let conditions = match readiness(report, &counts) {
        Some((state, why, message)) => {
            conditions.set_ready(state, why, &message).set_or_remove(condition_type::SUSPENDED, None)
        }
        None => suspended(conditions),
    };
    let destinations: Vec<DestinationSummary> = report
        .destinations
        .iter()
        .map(|(reference, totals)| destination_summary(namespace, reference, totals, &previous.destinations))
        .collect();
    ReplicationConfigurationStatus {
        observed_generation: report.generation,
        conditions: conditions.into_list(),
        summary: Some(ConfigurationSummary {
            repositories: report.repositories,
            images: counts.images,
            complete: counts.complete,
            in_progress: counts.in_progress,
            pending: counts.pending,
            failed: counts.failed,
            skipped: counts.skipped,
            bytes: counts.bytes,
            bytes_moved: counts.bytes_moved,
            bytes_stored: counts.bytes_stored,
            lag: destinations
                .iter()
                .filter_map(|destination| destination.lag)
                .map(|lag| lag.p99_milliseconds)
                .max()
                .map(|lag| lag_text(Duration::from_millis(lag))),
            sweep: report.sweep.map(lag_text).or_else(|| previous.summary.as_ref()?.sweep.clone()),
        }),
        destinations,
        last_handled_replicate_request: report.handled_request.as_deref().map(|request| shorten(request, 256)),
        recent_deletions: report.deletion_history.published(),
        approved_deletions: report.deletion_history.approved.clone(),
    }
}

fn late_message(since: Timestamp) -> String {
    format!("an image waits since {since}, longer than spec.lagObjective; see kubectl get replicationstatus")
}

/// Summarizes a ledger. The counts are at hand; the latest and the oldest image are searched for.
pub fn summarize(ledger: &Ledger) -> PairSummary {
    let counts = ledger.counts();
    let mut latest: Option<(Timestamp, &Tag)> = None;
    for (tag, entry) in ledger.entries() {
        if let LedgerEntry::Row(Row { state: RowState::Complete { at, .. }, .. }) = entry {
            latest = latest.max(Some((whole_seconds(at.get()), tag)));
        }
    }
    let summary = PairSummary {
        status: ReplicationState::default(),
        images: counts.images,
        complete: counts.complete,
        in_progress: counts.in_progress,
        pending: counts.pending,
        failed: counts.failed,
        skipped: counts.skipped,
        bytes: counts.bytes,
        bytes_moved: 0,
        bytes_stored: 0,
        latest: latest.map(|(_, tag)| tag.to_string()),
        oldest_pending_since: oldest_pending_since(ledger),
        lag: None,
    };
    PairSummary { status: summary_state(&summary), ..summary }
}

fn summary_state(summary: &PairSummary) -> ReplicationState {
    match summary {
        PairSummary { failed: 1.., .. } => ReplicationState::Failed,
        PairSummary { in_progress: 1.., .. } => ReplicationState::InProgress,
        PairSummary { pending: 1.., .. } => ReplicationState::Pending,
        PairSummary { skipped: 1.., .. } => ReplicationState::Skipped,
        _ => ReplicationState::Complete,
    }
}

/// Returns the time since which the oldest incomplete image waits.
pub fn oldest_pending_since(ledger: &Ledger) -> Option<Timestamp> {
    let counts = ledger.counts();
    if counts.complete + counts.skipped == counts.images {
        return None;
    }
    let is_waiting = |entry: &LedgerEntry<'_>| !entry.is_complete() && !entry.is_skipped() && !entry.is_leaving();
    let waiting = ledger.entries().filter(|(_, entry)| is_waiting(entry));
    waiting.map(|(_, entry)| whole_seconds(entry.since())).min()
}

/// Returns the conditions of a suspended configuration: `Ready` is the last one, unless that was about work under way.
fn suspended(conditions: Conditions) -> Conditions {
    conditions
        .without(condition_type::READY, reason::PROGRESSING)
        .without(condition_type::READY, reason::WINDOW_CLOSED)
        .set_or_remove(condition_type::RECONCILING, None)
        .set_or_remove(condition_type::STALLED, None)
        .set(condition_type::SUSPENDED, true, reason::SUSPENDED, "spec.suspend is true: nothing is read or written")
}

/// Returns the state of the configuration with reason and message; `None` while it is suspended. It is Ready if every
/// image of the last complete comparison is verified. Images that arrived since do not change it, and the message does
/// not follow each of them.
fn readiness(report: &ConfigurationReport, counts: &Counts) -> Option<(ObjectState, &'static str, String)> {
    let unready = |stalled| if stalled { ObjectState::Stalled } else { ObjectState::Reconciling };
    if let Some(problem) = &report.problem {
        return Some((unready(problem.stalled), problem.reason, problem.message.clone()));
    }
    Some(match report.phase {
        ComparisonPhase::Suspended => return None,
        _ if counts.failed > 0 => {
            let message =
                format!("{} of {} images failed; see kubectl get replicationstatus", counts.failed, counts.images);
            (unready(counts.stuck > 0), reason::IMAGES_FAILED, message)
        }
        ComparisonPhase::Compared if counts.owed == 0 => match &report.blocked {
            Some(blocked) => (unready(blocked.stalled), blocked.reason, blocked.message.clone()),
            None => (ObjectState::Ready, reason::REPLICATED, replicated(&report.unused_filters, counts)),
        },
        _ if report.waits_for_window => {
            let message = format!(
                "{} of {} images are complete; the others wait until a window of spec.allowedWindows opens",
                counts.complete, counts.images
            );
            (ObjectState::Reconciling, reason::WINDOW_CLOSED, message)
        }
        _ => {
            let message = format!("{} of {} images are complete so far", counts.complete, counts.images);
            (ObjectState::Reconciling, reason::PROGRESSING, message)
        }
    })
}

/// Returns the message of a configuration that is Ready. Names filters that match nothing, or more than their words,
/// up to a bound, and counts the images that are skipped.
fn replicated(unused_filters: &[String], counts: &Counts) -> String {
    let mut message = "the last complete comparison left nothing failed".to_owned();
    if counts.skipped > 0 {
        message = format!("{message}; {} of {} images are skipped", counts.skipped, counts.images);
    }
    for unused in unused_filters.iter().take(MAX_NAMED) {
        message = format!("{message}; {unused}");
    }
    match unused_filters.len().checked_sub(MAX_NAMED) {
        Some(more @ 1..) => format!("{message}; {more} more remarks on filters"),
        _ => message,
    }
}

/// The message about a sweep that takes longer than the lag objective.
const SLOW_SWEEP: (&str, &str) = (
    reason::SWEEP_TAKES_LONGER,
    "status.summary.sweep, or the sweep under way, is longer than spec.lagObjective: a tag that \
     moves without a notification may be late by so much; let the source send notifications, \
     name tags that never move in immutableTags, or raise limits.sweepRequestsPerSecond of the \
     source Registry",
);
/// The filters that match nothing and are named.
const MAX_NAMED: usize = 5;

fn total(report: &ConfigurationReport) -> Counts {
    let mut total = Counts::default();
    report.destinations.values().for_each(|totals| total.include(&totals.counts));
    total
}

fn destination_summary(
    namespace: &str,
    destination: &NamespacedName,
    DestinationTotals { counts, oldest_pending_since, lag }: &DestinationTotals,
    previous: &[DestinationSummary],
) -> DestinationSummary {
    let registry_ref = RegistryReference {
        namespace: (destination.namespace != namespace).then(|| destination.namespace.clone()),
        name: destination.name.clone(),
    };
    let lag = lag.map(|LagQuantiles { p50, p99 }| DestinationLag {
        p50_milliseconds: p50.as_millis() as u64,
        p99_milliseconds: p99.as_millis() as u64,
    });
    // What an earlier process measured stays until this one has verified an image.
    let earlier = || previous.iter().find(|earlier| earlier.registry_ref == registry_ref)?.lag;
    let lag = lag.or_else(earlier);
    DestinationSummary {
        registry_ref,
        images: counts.images,
        complete: counts.complete,
        failed: counts.failed,
        skipped: counts.skipped,
        bytes_moved: counts.bytes_moved,
        bytes_stored: counts.bytes_stored,
        oldest_pending_since: *oldest_pending_since,
        lag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::plan::{FailedAttempt, RecordedImages, Replica};
    use crate::terms::FailureCode;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ledger(complete: usize, failed: usize) -> Ledger {
        let mut ledger = Ledger::default();
        for i in 0..complete + failed {
            let (tag, digest) = (format!("v{i}").parse().unwrap(), Digest::sha256(&i.to_le_bytes()));
            ledger.observe(&tag, &digest, at(0), at(0));
            ledger.progress(&tag, &digest, 0);
            if i < complete {
                let destination_digest = (i % 2 == 1).then(|| Digest::sha256(b"rewritten"));
                ledger.complete(
                    &tag,
                    &digest,
                    Replica { bytes: 10, destination_digest, ..Replica::default() },
                    at(0),
                    at(100 + i as i64),
                );
            } else {
                let (code, message) = (FailureCode::SourceUnavailable, "x".repeat(400));
                ledger.fail(&tag, &digest, FailedAttempt { code, message, retry_after: None, jitter: 0.0 }, at(0));
            }
        }
        ledger
    }

    fn status(ledger: &Ledger) -> ReplicationStatusStatus {
        pair_status("us/m", "eu/m", ledger, None, &[], at(1000))
    }

    #[test]
    fn failures_come_first_then_the_newest() {
        let status = status(&ledger(3, 1));
        let tags: Vec<_> = status.images.iter().map(|image| image.tag.as_str()).collect();
        assert_eq!(tags, ["v3", "v2", "v1", "v0"]);
        assert_eq!(status.summary.latest.as_deref(), Some("v2"));
        assert_eq!(status.summary.status, ReplicationState::Failed);
        assert_eq!((status.summary.images, status.summary.complete, status.summary.failed), (4, 3, 1));
    }

    #[test]
    fn a_status_stays_small_whatever_the_ledger_holds() {
        for (complete, failed) in [(5000, 0), (0, 5000), (2500, 2500)] {
            let status = status(&ledger(complete, failed));
            let bytes = serde_json::to_string(&status).unwrap().len();
            assert!(bytes < 50_000 && status.images.len() <= 250, "{bytes}");
            assert_eq!(status.summary.images, 5000);
            let grouped: u64 = status.failure_groups.iter().map(|group| group.count).sum();
            assert_eq!(grouped, failed as u64);
        }
    }

    #[test]
    fn images_that_are_denied_take_few_bytes() {
        let mut ledger = Ledger::default();
        for i in 0..250_usize {
            let (tag, digest) = (format!("v{i}").parse().unwrap(), Digest::sha256(&i.to_le_bytes()));
            ledger.observe(&tag, &digest, at(0), at(0));
            let (code, message) = (FailureCode::RegistryPermissionDenied, "no statement allows it".to_owned());
            ledger.fail(&tag, &digest, FailedAttempt { code, message, retry_after: None, jitter: 0.0 }, at(0));
        }
        let status = status(&ledger);
        assert!(serde_json::to_string(&status).unwrap().len() < 4_000);
        assert_eq!((status.images.len(), status.failure_groups[0].count), (10, 250));
    }

    #[test]
    fn a_status_survives_a_restart() {
        let before = ledger(100, 20);
        let after = Ledger::restore(&RecordedImages::Shown, &status(&before).images, None, at(0));
        assert_eq!(after.rows().count(), 120);
        assert_eq!(summarize(&after).complete, 100);
        let complete = |ledger: &Ledger| -> Vec<RowState> {
            ledger.rows().map(|(_, row)| row.state.clone()).filter(|s| matches!(s, RowState::Complete { .. })).collect()
        };
        assert_eq!(complete(&after), complete(&before), "the digests at the destination too");
    }

    #[test]
    fn a_restart_has_nothing_to_publish() {
        let before = ledger(300, 2);
        let shown = status(&before);
        let restored =
            Ledger::restore(&RecordedImages::Shown, &shown.images, shown.summary.oldest_pending_since, at(2000));
        let again = pair_status("us/m", "eu/m", &restored, None, &shown.conditions, at(2000));
        assert_eq!(again.images, shown.images, "the same entries in the same order");
        assert_eq!(again.summary.oldest_pending_since, shown.summary.oldest_pending_since);
    }

    #[test]
    fn a_configuration_is_ready_once_all_is_compared_and_nothing_is_due() {
        let destination = NamespacedName { namespace: "team-b".to_owned(), name: "eu".to_owned() };
        let mut report = ConfigurationReport { generation: Some(2), repositories: 1, ..ConfigurationReport::default() };
        let totals = |counts| DestinationTotals { counts, ..DestinationTotals::default() };
        report.destinations.insert(destination.clone(), totals(ledger(2, 0).counts()));
        let status = |report: &ConfigurationReport| configuration_status("team-a", report, &Default::default(), at(0));
        let types = |s: &ReplicationConfigurationStatus| {
            s.conditions.iter().map(|c| format!("{}={}:{}", c.type_, c.status, c.reason)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(types(&status(&report)), "Ready=False:Progressing Reconciling=True:Progressing");
        report.phase = ComparisonPhase::Compared;
        assert_eq!(types(&status(&report)), "Ready=True:Replicated");
        assert_eq!(status(&report).destinations[0].registry_ref.namespace.as_deref(), Some("team-b"));
        let retried = Counts { images: 3, complete: 2, in_progress: 1, owed: 1, untried: 1, ..Counts::default() };
        report.destinations.insert(destination.clone(), totals(retried));
        assert_eq!(
            types(&status(&report)),
            "Ready=False:Progressing Reconciling=True:Progressing",
            "a retry is no success"
        );
        let arrived = Counts { owed: 0, untried: 0, ..retried };
        report.destinations.insert(destination.clone(), totals(arrived));
        assert_eq!(types(&status(&report)), "Ready=True:Replicated", "it arrived since the comparison");
        report.destinations.insert(destination, totals(ledger(2, 1).counts()));
        assert_eq!(types(&status(&report)), "Ready=False:ImagesFailed Reconciling=True:ImagesFailed");
        report.problem = Some(Problem { stalled: true, reason: reason::REGISTRY_NOT_FOUND, message: "m".to_owned() });
        assert_eq!(types(&status(&report)), "Ready=False:RegistryNotFound Stalled=True:RegistryNotFound");
    }
}
