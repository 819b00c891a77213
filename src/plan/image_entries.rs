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
    let mut shown = first(ledger.entries().filter(|(_, entry)| !is_denied(entry)), MAX_IMAGES);
    // The group of that cause counts the others, so that what a source lists costs no object of its size before its owner
    // consents.
    shown.extend(first(ledger.entries().filter(|(_, entry)| is_denied(entry)), MAX_DENIED));
    let mut size = 0;
    let mut images = Vec::new();
    for ((.., tag), entry) in shown.into_iter().take(MAX_IMAGES) {
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

/// The place of an image among those of a status.
type Rank<'a> = (u8, Reverse<Timestamp>, &'a Tag);

fn rank<'a>(tag: &'a Tag, entry: &LedgerEntry<'_>) -> Rank<'a> {
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
    (rank, Reverse(at), tag)
}

/// Returns the first `most` entries by their rank, in memory for no more than these: a ledger may have a hundred thousand.
fn first<'a>(
    entries: impl Iterator<Item = (&'a Tag, LedgerEntry<'a>)>,
    most: usize,
) -> BTreeMap<Rank<'a>, LedgerEntry<'a>> {
    let mut first = BTreeMap::new();
    for (tag, entry) in entries {
        let rank = rank(tag, &entry);
        let is_full = first.len() >= most;
        if is_full && first.last_key_value().is_none_or(|(last, _)| *last <= rank) {
            continue;
        }
        if is_full {
            first.pop_last();
        }
        first.insert(rank, entry);
    }
    first
}

/// Returns true if no policy lets the image go where the rules send it.
fn is_denied(entry: &LedgerEntry<'_>) -> bool {
    let LedgerEntry::Row(Row { state: RowState::Failed(failure), .. }) = entry else { return false };
    matches!(failure.code, FailureCode::RegistryPermissionDenied | FailureCode::PolicyRevoked)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::RecordedImages;

    fn image(number: usize, kind: u8) -> ImageStatus {
        let (status, code) = match kind {
            0 => (ReplicationState::Failed, Some(FailureCode::RegistryPermissionDenied)),
            1 => (ReplicationState::Failed, Some(FailureCode::SourceUnavailable)),
            2 => (ReplicationState::Skipped, Some(FailureCode::TagExists)),
            3 => (ReplicationState::Pending, None),
            _ => (ReplicationState::Complete, None),
        };
        ImageStatus {
            status,
            failure_code: code,
            completed_at: Timestamp::from_second(i64::from(kind)).ok(),
            ..ImageStatus::pending(format!("v{number}"), Digest::sha256(b"1").to_string())
        }
    }

    proptest! {
        /// The images that are shown are the first of all in their order, but for those that are denied beyond the tenth.
        #[test]
        fn the_images_that_are_shown_are_those_of_a_sorted_list(kinds in proptest::collection::vec(0_u8..30, 0..400)) {
            let images: Vec<ImageStatus> = kinds.iter().enumerate().map(|(number, kind)| image(number, *kind)).collect();
            let ledger = Ledger::restore(&RecordedImages::Shown, &images, None, Timestamp::UNIX_EPOCH);
            let mut expected: Vec<(&Tag, LedgerEntry<'_>)> = ledger.entries().collect();
            expected.sort_by_key(|(tag, entry)| rank(tag, entry));
            let mut denied = 0;
            expected.retain(|(_, entry)| {
                denied += usize::from(is_denied(entry));
                !is_denied(entry) || denied <= MAX_DENIED
            });
            let shown = interesting(&ledger);
            prop_assert!(shown.len() <= MAX_IMAGES && (shown.len() == expected.len() || shown.len() > 100));
            let tags: Vec<&str> = shown.iter().map(|image| image.tag.as_str()).collect();
            let expected: Vec<&str> = expected.iter().map(|(tag, _)| tag.as_str()).take(tags.len()).collect();
            prop_assert_eq!(tags, expected);
        }
    }
}
