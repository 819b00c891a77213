//! Answers workers: the shared state of images for Jobs, tokens and commit grants.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::outcome::is_unanswered;
use crate::channel::{
    EndedItem, GrantAnswer, GrantDecision, GrantHolder, GrantRequest, GrantSubject, GrantedMutation, Grants, ItemId,
    ItemState, Report, ReportAnswer, ReportError, RouteAccess, RouteLimits, Submission, WorkQueue, WorkerApi,
    WorkerApiError,
};
use crate::cluster::View;
use crate::copy::{Authority, Denied, Mutation};
use crate::image::{hex, is_referrer_tag};
use crate::locked::Locked;
use crate::plan::{Lane, LimitParts, RepositoryAddress, limit_parts};
use crate::replication::Consent;
use crate::replication::machine::Assignment;

/// The state that Jobs, workers and the operator's own copies share.
pub(crate) struct Dispatcher {
    view: Arc<View>,
    queue: Locked<WorkQueue>,
    grants: Locked<Grants>,
    consents: Locked<HashMap<ItemId, Arc<Consent>>>,
    /// Jobs by the hash of their token.
    tokens: Locked<HashMap<String, String>>,
    /// True once all workers of the previous process have been adopted.
    open: AtomicBool,
    /// The causes that keep the workers of a lane from running.
    problems: Locked<BTreeMap<Lane, String>>,
    problem_changes: watch::Sender<u64>,
    /// The parts of the limits of each Registry that workers use, by its uid.
    parts: Locked<BTreeMap<String, LimitParts>>,
    /// Wakes workers that wait for an answer.
    news: Notify,
    /// Wakes the control of Jobs.
    work: Notify,
}

impl Dispatcher {
    /// Returns a dispatcher without images and workers.
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self {
            view,
            queue: Locked::default(),
            grants: Locked::default(),
            consents: Locked::default(),
            tokens: Locked::default(),
            open: AtomicBool::new(false),
            problems: Locked::default(),
            problem_changes: watch::Sender::default(),
            parts: Locked::default(),
            news: Notify::new(),
            work: Notify::new(),
        }
    }

    /// Hands an image in, with the consent that its worker needs.
    pub(super) fn submit(&self, submission: Submission, consent: Consent) -> watch::Receiver<ItemState> {
        self.consents.lock().insert(submission.item.id.clone(), Arc::new(consent));
        let state = self.queue().submit(submission, Instant::now());
        self.wake();
        state
    }

    /// Takes an image back.
    pub(super) fn withdraw(&self, id: &ItemId) {
        self.consents.lock().remove(id);
        self.queue().withdraw(id);
        self.news.notify_waiters();
    }

    /// Asks for a grant for a copy in this process, or for a worker's.
    pub(super) fn ask(&self, subject: &GrantSubject, holder: &GrantHolder) -> GrantDecision {
        self.grants.lock().ask(subject, holder, Instant::now())
    }

    /// Gives the grants of `holder` back.
    pub(super) fn give_back(&self, holder: &GrantHolder) {
        self.grants.lock().give_back(holder);
    }

    /// Gives no grants before `until`.
    pub(crate) fn hold_back(&self, until: Instant) {
        self.grants.lock().hold_back(until);
    }

    /// Locks the queue of images.
    pub(super) fn queue(&self) -> MutexGuard<'_, WorkQueue> {
        self.queue.lock()
    }

    /// Admits calls with the token of this hash as calls of `job`'s worker.
    pub(super) fn admit(&self, hash: &str, job: &str) {
        self.tokens.lock().insert(hash.to_owned(), job.to_owned());
    }

    /// Answers unknown tokens with a refusal: every worker of the previous process has been adopted.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Revokes the token of `job`.
    pub(super) fn dismiss(&self, job: &str) {
        self.tokens.lock().retain(|_, admitted| admitted != job);
        self.news.notify_waiters();
    }

    /// Divides the limits of each Registry that workers use among them and this process.
    pub(super) fn divide_limits(&self) {
        let workers = self.queue().workers();
        let registries = &self.view.registries;
        let parts = limit_parts(&workers, |uid| registries.is_in_use(uid));
        let mut known = self.parts.lock();
        // A Registry that no worker uses any more is this process's alone.
        known.keys().filter(|uid| !parts.contains_key(*uid)).for_each(|uid| registries.take_part(uid, 1.0, 1));
        parts.iter().for_each(|(uid, parts)| registries.take_part(uid, parts.operator, parts.processes()));
        *known = parts;
    }

    /// Returns the part of a worker of the limits of both its Registries.
    fn route_limits(&self, job: &str) -> Option<RouteLimits> {
        let lane = self.queue().lane(job)?.clone();
        let parts = self.parts.lock();
        let part = |uid: &str| {
            let parts = parts.get(uid)?;
            self.view.registries.part(uid, *parts.workers.get(job)?, parts.processes())
        };
        Some(RouteLimits { source: part(&lane.source)?, destination: part(&lane.destination)? })
    }

    /// Takes what registries stated to a worker about their quotas.
    fn take_quotas(&self, job: &str, report: &Report) {
        let Some(lane) = self.queue().lane(job).cloned() else { return };
        for (uid, stated) in [(lane.source, report.quotas.source), (lane.destination, report.quotas.destination)] {
            if let Some(statement) = stated {
                self.view.registries.take_quota(&uid, statement);
            }
        }
    }

    /// Wakes waiting workers and the control of Jobs after a change.
    pub(super) fn wake(&self) {
        self.work.notify_one();
        self.news.notify_waiters();
    }

    /// Waits for a change that may matter to the control of Jobs.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Publishes the cause that keeps the workers of each lane from running.
    pub(super) fn publish_problems(&self, problems: BTreeMap<Lane, String>) {
        let mut present = self.problems.lock();
        if *present != problems {
            *present = problems;
            drop(present);
            self.problem_changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Returns the cause that keeps the workers of each source's images from running, by the uid of its Registry.
    pub(crate) fn problems(&self) -> BTreeMap<String, String> {
        let problems = self.problems.lock();
        // Of several lanes the first one speaks.
        problems.iter().rev().map(|(lane, problem)| (lane.source.clone(), problem.clone())).collect()
    }

    /// Returns a receiver that changes whenever [`Dispatcher::problems`] may.
    pub(crate) fn problem_changes(&self) -> watch::Receiver<u64> {
        self.problem_changes.subscribe()
    }
}

/// Returns the subject of the grant for `mutation`; `None` if it needs none.
pub(super) fn grant_subject(assignment: &Assignment, mutation: Mutation<'_>) -> Option<GrantSubject> {
    let RepositoryAddress { host, repository } = &assignment.place;
    let subject = |tag| GrantSubject { host: host.clone(), repository: repository.clone(), tag };
    match mutation {
        Mutation::Upload { .. } => None,
        Mutation::CreateRepository { .. } => Some(subject(None)),
        Mutation::DeleteTag { tag } | Mutation::WriteTag { tag, .. } => Some(subject(Some(tag.clone()))),
    }
}

/// Returns the change that a worker asks for. It may write no other tag than that of its image and those of referrers.
fn requested_mutation<'a>(request: &'a GrantRequest, assignment: &'a Assignment) -> Result<Mutation<'a>, Denied> {
    let repository = &assignment.place.repository;
    match &request.mutation {
        GrantedMutation::CreateRepository => Ok(Mutation::CreateRepository { repository }),
        GrantedMutation::WriteTag { tag, .. } if *tag != assignment.tag && !is_referrer_tag(tag) => {
            Err(Denied { reason: String::new(), message: format!("{tag} is not the tag of this image") })
        }
        GrantedMutation::WriteTag { tag, digest, replaces } => {
            Ok(Mutation::WriteTag { repository, tag, digest, replaces: replaces.as_ref() })
        }
    }
}

/// Returns the hash of a token: tokens themselves are not kept.
pub(super) fn token_hash(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

impl WorkerApi for Dispatcher {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn job_of(&self, token: &str) -> Option<String> {
        self.tokens.lock().get(&token_hash(token)).cloned()
    }

    fn report(&self, job: String, report: Report) -> BoxFuture<'_, Result<ReportAnswer, WorkerApiError>> {
        async move {
            let access = self.route_access(&job, report.access_version.as_deref()).await?;
            let deadline = Instant::now() + ANSWER_AFTER;
            let must_answer = access.is_some() || !report.ended.is_empty();
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                if must_answer || Instant::now() >= deadline || self.queue().has_news(&job, &report) {
                    break;
                }
                let _ = tokio::time::timeout_at(deadline.into(), news).await;
            }
            let answer = self.queue().report(&job, &report, Instant::now());
            self.take_quotas(&job, &report);
            self.divide_limits();
            // Grants of a copy whose last write was not answered run out by themselves.
            let is_answered =
                |ended: &&EndedItem| ended.result.as_ref().err().is_none_or(|error| !is_unanswered(error.code));
            for ended in report.ended.iter().filter(is_answered) {
                self.give_back(&GrantHolder { session: report.session.clone(), copy: ended.id.0.clone() });
            }
            self.work.notify_one();
            match answer {
                Ok(answer) => Ok(ReportAnswer { access, limits: self.route_limits(&job), ..answer }),
                Err(ReportError::Unknown) => Err(WorkerApiError::Unknown),
                Err(ReportError::Late) => Err(WorkerApiError::Late),
            }
        }
        .boxed()
    }

    fn grant(&self, job: String, request: GrantRequest) -> BoxFuture<'_, Result<GrantAnswer, WorkerApiError>> {
        async move {
            let asked = Instant::now();
            let may = self.queue().may_commit(&job, &request.session, &request.id, asked);
            let consent = self.consents.lock().get(&request.id).cloned();
            // An image that was withdrawn is cancelled by the next answer; until then its worker waits.
            let (true, Some(consent)) = (may, consent) else { return Ok(GrantAnswer::Wait) };
            let assignment = &consent.assignment;
            let mutation = match requested_mutation(&request, assignment) {
                Ok(mutation) => mutation,
                Err(Denied { reason, message }) => return Ok(GrantAnswer::Denied { reason, message }),
            };
            let consented = match consent.permit(mutation).await {
                Ok(until) => until,
                Err(Denied { reason, message }) => return Ok(GrantAnswer::Denied { reason, message }),
            };
            let holder = GrantHolder { session: request.session.clone(), copy: request.id.0.clone() };
            let Some(subject) = grant_subject(assignment, mutation) else { return Ok(GrantAnswer::Wait) };
            // Consent took time: the worker must still have the image at the instant of the grant.
            let queue = &mut self.queue();
            if !queue.may_commit(&job, &request.session, &request.id, Instant::now()) {
                return Ok(GrantAnswer::Wait);
            }
            Ok(match self.ask(&subject, &holder) {
                // The worker counts from when it sent the request, which was before `asked`.
                GrantDecision::Granted(until) => {
                    let lasts =
                        until.min(consented).saturating_duration_since(Instant::now()).saturating_sub(asked.elapsed());
                    GrantAnswer::Granted { for_ms: u64::try_from(lasts.as_millis()).unwrap_or(0) }
                }
                GrantDecision::Busy(_) => GrantAnswer::Wait,
            })
        }
        .boxed()
    }
}

impl Dispatcher {
    /// Returns the access to both ends of a worker's lane, unless the worker has it already. It keeps an older one
    /// while the Secrets cannot be read.
    async fn route_access(&self, job: &str, known: Option<&str>) -> Result<Option<RouteAccess>, WorkerApiError> {
        let lane = self.queue().lane(job).cloned().ok_or(WorkerApiError::Unknown)?;
        let unavailable = || if known.is_some() { Ok(None) } else { Err(WorkerApiError::Unavailable) };
        let (Some(source), Some(destination)) =
            (self.view.access_by_uid(&lane.source).await, self.view.access_by_uid(&lane.destination).await)
        else {
            return unavailable();
        };
        let refused = self.view.registries.refused();
        let mut hasher = DefaultHasher::new();
        refused.hash(&mut hasher);
        let version = format!("{}-{}-{:016x}", source.0, destination.0, hasher.finish());
        let is_new = known != Some(version.as_str());
        let (source, destination) = ((&source.1).into(), (&destination.1).into());
        Ok(is_new.then_some(RouteAccess { version, source, destination, refused }))
    }
}

/// A worker is answered after this time where there is no news for it.
const ANSWER_AFTER: Duration = Duration::from_secs(1);
