//! Starts comparisons, and takes their findings.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Driver, RunningComparison};
use crate::metrics::Queue;
use crate::plan::{NamespacedName, Problem, ShareOwner};
use crate::replication::machine::{ComparisonId, Coverage, Event, Finding};
use crate::replication::observer::Observation;
use crate::replication::source_comparison::compare;
use crate::terms::reason;

impl Driver {
    pub(super) fn compare(&mut self, id: ComparisonId) {
        let Some(configuration) = self.machine.configuration().cloned() else { return };
        let (sender, findings) = mpsc::unbounded_channel();
        let NamespacedName { namespace, name } = self.machine.source();
        let owner = ShareOwner { namespace, host: name, priority: 0, is_urgent: false };
        let slots = self.core.comparisons.clone();
        let observer = self.observer();
        // It ends with the last of its findings, or is aborted when it is dropped: no other task waits for it.
        let waits = self.core.metrics.waits(Queue::Comparisons);
        let compare = async move {
            let slot = slots.take(owner).await;
            drop(waits);
            // Thousands may wait: only one that runs has its state.
            slot.lend_after(SLOW_COMPARISON, Box::pin(compare(observer, configuration, sender))).await
        };
        let task = tokio::spawn(compare).abort_handle();
        self.comparison = Some(RunningComparison { id, task, findings, replies: HashMap::new() });
    }

    pub(super) fn take_observation(&mut self, observation: Option<Observation>) {
        let Some(running) = &mut self.comparison else { return };
        let id = running.id;
        let has_panicked = observation.is_none();
        // A comparison that ends without saying so has panicked: it is incomplete.
        let finding = observation.map_or(Finding::Done(Coverage::Partial), |Observation { finding, reply, .. }| {
            if let (Finding::Tags(listed), Some(reply)) = (&finding, reply) {
                running.replies.insert(listed.repository.clone(), reply);
            }
            finding
        });
        if matches!(finding, Finding::Tags(_)) {
            self.core.access.served(&self.machine.source());
        }
        if matches!(finding, Finding::Done(_)) {
            self.comparison = None;
            self.core.metrics.comparisons.inc();
        }
        if has_panicked {
            let message = "the comparison met a fault of its own; the log says more".to_owned();
            let problem = Problem { stalled: false, reason: reason::SOURCE_UNREADABLE, message };
            self.step(Event::Found(id, Finding::Problem(problem)));
        }
        self.step(Event::Found(id, finding));
    }
}

const SLOW_COMPARISON: Duration = Duration::from_secs(5);
