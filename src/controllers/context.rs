//! The context that all reconcilers share.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::Stream;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::ReplicationConfiguration;
use crate::cluster::{Dependents, Events, ExecutionClasses, Statuses, Undecodable, View, WatchErrors};
use crate::locked::Locked;
use crate::metrics::Metrics;
use crate::plan::{AUTHORITY_TTL, DeletionHistory, NamespacedName};
use crate::replication::machine::{Predecessor, Stored, StoredPair};
use crate::replication::{Configurations, FairSlots, SharedClaims};
use crate::terms::{ExecutionMode, condition_type};

/// Limits of the operator, from its command line.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The maximum number of objects of one kind that are reconciled at once.
    pub reconciles: u16,
    /// The mode of configurations that do not set `spec.execution.mode`.
    pub default_execution: ExecutionMode,
    /// True if Jobs can be started.
    pub has_jobs: bool,
}

/// The context that all reconcilers share.
pub(crate) struct Context {
    /// Limits of the operator.
    pub settings: Settings,
    /// Watched objects, clients of registries, and decisions.
    pub view: Arc<View>,
    /// The recorder of Events.
    pub events: Events,
    /// Status objects and reports.
    pub statuses: Arc<Statuses>,
    /// The execution classes of copy Jobs.
    pub classes: Arc<ExecutionClasses>,
    /// The configurations that a change of a Registry or a policy concerns.
    pub dependents: Locked<Dependents>,
    /// Bounds the checks of Registries that are under way.
    pub checks: FairSlots,
    /// Running configurations.
    pub configurations: Arc<Configurations>,
    /// The claims of all configurations.
    pub claims: SharedClaims,
    /// Takes the errors of controllers and watches.
    pub errors: Arc<WatchErrors>,
    /// The counter of status writes.
    pub metrics: Arc<Metrics>,
    /// Objects that cannot be decoded.
    pub undecodable: Arc<Undecodable>,
    /// Ends all controllers and configurations.
    pub shutdown: CancellationToken,
    /// The queue of configurations to reconcile soon.
    pub wakes: mpsc::UnboundedSender<ObjectRef<ReplicationConfiguration>>,
    /// Pairs that an earlier process left, by the uid of their configuration, until it starts.
    pub stored: Locked<HashMap<String, Vec<StoredPair>>>,
    /// Is cancelled once this replica leads: before that it writes nothing.
    pub elected: CancellationToken,
    /// Is set once configurations may start: the end of the time for which an earlier process may have acted.
    pub begun: OnceLock<Instant>,
}

impl Context {
    /// Lets configurations start: everything that they depend on is known. An earlier process may act until
    /// `predecessor_ends`.
    pub(crate) fn begin(&self, predecessor_ends: Instant) {
        self.begun.get_or_init(|| predecessor_ends);
        self.wake_all();
    }

    /// Returns true if configurations may start.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Returns a stream that has one item, once this replica leads.
    pub(crate) fn leading(&self) -> impl Stream<Item = ()> + Send + Sync + 'static {
        futures::stream::once(self.elected.clone().cancelled_owned())
    }

    fn wake_all(&self) {
        for configuration in self.view.stores.configurations.state() {
            // A closed channel means that the operator ends.
            let _ = self.wakes.send(ObjectRef::from_obj(&*configuration));
        }
    }

    /// Requests a reconcile of the configurations with these uids.
    pub(crate) fn wake_uids(&self, uids: &[String]) {
        let dependents = self.dependents.lock();
        self.wake(uids.iter().filter_map(|uid| dependents.of_uid(uid)));
    }

    /// Requests a reconcile of the configurations that copy from or to a Registry.
    pub(crate) fn wake_users(&self, registry: &NamespacedName) {
        self.wake(self.dependents.lock().of_registry(registry));
    }

    /// Requests a reconcile of the configurations with a destination in a namespace.
    pub(crate) fn wake_writers_to(&self, namespace: &str) {
        self.wake(self.dependents.lock().of_namespace(namespace));
    }

    fn wake<'a>(&self, configurations: impl Iterator<Item = &'a NamespacedName>) {
        for NamespacedName { namespace, name } in configurations {
            // A closed channel means that the operator ends.
            let _ = self.wakes.send(ObjectRef::new(name).within(namespace));
        }
    }

    /// Takes the state that an earlier process left of a configuration.
    pub(crate) fn take_stored(&self, object: &ReplicationConfiguration) -> Stored {
        let mut stored = self.stored.lock();
        let pairs = object.uid().and_then(|uid| stored.remove(&uid)).unwrap_or_default();
        let status = object.status.as_ref().filter(|status| status.is_observed());
        let is_true = |kind: &str| {
            status.and_then(|status| status.conditions.iter().find(|c| c.type_ == kind && c.status == "True"))
        };
        let (ready, skipped) = (is_true(condition_type::READY), is_true(condition_type::NAMES_SKIPPED));
        let left = self.begun.get().map_or(AUTHORITY_TTL, |ends| ends.saturating_duration_since(Instant::now()));
        Stored {
            pairs,
            predecessor: status.map_or(Predecessor::None, |_| Predecessor::MayAct(left)),
            ready_generation: ready.and_then(|condition| condition.observed_generation),
            repositories: status.and_then(|status| status.summary.as_ref()).map_or(0, |summary| summary.repositories),
            invalid_names: skipped.map(|condition| condition.message.clone()),
            handled_request: status.and_then(|status| status.last_handled_replicate_request.clone()),
            deletion_history: DeletionHistory::restore(
                &object.namespace().unwrap_or_default(),
                status.map_or(&[], |status| &status.recent_deletions),
                status.and_then(|status| status.approved_deletions.clone()),
            ),
        }
    }
}
