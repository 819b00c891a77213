//! Wires the operator together: watches, controllers, servers, and the order in which they start and end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::cluster::{CopyJobs, ExecutionClasses};
use crate::config::OperatorFlags;
use crate::controllers::{
    Context, Settings, Stores, adopt_statuses, adopt_workers, run_configurations, run_policies, run_registries,
    run_statuses, run_workers,
};
use crate::metrics::Metrics;
use crate::notify;
use crate::workers_channel;

/// Runs the operator until it is told to end.
///
/// # Errors
/// When the API server cannot be found, or a port cannot be opened.
pub async fn run(flags: OperatorFlags) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(CONNECT_DEADLINE);
    let mut egress = flags.egress.policy();
    let api_server = config.cluster_url.host().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    // A loopback API server is refused as all of loopback is, unless its port is listed.
    egress.refused.extend(api_server.filter(|address| !address.is_loopback()));
    let client = Client::try_from(config)?;
    let shutdown = CancellationToken::new();
    let (registries, policies, configurations) = (watched(&client), watched(&client), watched(&client));
    let stores =
        Stores { registries: registries.store(), policies: policies.store(), configurations: configurations.store() };
    let settings = Settings {
        namespaces: flags.watch_namespace.iter().cloned().collect(),
        copies: usize::from(flags.copies),
        reconciles: RECONCILES,
        default_execution: flags.default_execution,
        has_jobs: flags.jobs.worker_image.is_some(),
    };
    let classes =
        flags.jobs.execution_classes.as_deref().map_or_else(|| Ok(Default::default()), ExecutionClasses::read)?;
    let (context, wakes) = Context::new(
        client.clone(),
        settings,
        classes,
        stores.clone(),
        Arc::new(egress),
        Metrics::default(),
        shutdown.clone(),
    );
    let jobs = flags.job_settings().map(|settings| Arc::new(CopyJobs::new(client, settings)));

    let readiness = Readiness::waiting_for(&[REGISTRIES, POLICIES, CONFIGURATIONS, STATUSES, JOBS]);
    let mut tasks = JoinSet::new();
    serve(&mut tasks, flags.admin_address, admin::routes(context.clone(), readiness.clone()), &shutdown).await?;
    serve(&mut tasks, flags.notify_address, notify::routes(context.clone()), &shutdown).await?;
    tasks.spawn(run_registries(registries, wakes.registries, context.clone()));
    tasks.spawn(run_policies(policies, context.clone()));
    tasks.spawn(run_configurations(configurations, wakes.configurations, context.clone()));
    if let Some(jobs) = &jobs {
        tasks.spawn(workers_channel::run(context.clone(), jobs.clone(), flags.jobs.clone()));
    }
    tasks.spawn(start(context.clone(), stores, jobs, readiness));
    ended(&mut tasks).await;
    tracing::info!("ending");
    shutdown.cancel();
    context.replicators.ended(DRAIN).await;
    tasks.shutdown().await;
    Ok(())
}

/// A controller that also reconciles objects that were deleted: it then finds them gone.
fn watched<K>(client: &Client) -> Controller<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = kube::runtime::reflector::store();
    let guarded: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = watcher::watcher(guarded, watcher::Config::default()).default_backoff();
    let events = events.filter_map(async |event| event.map(decoded).transpose());
    Controller::for_stream(Box::pin(events).reflect(writer).touched_objects(), store)
}

/// Leaves out an object that cannot be decoded, with a warning: one bad object never stops another.
fn decoded<K: kube::Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let object = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let (kind, name) = (K::kind(&()), invalid.metadata.name.unwrap_or_default());
            let namespace = invalid.metadata.namespace.unwrap_or_default();
            tracing::warn!(%kind, %namespace, %name, error = %invalid.error, "an object is left out: it cannot be decoded");
            None
        }
    };
    match event {
        Event::Apply(guard) => object(guard).map(Event::Apply),
        Event::Delete(guard) => object(guard).map(Event::Delete),
        Event::Init => Some(Event::Init),
        Event::InitApply(guard) => object(guard).map(Event::InitApply),
        Event::InitDone => Some(Event::InitDone),
    }
}

/// Waits until the watched kinds are known, takes up what an earlier process left, and lets configurations start.
async fn start(context: Arc<Context>, stores: Stores, jobs: Option<Arc<CopyJobs>>, readiness: Readiness) {
    known(&stores.registries, REGISTRIES, &readiness).await;
    known(&stores.policies, POLICIES, &readiness).await;
    known(&stores.configurations, CONFIGURATIONS, &readiness).await;
    while let Err(error) = adopt_statuses(&context).await {
        tracing::warn!(%error, "the statuses cannot be listed yet");
        tokio::time::sleep(RETRY).await;
    }
    readiness.reached(STATUSES);
    while let Some(jobs) = &jobs
        && let Err(error) = adopt_workers(&context, jobs).await
    {
        tracing::warn!(%error, "the copy Jobs cannot be listed yet");
        tokio::time::sleep(RETRY).await;
    }
    readiness.reached(JOBS);
    context.begin().await;
    tracing::info!("ready");
    match jobs {
        Some(jobs) => drop(tokio::join!(run_workers(context.clone(), jobs), run_statuses(context))),
        None => run_statuses(context).await,
    }
}

async fn known<K>(store: &Store<K>, name: &'static str, readiness: &Readiness)
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    // The controller waits for the same store; of two waiters kube wakes only the one that asked last, so we ask again.
    while tokio::time::timeout(ASK_AGAIN, store.wait_until_ready()).await.is_err() {}
    readiness.reached(name);
}

async fn serve(
    tasks: &mut JoinSet<()>,
    address: std::net::SocketAddr,
    routes: axum::Router,
    shutdown: &CancellationToken,
) -> Result<(), Box<dyn std::error::Error>> {
    let listener =
        TcpListener::bind(address).await.map_err(|error| format!("failed to listen on {address}: {error}"))?;
    let end = shutdown.clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(end).await {
            tracing::error!(%error, "a server ended");
        }
    });
    Ok(())
}

/// Waits for a signal to end; a task that ends by itself ends the operator too, so that it is started anew.
async fn ended(tasks: &mut JoinSet<()>) {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return tracing::error!(%error, "signals cannot be waited for"),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        ended = tasks.join_next() => tracing::error!(?ended, "a task ended that should not"),
    }
}

const REGISTRIES: &str = "registries";
const POLICIES: &str = "registrypermissionpolicies";
const CONFIGURATIONS: &str = "replicationconfigurations";
const STATUSES: &str = "replicationstatuses";
const JOBS: &str = "jobs";
const RECONCILES: u16 = 16;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Registry;

    #[test]
    fn an_object_that_cannot_be_decoded_is_left_out_and_the_next_one_is_not() {
        let event = |url: serde_json::Value| {
            let object = serde_json::json!({"apiVersion": "transship.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": "r", "namespace": "n"}, "spec": {"url": url}});
            Event::InitApply(serde_json::from_value::<DeserializeGuard<Registry>>(object).unwrap())
        };
        assert!(decoded(event(7.into())).is_none());
        assert!(matches!(decoded(event("https://r".into())), Some(Event::InitApply(_))));
    }
}
