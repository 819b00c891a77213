//! Turns the entries of a ledger into those of a status, within the bounds of an object.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::ledger::{Ledger, LedgerEntry, Row, RowState, UnreadTag};
use crate::image::{Digest, Tag};
use crate::terms::{FailureCode, FailureGroup, ImageStatus, ReplicationState, shorten};

/// Returns the images to show, within the bounds of an object: failed ones, then those in progress, then pending ones,
/// then those that are skipped, then the newest.
pub(super) fn interesting(ledger: &Ledger) -> Vec<ImageStatus> {
    let mut entries: Vec<(&Tag, LedgerEntry<'_>)> = ledger.entries().collect();
    entries.sort_by_key(|(tag, entry)| {
        let (rank, at) = match entry {
            LedgerEntry::Unread(..) => (0, Timestamp::MIN),
            LedgerEntry::Row(row) => match &row.state {
                RowState::Failed(failure) if failure.code.is_skip() => (3, Timestamp::MIN),
                RowState::Failed(_) => (0, Timestamp::MIN),
                RowState::InProgress { .. } => (1, Timestamp::MIN),
                RowState::Pending => (2, Timestamp::MIN),
                // As a status shows it: the order is the same after a restart.
                RowState::Complete { at, .. } => (4, whole_seconds(at.get())),
            },
        };
        (rank, Reverse(at), *tag)
    });
    let mut size = 0;
    let mut images = Vec::new();
    let mut denied = 0;
    for (tag, entry) in entries.into_iter().filter(|(_, entry)| is_listed(entry, &mut denied)).take(MAX_IMAGES) {
        let image = match entry {
            LedgerEntry::Row(row) => image_status(tag, row),
            LedgerEntry::Unread(unread, digest) => unread_status(tag, unread, digest),
        };
        size += serde_json::to_string(&image).map_or(0, |text| text.len() + 1);
        if size > MAX_IMAGES_BYTES {
            break;
        }
        images.push(image);
    }
    images
}

/// Returns true unless it is one more image that is denied: the group of that cause counts them, so that what a source
/// lists costs no object of its size before its owner consents.
fn is_listed(entry: &LedgerEntry<'_>, denied: &mut usize) -> bool {
    let LedgerEntry::Row(Row { state: RowState::Failed(failure), .. }) = entry else { return true };
    let is_denied = matches!(failure.code, FailureCode::RegistryPermissionDenied | FailureCode::PolicyRevoked);
    *denied += usize::from(is_denied);
    !is_denied || *denied <= MAX_DENIED
}

/// Returns the entry of one row in a status.
pub fn image_status(tag: &Tag, row: &Row) -> ImageStatus {
    let mut image = ImageStatus::pending(tag.to_string(), row.digest.to_string());
    image.destination_digest = row.written.as_ref().filter(|written| **written != row.digest).map(ToString::to_string);
    match &row.state {
        RowState::Complete { bytes, at, .. } => {
            image.status = ReplicationState::Complete;
            image.bytes = Some(*bytes);
            image.completed_at = Some(whole_seconds(at.get()));
            image.referrers_hash = row.referrers.verified.word();
            image.next_attempt_at = row.doubted_until(at.get()).map(whole_seconds);
        }
        RowState::Failed(failure) => {
            let is_skip = failure.code.is_skip();
            image.status = if is_skip { ReplicationState::Skipped } else { ReplicationState::Failed };
            image.failure_code = Some(failure.code);
            image.message = Some(shorten(&failure.message, MAX_MESSAGE_BYTES));
            image.attempts = Some(failure.attempts);
            image.next_attempt_at = failure.is_scheduled().then(|| whole_seconds(failure.next_attempt_at));
        }
        RowState::InProgress { attempts, bytes } => {
            image.status = ReplicationState::InProgress;
            image.bytes = (*bytes > 0).then_some(*bytes);
            image.attempts = (*attempts > 0).then_some(*attempts);
        }
        RowState::Pending => {}
    }
    image
}

/// Returns the entry of a tag that cannot be read.
fn unread_status(tag: &Tag, unread: &UnreadTag, digest: Option<&Digest>) -> ImageStatus {
    ImageStatus {
        status: ReplicationState::Failed,
        failure_code: Some(unread.code),
        message: Some(shorten(&unread.message, MAX_MESSAGE_BYTES)),
        ..ImageStatus::pending(tag.to_string(), digest.map(ToString::to_string).unwrap_or_default())
    }
}

/// Returns the failures by cause.
pub(super) fn group_failures(ledger: &Ledger) -> Vec<FailureGroup> {
    let mut groups: BTreeMap<FailureCode, FailureGroup> = BTreeMap::new();
    for (tag, entry) in ledger.entries() {
        let (code, message) = match entry {
            LedgerEntry::Unread(unread, _) => (unread.code, &unread.message),
            LedgerEntry::Row(Row { state: RowState::Failed(failure), .. }) if !failure.code.is_skip() => {
                (failure.code, &failure.message)
            }
            LedgerEntry::Row(_) => continue,
        };
        let group = groups.entry(code).or_insert_with(|| FailureGroup {
            failure_code: code,
            message: shorten(message, MAX_MESSAGE_BYTES),
            count: 0,
            sample_tags: Vec::new(),
        });
        group.count += 1;
        if group.sample_tags.len() < MAX_SAMPLE_TAGS {
            group.sample_tags.push(tag.to_string());
        }
    }
    groups.into_values().collect()
}

/// Cuts a time to whole seconds, as everywhere in Kubernetes.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

const MAX_IMAGES: usize = 250;
/// Images that are shown of those that the destination's owner does not permit.
const MAX_DENIED: usize = 10;
const MAX_IMAGES_BYTES: usize = 40_000;
const MAX_MESSAGE_BYTES: usize = 500;
const MAX_SAMPLE_TAGS: usize = 10;
