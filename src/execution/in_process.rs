//! Copies one image in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::copy_log::log;
use super::dispatcher::{Dispatcher, grant_subject};
use super::ends::{ends_of, suspect};
use super::outcome::{is_unanswered, outcome, with_consent};
use super::slots::{Member, Slots};
use crate::channel::{GrantDecision, GrantHolder};
use crate::copy::{Authority, ByteCounter, Copied, CopyError, Denied, Ends, Engine, ImageCopy, Mutation, remove_tag};
use crate::metrics::{Metrics, Queue};
use crate::plan::{CodedError, Removal};
use crate::replication::machine::{Assignment, CopyProgress, Deletion, DeletionOutcome, Outcome};
use crate::replication::{Access, Clock, Consent, Executor, ReportProgress, SharedClaims};
use crate::terms::FailureCode;

/// Copies images in this process, a bounded number at once.
pub(crate) struct InProcess {
    /// Access to Registries and policies.
    pub access: Arc<dyn Access>,
    /// The engine that all copies of the process share.
    pub engine: Engine,
    /// The claims of all configurations.
    pub claims: SharedClaims,
    /// Notices stops of the process.
    pub clock: Clock,
    /// The bound of images that are copied at once.
    pub slots: Slots,
    /// The counters of copied images and bytes.
    pub metrics: Arc<Metrics>,
    /// Gives grants, where other processes write too; `None` in a process that writes alone.
    pub grants: Option<Arc<Dispatcher>>,
    /// Called with every result. It says itself which images are complete: each has one line.
    pub listener: Option<Box<Listener>>,
}

/// A callback for the results of copies.
pub(crate) type Listener = dyn Fn(&Assignment, &Result<Copied, CodedError>) + Send + Sync;

impl Executor for InProcess {
    fn copy<'a>(&'a self, assignment: Arc<Assignment>, report: &'a ReportProgress) -> BoxFuture<'a, Outcome> {
        async move {
            let (mut member, counter) = (self.slots.join(&assignment), ByteCounter::default());
            // It is void if the process is stopped while the copy waits for its turn.
            let consent =
                Consent::new(self.access.clone(), self.claims.clone(), self.clock.clone(), assignment.clone());
            let work = async {
                let ends = ends_of(&*self.access, &assignment).await?;
                let waits = self.metrics.waits(Queue::Copies);
                member.take_slot().await;
                drop(waits);
                self.carry_out(consent, ends, (&counter, &mut member), report).await
            };
            let (permission, copied) = with_consent(&*self.access, &assignment, work).await;
            if let Some(listener) = &self.listener {
                listener(&assignment, &copied);
            }
            let result = copied.map(Copied::replica);
            if self.listener.is_none() || result.is_err() {
                log(&assignment, &result, None);
            }
            outcome(permission, result, counter.bytes())
        }
        .boxed()
    }

    fn delete(&self, deletion: Arc<Deletion>) -> BoxFuture<'_, DeletionOutcome> {
        async move {
            let result = match tokio::time::timeout(DELETION_LASTS, self.remove(&deletion)).await {
                Ok(result) => result,
                Err(_) => Err(CodedError::new(
                    FailureCode::DestinationUnavailable,
                    format!("it took over {DELETION_LASTS:?}"),
                )),
            };
            let is_unanswered = result.as_ref().err().is_some_and(|failed| is_unanswered(failed.code));
            DeletionOutcome { result, is_unanswered }
        }
        .boxed()
    }
}

impl InProcess {
    async fn carry_out(
        &self,
        consent: Consent,
        ends: Ends,
        (counter, member): (&ByteCounter, &mut Member),
        report: &ReportProgress,
    ) -> Result<Copied, CodedError> {
        report(CopyProgress::Running(0));
        let assignment = consent.assignment.clone();
        let authority = self.granted(consent);
        let request = assignment.image_request();
        let task = ImageCopy::new(&request, &ends, &authority, counter);
        let _announced = self.engine.announce(&task);
        member.meet_others().await;
        let copied = self.watched(Box::pin(self.engine.copy(&task)), (counter, member), report).await;
        let Some(copied) = copied else {
            // What is there stays there, and is found again. A write may be under way.
            return Err(CodedError::new(FailureCode::DestinationUnavailable, YIELDED.to_owned()));
        };
        let copied = copied.map_err(|error| self.coded(error, &assignment));
        authority.give_back(copied.as_ref().err());
        copied
    }

    async fn remove(&self, deletion: &Deletion) -> Result<Removal, CodedError> {
        let assignment = deletion.assignment.clone();
        let consent = Consent::new(self.access.clone(), self.claims.clone(), self.clock.clone(), assignment.clone());
        let ends = ends_of(&*self.access, &assignment).await?;
        let authority = self.granted(consent);
        let (request, counter) = (assignment.image_request(), ByteCounter::default());
        let task = ImageCopy::new(&request, &ends, &authority, &counter);
        let removed = Box::pin(remove_tag(&task, &deletion.leaving)).await;
        let removed = removed.map_err(|error| self.coded(error, &assignment));
        authority.give_back(removed.as_ref().err());
        removed
    }

    fn granted(&self, consent: Consent) -> GrantedConsent {
        let holder = GrantHolder { session: IN_PROCESS.to_owned(), copy: format!("{:032x}", rand::random::<u128>()) };
        GrantedConsent { consent, grants: self.grants.clone(), holder }
    }

    fn coded(&self, error: CopyError, assignment: &Assignment) -> CodedError {
        error.suspect().into_iter().for_each(|side| suspect(&*self.access, assignment, side));
        CodedError::from(error)
    }

    /// Does `work`, counts its bytes every second and reports them every [`REPORT_EVERY`]. Returns `None` if it is stopped,
    /// so that a namespace without a slot has its turn.
    async fn watched<T>(
        &self,
        work: impl Future<Output = T>,
        (counter, member): (&ByteCounter, &mut Member),
        report: &ReportProgress,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let (mut known, mut reported_at) = (0, Instant::now());
        loop {
            let done = tokio::time::timeout(COUNT_EVERY, &mut work).await;
            let bytes = counter.bytes();
            self.metrics.bytes.inc_by(bytes - known);
            known = bytes;
            let must_end = member.note(bytes);
            if let Ok(done) = done {
                return Some(done);
            }
            if must_end {
                return None;
            }
            if reported_at.elapsed() >= REPORT_EVERY {
                reported_at = Instant::now();
                report(CopyProgress::Running(bytes));
            }
        }
    }
}

/// The consent to a copy in this process, and its grants.
struct GrantedConsent {
    consent: Consent,
    grants: Option<Arc<Dispatcher>>,
    holder: GrantHolder,
}

impl GrantedConsent {
    /// Gives the grants back, unless a write may still be under way: they run out by themselves then, as they do for a
    /// copy that is dropped.
    fn give_back(&self, failed: Option<&CodedError>) {
        let is_answered = failed.is_none_or(|error| !is_unanswered(error.code));
        if let Some(grants) = self.grants.as_ref().filter(|_| is_answered) {
            grants.give_back(&self.holder);
        }
    }
}

impl Authority for GrantedConsent {
    fn permit<'a>(&'a self, mutation: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        async move {
            loop {
                let until = self.consent.permit(mutation).await?;
                let subject = grant_subject(&self.consent.assignment, mutation);
                let (Some(grants), Some(subject)) = (&self.grants, subject) else { return Ok(until) };
                match grants.ask(&subject, &self.holder) {
                    GrantDecision::Granted(granted) => return Ok(until.min(granted)),
                    GrantDecision::Busy(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        }
        .boxed()
    }
}

/// The message of a copy that has made room for others.
const YIELDED: &str =
    "it made room for a namespace of which no image was copied, as all slots were taken: it goes on later";
/// The session of the copies in this process: it differs from that of every worker.
const IN_PROCESS: &str = "operator";
/// Longer than it takes to look at every tag that may need a manifest.
const DELETION_LASTS: Duration = Duration::from_secs(600);
const ASK_AGAIN: Duration = Duration::from_millis(250);
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// The interval at which the bytes of a running image are reported.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(5);
