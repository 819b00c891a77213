//! Reads the RegistryPermissionPolicies of a namespace for decisions: by a quorum list, at most every 4 s, never by a
//! watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::Mutex;

use super::call::{CallError, call};
use crate::api::RegistryPermissionPolicy;
use crate::locked::Locked;
use crate::policy::{Decision, PermissionRequest, Policy, evaluate, unreadable};
use crate::terms::RegistryPermissionPolicySpec;

/// The policies of every namespace for which a decision was requested lately.
pub(crate) struct Policies {
    client: Client,
    namespaces: Locked<NamespaceReadings>,
}

#[derive(Default)]
struct NamespaceReadings {
    readings: HashMap<String, Arc<NamespaceReading>>,
    /// The number of namespaces at which those that nothing asked for lately are dropped.
    sweep_at: usize,
}

/// The failure of a read of policies.
#[derive(Debug, thiserror::Error)]
enum PolicyReadError {
    #[error("the API server does not answer")]
    Deadline,
    #[error(transparent)]
    Call(#[from] CallError),
    /// The failure of a read that others waited for.
    #[error("{0}")]
    Shared(String),
}

/// The policies of one namespace. Only one request reads them at a time; others wait for its result.
#[derive(Default)]
struct NamespaceReading {
    last: Mutex<Option<Reading>>,
    /// Counts changes: policies that were read before one do not serve after it.
    changes: AtomicU64,
}

/// The result of one read.
struct Reading {
    /// The time at which it began.
    at: Instant,
    /// The time at which it ended.
    ended_at: Instant,
    changes: u64,
    policies: Result<Arc<[Policy]>, String>,
}

impl Policies {
    /// Reads through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, namespaces: Locked::default() }
    }

    /// Decides `request` by policies that were read at most [`MAX_AGE`] ago. A read that fails denies.
    pub(crate) async fn decide(&self, request: &PermissionRequest<'_>) -> Decision {
        match self.policies(request.registry_namespace).await {
            Ok(policies) => evaluate(request, &policies),
            Err(error) => unreadable(&error.to_string()),
        }
    }

    /// Drops the cached policies of `namespace`, because one of them has changed.
    pub(crate) fn forget(&self, namespace: &str) {
        if let Some(reading) = self.namespaces.lock().readings.get(namespace) {
            reading.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn policies(&self, namespace: &str) -> Result<Arc<[Policy]>, PolicyReadError> {
        let arrived = Instant::now();
        let reading = self.namespaces.lock().of(namespace);
        let mut last = reading.last.lock().await;
        let changes = reading.changes.load(Ordering::SeqCst);
        if let Some(known) = last.as_ref().filter(|known| known.changes == changes) {
            match &known.policies {
                Ok(policies) if known.at.elapsed() < MAX_AGE => return Ok(policies.clone()),
                Err(cause) if known.ended_at >= arrived => return Err(PolicyReadError::Shared(cause.clone())),
                _ => {}
            }
        }
        let at = Instant::now();
        let read = self.read(namespace).await;
        let policies = read.as_ref().map(Arc::clone).map_err(ToString::to_string);
        *last = Some(Reading { at, ended_at: Instant::now(), changes, policies });
        read
    }

    async fn read(&self, namespace: &str) -> Result<Arc<[Policy]>, PolicyReadError> {
        let resource = ApiResource::erase::<RegistryPermissionPolicy>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let list = tokio::time::timeout(READ_DEADLINE, call(api.list(&ListParams::default()))).await;
        let list = list.map_err(|_| PolicyReadError::Deadline)??;
        Ok(list.items.into_iter().map(decode).collect())
    }
}

impl NamespaceReadings {
    fn of(&mut self, namespace: &str) -> Arc<NamespaceReading> {
        if let Some(reading) = self.readings.get(namespace) {
            return reading.clone();
        }
        if self.readings.len() >= self.sweep_at {
            let is_used = |reading: &Arc<NamespaceReading>| {
                let is_fresh = |last: &Option<Reading>| last.as_ref().is_some_and(|last| last.at.elapsed() < MAX_AGE);
                Arc::strong_count(reading) > 1 || reading.last.try_lock().is_ok_and(|last| is_fresh(&last))
            };
            self.readings.retain(|_, reading| is_used(reading));
            self.sweep_at = (2 * self.readings.len()).max(MIN_SWEEP);
        }
        self.readings.entry(namespace.to_owned()).or_default().clone()
    }
}

fn decode(mut object: DynamicObject) -> Policy {
    let spec = object.data.get_mut("spec").map(serde_json::Value::take).unwrap_or_default();
    Policy { name: object.name_any(), spec: serde_json::from_value::<RegistryPermissionPolicySpec>(spec).ok() }
}

const MIN_SWEEP: usize = 256;
/// The maximum age of policies when a decision is made.
const MAX_AGE: Duration = Duration::from_secs(4);
/// Shorter than for other calls: together with [`MAX_AGE`] it bounds the time for which a revoked permission is
/// believed.
const READ_DEADLINE: Duration = Duration::from_secs(3);
