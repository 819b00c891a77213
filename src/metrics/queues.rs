//! Queues in which work waits: how long they are, and how long their oldest entry has waited.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::locked::Locked;

/// A queue in which work waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Checks of Registries.
    Checks,
    /// Comparisons of sources.
    Comparisons,
    /// Images that this process copies.
    Copies,
    /// Images that wait for the worker of a Job.
    Jobs,
}

/// The instruments of all queues.
#[derive(Debug)]
pub(super) struct QueueFigures {
    waiting: [Arc<QueuedSince>; QUEUES.len()],
    lengths: Family<QueueLabels, Gauge>,
    oldest: Family<QueueLabels, Gauge<f64, AtomicU64>>,
}

/// One entry of a queue, until this is dropped.
#[derive(Debug)]
pub(crate) struct QueuedWork {
    queue: Arc<QueuedSince>,
    number: u64,
}

/// The entries of a queue, the oldest first.
#[derive(Debug, Default)]
struct QueuedSince {
    next: AtomicU64,
    since: Locked<BTreeMap<u64, Instant>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

impl Default for QueueFigures {
    fn default() -> Self {
        Self { waiting: std::array::from_fn(|_| Arc::default()), lengths: Family::default(), oldest: Family::default() }
    }
}

impl QueueFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("queue_length", "Entries of a queue that wait for their turn", self.lengths.clone());
        let help = "Time for which the oldest entry of a queue has waited, 0 if none waits";
        registry.register_with_unit("queue_oldest_wait", help, Unit::Seconds, self.oldest.clone());
    }

    pub(super) fn enter(&self, queue: Queue) -> QueuedWork {
        let queue = self.waiting[queue as usize].clone();
        let number = queue.next.fetch_add(1, Ordering::Relaxed);
        queue.since.lock().insert(number, Instant::now());
        QueuedWork { queue, number }
    }

    /// Sets the gauges to the present state.
    pub(super) fn refresh(&self) {
        for (queue, waiting) in QUEUES.into_iter().zip(&self.waiting) {
            let since = waiting.since.lock();
            let oldest = since.first_key_value().map(|(_, since)| since.elapsed()).unwrap_or_default();
            let labels = QueueLabels { queue };
            self.lengths.get_or_create(&labels).set(i64::try_from(since.len()).unwrap_or(i64::MAX));
            self.oldest.get_or_create(&labels).set(oldest.as_secs_f64());
        }
    }
}

impl Drop for QueuedWork {
    fn drop(&mut self) {
        self.queue.since.lock().remove(&self.number);
    }
}

/// The words for the members of [`Queue`], in their order.
const QUEUES: [&str; 4] = ["checks", "comparisons", "copies", "jobs"];
