//! Copies one image by a Job: hands it to the dispatcher, watches over the consent, and takes the result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};

use super::copy_log::log;
use super::dispatcher::Dispatcher;
use super::ends::{ends_of, suspect};
use super::in_process::{InProcess, REPORT_EVERY};
use super::outcome::{outcome, with_consent};
use crate::channel::{EndedItem, Item, ItemError, ItemId, ItemState, Submission};
use crate::image::hex;
use crate::metrics::Queue;
use crate::plan::{CodedError, Lane, Replica};
use crate::replication::machine::{Assignment, CopyProgress, Outcome};
use crate::replication::{Access, Consent, ReportProgress};
use crate::terms::{Action, FailureCode};

/// Copies the image by a Job. Dropping the future takes the image back.
pub(super) async fn copy(
    in_process: &InProcess,
    dispatcher: &Dispatcher,
    assignment: Arc<Assignment>,
    report: &ReportProgress,
) -> Outcome {
    let access = &*in_process.access;
    let (mut job, mut moved) = (None, 0);
    let work = carry_out(in_process, dispatcher, &assignment, (report, &mut job, &mut moved));
    let (permission, result) = with_consent(access, &assignment, work).await;
    log(&assignment, &result, job.as_deref());
    outcome(permission, result, moved)
}

async fn carry_out(
    in_process: &InProcess,
    dispatcher: &Dispatcher,
    assignment: &Arc<Assignment>,
    (report, job, counted): (&ReportProgress, &mut Option<String>, &mut u64),
) -> Result<Replica, CodedError> {
    let consent = Consent::new(
        in_process.access.clone(),
        in_process.claims.clone(),
        in_process.clock.clone(),
        assignment.clone(),
    );
    // The worker makes clients of its own; where a Registry cannot be used no worker is needed.
    ends_of(&*in_process.access, assignment).await?;
    let submission = submission(assignment);
    let id = submission.item.id.clone();
    let mut state = dispatcher.submit(submission, consent);
    let _withdrawal = Withdrawal { dispatcher, id };
    let mut waits = Some(in_process.metrics.waits(Queue::Jobs));
    let (mut reported_at, mut checked_at) = (None::<Instant>, Instant::now());
    loop {
        let _ = tokio::time::timeout(CHECK_EVERY, state.changed()).await;
        let now = state.borrow_and_update().clone();
        match now {
            ItemState::Ended(ended, by) => {
                *job = by;
                in_process.metrics.bytes.inc_by(ended.moved.saturating_sub(*counted));
                *counted = ended.moved.max(*counted);
                return result_of(ended, &*in_process.access, assignment);
            }
            ItemState::Running { bytes } => {
                waits = None;
                in_process.metrics.bytes.inc_by(bytes.saturating_sub(*counted));
                *counted = bytes.max(*counted);
                if reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
                    reported_at = Some(Instant::now());
                    report(CopyProgress::Running(bytes));
                }
            }
            ItemState::Waiting if reported_at.take().is_some() => {
                waits.get_or_insert_with(|| in_process.metrics.waits(Queue::Jobs));
                report(CopyProgress::Waiting);
            }
            ItemState::Waiting => {}
        }
        let interval = if reported_at.is_some() { CONSENT_WHILE_RUNNING } else { CONSENT_WHILE_WAITING };
        if checked_at.elapsed() >= interval {
            checked_at = Instant::now();
            let decision = in_process.access.decide(assignment.policy_request(Action::ReplicateImage)).await;
            if !decision.allowed {
                return Err(CodedError::new(FailureCode::RegistryPermissionDenied, decision.message));
            }
        }
    }
}

fn submission(assignment: &Assignment) -> Submission {
    let lane = Lane {
        namespace: assignment.configuration.0.clone(),
        source: assignment.source_uid.clone(),
        destination: assignment.destination_uid.clone(),
        class: assignment.class.clone().unwrap_or_default(),
    };
    let item = item(assignment, &lane);
    Submission { item, lane, urgent: assignment.is_urgent, priority: assignment.priority }
}

fn item(assignment: &Assignment, lane: &Lane) -> Item {
    let Assignment { repository, place, tag, digest: pinned, uid, options, .. } = assignment;
    let target = &place.repository;
    let name = format!("{uid} {} {repository} {target} {tag} {pinned} {options:?}", lane.destination);
    let hash = digest(&SHA256, name.as_bytes());
    Item { id: ItemId(hex(&hash.as_ref()[..16])), image: assignment.image_request() }
}

fn result_of(ended: EndedItem, access: &dyn Access, assignment: &Assignment) -> Result<Replica, CodedError> {
    ended.result.map_err(|ItemError { code, message, retry_after, suspect: side }| {
        side.into_iter().for_each(|side| suspect(access, assignment, side));
        CodedError { retry_after: retry_after.map(Duration::from_secs), ..CodedError::new(code, message) }
    })
}

/// Takes the image and the consent to it back when it is dropped.
struct Withdrawal<'a> {
    dispatcher: &'a Dispatcher,
    id: ItemId,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.dispatcher.withdraw(&self.id);
    }
}

const CHECK_EVERY: Duration = Duration::from_secs(1);
const CONSENT_WHILE_RUNNING: Duration = Duration::from_secs(1);
/// Nothing is written for an image that waits: consent is asked for again before anything is.
const CONSENT_WHILE_WAITING: Duration = Duration::from_secs(60);
