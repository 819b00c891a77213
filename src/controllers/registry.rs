//! Reconciles a Registry: its conditions state whether it responds and accepts the credentials.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::controller::{Action, Config};
use kube::runtime::{Controller, reflector::ObjectRef};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Context;
use crate::api::Registry;
use crate::cluster::{CallError, View, patch_status, reason_of};
use crate::metrics::Queue;
use crate::plan::{
    Health, NamespacedName, ShareOwner, quota_to_publish, references_interval, registry_interval, registry_status,
};
use crate::registry::{ErrorKind, canonical_host};
use crate::replication::{FairSlot, Unusable};
use crate::terms::{condition_type, reason};

/// Runs the controller until the operator ends.
pub(crate) async fn run(
    controller: Controller<Registry>,
    checks: mpsc::Receiver<ObjectRef<Registry>>,
    context: Arc<Context>,
) {
    let results = controller
        // Every reconcile waits for its turn: one whose Registry hangs keeps no other from beginning.
        .with_config(Config::default().concurrency(UNBOUNDED))
        .reconcile_on(ReceiverStream::new(checks))
        .reconcile_all_on(context.leading())
        .graceful_shutdown_on(context.shutdown.clone().cancelled_owned())
        .run(reconcile, error_policy, context.clone());
    let deleted = |namespace: &str, name: &str| {
        let registry = NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() };
        context.view.forget_registry(&registry);
        context.metrics.forget_registry(namespace, name);
        // Configurations that refer to it have a problem now.
        context.wake_users(&registry);
    };
    context.errors.follow(results, deleted).await;
}

async fn reconcile(registry: Arc<Registry>, context: Arc<Context>) -> Result<Action, CallError> {
    let _running = context.metrics.reconciling("Registry");
    let namespace = registry.namespace().unwrap_or_default();
    if !context.view.acts_on(&namespace) || context.undecodable.message::<Registry>(registry.meta()).is_some() {
        return Ok(Action::await_change());
    }
    let name = NamespacedName { namespace: namespace.clone(), name: registry.name_any() };
    let registries = || context.view.stores.registries.len();
    context.view.record_registry(&name, &registry.uid().unwrap_or_default());
    announce(&registry, &name, &context);
    if !context.elected.is_cancelled() {
        return Ok(Action::await_change());
    }
    let slot = take_turn(&context, owner(&registry, &namespace)).await;
    // It may have been changed or deleted while it waited.
    let Some(registry) = context.view.object(&namespace, &registry.name_any()) else {
        return Ok(Action::await_change());
    };
    if context.view.registries.has_passed(&registry, registry_interval(registries()))
        && context.view.registries.missing_reference(&registry).await.is_none()
    {
        return Ok(Action::requeue(recheck(&registry, registries())));
    }
    let health = check(&registry, &context.view, &slot).await;
    drop(slot);
    note_credentials(&registry, &health, &context.view);
    context.metrics.registry(&namespace, &registry.name_any(), !matches!(health, Health::Failing { .. }));
    let previous = registry.status.clone().unwrap_or_default();
    let mut status = registry_status(&previous, registry.metadata.generation, &health, Timestamp::now());
    status.quota = quota_to_publish(previous.quota, context.view.registries.quota(&registry));
    if status != previous {
        let api: Api<Registry> = Api::namespaced(context.view.client.clone(), &namespace);
        patch_status(&api, &registry.name_any(), &status).await?;
        context.events.publish(&*registry, "Check", &previous.conditions, &status.conditions).await;
    }
    announce(&registry, &name, &context);
    let is_failing = matches!(health, Health::Failing { .. });
    Ok(Action::requeue(if is_failing { RECHECK_FAILING } else { recheck(&registry, registries()) }))
}

/// Has the configurations that refer to a Registry learn its state, if that is new to them.
fn announce(registry: &Registry, name: &NamespacedName, context: &Context) {
    if context.view.is_news(registry) {
        context.wake_users(name);
    }
}

/// Waits for the turn of a check.
async fn take_turn(context: &Context, owner: ShareOwner) -> FairSlot {
    let _waits = context.metrics.waits(Queue::Checks);
    context.checks.take(owner).await
}

/// Returns the time after which a Registry that passed its check is looked at again, of so many `registries`.
fn recheck(registry: &Registry, registries: usize) -> Duration {
    let has_references = registry.spec.credentials.is_some() || registry.spec.tls.is_some();
    if has_references { references_interval(registries) } else { registry_interval(registries) }
}

fn owner(registry: &Registry, namespace: &str) -> ShareOwner {
    let host = registry.spec.url.parse().map(|url| canonical_host(&url)).unwrap_or_default();
    ShareOwner { namespace: namespace.to_owned(), host, is_urgent: false, priority: 0 }
}

/// Does `work` within [`CHECK_DEADLINE`]. A registry that does not answer at once lends its slot to others.
async fn answer<T>(work: impl Future<Output = T>, slot: &FairSlot) -> Option<T> {
    let mut work = std::pin::pin!(work);
    if let Ok(answer) = tokio::time::timeout(SLOW_AFTER, &mut work).await {
        return Some(answer);
    }
    slot.set_slow(true);
    tokio::time::timeout(CHECK_DEADLINE - SLOW_AFTER, work).await.ok()
}

/// Notes what a check says about the credentials; a registry that does not answer says nothing, nor does an API server
/// that does not answer for the Secret.
fn note_credentials(registry: &Registry, health: &Health, view: &View) {
    let uid = registry.uid().unwrap_or_default();
    match health {
        Health::Ready { .. } | Health::Odd { .. } => view.uses.check_passed(&uid),
        Health::Failing { reason: reason::REPOSITORY_TEMPLATE_UNSUPPORTED, .. } => view.uses.check_passed(&uid),
        Health::Failing { stalled: true, .. } => view.uses.credentials_refused(&uid),
        Health::Failing { .. } => view.keep_standing(registry),
    }
}

async fn check(registry: &Registry, view: &View, slot: &FairSlot) -> Health {
    let uid = registry.uid().unwrap_or_default();
    let conditions = registry.status.iter().flat_map(|status| &status.conditions);
    if !conditions.into_iter().any(|c| c.type_ == condition_type::READY && c.status == "True") {
        view.registries.read_again(&uid);
    }
    if !view.registries.reads_next(registry)
        && let Some(Unusable { reason, message }) = view.registries.missing_reference(registry).await
    {
        view.registries.read_again(&uid);
        return Health::Failing { stalled: true, reason, message };
    }
    let client = match view.registries.client(registry).await {
        Ok(client) => client,
        Err(Unusable { reason, message }) => return failing(reason, message),
    };
    match answer(client.ping(), slot).await {
        Some(Ok(())) => {
            view.uses.check_passed(&uid);
            if let Some(message) = client.unsupported_template() {
                return failing(reason::REPOSITORY_TEMPLATE_UNSUPPORTED, message);
            }
            view.registries.passed(&uid);
            Health::Ready { is_anonymous: registry.spec.credentials.is_none() }
        }
        Some(Err(error)) if view.uses.check_failed(&uid, Instant::now()) && is_odd(error.kind) => {
            view.registries.passed(&uid);
            Health::Odd { message: error.message }
        }
        Some(Err(error)) if error.kind == ErrorKind::Unauthorized => {
            view.registries.read_again(&uid);
            if view.registries.is_unanswered(&uid) {
                return failing(reason::UNREACHABLE, format!("{}; {SECRET_UNREAD}", error.message));
            }
            failing(reason_of(&error), error.message)
        }
        Some(Err(error)) => failing(reason_of(&error), error.message),
        None => {
            let message = format!("{} did not answer within {} s", client.host(), CHECK_DEADLINE.as_secs());
            failing(reason::UNREACHABLE, message)
        }
    }
}

/// Returns the health of a Registry that cannot be used. A registry or an API server that does not answer may answer
/// soon. A host that is unknown may be known again soon, and one that is kept for other namespaces reads the same.
fn failing(reason: &'static str, message: String) -> Health {
    let stalled = !matches!(reason, reason::UNREACHABLE | reason::HOST_UNKNOWN);
    Health::Failing { stalled, reason, message }
}

/// Returns true for the refusal of a request by a server that may serve others.
fn is_odd(kind: ErrorKind) -> bool {
    use ErrorKind::{Denied, InvalidContent, NotFound, Rejected, Unsupported};
    matches!(kind, Denied | InvalidContent | NotFound | Rejected | Unsupported)
}

fn error_policy(registry: Arc<Registry>, _error: &CallError, context: Arc<Context>) -> Action {
    context.errors.back_off(&*registry)
}

/// The end of the message about credentials that are refused, though the Secret may hold others by now.
const SECRET_UNREAD: &str =
    "the Secret cannot be read now, as the API server does not answer: it is read again by itself";
const UNBOUNDED: u16 = 0;
const SLOW_AFTER: Duration = Duration::from_secs(1);
const CHECK_DEADLINE: Duration = Duration::from_secs(8);
const RECHECK_FAILING: Duration = Duration::from_secs(15);
