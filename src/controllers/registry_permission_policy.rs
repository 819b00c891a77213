//! Reconciles a RegistryPermissionPolicy: reports whether it is in force, and has permissions decided again when it
//! changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::{Resource, ResourceExt};

use super::Context;
use crate::api::RegistryPermissionPolicy;
use crate::cluster::{CallError, patch_status};
use crate::plan::policy_status;

/// Runs the controller until the operator ends.
pub(crate) async fn run(controller: Controller<RegistryPermissionPolicy>, context: Arc<Context>) {
    let results = controller
        .with_config(Config::default().concurrency(context.settings.reconciles))
        .reconcile_all_on(context.leading())
        .graceful_shutdown_on(context.shutdown.clone().cancelled_owned())
        .run(reconcile, error_policy, context.clone());
    // Permissions that a deleted policy granted or denied are decided again.
    context.errors.follow(results, |namespace, _| decide_again(&context, namespace)).await;
}

async fn reconcile(policy: Arc<RegistryPermissionPolicy>, context: Arc<Context>) -> Result<Action, CallError> {
    let _running = context.metrics.reconciling("RegistryPermissionPolicy");
    let namespace = policy.namespace().unwrap_or_default();
    if !context.view.acts_on(&namespace) || !context.elected.is_cancelled() {
        return Ok(Action::await_change());
    }
    if context.undecodable.message::<RegistryPermissionPolicy>(policy.meta()).is_some() {
        decide_again(&context, &namespace);
        return Ok(Action::await_change());
    }
    let registry = &policy.spec.registry_ref.name;
    let exists = context.view.object(&namespace, registry).is_some();
    let previous = policy.status.clone().unwrap_or_default();
    let status = policy_status(&previous, policy.metadata.generation, registry, exists, Timestamp::now());
    if status != previous {
        let api: Api<RegistryPermissionPolicy> = Api::namespaced(context.view.client.clone(), &namespace);
        patch_status(&api, &policy.name_any(), &status).await?;
    }
    decide_again(&context, &namespace);
    Ok(if exists { Action::await_change() } else { Action::requeue(RECHECK) })
}

fn decide_again(context: &Context, namespace: &str) {
    context.view.policies.forget(namespace);
    context.wake_writers_to(namespace);
}

fn error_policy(policy: Arc<RegistryPermissionPolicy>, _error: &CallError, context: Arc<Context>) -> Action {
    context.errors.back_off(&*policy)
}

const RECHECK: Duration = Duration::from_secs(15);
