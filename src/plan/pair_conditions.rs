//! The conditions of one pair: what is at its destination, and the cause where that is not everything.

use jiff::Timestamp;

use crate::policy::Decision;
use crate::terms::{
    Condition, Conditions, FailureCode, ImageStatus, ObjectState, PairSummary, ReplicationState, condition_type, reason,
};

/// Returns the conditions of a pair whose status shows `images`.
pub(super) fn pair_conditions(
    summary: &PairSummary,
    images: &[ImageStatus],
    permission: Option<&Decision>,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let outcome = outcome(summary);
    let (state, why, message) = readiness(&outcome, images, permission);
    let mut conditions = Conditions::of(previous, Some(GENERATION), now).set_ready(state, &why, &message).set(
        condition_type::REPLICATED,
        outcome.holds,
        outcome.reason,
        &outcome.message,
    );
    if let Some(Decision { allowed, reason, message }) = permission {
        conditions = conditions.set(condition_type::PERMITTED, *allowed, reason, message);
    }
    conditions.into_list()
}

/// Returns the state of a pair with reason and message. Images that are skipped leave nothing to do.
fn readiness(
    outcome: &PairOutcome,
    images: &[ImageStatus],
    permission: Option<&Decision>,
) -> (ObjectState, String, String) {
    let denied = permission.filter(|decision| !decision.allowed && outcome.reason == reason::PROGRESSING);
    if let Some((code, image)) = worst(images) {
        let state = if code.needs_user() { ObjectState::Stalled } else { ObjectState::Reconciling };
        let cause = image.message.as_deref().unwrap_or_default();
        return (state, format!("{code:?}"), format!("{}; {}: {cause}", outcome.message, image.tag));
    }
    if let Some(Decision { reason, message, .. }) = denied {
        return (ObjectState::Stalled, (*reason).to_owned(), message.clone());
    }
    let is_skipped = outcome.reason == reason::IMAGES_SKIPPED;
    let state = if outcome.holds || is_skipped { ObjectState::Ready } else { ObjectState::Reconciling };
    let skipped = images.iter().find(|image| is_skipped && image.status == ReplicationState::Skipped);
    let message = match skipped.and_then(|image| Some((&image.tag, image.message.as_deref()?))) {
        Some((tag, cause)) => format!("{}; {tag}: {cause}", outcome.message),
        None => outcome.message.clone(),
    };
    (state, outcome.reason.to_owned(), message)
}

/// Returns the failed image that a user has to look at first: one that only a user can resolve, if there is one.
fn worst(images: &[ImageStatus]) -> Option<(FailureCode, &ImageStatus)> {
    let failed = images.iter().filter(|image| image.status == ReplicationState::Failed);
    let mut failed = failed.filter_map(|image| Some((image.failure_code?, image)));
    let first = failed.next()?;
    if first.0.needs_user() {
        return Some(first);
    }
    failed.find(|(code, _)| code.needs_user()).or(Some(first))
}

/// The only generation of a ReplicationStatus: its spec is immutable.
pub(super) const GENERATION: i64 = 1;

/// The value of `Replicated` with its reason and message.
struct PairOutcome {
    holds: bool,
    reason: &'static str,
    message: String,
}

fn outcome(summary: &PairSummary) -> PairOutcome {
    let PairSummary { images, complete, failed, skipped, .. } = summary;
    let (holds, reason, message) = if *failed > 0 {
        (false, reason::IMAGES_FAILED, format!("{failed} of {images} images failed"))
    } else if *skipped > 0 && complete + skipped == *images {
        let message = format!("{skipped} of {images} images are skipped");
        (false, reason::IMAGES_SKIPPED, message)
    } else if complete < images {
        (false, reason::PROGRESSING, format!("{complete} of {images} images are complete"))
    } else {
        (true, reason::REPLICATED, format!("all {images} images were read back from the destination"))
    };
    PairOutcome { holds, reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tag: &str, status: ReplicationState) -> ImageStatus {
        ImageStatus { status, ..ImageStatus::pending(tag.to_owned(), String::new()) }
    }

    fn ready(summary: &PairSummary, images: &[ImageStatus], permission: Option<&Decision>) -> Condition {
        let conditions = pair_conditions(summary, images, permission, &[], Timestamp::UNIX_EPOCH);
        conditions.into_iter().find(|condition| condition.type_ == condition_type::READY).unwrap()
    }

    #[test]
    fn ready_names_the_failure_code_and_the_tag_of_the_worst_image() {
        let failure = ImageStatus {
            failure_code: Some(FailureCode::RegistryPermissionDenied),
            message: Some("no statement allows it".to_owned()),
            ..image("v2", ReplicationState::Failed)
        };
        let summary = PairSummary { images: 3, complete: 2, failed: 1, ..PairSummary::default() };
        let slow =
            ImageStatus { failure_code: Some(FailureCode::SourceUnavailable), ..image("v0", ReplicationState::Failed) };
        let ready = ready(&summary, &[slow, failure, image("v1", ReplicationState::Complete)], None);
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "RegistryPermissionDenied"));
        assert_eq!(ready.message, "1 of 3 images failed; v2: no statement allows it");
        assert_eq!(ready.observed_generation, Some(1));
    }

    #[test]
    fn a_pair_that_is_denied_says_so_before_an_image_fails() {
        let denied = Decision { allowed: false, reason: reason::NO_STATEMENT_ALLOWS, message: "m".to_owned() };
        let waiting = PairSummary { images: 1, pending: 1, ..PairSummary::default() };
        let images = [image("v1", ReplicationState::Pending)];
        assert_eq!(ready(&waiting, &images, Some(&denied)).reason, reason::NO_STATEMENT_ALLOWS);
        let complete = PairSummary { images: 1, complete: 1, ..PairSummary::default() };
        let images = [image("v1", ReplicationState::Complete)];
        assert_eq!(ready(&complete, &images, Some(&denied)).status, "True", "everything is there already");
    }

    #[test]
    fn tags_that_the_destination_keeps_leave_nothing_to_do() {
        let summary = PairSummary { images: 2, complete: 1, skipped: 1, ..PairSummary::default() };
        let skipped =
            ImageStatus { message: Some("it is immutable".to_owned()), ..image("v1", ReplicationState::Skipped) };
        let images = [skipped, image("v2", ReplicationState::Complete)];
        assert_eq!(ready(&summary, &images, None).message, "1 of 2 images are skipped; v1: it is immutable");
        let conditions = pair_conditions(&summary, &images, None, &[], Timestamp::UNIX_EPOCH);
        let words: Vec<_> =
            conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
        assert_eq!(words, [("Ready", "True", "ImagesSkipped"), ("Replicated", "False", "ImagesSkipped")]);
    }
}
