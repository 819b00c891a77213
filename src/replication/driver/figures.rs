//! The part of a report that gauges show.

use std::time::SystemTime;

use crate::metrics::ConfigurationFigures;
use crate::plan::{ConfigurationReport, Counts};

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
