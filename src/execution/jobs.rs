//! Controls the copy Jobs: observes Jobs and pods, decides by `plan`, starts and gives up Jobs, publishes why they
//! wait.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dispatcher::{Dispatcher, token_hash};
use crate::cluster::{
    CallError, CopyJobs, ExecutionClass, ExecutionClasses, WORKERS, WatchErrors, WorkerToken, has_ended, life_left,
    pod_has_ended, pod_trouble, served_by, watch_config,
};
use crate::heartbeats::Heartbeats;
use crate::image::hex;
use crate::metrics::Metrics;
use crate::plan::{EXTENSION, JobLimits, JobOrder, Lane, WaitingLane, WorkerDuty, WorkerView, decide_jobs};

/// Adopts the Jobs that an earlier operator process has started: workers that run go on, Jobs that are half made are
/// deleted. While workers run, nothing is granted before `grants_end`: until then they may use what they were granted.
///
/// # Errors
/// [`CallError`] if the Jobs cannot be listed or deleted.
pub(crate) async fn adopt(control: &JobControl, grants_end: Instant) -> Result<(), CallError> {
    let now = Instant::now();
    for job in control.jobs.list().await?.iter().filter(|job| !has_ended(job)) {
        let name = job.name_any();
        let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
        match served_by(job) {
            Some((lane, hash)) if !is_suspended => {
                control.dispatcher.queue().adopt_worker(&name, lane, life_left(job), now);
                control.dispatcher.admit(&hash, &name);
                control.dispatcher.hold_back(grants_end);
            }
            _ => control.jobs.delete(&name).await?,
        }
    }
    control.dispatcher.open();
    Ok(())
}

/// Controls the Jobs until the operator ends.
pub(crate) async fn run(control: Arc<JobControl>) {
    let (mut workforce, mut changed) = Workforce::new(control.clone());
    loop {
        control.heartbeats.beat(QUEUE);
        workforce.pass().await;
        control.heartbeats.rest(QUEUE);
        tokio::select! {
            () = control.shutdown.cancelled() => return,
            () = control.dispatcher.work() => {}
            _ = changed.recv() => {}
            () = tokio::time::sleep(CHECK_EVERY), if !workforce.is_quiet() => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// The parts of the operator that the control of Jobs works with.
pub(crate) struct JobControl {
    /// A client of the API server.
    pub client: Client,
    /// The copy Jobs of the operator's namespace.
    pub jobs: CopyJobs,
    /// The images for Jobs, and the workers.
    pub dispatcher: Arc<Dispatcher>,
    /// The execution classes that configurations may name.
    pub classes: Arc<ExecutionClasses>,
    /// The certificates that workers trust, in PEM; empty until they are known.
    pub authorities: watch::Sender<String>,
    /// Takes the signs of life of the queue of Jobs.
    pub heartbeats: Heartbeats,
    /// Takes the errors of the watches.
    pub errors: Arc<WatchErrors>,
    /// The counter of started Jobs.
    pub metrics: Arc<Metrics>,
    /// Ends the control of Jobs.
    pub shutdown: CancellationToken,
}

/// The Jobs and pods as observed, and their problems.
struct Workforce {
    control: Arc<JobControl>,
    limits: JobLimits,
    known_jobs: Store<Job>,
    known_pods: Store<Pod>,
    /// Jobs that the store has shown: a known Job that it does not show any more is gone.
    shown: HashSet<String>,
    /// Lanes whose Job could not be started: the cause, and the end of the pause before the next attempt.
    failed_starts: HashMap<Lane, (String, Instant)>,
    /// The reason that no pod of a Job was made, and the time of that question to the API server.
    pod_refusals: HashMap<String, (Option<String>, Instant)>,
    /// The end of a lane's last worker that never called.
    last_ends: HashMap<Lane, String>,
    quiet: bool,
}

impl Workforce {
    fn new(control: Arc<JobControl>) -> (Self, mpsc::Receiver<()>) {
        let (sender, changed) = mpsc::channel(1);
        let client = control.client.clone();
        let namespace = control.jobs.namespace().to_owned();
        let selected = || watch_config().labels(WORKERS);
        let (known_jobs, writer) = store();
        let job_events = watcher(Api::<Job>::namespaced(client.clone(), &namespace), selected()).default_backoff();
        let errors = control.errors.clone();
        let job_events = job_events.reflect(writer).map(move |event| noted::<Job>(event, &errors)).boxed();
        let (known_pods, writer) = store();
        let pod_events = watcher(Api::<Pod>::namespaced(client, &namespace), selected()).default_backoff();
        let errors = control.errors.clone();
        let pod_events = pod_events.reflect(writer).map(move |event| noted::<Pod>(event, &errors)).boxed();
        tokio::spawn(async move {
            let mut events = stream::select(job_events, pod_events);
            while events.next().await.is_some() {
                // A full channel means that a pass is on its way.
                if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                    return;
                }
            }
        });
        let limits = JobLimits::default();
        let (shown, failed_starts, pod_refusals, last_ends) = Default::default();
        let quiet = false;
        let workforce =
            Self { control, limits, known_jobs, known_pods, shown, failed_starts, pod_refusals, last_ends, quiet };
        (workforce, changed)
    }

    /// Returns true if nothing changes by the passing of time alone.
    fn is_quiet(&self) -> bool {
        self.quiet
    }

    async fn pass(&mut self) {
        let now = Instant::now();
        let ended = self.observe();
        let (waiting, workers) = self.control.dispatcher.queue().overview();
        self.failed_starts.retain(|_, (_, until)| *until > now);
        let lanes: BTreeSet<Lane> = waiting.iter().map(|waiting| waiting.lane.clone()).collect();
        let may_start = |waiting: &WaitingLane| !self.failed_starts.contains_key(&waiting.lane);
        let waiting: Vec<_> = waiting.into_iter().filter(may_start).collect();
        self.quiet = waiting.is_empty() && workers.is_empty() && self.failed_starts.is_empty();
        for order in decide_jobs(&waiting, &workers, &self.limits, now) {
            match order {
                JobOrder::Start(lane, duty) => self.start(lane, duty).await,
                JobOrder::Broaden(job) => {
                    self.control.dispatcher.queue().broaden(&job);
                    self.control.dispatcher.wake();
                }
                JobOrder::Dismiss(job) => {
                    self.control.dispatcher.queue().dismiss(&job);
                    self.control.dispatcher.wake();
                }
                JobOrder::GiveUp(job) => self.give_up(&job, ended.get(&job)).await,
                JobOrder::Extend(job) => self.extend(&job).await,
            }
        }
        self.control.dispatcher.divide_limits();
        self.delete_orphans().await;
        self.publish_problems(&lanes, now).await;
    }

    /// Notes in the queue which workers have ended. Returns the causes by Job.
    fn observe(&mut self) -> HashMap<String, String> {
        let (jobs, pods) = (self.known_jobs.state(), self.known_pods.state());
        let mut ended = HashMap::new();
        for job in &jobs {
            self.shown.insert(job.name_any());
        }
        let workers = self.control.dispatcher.queue().workers();
        for worker in workers {
            let job = jobs.iter().find(|job| job.name_any() == worker.job);
            let pod = pods.iter().find(|pod| pod.labels().get(JOB_NAME) == Some(&worker.job));
            let cause = match (job, pod) {
                (_, Some(pod)) if pod_has_ended(pod) => {
                    pod_trouble(pod).unwrap_or_else(|| "its pod was deleted".to_owned())
                }
                (Some(job), _) if has_ended(job) => "its Job ended".to_owned(),
                (None, _) if self.shown.contains(&worker.job) => "its Job was deleted".to_owned(),
                _ => continue,
            };
            self.control.dispatcher.queue().worker_ended(&worker.job);
            ended.insert(worker.job, cause);
        }
        self.shown.retain(|name| jobs.iter().any(|job| job.name_any() == *name));
        ended
    }

    async fn start(&mut self, lane: Lane, duty: WorkerDuty) {
        let Some(class) = self.control.classes.get(&lane.class, &lane.namespace).cloned() else { return };
        let name =
            format!("transship-{}-{:08x}", &lane.namespace[..lane.namespace.len().min(30)], rand::random::<u32>());
        if let Err(error) = self.make(&name, (&lane, duty), &class).await {
            let cause = error.to_string();
            tracing::warn!(job = %name, %cause, "a Job could not be started");
            self.control.dispatcher.dismiss(&name);
            self.control.dispatcher.queue().give_up(&name, &cause, Instant::now());
            self.failed_starts.insert(lane, (cause, Instant::now() + RETRY));
        } else {
            self.control.metrics.jobs.inc();
            tracing::info!(job = %name, namespace = %lane.namespace, "started");
        }
    }

    async fn make(
        &self,
        name: &str,
        (lane, duty): (&Lane, WorkerDuty),
        class: &ExecutionClass,
    ) -> Result<(), StartError> {
        let authorities = self.control.authorities.borrow().clone();
        if authorities.is_empty() {
            return Err(StartError::NoCertificate);
        }
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::NoToken)?;
        let token = hex(&bytes);
        let hash = token_hash(&token);
        let life = Duration::from_secs(class.deadline_seconds.unsigned_abs());
        self.control.dispatcher.queue().add_worker(name, lane.clone(), duty, life, Instant::now());
        self.control.dispatcher.admit(&hash, name);
        Ok(self.control.jobs.start(name, lane, class, WorkerToken { token: &token, hash: &hash }, &authorities).await?)
    }

    /// Lets a Job live longer. If that fails it is tried again with the next pass.
    async fn extend(&self, job: &str) {
        let known = self.known_jobs.state().into_iter().find(|known| known.name_any() == job);
        let Some(deadline) = known.and_then(|job| job.spec.as_ref()?.active_deadline_seconds) else { return };
        match self.control.jobs.set_deadline(job, deadline + EXTENSION.as_secs().cast_signed()).await {
            Ok(()) => self.control.dispatcher.queue().extend(job, EXTENSION),
            Err(error) => tracing::warn!(%job, %error, "a Job could not be given more time yet"),
        }
    }

    async fn give_up(&mut self, job: &str, cause: Option<&String>) {
        let silent = "it was silent, and its authority ran out".to_owned();
        let cause = cause.unwrap_or(&silent);
        let workers = self.control.dispatcher.queue().workers();
        if let Some(worker) = workers.iter().find(|worker| worker.job == job && worker.seen.is_none()) {
            self.last_ends.insert(worker.lane.clone(), format!("the pod of Job {job} ended: {cause}"));
        }
        tracing::info!(%job, %cause, "given up");
        self.control.dispatcher.dismiss(job);
        self.control.dispatcher.queue().give_up(job, cause, Instant::now());
        self.control.dispatcher.wake();
        // A Job that has ended is removed by Kubernetes, so that its log can be read for a while.
        if !self.is_over(job)
            && let Err(error) = self.control.jobs.delete(job).await
        {
            tracing::warn!(%job, %error, "a Job could not be deleted yet");
        }
    }

    /// Deletes Jobs without a worker in the queue: their deletion failed when they were given up, or the answer to
    /// their creation was lost.
    async fn delete_orphans(&self) {
        let workers = self.control.dispatcher.queue().workers();
        for job in self.known_jobs.state() {
            let name = job.name_any();
            let is_known = workers.iter().any(|worker| worker.job == name);
            if !is_known && !self.is_over(&name) && job.metadata.deletion_timestamp.is_none() {
                tracing::info!(job = %name, "this Job is not known: it is deleted");
                if let Err(error) = self.control.jobs.delete(&name).await {
                    tracing::warn!(job = %name, %error, "a Job could not be deleted yet");
                }
            }
        }
    }

    /// Returns true if the Job, or its only pod, has ended.
    fn is_over(&self, name: &str) -> bool {
        let is_job = |job: &Arc<Job>| job.name_any() == name && has_ended(job);
        let is_pod = |pod: &Arc<Pod>| pod.labels().get(JOB_NAME).is_some_and(|job| job == name) && pod_has_ended(pod);
        self.known_jobs.state().iter().any(is_job) || self.known_pods.state().iter().any(is_pod)
    }

    /// Publishes for each lane whose worker has not called for a while the problem of its pod.
    async fn publish_problems(&mut self, waiting: &BTreeSet<Lane>, now: Instant) {
        let workers = self.control.dispatcher.queue().workers();
        let mut problems: BTreeMap<Lane, String> = BTreeMap::new();
        for (lane, (cause, _)) in &self.failed_starts {
            problems.insert(lane.clone(), format!("no Job could be made: {cause}"));
        }
        // Between two attempts the last problem stands, so that the condition does not come and go.
        let is_wanted = |lane: &Lane| {
            waiting.contains(lane) && !workers.iter().any(|worker| worker.lane == *lane && worker.seen.is_some())
        };
        self.last_ends.retain(|lane, _| is_wanted(lane));
        problems.extend(self.last_ends.clone());
        let pods = self.known_pods.state();
        let is_silent = |worker: &&WorkerView| worker.seen.is_none() && now.duration_since(worker.made) >= PATIENCE;
        for worker in workers.iter().filter(is_silent) {
            let pod = pods.iter().find(|pod| pod.labels().get(JOB_NAME) == Some(&worker.job));
            let said = match pod {
                Some(pod) => pod_trouble(pod),
                None => self.pod_refusal(&worker.job, now).await,
            };
            let unsaid = if pod.is_some() { "it runs, but has not called yet" } else { "no pod was made yet" };
            let said = match said {
                None if problems.contains_key(&worker.lane) => continue,
                said => said.unwrap_or_else(|| unsaid.to_owned()),
            };
            problems.insert(worker.lane.clone(), format!("the pod of Job {} does not work: {said}", worker.job));
        }
        self.pod_refusals.retain(|job, _| workers.iter().any(|worker| worker.job == *job));
        self.control.dispatcher.publish_problems(problems);
    }

    async fn pod_refusal(&mut self, job: &str, now: Instant) -> Option<String> {
        if let Some((said, at)) = self.pod_refusals.get(job)
            && now.duration_since(*at) < ASK_EVERY
        {
            return said.clone();
        }
        let said = self.control.jobs.refusal(job).await;
        self.pod_refusals.insert(job.to_owned(), (said.clone(), now));
        said
    }
}

fn noted<K: kube::Resource<DynamicType = ()>>(event: watcher::Result<watcher::Event<K>>, errors: &WatchErrors) {
    if let Err(error) = event {
        errors.take::<K>(&error);
    }
}

/// The cause for which a Job could not be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the channel's certificate is not there yet")]
    NoCertificate,
    #[error("no random token could be made")]
    NoToken,
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The name of the queue of Jobs among the heartbeats.
const QUEUE: &str = "queue of Jobs";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Events come in bursts: one pass serves them all.
const SETTLE: Duration = Duration::from_millis(10);
const RETRY: Duration = Duration::from_secs(5);
/// The time that a pod may take until its problem is published.
const PATIENCE: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_secs(10);
