//! Reconciles a ReplicationConfiguration: gives orders to the running one, and publishes its reports.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::controller::{Action, Config};
use kube::runtime::{Controller, reflector::ObjectRef};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::Context;
use crate::api::{REPLICATE_REQUESTED_AT, Registry, ReplicationConfiguration};
use crate::cluster::{CallError, names_public_keys, patch_status, with_public_keys};
use crate::plan::{
    APPROVE_DELETIONS, ByRegistry, Claimant, Configuration, ConfigurationReport, NamespacedName, Problem, SpecError,
    Standing, configuration_interval, configuration_status,
};
use crate::policy::{PermissionRequest, Policy, is_introduced};
use crate::registry::canonical_host;
use crate::replication::machine::{Orders, RegistryIdentity};
use crate::terms::{
    Action as PermittedAction, Execution, ExecutionMode, ReplicationConfigurationSpec, condition_type, reason,
};

/// Runs the controller until the operator ends.
pub(crate) async fn run(
    controller: Controller<ReplicationConfiguration>,
    wakes: mpsc::UnboundedReceiver<ObjectRef<ReplicationConfiguration>>,
    context: Arc<Context>,
) {
    let results = controller
        .with_config(Config::default().concurrency(context.settings.reconciles))
        .reconcile_on(UnboundedReceiverStream::new(wakes))
        .graceful_shutdown_on(context.shutdown.clone().cancelled_owned())
        .run(reconcile, error_policy, context.clone());
    let deleted = |namespace: &str, name: &str| {
        let configuration = NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() };
        context.dependents.lock().forget(&configuration);
        context.end(&configuration);
    };
    context.errors.follow(results, deleted).await;
}

async fn reconcile(object: Arc<ReplicationConfiguration>, context: Arc<Context>) -> Result<Action, CallError> {
    let _running = context.metrics.reconciling("ReplicationConfiguration");
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    if !context.view.acts_on(&namespace) {
        return Ok(Action::await_change());
    }
    // Recorded before anything is read: a change that comes meanwhile is not missed.
    let is_replaced = context.dependents.lock().record(&object);
    let configuration = NamespacedName { namespace: namespace.clone(), name: name.clone() };
    if is_replaced {
        context.end(&configuration);
    }
    context.drop_stored(&configuration);
    if !context.has_begun() {
        return Ok(Action::await_change());
    }
    let reads_keys = names_public_keys(&object.spec);
    let spec = with_public_keys(&context.view.client, &namespace, &object.spec).await;
    let unread = match spec {
        Ok(spec) => {
            let (taking, of) = (context.clone(), object.clone());
            context.configurations.order(orders(&object, spec, &name, &context), move || taking.take_stored(&of));
            None
        }
        // The last orders stay while the API server does not answer: the spec is not invalid for that.
        Err(error) => {
            tracing::warn!(namespace, name, %error, "the public keys of a configuration are not read");
            Some(error.to_string())
        }
    };
    let uid = object.uid().unwrap_or_default();
    let report = context.statuses.report_of(&namespace, &name, &uid);
    if let Some(report) = report.or_else(|| first_report(&object, unread)) {
        publish(&object, &namespace, &report, &context).await?;
    }
    let number = context.view.stores.configurations.len();
    Ok(Action::requeue(if reads_keys { REREAD_KEYS } else { configuration_interval(number) }))
}

/// Returns the report of a configuration that was never ordered, as its public keys are `unread`. One that an earlier
/// process has reported about keeps its status.
fn first_report(object: &ReplicationConfiguration, unread: Option<String>) -> Option<ConfigurationReport> {
    let is_observed = object.status.as_ref().is_some_and(|status| status.is_observed());
    let problem = Problem { stalled: false, reason: reason::UNREACHABLE, message: unread.filter(|_| !is_observed)? };
    let generation = object.metadata.generation;
    Some(ConfigurationReport { generation, problem: Some(problem), ..ConfigurationReport::default() })
}

fn orders(
    object: &ReplicationConfiguration,
    spec: Result<ReplicationConfigurationSpec, SpecError>,
    name: &str,
    context: &Context,
) -> Orders {
    let namespace = &object.namespace().unwrap_or_default();
    // The spec here is an earlier one if the present one cannot be decoded.
    let parsed = match context.undecodable.message::<ReplicationConfiguration>(object.meta()) {
        Some(message) => Err(SpecError { reason: reason::INVALID_SPEC, message }),
        None => {
            let key = NamespacedName { namespace: namespace.clone(), name: name.to_owned() };
            spec.and_then(|spec| context.specs.parse(&key, &spec))
        }
    };
    let parsed = parsed.and_then(|configuration| executable(context, &configuration).map(|()| configuration));
    let class = parsed.as_ref().ok().and_then(|configuration| class(context, configuration));
    let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let policies = parsed.as_ref().map(|configuration| policies(configuration, context)).unwrap_or_default();
    let hidden = parsed.as_ref().map(|configuration| hidden(configuration, name, &policies)).unwrap_or_default();
    let named = parsed.as_ref().map(|configuration| named_registries(configuration, &hidden, context));
    let named = named.unwrap_or_default();
    Orders {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        holder: Claimant { created, uid: object.uid().unwrap_or_default() },
        generation: object.metadata.generation,
        request: object.annotations().get(REPLICATE_REQUESTED_AT).cloned(),
        registries: identities(&named, &hidden),
        dependencies: dependencies(&named, &policies, context),
        stalled_registries: stalled_registries(&named, namespace),
        standings: named
            .iter()
            .map(|(reference, registry)| (reference.clone(), context.view.standing(registry)))
            .filter(|(_, standing)| *standing != Standing::Accepted)
            .collect(),
        policies: Arc::new(policies.specs),
        slots: if class.is_some() { SLOTS_OF_JOBS } else { SLOTS },
        class,
        once: None,
        is_dry: false,
        deletes: true,
        approved_deletions: object.annotations().get(APPROVE_DELETIONS).cloned(),
        configuration: parsed,
    }
}

/// Returns the Registries that the configuration names and that exist, but for hidden ones.
fn named_registries(
    configuration: &Configuration,
    hidden: &BTreeSet<NamespacedName>,
    context: &Context,
) -> BTreeMap<NamespacedName, Arc<Registry>> {
    let source = NamespacedName { namespace: configuration.namespace.clone(), name: configuration.source.clone() };
    let destinations = configuration.selection.destinations().into_iter().cloned();
    let named = std::iter::once(source).chain(destinations).filter(|reference| !hidden.contains(reference));
    named
        .filter_map(|reference| Some((reference.clone(), context.view.object(&reference.namespace, &reference.name)?)))
        .collect()
}

/// Returns the destinations whose owners consent to nothing: the configuration may not learn if they exist.
fn hidden(configuration: &Configuration, name: &str, policies: &DestinationPolicies) -> BTreeSet<NamespacedName> {
    let is_hidden = |destination: &&NamespacedName| {
        let request = PermissionRequest {
            namespace: &configuration.namespace,
            configuration: name,
            action: PermittedAction::ReplicateImage,
            registry_namespace: &destination.namespace,
            registry: &destination.name,
            repository: "",
        };
        !is_introduced(&request, policies.specs.get(&destination.namespace).map_or(&[], Vec::as_slice))
    };
    configuration.selection.destinations().into_iter().filter(is_hidden).cloned().collect()
}

fn identities(
    named: &BTreeMap<NamespacedName, Arc<Registry>>,
    hidden: &BTreeSet<NamespacedName>,
) -> ByRegistry<RegistryIdentity> {
    let known = named.iter().filter_map(|(reference, registry)| {
        let host = canonical_host(&registry.spec.url.parse().ok()?);
        Some((reference.clone(), RegistryIdentity { uid: registry.uid()?, host }))
    });
    let unknown = hidden.iter().map(|reference| (reference.clone(), RegistryIdentity::hidden(reference)));
    let mut identities = ByRegistry::with_capacity(named.len() + hidden.len());
    identities.extend(known.chain(unknown));
    identities
}

/// Returns the Registries that a person has to correct, with the cause. That of another namespace is for its owner to
/// read.
fn stalled_registries(
    named: &BTreeMap<NamespacedName, Arc<Registry>>,
    namespace: &str,
) -> BTreeMap<NamespacedName, String> {
    let stalled = named.iter().filter_map(|(reference, registry)| {
        let conditions = &registry.status.as_ref()?.conditions;
        let cause = conditions.iter().find(|c| c.type_ == condition_type::STALLED && c.status == "True")?;
        let message = if reference.namespace == namespace { cause.message.as_str() } else { "it is not ready" };
        Some((reference.clone(), message.to_owned()))
    });
    stalled.collect()
}

/// The policies of the namespaces of a configuration's destinations, as last watched.
#[derive(Default)]
struct DestinationPolicies {
    specs: BTreeMap<String, Vec<Policy>>,
    /// Their uids and generations, sorted.
    versions: Vec<(Option<String>, Option<i64>)>,
}

fn policies(configuration: &Configuration, context: &Context) -> DestinationPolicies {
    let destinations = configuration.selection.destinations();
    let namespaces: BTreeSet<&str> = destinations.iter().map(|reference| reference.namespace.as_str()).collect();
    let mut watched = DestinationPolicies::default();
    for namespace in namespaces {
        for policy in context.view.stores.policy_index.of(namespace) {
            watched.versions.push((policy.uid(), policy.metadata.generation));
            let known = Policy { name: policy.name_any(), spec: Some(policy.spec.0.clone()) };
            watched.specs.entry(namespace.to_owned()).or_default().push(known);
        }
    }
    watched.versions.sort();
    watched
}

/// Returns the class of the Jobs that copy; `None` if this process copies.
fn class(context: &Context, configuration: &Configuration) -> Option<String> {
    let Execution { mode, class } = &configuration.execution;
    let mode = mode.unwrap_or(context.settings.default_execution);
    (mode == ExecutionMode::Job).then(|| class.clone())
}

/// Checks that this operator can execute a configuration in the mode and class that it sets.
fn executable(context: &Context, configuration: &Configuration) -> Result<(), SpecError> {
    let Execution { mode, class } = &configuration.execution;
    if mode.unwrap_or(context.settings.default_execution) == ExecutionMode::InProcess {
        return Ok(());
    }
    if !context.settings.has_jobs {
        let message = "this operator is not set up to start Jobs: set spec.execution.mode to InProcess, or have it started with \
                       --worker-image and --channel-url";
        return Err(SpecError { reason: reason::JOBS_UNAVAILABLE, message: message.to_owned() });
    }
    if context.classes.get(class, &configuration.namespace).is_none() {
        let message = format!(
            "spec.execution.class {class} does not exist, or this namespace may not use it: ask the operator's administrator"
        );
        return Err(SpecError { reason: reason::EXECUTION_CLASS_NOT_ALLOWED, message });
    }
    Ok(())
}

async fn publish(
    object: &ReplicationConfiguration,
    namespace: &str,
    report: &ConfigurationReport,
    context: &Context,
) -> Result<(), CallError> {
    let previous = object.status.clone().unwrap_or_default();
    let status = configuration_status(namespace, report, &previous, Timestamp::now());
    if status == previous {
        return Ok(());
    }
    let api: Api<ReplicationConfiguration> = Api::namespaced(context.view.client.clone(), namespace);
    patch_status(&api, &object.name_any(), &status).await?;
    context.metrics.status_writes.inc();
    context.events.publish(object, "Replicate", &previous.conditions, &status.conditions).await;
    Ok(())
}

/// Returns a fingerprint of the dependencies of a configuration: its Registries with their readiness, the policies of
/// its destinations, and the claims that were released or taken.
fn dependencies(
    named: &BTreeMap<NamespacedName, Arc<Registry>>,
    policies: &DestinationPolicies,
    context: &Context,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (reference, registry) in named {
        (&reference.namespace, &reference.name, registry.uid(), registry.metadata.generation).hash(&mut hasher);
        let conditions = registry.status.iter().flat_map(|status| &status.conditions);
        for condition in conditions.filter(|c| c.type_ == condition_type::READY) {
            (&condition.status, &condition.reason).hash(&mut hasher);
        }
    }
    policies.versions.hash(&mut hasher);
    context.claims.lock().changes().hash(&mut hasher);
    hasher.finish()
}

fn error_policy(object: Arc<ReplicationConfiguration>, _error: &CallError, context: Arc<Context>) -> Action {
    context.errors.back_off(&*object)
}

/// The interval at which Secrets with public keys are read again, also after they were missing.
const REREAD_KEYS: Duration = Duration::from_secs(15);
/// Images of one configuration that are copied at once.
const SLOTS: usize = 8;
/// More than the slots of a worker, so that it always has a next image.
const SLOTS_OF_JOBS: usize = 64;
