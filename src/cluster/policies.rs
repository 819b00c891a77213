//! Reads the RegistryPermissionPolicies of a namespace for decisions: by a quorum list, at most every 4 s, never by a
//! watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};

use super::call::{CallError, call};
use crate::api::RegistryPermissionPolicy;
use crate::locked::Locked;
use crate::policy::{Decision, PermissionRequest, Policy, evaluate, unreadable};
use crate::terms::RegistryPermissionPolicySpec;

/// The policies of every namespace for which a decision was requested lately.
pub(crate) struct Policies {
    client: Client,
    read: Locked<HashMap<String, Reading>>,
    /// Counts changes: policies that were read before a change are not cached after it.
    changes: AtomicU64,
}

/// The failure of a read of policies.
#[derive(Debug, thiserror::Error)]
enum PolicyReadError {
    #[error("the API server does not answer")]
    Deadline,
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The policies of one namespace.
struct Reading {
    at: Instant,
    policies: Arc<[Policy]>,
}

impl Policies {
    /// Reads through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, read: Locked::default(), changes: AtomicU64::new(0) }
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
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.read.lock().remove(namespace);
    }

    async fn policies(&self, namespace: &str) -> Result<Arc<[Policy]>, PolicyReadError> {
        let (started, changes) = (Instant::now(), self.changes.load(Ordering::SeqCst));
        if let Some(reading) = self.read.lock().get(namespace)
            && reading.at.elapsed() < MAX_AGE
        {
            return Ok(reading.policies.clone());
        }
        let resource = ApiResource::erase::<RegistryPermissionPolicy>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let list = tokio::time::timeout(READ_DEADLINE, call(api.list(&ListParams::default()))).await;
        let list = list.map_err(|_| PolicyReadError::Deadline)??;
        let policies: Arc<[Policy]> = list.items.into_iter().map(decode).collect();
        let mut read = self.read.lock();
        read.retain(|_, reading| reading.at.elapsed() < MAX_AGE);
        if self.changes.load(Ordering::SeqCst) == changes {
            read.insert(namespace.to_owned(), Reading { at: started, policies: policies.clone() });
        }
        Ok(policies)
    }
}

fn decode(mut object: DynamicObject) -> Policy {
    let spec = object.data.get_mut("spec").map(serde_json::Value::take).unwrap_or_default();
    Policy { name: object.name_any(), spec: serde_json::from_value::<RegistryPermissionPolicySpec>(spec).ok() }
}

/// The maximum age of policies when a decision is made.
const MAX_AGE: Duration = Duration::from_secs(4);
/// Shorter than for other calls: together with [`MAX_AGE`] it bounds the time for which a revoked permission is
/// believed.
const READ_DEADLINE: Duration = Duration::from_secs(3);
