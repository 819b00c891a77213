//! Where images for Jobs, workers' calls and commit grants meet: shared state, and the answers to workers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::outcome::is_unanswered;
use crate::channel::{
    Answer, Ask, Desk, Ended, GrantAnswer, GrantRequest, GrantedEffect, Grants, Holder, ItemId, Refused, Rejection,
    Report, RouteAccess, Subject, Submission, Told, WorkerApi,
};
use crate::cluster::View;
use crate::copy::{Authority, Effect};
use crate::image::is_referrer_tag;
use crate::plan::Lane;
use crate::replication::Consent;
use crate::replication::machine::Assignment;

/// What Jobs, workers and the operator's own copies share.
pub struct Dispatcher {
    view: Arc<View>,
    desk: Mutex<Desk>,
    grants: Mutex<Grants>,
    consents: Mutex<HashMap<ItemId, Arc<Consent>>>,
    /// Jobs by the hash of their token.
    tokens: Mutex<HashMap<String, String>>,
    /// Whether the workers of an earlier process are known.
    open: AtomicBool,
    troubles: Mutex<BTreeMap<Lane, String>>,
    trouble_changes: watch::Sender<u64>,
    /// Wakes workers that wait for an answer.
    news: Notify,
    /// Wakes who decides about Jobs.
    work: Notify,
}

impl Dispatcher {
    /// A dispatcher without images and workers.
    pub fn new(view: Arc<View>) -> Self {
        Self {
            view,
            desk: Mutex::default(),
            grants: Mutex::default(),
            consents: Mutex::default(),
            tokens: Mutex::default(),
            open: AtomicBool::new(false),
            troubles: Mutex::default(),
            trouble_changes: watch::Sender::default(),
            news: Notify::new(),
            work: Notify::new(),
        }
    }

    /// Hands an image in, with what is asked for consent.
    pub(super) fn submit(&self, submission: Submission, consent: Consent) -> watch::Receiver<Told> {
        lock(&self.consents).insert(submission.item.id.clone(), Arc::new(consent));
        let told = self.desk().submit(submission, Instant::now());
        self.wake();
        told
    }

    /// Takes an image back.
    pub(super) fn withdraw(&self, id: &ItemId) {
        lock(&self.consents).remove(id);
        self.desk().withdraw(id);
        self.news.notify_waiters();
    }

    /// Asks for a grant.
    pub(super) fn ask(&self, subject: &Subject, holder: &Holder) -> Ask {
        lock(&self.grants).ask(subject, holder, Instant::now())
    }

    /// Gives grants back.
    pub(super) fn give_back(&self, holder: &Holder) {
        lock(&self.grants).give_back(holder);
    }

    /// Gives no grants before `until`.
    pub fn hold_back(&self, until: Instant) {
        lock(&self.grants).hold_back(until);
    }

    /// What workers are to copy.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// Makes `job` the one whose token has this hash.
    pub(super) fn admit(&self, hash: &str, job: &str) {
        lock(&self.tokens).insert(hash.to_owned(), job.to_owned());
    }

    /// Every worker that an earlier process left has been admitted.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Makes the token of `job` void.
    pub(super) fn dismiss(&self, job: &str) {
        lock(&self.tokens).retain(|_, admitted| admitted != job);
        self.news.notify_waiters();
    }

    /// Something changed that workers, or who decides about Jobs, are to know.
    pub(super) fn wake(&self) {
        self.work.notify_one();
        self.news.notify_waiters();
    }

    /// Waits until something changed that may matter to who decides about Jobs.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Tells what keeps the workers of each lane from running.
    pub(super) fn tell_troubles(&self, troubles: BTreeMap<Lane, String>) {
        let mut present = lock(&self.troubles);
        if *present != troubles {
            *present = troubles;
            drop(present);
            self.trouble_changes.send_modify(|changes| *changes += 1);
        }
    }

    /// What keeps the workers of a source's images from running, if anything does.
    pub fn trouble(&self, namespace: &str, source: &str) -> Option<String> {
        let troubles = lock(&self.troubles);
        let mut found = troubles.iter().filter(|(lane, _)| lane.namespace == namespace && lane.source == source);
        found.next().map(|(_, trouble)| trouble.clone())
    }

    /// Changes whenever an answer of [`Dispatcher::trouble`] may.
    pub fn trouble_changes(&self) -> watch::Receiver<u64> {
        self.trouble_changes.subscribe()
    }
}

/// Returns the subject of the grant for `effect`; `None` if it needs none.
pub(super) fn grant_subject(assignment: &Assignment, effect: Effect<'_>) -> Option<Subject> {
    let subject = |tag| Subject { host: assignment.place.host.clone(), repository: assignment.repository.clone(), tag };
    match effect {
        Effect::Upload { .. } => None,
        Effect::CreateRepository { .. } => Some(subject(None)),
        Effect::WriteTag { tag, .. } => Some(subject(Some(tag.clone()))),
    }
}

/// The hash of a token, as it is kept.
pub(super) fn token_hash(token: &str) -> String {
    digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl WorkerApi for Dispatcher {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn job_of(&self, token: &str) -> Option<String> {
        lock(&self.tokens).get(&token_hash(token)).cloned()
    }

    fn report(&self, job: String, report: Report) -> BoxFuture<'_, Result<Answer, Rejection>> {
        async move {
            let access = self.route_access(&job, report.access_version.as_deref()).await?;
            let deadline = Instant::now() + ANSWER_AFTER;
            let must_answer = access.is_some() || !report.ended.is_empty();
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                if must_answer || Instant::now() >= deadline || self.desk().has_news(&job, &report) {
                    break;
                }
                let _ = tokio::time::timeout_at(deadline.into(), news).await;
            }
            let answer = self.desk().report(&job, &report, Instant::now());
            // Grants of a copy whose last write was not answered run out by themselves.
            let is_answered = |ended: &&Ended| ended.result.as_ref().err().is_none_or(|bad| !is_unanswered(bad.code));
            for ended in report.ended.iter().filter(is_answered) {
                self.give_back(&Holder { session: report.session.clone(), copy: ended.id.0.clone() });
            }
            self.work.notify_one();
            match answer {
                Ok(answer) => Ok(Answer { access, ..answer }),
                Err(Refused::Unknown) => Err(Rejection::Unknown),
                Err(Refused::Late) => Err(Rejection::Late),
            }
        }
        .boxed()
    }

    fn grant(&self, job: String, request: GrantRequest) -> BoxFuture<'_, Result<GrantAnswer, Rejection>> {
        async move {
            let asked = Instant::now();
            let may = self.desk().may_commit(&job, &request.session, &request.id, asked);
            let consent = lock(&self.consents).get(&request.id).cloned();
            // One that was taken back is cancelled by the next answer; until then it waits.
            let (true, Some(consent)) = (may, consent) else { return Ok(GrantAnswer::Wait) };
            let assignment = &consent.assignment;
            let effect = match &request.effect {
                GrantedEffect::CreateRepository => Effect::CreateRepository { repository: &assignment.repository },
                GrantedEffect::WriteTag { tag, .. } if *tag != assignment.tag && !is_referrer_tag(tag) => {
                    let message = format!("{tag} is not the tag of this image");
                    return Ok(GrantAnswer::Refused { reason: String::new(), message });
                }
                GrantedEffect::WriteTag { tag, digest, replaces } => {
                    let repository = &assignment.repository;
                    Effect::WriteTag { repository, tag, digest, replaces: replaces.as_ref() }
                }
            };
            let consented = match consent.permit(effect).await {
                Ok(until) => until,
                Err(refusal) => {
                    return Ok(GrantAnswer::Refused { reason: refusal.reason, message: refusal.message });
                }
            };
            let holder = Holder { session: request.session.clone(), copy: request.id.0.clone() };
            let Some(subject) = grant_subject(assignment, effect) else { return Ok(GrantAnswer::Wait) };
            // Consent took time: who has the image now is asked again, together with the grant.
            let desk = &mut self.desk();
            if !desk.may_commit(&job, &request.session, &request.id, Instant::now()) {
                return Ok(GrantAnswer::Wait);
            }
            Ok(match self.ask(&subject, &holder) {
                // The worker counts from when it sent the request, which was before `asked`.
                Ask::Granted(until) => {
                    let lasts =
                        until.min(consented).saturating_duration_since(Instant::now()).saturating_sub(asked.elapsed());
                    GrantAnswer::Granted { for_ms: u64::try_from(lasts.as_millis()).unwrap_or(0) }
                }
                Ask::Busy(_) => GrantAnswer::Wait,
            })
        }
        .boxed()
    }
}

impl Dispatcher {
    /// Access to both ends of a worker's lane, where it has another version. A worker that has one keeps it while the Secrets cannot be
    /// read.
    async fn route_access(&self, job: &str, known: Option<&str>) -> Result<Option<RouteAccess>, Rejection> {
        let lane = self.desk().lane(job).cloned().ok_or(Rejection::Unknown)?;
        let unavailable = || if known.is_some() { Ok(None) } else { Err(Rejection::Unavailable) };
        let (Some(source), Some(destination)) =
            (self.view.access_by_uid(&lane.source).await, self.view.access_by_uid(&lane.destination).await)
        else {
            return unavailable();
        };
        let version = format!("{}-{}", source.0, destination.0);
        let is_new = known != Some(version.as_str());
        Ok(is_new.then(|| RouteAccess { version, source: (&source.1).into(), destination: (&destination.1).into() }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker without news is answered after this time.
const ANSWER_AFTER: Duration = Duration::from_secs(1);
