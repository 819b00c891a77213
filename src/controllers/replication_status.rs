//! Reconciles ReplicationStatus objects with the configurations that own them: adopts them at the start, deletes those
//! without an owner, and has objects written again that another client deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Event, watcher};

use super::Context;
use crate::api::{CONFIGURATION_LABEL, ReplicationStatus};
use crate::cluster::{CallError, watch_config};
use crate::plan::{Claimant, RepositoryAddress, Standing};
use crate::policy::{PermissionRequest, Policy, evaluate};
use crate::registry::canonical_host;
use crate::replication::StatusNames;
use crate::replication::machine::StoredPair;
use crate::terms::Action;

/// Adopts every status that an earlier process left: pairs for their configurations, and the claims of all
/// configurations before any of them starts. Statuses without a configuration are deleted.
///
/// # Errors
/// [`CallError`] if they cannot be listed.
pub(crate) async fn adopt(context: &Context) -> Result<(), CallError> {
    let stored = context.statuses.list().await?;
    let (owned, orphans): (Vec<_>, Vec<_>) = stored
        .into_iter()
        .filter(|pair| context.view.acts_on(&pair.identity.namespace))
        .partition(|pair| is_owned(context, pair));
    for pair in &owned {
        seed_claim(context, pair);
    }
    *context.stored.lock() = owned.into_iter().collect();
    context.delete_statuses(orphans).await;
    Ok(())
}

/// Watches the metadata of statuses until the operator ends; keeps none in memory.
pub(crate) async fn run(context: Arc<Context>) {
    let api: Api<PartialObjectMeta<ReplicationStatus>> = Api::all(context.view.client.clone());
    let mut events = Box::pin(watcher(api, watch_config()).default_backoff());
    // The first list is that of `adopt`; a later one follows a gap, in which objects may have been deleted.
    let (mut is_first, mut listed) = (true, BTreeMap::new());
    loop {
        let event = tokio::select! {
            () = context.shutdown.cancelled() => return,
            event = events.try_next() => event,
        };
        match event {
            Ok(Some(Event::Delete(object))) => {
                let namespace = object.namespace().unwrap_or_default();
                if let Some(configuration) =
                    object.labels().get(CONFIGURATION_LABEL).filter(|_| context.view.acts_on(&namespace))
                {
                    context.configurations.status_deleted(&namespace, configuration, &object.name_any());
                }
            }
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(object))) if !is_first => list(&mut listed, &object),
            Ok(Some(Event::InitDone)) => {
                if !std::mem::replace(&mut is_first, false) {
                    context.configurations.statuses_listed(std::mem::take(&mut listed));
                }
            }
            Ok(_) => {}
            Err(error) => context.errors.take::<ReplicationStatus>(&error),
        }
    }
}

fn list(listed: &mut StatusNames, object: &PartialObjectMeta<ReplicationStatus>) {
    if let Some(configuration) = object.labels().get(CONFIGURATION_LABEL) {
        let key = (object.namespace().unwrap_or_default(), configuration.clone());
        listed.entry(key).or_default().insert(object.name_any());
    }
}

/// Returns true if the configuration of a pair exists, also one that this program cannot decode.
fn is_owned(context: &Context, pair: &StoredPair) -> bool {
    context.undecodable.has_uid(&pair.identity.spec.configuration_ref.uid) || holder_of(context, pair).is_some()
}

fn holder_of(context: &Context, pair: &StoredPair) -> Option<Claimant> {
    let reference = &pair.identity.spec.configuration_ref;
    let key = kube::runtime::reflector::ObjectRef::new(&reference.name).within(&pair.identity.namespace);
    let configuration = context.view.stores.configurations.get(&key)?;
    let created = configuration.metadata.creation_timestamp.as_ref()?.0;
    configuration.uid().filter(|uid| *uid == reference.uid).map(|uid| Claimant { created, uid })
}

fn seed_claim(context: &Context, pair: &StoredPair) {
    let place = |end: &crate::terms::PairEnd| {
        let namespace = end.registry_ref.namespace.as_deref().unwrap_or(&pair.identity.namespace);
        let registry = context.view.object(namespace, &end.registry_ref.name)?;
        let host = canonical_host(&registry.spec.url.parse().ok()?);
        Some(RepositoryAddress { host, repository: end.repository.parse().ok()? })
    };
    let spec = &pair.identity.spec;
    let Some(standing) = consented(context, pair) else { return };
    if let (Some(holder), Some(source), Some(destination)) =
        (holder_of(context, pair), place(&spec.source), place(&spec.destination))
    {
        // Age settles a conflict among stored pairs, as always.
        let mut claims = context.claims.lock();
        claims.introduce(&holder.uid, &pair.identity.namespace);
        let _ = claims.claim(&holder, standing, &source, &destination);
    }
}

/// Returns the weight of the claim of a stored pair; `None` if the destination's owner does not consent.
fn consented(context: &Context, pair: &StoredPair) -> Option<Standing> {
    let (own, reference) = (&pair.identity.namespace, &pair.identity.spec.destination.registry_ref);
    let namespace = reference.namespace.as_ref().unwrap_or(own);
    let request = PermissionRequest {
        namespace: own,
        configuration: &pair.identity.spec.configuration_ref.name,
        action: Action::ReplicateImage,
        registry_namespace: namespace,
        registry: &reference.name,
        repository: &pair.identity.spec.destination.repository,
    };
    let policies = context.view.stores.policy_index.of(namespace);
    let policies: Vec<Policy> =
        policies.iter().map(|policy| Policy { name: policy.name_any(), spec: Some(policy.spec.0.clone()) }).collect();
    let registry = context.view.object(namespace, &reference.name)?;
    evaluate(&request, &policies).allowed.then(|| context.view.standing(&registry))
}
