//! The turns of lanes that wait for a Job: by namespace, then inside of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::lanes::WaitingLane;
use super::taken_jobs::TakenJobs;

/// Lanes that wait, in the order in which they may take Jobs. The namespace with the fewest Jobs comes first, then the
/// one that has waited longest. Urgent images and priorities order the lanes of one namespace: they say nothing to
/// others.
pub(super) struct LaneTurns<'a> {
    lanes: BTreeMap<&'a str, NamespaceLanes<'a>>,
    /// The namespaces with lanes: by their Jobs, the time since which they wait, and name.
    order: BTreeSet<(usize, Instant, &'a str)>,
    /// The namespace of the last turn: it has its next one once its Job is counted.
    last: Option<&'a str>,
}

/// The lanes of one namespace, the next one last, each with the time since which it or one after it waits.
type NamespaceLanes<'a> = Vec<(&'a WaitingLane, Instant)>;

impl<'a> LaneTurns<'a> {
    /// Orders `waiting`.
    pub(super) fn new(waiting: impl Iterator<Item = &'a WaitingLane>, taken: &TakenJobs<'_>) -> Self {
        let mut lanes: BTreeMap<&str, NamespaceLanes<'_>> = BTreeMap::new();
        for waiting in waiting {
            lanes.entry(&waiting.lane.namespace).or_default().push((waiting, waiting.since));
        }
        let mut order = BTreeSet::new();
        for (namespace, lanes) in &mut lanes {
            lanes.sort_by_key(|(waiting, since)| (!waiting.is_urgent, Reverse(waiting.priority), *since));
            lanes.reverse();
            let mut earliest = lanes[0].1;
            for (_, since) in lanes.iter_mut() {
                earliest = earliest.min(*since);
                *since = earliest;
            }
            order.insert((taken.of(namespace), earliest, *namespace));
        }
        Self { lanes, order, last: None }
    }

    /// Takes the lane whose turn it is.
    pub(super) fn next(&mut self, taken: &TakenJobs<'_>) -> Option<&'a WaitingLane> {
        if let Some(namespace) = self.last.take()
            && let Some((_, since)) = self.lanes.get(namespace).and_then(|lanes| lanes.last())
        {
            self.order.insert((taken.of(namespace), *since, namespace));
        }
        let (_, _, namespace) = self.order.pop_first()?;
        self.last = Some(namespace);
        Some(self.lanes.get_mut(namespace)?.pop()?.0)
    }
}
