//! Wires the operator together: watches, controllers, servers, and the order in which they start and end.

mod last_start;
mod leading;
mod worker_problems;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use kube::runtime::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::last_start::last_start;
use self::leading::{Leading, lost};
use self::worker_problems::pass_on;
use crate::admin::{self, Readiness};
use crate::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration};
use crate::channel::{self, CertificateAuthorities, Endpoint};
use crate::cluster::{
    ClusterAddresses, CopyJobs, Events, ExecutionClasses, LeaseLost, PolicyIndex, Statuses, Stores, Undecodable, View,
    WatchErrors, beating_client, channel_authorities, watched,
};
use crate::config::{JobFlags, OperatorFlags};
use crate::controllers::{
    Context, ParsedSpecs, Settings, adopt_statuses, run_configurations, run_policies, run_registries, run_statuses,
};
use crate::copy::Engine;
use crate::execution::{ByClass, Dispatcher, InProcess, JobControl, Slots, adopt_jobs, run_jobs};
use crate::heartbeats::Heartbeats;
use crate::listener;
use crate::locked::Locked;
use crate::metrics::Metrics;
use crate::notify;
use crate::plan::{FairLimits, HostBindings};
use crate::replication::{Clock, Configurations, Core, FairSlots, SharedClaims, Sweeps, comparison_slots};

/// Runs the operator until a signal ends it.
///
/// # Errors
/// If no API server is configured, a flag names a malformed file, or a port cannot be opened.
pub async fn run(flags: OperatorFlags) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(CONNECT_DEADLINE);
    let egress = flags.egress.policy();
    let api_server = config.cluster_url.host().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let fixed: BTreeSet<IpAddr> = flags.pod_ips.iter().copied().chain(api_server).collect();
    let heartbeats = Heartbeats::default();
    let client = beating_client(config, &heartbeats)?;
    let shutdown = CancellationToken::new();
    let undecodable = Arc::new(Undecodable::default());
    let Watches { registries, policies, configurations, stores } = Watches::new(&client, &undecodable);
    let (checks, registry_checks) = mpsc::channel(CHECKS);
    let namespaces = flags.watch_namespace.iter().cloned().collect();
    let refused = egress.refused.clone();
    let hosts = HostBindings::new(flags.bind_host.clone());
    let view = Arc::new(View::new(client.clone(), stores, namespaces, Arc::new(egress), hosts, checks));
    let (leading, mut election) = Leading::new(&client, &flags)?;
    let Parts { context, dispatcher, jobs, queues, wakes, claim_wakes } =
        Parts::new(&flags, view, undecodable, &heartbeats, &shutdown, leading.elected.clone())?;
    let own = flags.jobs.namespace.clone();
    let addresses = Arc::new(ClusterAddresses::new(client, own, fixed, refused, context.errors.clone()));

    let readiness = Readiness::waiting_for(&[ADDRESSES, REGISTRIES, POLICIES, CONFIGURATIONS, STATUSES, JOBS]);
    let mut tasks = JoinSet::new();
    let receiver = notify::Receiver {
        access: context.view.clone(),
        configurations: context.configurations.clone(),
        metrics: context.metrics.clone(),
    };
    let admin = admin::routes(context.metrics.clone(), readiness.clone(), heartbeats.clone());
    tasks.spawn(listener::serve(open(flags.admin_address).await?, None, admin, shutdown.clone()));
    let notifications = open(flags.notify_address).await?;
    tasks.spawn(serve_notifications(notifications, notify::routes(receiver), leading.clone(), shutdown.clone()));
    tasks.spawn(follow(addresses.clone()));
    tasks.spawn(report_undecodable(context.clone()));
    tasks.spawn(check_registries(addresses.clone(), registries, registry_checks, context.clone()));
    tasks.spawn(run_policies(policies, context.clone()));
    tasks.spawn(run_configurations(configurations, wakes, context.clone()));
    tasks.spawn(beat(heartbeats.clone(), queues));
    tasks.spawn(pass_on(context.clone(), dispatcher.clone(), claim_wakes, heartbeats));
    if let Some(control) = &jobs {
        let channel = open(flags.jobs.channel_address).await?;
        tasks.spawn(serve_channel(channel, control.clone(), flags.jobs.clone(), leading.clone()));
    }
    tasks.spawn(start(context.clone(), addresses, dispatcher, jobs, readiness, leading));
    tokio::select! {
        () = end(tasks, &context) => {}
        // Whatever is under way is dropped with the process: another replica may lead soon.
        LeaseLost = lost(&mut election) => return Err("the Lease was lost: another replica may lead".into()),
    }
    if let Some(mut election) = election {
        election.give_up().await;
    }
    Ok(())
}

/// Queues by their names: each is to stand still no longer than a moment.
type Queues = [(&'static str, FairSlots); 3];

/// The watches of the operator's own kinds.
struct Watches {
    registries: Controller<Registry>,
    policies: Controller<RegistryPermissionPolicy>,
    configurations: Controller<ReplicationConfiguration>,
    stores: Stores,
}

impl Watches {
    fn new(client: &Client, undecodable: &Arc<Undecodable>) -> Self {
        let policy_index = Arc::new(PolicyIndex::default());
        let index = policy_index.clone();
        let policies = watched(client, undecodable, move |event| index.take(event));
        let (registries, configurations) = (watched(client, undecodable, |_| ()), watched(client, undecodable, |_| ()));
        let stores = Stores {
            registries: registries.store(),
            policies: policies.store(),
            policy_index,
            configurations: configurations.store(),
        };
        Self { registries, policies, configurations, stores }
    }
}

/// Waits for a signal, and ends everything in good order.
async fn end(mut tasks: JoinSet<()>, context: &Context) {
    ended(&mut tasks).await;
    tracing::info!("ending");
    context.shutdown.cancel();
    context.configurations.ended(DRAIN).await;
    tasks.shutdown().await;
}

/// The parts of the operator, in the order in which they are built on each other.
struct Parts {
    context: Arc<Context>,
    dispatcher: Arc<Dispatcher>,
    jobs: Option<Arc<JobControl>>,
    queues: Queues,
    wakes: mpsc::UnboundedReceiver<ObjectRef<ReplicationConfiguration>>,
    claim_wakes: mpsc::UnboundedReceiver<Vec<String>>,
}

impl Parts {
    fn new(
        flags: &OperatorFlags,
        view: Arc<View>,
        undecodable: Arc<Undecodable>,
        heartbeats: &Heartbeats,
        shutdown: &CancellationToken,
        elected: CancellationToken,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let classes = flags.jobs.execution_classes.as_deref().map(ExecutionClasses::read).transpose()?;
        let (metrics, claims, specs, clock, engine) =
            <(Arc<Metrics>, SharedClaims, ParsedSpecs, Clock, Engine)>::default();
        let dispatcher = Arc::new(Dispatcher::new(view.clone()));
        let ((waker, wakes), (claim_waker, claim_wakes)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let statuses = Arc::new(Statuses::new(view.client.clone(), flags.envelope.limits(), waker.clone()));
        let in_process = InProcess {
            access: view.clone(),
            engine: engine.clone(),
            claims: claims.clone(),
            clock: clock.clone(),
            slots: Slots::new(usize::from(flags.copies)),
            metrics: metrics.clone(),
            grants: Some(dispatcher.clone()),
            listener: None,
        };
        let queues @ [_, (_, comparisons), (_, checks)] = &queues(in_process.slots.queue());
        let core = Core {
            access: view.clone(),
            store: statuses.clone(),
            executor: Arc::new(ByClass { in_process, dispatcher: dispatcher.clone() }),
            engine,
            claims: claims.clone(),
            comparisons: comparisons.clone(),
            sweeps: Sweeps::default(),
            clock,
            metrics: metrics.clone(),
            wakes: claim_waker,
        };
        let context = Context {
            settings: settings(flags),
            events: Events::new(view.client.clone()),
            view,
            statuses,
            classes: Arc::new(classes.unwrap_or_default()),
            dependents: Locked::default(),
            checks: checks.clone(),
            specs,
            configurations: Arc::new(Configurations::new(Arc::new(core), shutdown.clone())),
            claims,
            errors: Arc::new(WatchErrors::new(metrics.clone())),
            metrics,
            undecodable,
            shutdown: shutdown.clone(),
            wakes: waker,
            stored: Locked::default(),
            elected,
            begun: OnceLock::new(),
        };
        let jobs = job_control(flags, &context, &dispatcher, heartbeats);
        Ok(Self { context: Arc::new(context), dispatcher, jobs, queues: queues.clone(), wakes, claim_wakes })
    }
}

fn queues(copies: FairSlots) -> Queues {
    let checks = FairSlots::new(FairLimits { shared: CHECKS_AT_ONCE, reserved: CHECKS_AT_ONCE });
    [("queue of copies", copies), ("queue of comparisons", comparison_slots()), ("queue of checks", checks)]
}

fn settings(flags: &OperatorFlags) -> Settings {
    Settings {
        reconciles: RECONCILES,
        default_execution: flags.default_execution,
        has_jobs: flags.jobs.worker_image.is_some(),
    }
}

/// Returns the control of Jobs; `None` if the operator is not set up to start any.
fn job_control(
    flags: &OperatorFlags,
    context: &Context,
    dispatcher: &Arc<Dispatcher>,
    heartbeats: &Heartbeats,
) -> Option<Arc<JobControl>> {
    let (client, settings) = (context.view.client.clone(), flags.job_settings()?);
    Some(Arc::new(JobControl {
        jobs: CopyJobs::new(client.clone(), settings),
        client,
        dispatcher: dispatcher.clone(),
        classes: context.classes.clone(),
        authorities: watch::Sender::default(),
        heartbeats: heartbeats.clone(),
        errors: context.errors.clone(),
        metrics: context.metrics.clone(),
        shutdown: context.shutdown.clone(),
    }))
}

async fn beat(heartbeats: Heartbeats, queues: Queues) {
    loop {
        heartbeats.beat("runtime");
        let well = queues.iter().filter(|(_, slots)| !slots.stand_still());
        well.for_each(|(queue, _)| heartbeats.beat(queue));
        tokio::time::sleep(BEAT_EVERY).await;
    }
}

async fn report_undecodable(context: Arc<Context>) {
    context.elected.cancelled().await;
    context.undecodable.report(&context.view.client, |namespace| context.view.acts_on(namespace)).await;
}

async fn follow(addresses: Arc<ClusterAddresses>) {
    Box::pin(addresses.follow()).await;
}

/// Runs the controller of Registries once the addresses are known that no registry may have.
async fn check_registries(
    addresses: Arc<ClusterAddresses>,
    registries: Controller<Registry>,
    checks: mpsc::Receiver<ObjectRef<Registry>>,
    context: Arc<Context>,
) {
    addresses.known().await;
    run_registries(registries, checks, context).await;
}

/// Waits for the first list of every watched kind and until this replica leads, adopts the state of an earlier process,
/// and lets configurations start.
async fn start(
    context: Arc<Context>,
    addresses: Arc<ClusterAddresses>,
    dispatcher: Arc<Dispatcher>,
    jobs: Option<Arc<JobControl>>,
    readiness: Readiness,
    leading: Leading,
) {
    addresses.known().await;
    readiness.reached(ADDRESSES);
    let stores = &context.view.stores;
    known(&stores.registries, REGISTRIES, &readiness).await;
    known(&stores.policies, POLICIES, &readiness).await;
    known(&stores.configurations, CONFIGURATIONS, &readiness).await;
    if !leading.is_decided().await {
        // A replica that passes calls on is ready.
        readiness.reached(STATUSES);
        readiness.reached(JOBS);
    }
    context.elected.cancelled().await;
    context.metrics.leader.set(1);
    while let Err(error) = adopt_statuses(&context).await {
        tracing::warn!(%error, "the statuses cannot be listed yet");
        tokio::time::sleep(RETRY).await;
    }
    readiness.reached(STATUSES);
    let is_processed = |object: &Arc<ReplicationConfiguration>| {
        object.status.as_ref().is_some_and(|status| status.is_observed())
            && context.view.acts_on(&object.namespace().unwrap_or_default())
    };
    let former = leading.former();
    if context.view.stores.configurations.state().iter().any(is_processed) {
        dispatcher.hold_back(former.acts_until);
    }
    while let Some(jobs) = &jobs
        && let Err(error) = adopt_jobs(jobs, former.grants_until).await
    {
        tracing::warn!(%error, "the copy Jobs cannot be listed yet");
        tokio::time::sleep(RETRY).await;
    }
    readiness.reached(JOBS);
    context.begin(former.acts_until);
    tracing::info!("ready");
    let all_start = last_start(context.clone());
    match jobs {
        Some(jobs) => drop(tokio::join!(all_start, run_jobs(jobs), run_statuses(context))),
        None => drop(tokio::join!(all_start, run_statuses(context))),
    }
}

async fn known<K>(store: &Store<K>, name: &'static str, readiness: &Readiness)
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    // The controller waits for the same store; of two waiters kube wakes only the last one, so this one polls.
    while tokio::time::timeout(POLL_STORE_EVERY, store.wait_until_ready()).await.is_err() {}
    readiness.reached(name);
}

async fn open(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("failed to listen on {address}: {error}"))
}

/// Passes notifications on to the leader, until this replica is it.
async fn serve_notifications(listener: TcpListener, routes: Router, leading: Leading, shutdown: CancellationToken) {
    leading.pass_on(&listener, |leader| leader.notify).await;
    listener::serve(listener, None, routes, shutdown).await;
}

/// Serves the workers' channel until the operator ends, once this replica leads.
async fn serve_channel(listener: TcpListener, control: Arc<JobControl>, flags: JobFlags, leading: Leading) {
    leading.pass_on(&listener, |leader| leader.channel).await;
    let host = flags.channel_url.as_ref().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
    let (routes, shutdown) = (channel::routes(control.dispatcher.clone()), control.shutdown.clone());
    let endpoint = Endpoint { listener, host };
    channel::serve_and_renew(endpoint, routes, || read_authorities(&control), &control.authorities, shutdown).await;
}

/// Returns the authorities of the channel, and makes them first where they are absent or due.
async fn read_authorities(control: &JobControl) -> CertificateAuthorities {
    loop {
        match channel_authorities(&control.client, &control.jobs, Timestamp::now()).await {
            Ok(authorities) => return authorities,
            Err(error) => tracing::error!(%error, "the workers' channel waits for its authorities"),
        }
        tokio::time::sleep(AUTHORITIES_RETRY).await;
    }
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

const ADDRESSES: &str = "addresses of the cluster";
const REGISTRIES: &str = "registries";
const POLICIES: &str = "registrypermissionpolicies";
const CONFIGURATIONS: &str = "replicationconfigurations";
const STATUSES: &str = "replicationstatuses";
const JOBS: &str = "jobs";
const BEAT_EVERY: Duration = Duration::from_secs(1);
const RECONCILES: u16 = 16;
const CHECKS: usize = 1024;
const CHECKS_AT_ONCE: usize = 16;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(10);
const POLL_STORE_EVERY: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(2);
const AUTHORITIES_RETRY: Duration = Duration::from_secs(5);
