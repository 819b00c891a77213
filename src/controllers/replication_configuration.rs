//! Reconciles a ReplicationConfiguration: gives orders to its replicator, and publishes what that reports.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::controller::{Action, Config, Error};
use kube::runtime::{Controller, reflector::ObjectRef};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Context;
use super::replicators::Orders;
use crate::api::{Execution, ExecutionMode, REPLICATE_REQUESTED_AT, ReplicationConfiguration, condition_type, reason};
use crate::cluster::{CallError, patch_status};
use crate::plan::{
    Configuration, ConfigurationReport, Holder, Invalid, Trouble, configuration_status, parse_configuration,
};

/// Runs the controller until the operator ends.
pub async fn run(
    controller: Controller<ReplicationConfiguration>,
    nudges: mpsc::Receiver<ObjectRef<ReplicationConfiguration>>,
    context: Arc<Context>,
) {
    let shutdown = context.shutdown.clone();
    let reconciling = context.clone();
    controller
        .with_config(Config::default().concurrency(context.settings.reconciles))
        .reconcile_on(ReceiverStream::new(nudges))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, error_policy, reconciling)
        .for_each(|result| {
            let context = context.clone();
            async move {
                // A deleted configuration is met here: its replicator ends, deletes its statuses and gives up its claims.
                if let Err(Error::ObjectNotFound(object)) = result {
                    context.replicators.end(object.namespace.as_deref().unwrap_or_default(), &object.name);
                }
            }
        })
        .await;
}

async fn reconcile(object: Arc<ReplicationConfiguration>, context: Arc<Context>) -> Result<Action, CallError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    if !context.acts_on(&namespace) || !context.has_begun() {
        return Ok(Action::await_change());
    }
    let parsed = parse_configuration(&namespace, &name, &object.spec);
    let report = match parsed.and_then(|configuration| executable(&context, configuration)) {
        Ok(configuration) => {
            let surroundings = surroundings(&context, &configuration);
            context.replicators.order(&context, orders(&object, configuration, surroundings))
        }
        Err(invalid) => {
            context.replicators.end(&namespace, &name);
            let trouble = Trouble { stalled: true, reason: invalid.reason, message: invalid.message };
            ConfigurationReport { generation: object.metadata.generation, trouble: Some(trouble), ..Default::default() }
        }
    };
    publish(&object, &namespace, &report, &context).await?;
    Ok(Action::requeue(SAFETY_REQUEUE))
}

/// The configuration, if it can be executed here as it asks for.
fn executable(context: &Context, configuration: Configuration) -> Result<Configuration, Invalid> {
    let Execution { mode, class } = &configuration.execution;
    if mode.unwrap_or(context.settings.default_execution) == ExecutionMode::InProcess {
        return Ok(configuration);
    }
    if !context.settings.has_jobs {
        let message = "this operator is not set up to start Jobs: set spec.execution.mode to InProcess, or have it started with \
                       --worker-image and --channel-url";
        return Err(Invalid { reason: reason::JOBS_UNAVAILABLE, message: message.to_owned() });
    }
    if context.classes.get(class, &configuration.namespace).is_none() {
        let message = format!(
            "spec.execution.class {class} does not exist, or this namespace may not use it: ask the operator's administrator"
        );
        return Err(Invalid { reason: reason::EXECUTION_CLASS_NOT_ALLOWED, message });
    }
    Ok(configuration)
}

async fn publish(
    object: &ReplicationConfiguration,
    namespace: &str,
    report: &ConfigurationReport,
    context: &Context,
) -> Result<(), CallError> {
    let previous = object.status.clone().unwrap_or_default();
    if report.generation.is_none() {
        return Ok(()); // The replicator has just started: it reports, and has this reconciled, in a moment.
    }
    let status = configuration_status(namespace, report, &previous, Timestamp::now());
    if status == previous {
        return Ok(());
    }
    let api: Api<ReplicationConfiguration> = Api::namespaced(context.client.clone(), namespace);
    patch_status(&api, &object.name_any(), &status).await?;
    context.metrics.status_writes.inc();
    context.events.tell(object, "Replicate", &previous.conditions, &status.conditions).await;
    Ok(())
}

fn orders(object: &Arc<ReplicationConfiguration>, configuration: Configuration, surroundings: u64) -> Orders {
    let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Orders {
        holder: Holder { created, uid: object.uid().unwrap_or_default() },
        request: object.annotations().get(REPLICATE_REQUESTED_AT).cloned(),
        configuration: Arc::new(configuration),
        object: object.clone(),
        surroundings,
    }
}

/// A fingerprint of what a configuration depends on: its Registries with their readiness, the policies of
/// its destinations, and the claims that others gave up.
fn surroundings(context: &Context, configuration: &Configuration) -> u64 {
    let mut hasher = DefaultHasher::new();
    let destinations = configuration.selection.destinations();
    let source = std::iter::once((configuration.namespace.as_str(), configuration.source.as_str()));
    for (namespace, name) in source.chain(destinations.iter().map(|d| (d.namespace.as_str(), d.name.as_str()))) {
        let registry = context.registry(namespace, name);
        (namespace, name, registry.is_some()).hash(&mut hasher);
        if let Some(registry) = registry {
            (registry.uid(), registry.metadata.generation).hash(&mut hasher);
            let conditions = registry.status.iter().flat_map(|status| &status.conditions);
            for condition in conditions.filter(|c| c.type_ == condition_type::READY) {
                (&condition.status, &condition.reason).hash(&mut hasher);
            }
        }
    }
    let mut policies: Vec<_> = context.stores.policies.state();
    policies.retain(|policy| destinations.iter().any(|d| policy.namespace().as_deref() == Some(&d.namespace)));
    let mut versions: Vec<_> = policies.iter().map(|policy| (policy.uid(), policy.metadata.generation)).collect();
    versions.sort();
    versions.hash(&mut hasher);
    context.claims(|claims| claims.releases()).hash(&mut hasher);
    hasher.finish()
}

fn error_policy(_object: Arc<ReplicationConfiguration>, error: &CallError, _context: Arc<Context>) -> Action {
    tracing::warn!(%error, "failed to write the status of a configuration");
    Action::requeue(RETRY)
}

/// Watches can lose an event; a reconcile that finds nothing writes nothing.
const SAFETY_REQUEUE: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(3);
