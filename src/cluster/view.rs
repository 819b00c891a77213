//! The cluster as the operator sees it: watched objects, the clients of registries, and decisions of policies.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;

use super::credentials::notification_token;
use super::policies::Policies;
use super::policy_index::PolicyIndex;
use super::registries::Registries;
use super::registry_index::RegistryIndex;
use super::registry_use::RegistryUse;
use crate::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration};
use crate::locked::Locked;
use crate::plan::{HostBindings, NamespacedName, Standing};
use crate::policy::{Decision, PermissionRequest};
use crate::registry::{self, EgressPolicy, RegistryOptions};
use crate::replication::{Access, Unusable};
use crate::terms::{CreateRepositories, DEFAULT_SWEEP_REQUESTS, condition_type, reason};

/// The objects of the watched kinds.
#[derive(Clone)]
pub(crate) struct Stores {
    /// The Registries.
    pub registries: Store<Registry>,
    /// Policies.
    pub policies: Store<RegistryPermissionPolicy>,
    /// The same by namespace.
    pub policy_index: Arc<PolicyIndex>,
    /// Configurations.
    pub configurations: Store<ReplicationConfiguration>,
}

/// The watched objects, and all state that is derived from them.
pub(crate) struct View {
    /// The client of the API server.
    pub client: Client,
    /// The objects of the watched kinds.
    pub stores: Stores,
    /// The clients of Registries.
    pub registries: Registries,
    /// The use of Registries by this process.
    pub uses: RegistryUse,
    /// Decisions about permissions.
    pub policies: Policies,
    /// The names and uids of Registries.
    index: Locked<RegistryIndex>,
    /// Namespaces to act on; empty for all.
    namespaces: BTreeSet<String>,
    checks: mpsc::Sender<ObjectRef<Registry>>,
    tokens: Locked<HashMap<String, Token>>,
}

/// The notification token of a Registry as it was last read; kept so that notifications cause no calls to the API
/// server.
#[derive(Clone)]
struct Token {
    generation: Option<i64>,
    token: Option<Vec<u8>>,
    read_at: Instant,
}

impl View {
    /// Returns the view of an operator that acts on `namespaces` (empty for all), and lets them use `hosts`. Registries
    /// that are to be checked soon are sent to `checks`.
    pub(crate) fn new(
        client: Client,
        stores: Stores,
        namespaces: BTreeSet<String>,
        egress: Arc<EgressPolicy>,
        hosts: HostBindings,
        checks: mpsc::Sender<ObjectRef<Registry>>,
    ) -> Self {
        let (registries, policies) = (Registries::new(client.clone(), egress, hosts), Policies::new(client.clone()));
        let uses = RegistryUse::default();
        Self {
            client,
            stores,
            registries,
            uses,
            policies,
            index: Locked::default(),
            namespaces,
            checks,
            tokens: Locked::default(),
        }
    }

    /// Returns true if the operator acts on objects of `namespace`.
    pub(crate) fn acts_on(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// Returns the Registry object if it exists and the operator acts on it.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> Option<Arc<Registry>> {
        let found = self.stores.registries.get(&ObjectRef::new(name).within(namespace));
        found.filter(|_| self.acts_on(namespace))
    }

    /// Records that a Registry exists; what is known of an object that had its name before is forgotten.
    pub(crate) fn record_registry(&self, name: &NamespacedName, uid: &str) {
        let replaced = self.index.lock().record(name, uid);
        self.forget_uid(replaced);
    }

    /// Forgets a Registry that does not exist any more.
    pub(crate) fn forget_registry(&self, name: &NamespacedName) {
        let uid = self.index.lock().remove(name);
        self.forget_uid(uid);
    }

    /// Returns true if a state of a Registry is new to the configurations that refer to it; they have to learn it then.
    pub(crate) fn is_news(&self, registry: &Registry) -> bool {
        let standing = self.standing(registry);
        self.index.lock().announce(&registry.uid().unwrap_or_default(), registry.resource_version(), standing)
    }

    fn forget_uid(&self, uid: Option<String>) {
        if let Some(uid) = uid {
            self.registries.forget(&uid);
            self.uses.forget(&uid);
            self.tokens.lock().remove(&uid);
        }
    }

    /// Returns the weight of claims through a Registry: has its registry accepted the credentials?
    pub(crate) fn standing(&self, registry: &Registry) -> Standing {
        let is_accepted = self.uses.is_accepted(&registry.uid().unwrap_or_default());
        let is_accepted = is_accepted.unwrap_or_else(|| is_ready(registry));
        match (is_accepted && self.registries.may_use_host(registry), &registry.spec.credentials) {
            (false, _) => Standing::Unproven,
            (true, None) => Standing::Anonymous,
            (true, Some(_)) => Standing::Accepted,
        }
    }

    /// Records that a check says nothing about the credentials of a Registry. Its status, which is about to show this
    /// check, says so far if they were accepted.
    pub(crate) fn keep_standing(&self, registry: &Registry) {
        self.uses.check_silent(&registry.uid().unwrap_or_default(), is_ready(registry));
    }

    /// Returns the name of the Registry with this uid, if it exists.
    pub(crate) fn registry_name(&self, uid: &str) -> Option<NamespacedName> {
        self.index.lock().name(uid).cloned()
    }

    /// Returns the client options of the Registry with this uid and their version; `None` if it cannot be used.
    pub(crate) async fn access_by_uid(&self, uid: &str) -> Option<(String, RegistryOptions)> {
        let name = self.index.lock().name(uid).cloned();
        let is_it = |registry: &Arc<Registry>| registry.uid().as_deref() == Some(uid);
        let registry = match name {
            Some(name) => self.object(&name.namespace, &name.name).filter(is_it),
            // At the start it may not have been checked yet.
            None => self.stores.registries.state().into_iter().find(is_it),
        };
        self.registries.access(&*registry?).await.ok()
    }
}

impl Access for View {
    fn client<'a>(&'a self, registry: &'a NamespacedName) -> BoxFuture<'a, Result<registry::Client, Unusable>> {
        async move {
            let NamespacedName { namespace, name } = registry;
            match self.object(namespace, name) {
                Some(object) => self.registries.client(&object).await,
                None => Err(Unusable {
                    reason: reason::REGISTRY_NOT_FOUND,
                    message: format!("there is no Registry {namespace}/{name}"),
                }),
            }
        }
        .boxed()
    }

    fn registry(&self, registry: &NamespacedName) -> Option<(String, CreateRepositories)> {
        let object = self.object(&registry.namespace, &registry.name)?;
        Some((object.uid()?, object.spec.create_repositories))
    }

    fn sweep_rate(&self, registry: &NamespacedName) -> u32 {
        let object = self.object(&registry.namespace, &registry.name);
        object.map_or(DEFAULT_SWEEP_REQUESTS, |object| object.spec.limits.sweep_requests_per_second)
    }

    fn suspect(&self, registry: &NamespacedName) {
        let Some(object) = self.object(&registry.namespace, &registry.name) else { return };
        let uid = object.uid().unwrap_or_default();
        self.registries.read_again(&uid);
        self.uses.refused(&uid);
        // A full channel means that checks are on their way already.
        let _ = self.checks.try_send(ObjectRef::from_obj(&*object));
    }

    fn served(&self, registry: &NamespacedName) {
        let Some(object) = self.object(&registry.namespace, &registry.name) else { return };
        if self.uses.served(&object.uid().unwrap_or_default(), Instant::now()) {
            // A full channel means that checks are on their way already.
            let _ = self.checks.try_send(ObjectRef::from_obj(&*object));
        }
    }

    fn notification_token<'a>(&'a self, registry: &'a NamespacedName) -> BoxFuture<'a, Option<Vec<u8>>> {
        async move {
            let NamespacedName { namespace, name } = registry;
            let object = self.object(namespace, name)?;
            let (uid, generation) = (object.uid()?, object.metadata.generation);
            let known = self.tokens.lock().get(&uid).filter(|known| known.generation == generation).cloned();
            if let Some(known) = known.as_ref().filter(|known| known.is_fresh()) {
                return known.token.clone();
            }
            let token = notification_token(&self.client, &object).await.unwrap_or_else(|error| {
                // The last one holds while the API server does not answer.
                let last = known.filter(|_| error.is_unanswered()).and_then(|known| known.token);
                let is_kept = last.is_some();
                tracing::warn!(registry = name, namespace, is_kept, %error, "the token of notifications is not read");
                last
            });
            let known = Token { generation, token: token.clone(), read_at: Instant::now() };
            let mut tokens = self.tokens.lock();
            tokens.retain(|_, known| known.token.is_some() || known.is_fresh());
            tokens.insert(uid, known);
            token
        }
        .boxed()
    }

    fn decide<'a>(&'a self, request: PermissionRequest<'a>) -> BoxFuture<'a, Decision> {
        async move { self.policies.decide(&request).await }.boxed()
    }
}

impl Token {
    fn is_fresh(&self) -> bool {
        // An absent one is looked for again soon, but a flood of notifications still causes few reads.
        self.read_at.elapsed() < if self.token.is_some() { MAX_TOKEN_AGE } else { MAX_ABSENCE_AGE }
    }
}

fn is_ready(registry: &Registry) -> bool {
    let mut conditions = registry.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == condition_type::READY && condition.status == "True")
}

const MAX_TOKEN_AGE: Duration = Duration::from_secs(60);
const MAX_ABSENCE_AGE: Duration = Duration::from_secs(5);
