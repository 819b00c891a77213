//! The parts of reports and statuses that gauges show.

use std::time::SystemTime;

use crate::metrics::{ConfigurationFigures, PairFigures, PairLabels};
use crate::plan::{ConfigurationReport, Counts, PairIdentity};
use crate::terms::ReplicationStatusStatus;

/// Returns the part of a report that gauges show.
pub(super) fn figures(report: &ConfigurationReport) -> ConfigurationFigures {
    let mut totals = Counts::default();
    report.destinations.values().for_each(|destination| totals.include(&destination.counts));
    let oldest = report.destinations.values().filter_map(|destination| destination.oldest_pending_since).min();
    ConfigurationFigures {
        is_ready: report.is_ready(),
        counts: [totals.complete, totals.failed, totals.in_progress, totals.pending, totals.skipped],
        oldest_pending_since: oldest.map(SystemTime::from),
    }
}

/// Returns the part of the status of a pair that gauges show.
pub(super) fn usage(pair: &PairIdentity, status: &ReplicationStatusStatus) -> (PairLabels, PairFigures) {
    let labels = PairLabels {
        namespace: pair.namespace.clone(),
        name: pair.spec.configuration_ref.name.clone(),
        repository: pair.spec.source.repository.clone(),
        destination: status.destination.clone(),
    };
    let summary = &status.summary;
    let figures = PairFigures { images: summary.images, moved: summary.bytes_moved, stored: summary.bytes_stored };
    (labels, figures)
}
