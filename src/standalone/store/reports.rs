//! The last report of each configuration, and the log lines when it becomes ready or no longer is, or deletions wait.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::locked::Locked;
use crate::plan::{ConfigurationReport, configuration_status};
use crate::terms::{Condition, ReplicationConfigurationStatus, held_transition, ready_transition, reason};

/// The last reports, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Reports(Locked<BTreeMap<(String, String), Reported>>);

#[derive(Debug, Default)]
struct Reported {
    report: ConfigurationReport,
    status: ReplicationConfigurationStatus,
    /// The conditions as they were last logged.
    logged: Vec<Condition>,
}

impl Reports {
    /// Keeps a report, and logs it if it says something new.
    pub(super) fn take(&self, namespace: &str, name: &str, report: ConfigurationReport) {
        let mut reports = self.0.lock();
        let reported = reports.entry((namespace.to_owned(), name.to_owned())).or_default();
        let status = configuration_status(namespace, &report, &reported.status, Timestamp::now());
        let configuration = format!("{namespace}/{name}");
        if let Some(ready) = ready_transition(&reported.logged, &status.conditions) {
            log(&configuration, ready);
            reported.logged = status.conditions.clone();
        }
        if let Some(Condition { reason, message, .. }) =
            held_transition(&reported.status.conditions, &status.conditions)
        {
            tracing::warn!(target: TARGET, configuration, reason, "deletions are held: {message}");
        }
        let earlier = &reported.report;
        for (lines, logged) in [
            (report.invalid_names.as_slice(), earlier.invalid_names.as_slice()),
            (report.stopped_backfill.as_slice(), earlier.stopped_backfill.as_slice()),
            (&report.unused_filters, &earlier.unused_filters),
        ] {
            if lines != logged {
                lines.iter().for_each(|line| tracing::warn!(target: TARGET, configuration, "{line}"));
            }
        }
        (reported.report, reported.status) = (report, status);
    }

    #[cfg(test)]
    fn all(&self) -> BTreeMap<(String, String), ConfigurationReport> {
        self.0.lock().iter().map(|(key, reported)| (key.clone(), reported.report.clone())).collect()
    }
}

fn log(configuration: &str, ready: &Condition) {
    let Condition { reason, message, .. } = ready;
    let message = message.replace("kubectl get replicationstatus", "transship status");
    match reason.as_str() {
        reason::REPLICATED => tracing::info!(target: TARGET, configuration, reason, "ready: {message}"),
        reason::SUSPENDED => tracing::info!(target: TARGET, configuration, reason, "{message}"),
        _ => tracing::warn!(target: TARGET, configuration, reason, "not ready: {message}"),
    }
}

/// `sync` and `plan` print the same themselves: their logs leave it out.
const TARGET: &str = "transship::readiness";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ComparisonPhase, Problem};

    #[test]
    fn the_last_report_is_kept_and_only_a_transition_is_logged() {
        let reports = Reports::default();
        let logged = |reports: &Reports| {
            let reports = reports.0.lock();
            let ready = reports.values().next().unwrap().logged.iter().find(|it| it.type_ == "Ready").cloned();
            ready.map(|ready| (ready.reason, ready.message))
        };
        reports.take("team-a", "app", ConfigurationReport::default());
        assert_eq!(logged(&reports), None, "work that is under way is no news");
        let compared = ConfigurationReport { phase: ComparisonPhase::Compared, ..ConfigurationReport::default() };
        reports.take("team-a", "app", compared.clone());
        assert_eq!(logged(&reports).unwrap().0, "Replicated");
        let problem = |message: &str| Problem { stalled: false, reason: "Unreachable", message: message.to_owned() };
        for message in ["first", "second"] {
            reports.take("team-a", "app", ConfigurationReport { problem: Some(problem(message)), ..compared.clone() });
            assert_eq!(logged(&reports), Some(("Unreachable".to_owned(), "first".to_owned())));
        }
        reports.take("team-a", "other", compared.clone());
        let all = reports.all();
        assert_eq!(all[&("team-a".to_owned(), "app".to_owned())].problem, Some(problem("second")));
        assert_eq!(all[&("team-a".to_owned(), "other".to_owned())], compared);
    }
}
