//! Counters of the requests to registries, read when they are asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use crate::registry::{ANSWER_CLASSES, request_counts};

/// The counters of requests.
#[derive(Debug, Default)]
pub(super) struct RequestFigures {
    requests: Family<AnswerLabels, Counter>,
    seconds: Counter<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    answer: &'static str,
}

impl RequestFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests of this process to registries; copy Jobs send their own";
        registry.register("registry_requests", help, self.requests.clone());
        let help = "Time from the start of these requests to the head of the answer, summed up";
        registry.register_with_unit("registry_request", help, Unit::Seconds, self.seconds.clone());
    }

    /// Sets the counters to the present values.
    pub(super) fn refresh(&self) {
        let counts = request_counts();
        for (answer, count) in ANSWER_CLASSES.into_iter().zip(counts.by_class) {
            self.requests.get_or_create(&AnswerLabels { answer }).inner().store(count, Ordering::Relaxed);
        }
        self.seconds.inner().store(counts.seconds.to_bits(), Ordering::Relaxed);
    }
}
