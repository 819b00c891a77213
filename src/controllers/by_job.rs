//! Has one image copied by a Job: hands it in, watches over the consent while a worker has it, and tells how it ended.

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use kube::ResourceExt;

use super::consent::Consent;
use super::copying::{Assignment, TELL_EVERY};
use super::office::Office;
use crate::api::{Action, FailureCode, Registry};
use crate::channel::{Ended, EndedBadly, Item, ItemId, Submission, Told};
use crate::copy::Failed;
use crate::plan::{Lane, Replica};

/// Copies the image by a Job of `class` that writes to `destination`. Dropping the future takes the image back.
pub(super) async fn copy_by_job(
    consent: Consent,
    (destination, class): (&Registry, &str),
    tell: &(impl Fn(Option<u64>) + Send),
    suspect: impl Fn(bool) + Send,
) -> Result<Replica, Failed> {
    let (context, assignment) = (consent.context.clone(), consent.assignment.clone());
    let lane = Lane {
        namespace: assignment.configuration.0.clone(),
        source: assignment.source.uid().unwrap_or_default(),
        destination: destination.uid().unwrap_or_default(),
        class: class.to_owned(),
    };
    let item = item(&assignment, &lane);
    let id = item.id.clone();
    let submission = Submission { item, lane, hurried: assignment.hurried };
    let mut told = context.office.submit(submission, consent);
    let _withdrawal = Withdrawal { office: &context.office, id };
    let (mut counted, mut told_at, mut checked_at) = (0, None::<Instant>, Instant::now());
    loop {
        let _ = tokio::time::timeout(LOOK_EVERY, told.changed()).await;
        let now = told.borrow_and_update().clone();
        match now {
            Told::Ended(ended) => {
                context.metrics.bytes.inc_by(ended.moved.saturating_sub(counted));
                return outcome(ended, suspect);
            }
            Told::Running { bytes } => {
                context.metrics.bytes.inc_by(bytes.saturating_sub(counted));
                counted = counted.max(bytes);
                if told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told_at = Some(Instant::now());
                    tell(Some(bytes));
                }
            }
            Told::Waiting if told_at.take().is_some() => tell(None),
            Told::Waiting => {}
        }
        let interval = if told_at.is_some() { CONSENT_WHILE_RUNNING } else { CONSENT_WHILE_WAITING };
        if checked_at.elapsed() >= interval {
            checked_at = Instant::now();
            let decision = context.policies.decide(&assignment.request(Action::ReplicateImage)).await;
            if !decision.allowed {
                return Err(Failed::new(FailureCode::RegistryPermissionDenied, decision.message));
            }
        }
    }
}

fn item(assignment: &Assignment, lane: &Lane) -> Item {
    let Assignment { repository, tag, digest: pinned, uid, options, .. } = assignment;
    let name = format!("{uid} {} {repository} {tag} {pinned} {options:?}", lane.destination);
    let hash = digest(&SHA256, name.as_bytes());
    let id = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Item {
        id: ItemId(id),
        repository: repository.clone(),
        tag: tag.clone(),
        digest: pinned.clone(),
        options: assignment.options.clone(),
        referrer_tags: assignment.referrer_tags.as_deref().cloned(),
        scope: uid.clone(),
        across_owners: assignment.destination.namespace != assignment.configuration.0,
    }
}

fn outcome(ended: Ended, suspect: impl Fn(bool)) -> Result<Replica, Failed> {
    ended.result.map_err(|EndedBadly { code, message, retry_after, suspect_source }| {
        if let Some(is_source) = suspect_source {
            suspect(is_source);
        }
        Failed { code, message, retry_after: retry_after.map(Duration::from_secs) }
    })
}

/// Takes the image back, and what was asked for its consent, when nobody waits for it any more.
struct Withdrawal<'a> {
    office: &'a Office,
    id: ItemId,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.office.withdraw(&self.id);
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const CONSENT_WHILE_RUNNING: Duration = Duration::from_secs(1);
/// Nothing is written for an image that waits: its consent is asked for again before anything is.
const CONSENT_WHILE_WAITING: Duration = Duration::from_secs(60);
