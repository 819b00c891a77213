//! The context that all reconcilers share.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::Stream;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::parsed_specs::ParsedSpecs;
use crate::api::ReplicationConfiguration;
use crate::cluster::{Dependents, Events, ExecutionClasses, Statuses, Undecodable, View, WatchErrors};
use crate::locked::Locked;
use crate::metrics::Metrics;
use crate::plan::{AUTHORITY_TTL, DeletionHistory, NamespacedName};
use crate::replication::machine::{Predecessor, Stored, StoredPair};
use crate::replication::{Configurations, FairSlots, SharedClaims, Store};
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
    /// The last specs of configurations.
    pub specs: ParsedSpecs,
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
    /// The pairs that an earlier process left, until their configurations start.
    pub stored: Locked<StoredPairs>,
    /// Is cancelled once this replica leads: before that it writes nothing.
    pub elected: CancellationToken,
    /// Is set once configurations may start: the end of the time for which an earlier process may have acted.
    pub begun: OnceLock<Instant>,
}

impl Context {
    /// Lets configurations start: everything that they depend on is known. An earlier process may act until
    /// `predecessor_ends`.
    pub(crate) fn begin(self: &Arc<Self>, predecessor_ends: Instant) {
        self.begun.get_or_init(|| predecessor_ends);
        self.wake_all();
        // Those that are gone by now were not woken, and may have ended before their pairs were listed.
        let configurations = self.stored.lock().configurations();
        configurations.iter().for_each(|configuration| self.drop_stored(configuration));
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

    /// Ends a configuration that does not exist any more, also one that has not started: its statuses are deleted, and
    /// its claims are released.
    pub(crate) fn end(self: &Arc<Self>, configuration: &NamespacedName) {
        let NamespacedName { namespace, name } = configuration;
        self.specs.forget(configuration);
        self.configurations.end(namespace, name);
        self.statuses.forget(namespace, name);
        self.metrics.forget_configuration(namespace, name);
        self.drop_stored(configuration);
    }

    /// Drops the stored pairs of a configuration that does not exist any more: deletes their statuses, and releases
    /// their claims. Those of the object that has its name now stay.
    pub(crate) fn drop_stored(self: &Arc<Self>, configuration: &NamespacedName) {
        let NamespacedName { namespace, name } = configuration;
        let present = self.view.stores.configurations.get(&ObjectRef::new(name).within(namespace));
        let present = present.and_then(|object| object.uid());
        let is_gone = |uid: &str| present.as_deref() != Some(uid) && !self.undecodable.has_uid(uid);
        let dropped = self.stored.lock().take(configuration, is_gone);
        if dropped.is_empty() {
            return;
        }
        let uids: BTreeSet<&str> = dropped.iter().map(uid_of).collect();
        for uid in uids {
            let waiting = {
                let mut claims = self.claims.lock();
                claims.forget(uid);
                claims.release(uid, |_| false)
            };
            self.wake_uids(&waiting);
        }
        let context = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = context.shutdown.cancelled() => {}
                () = context.delete_statuses(dropped) => {}
            }
        });
    }

    /// Deletes the statuses of pairs whose configuration is gone. One that cannot be deleted is left to the garbage
    /// collector.
    pub(crate) async fn delete_statuses(&self, pairs: Vec<StoredPair>) {
        for pair in pairs {
            if let Err(error) = self.statuses.delete(&pair.identity).await {
                tracing::warn!(%error, "failed to delete the status of a configuration that is gone");
            }
        }
    }

    /// Takes the state that an earlier process left of a configuration.
    pub(crate) fn take_stored(&self, object: &ReplicationConfiguration) -> Stored {
        let name = NamespacedName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        let uid = object.uid().unwrap_or_default();
        let pairs = self.stored.lock().take(&name, |of| of == uid);
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

/// The pairs that an earlier process left, by the name of their configuration.
#[derive(Debug, Default)]
pub(crate) struct StoredPairs(HashMap<NamespacedName, Vec<StoredPair>>);

impl FromIterator<StoredPair> for StoredPairs {
    fn from_iter<I: IntoIterator<Item = StoredPair>>(pairs: I) -> Self {
        let mut stored = Self::default();
        for pair in pairs {
            let name = pair.identity.spec.configuration_ref.name.clone();
            let configuration = NamespacedName { namespace: pair.identity.namespace.clone(), name };
            stored.0.entry(configuration).or_default().push(pair);
        }
        stored
    }
}

impl StoredPairs {
    /// Takes the pairs of the objects with this name whose uid `is_taken` picks.
    fn take(&mut self, configuration: &NamespacedName, is_taken: impl Fn(&str) -> bool) -> Vec<StoredPair> {
        let Some(pairs) = self.0.get_mut(configuration) else { return Vec::new() };
        let taken = pairs.extract_if(.., |pair| is_taken(uid_of(pair))).collect();
        if pairs.is_empty() {
            self.0.remove(configuration);
        }
        taken
    }

    /// Returns the configurations that have pairs.
    fn configurations(&self) -> Vec<NamespacedName> {
        self.0.keys().cloned().collect()
    }
}

fn uid_of(pair: &StoredPair) -> &str {
    &pair.identity.spec.configuration_ref.uid
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::plan::{PairIdentity, RecordedImages};

    fn pair(configuration: &str, uid: &str, repository: &str) -> StoredPair {
        let end = |name: &str| json!({"registryRef": {"name": name, "uid": name}, "repository": repository});
        let spec = json!({"configurationRef": {"name": configuration, "uid": uid}, "source": end("s"),
            "destination": end("d")});
        StoredPair {
            identity: PairIdentity::new("n", serde_json::from_value(spec).unwrap()),
            status: Default::default(),
            verified: RecordedImages::Shown,
            referrers_asked_at: None,
            missed: BTreeMap::new(),
            choice: None,
        }
    }

    #[test]
    fn pairs_of_a_configuration_are_taken_by_its_name_and_uid() {
        type IsTaken = fn(&str) -> bool;
        let configuration = |name: &str| NamespacedName { namespace: "n".to_owned(), name: name.to_owned() };
        let mut stored: StoredPairs =
            [pair("a", "old", "x"), pair("a", "new", "y"), pair("a", "old", "z"), pair("b", "b", "x")]
                .into_iter()
                .collect();
        let mut take = |name: &str, is_taken: IsTaken| {
            let taken = stored.take(&configuration(name), is_taken);
            let repositories = taken.iter().map(|pair| pair.identity.spec.source.repository.clone());
            (repositories.collect::<Vec<_>>(), stored.configurations().len())
        };
        // The name; the uids that are taken; the repositories of the pairs; the configurations that have pairs then.
        let table: [(&str, IsTaken, &[&str], usize); 6] = [
            ("c", |_| true, &[], 2),
            ("b", |uid| uid != "b", &[], 2),
            ("a", |uid| uid != "new", &["x", "z"], 2),
            ("a", |uid| uid == "old", &[], 2),
            ("a", |uid| uid == "new", &["y"], 1),
            ("b", |_| true, &["x"], 0),
        ];
        for (name, is_taken, repositories, left) in table {
            let expected = repositories.iter().map(|repository| (*repository).to_owned()).collect();
            assert_eq!(take(name, is_taken), (expected, left), "{name}");
        }
    }
}
