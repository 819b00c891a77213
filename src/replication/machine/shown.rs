//! The status of a pair as the store has it, in little memory: texts are shared with the ledger.

use crate::image::{Digest, Tag};
use crate::plan::{Ledger, MicroTime};
use crate::terms::{ImageStatus, PairEnd, PairSummary, ReplicationState, ReplicationStatusStatus};

/// A published status.
#[derive(Clone, Debug)]
pub(super) struct ShownStatus {
    /// Everything but the images.
    pub(super) rest: ReplicationStatusStatus,
    images: Box<[ShownImage]>,
}

/// One entry of it.
#[derive(Clone, Debug, PartialEq)]
enum ShownImage {
    /// A verified image of which nothing is out of the ordinary.
    Complete { tag: Tag, digest: Digest, bytes: u64, at: MicroTime },
    /// Any other one.
    Other(Box<ImageStatus>),
}

impl ShownStatus {
    /// Packs a status. It shares the tags and digests that `ledger` has.
    pub(super) fn of(mut status: ReplicationStatusStatus, ledger: &Ledger) -> Self {
        let images = std::mem::take(&mut status.images);
        let images = images.into_iter().map(|image| ShownImage::of(image, ledger)).collect();
        Self { rest: status, images }
    }

    /// Unpacks the status.
    pub(super) fn status(&self) -> ReplicationStatusStatus {
        let images = self.images.iter().map(ShownImage::image).collect();
        ReplicationStatusStatus { images, ..self.rest.clone() }
    }

    /// Returns true if two statuses differ at most in the usage, and the numbers and times of attempts: these alone are
    /// not worth a write.
    pub(super) fn shows_the_same(&self, later: &Self) -> bool {
        let are_same = self.images.len() == later.images.len()
            && self.images.iter().zip(&later.images).all(|(earlier, later)| earlier.shows_the_same(later));
        let PairSummary { bytes_moved, bytes_stored, .. } = later.rest.summary;
        let summary = PairSummary { bytes_moved, bytes_stored, ..self.rest.summary.clone() };
        are_same && ReplicationStatusStatus { summary, ..self.rest.clone() } == later.rest
    }

    /// Returns true if another content than `digest` is shown as verified under `tag`, or any if `is_other`.
    pub(super) fn claims_other(&self, tag: &Tag, digest: &Digest, is_other: bool) -> bool {
        let of_tag = self.images.iter().find(|image| image.tag() == tag.as_str());
        of_tag.is_some_and(|image| image.is_complete() && (is_other || image.digest() != digest.as_str()))
    }

    /// Returns the tags that are shown as verified.
    pub(super) fn complete_tags(&self) -> impl Iterator<Item = &str> {
        self.images.iter().filter(|image| image.is_complete()).map(ShownImage::tag)
    }
}

impl ShownImage {
    fn of(image: ImageStatus, ledger: &Ledger) -> Self {
        Self::complete(&image, ledger)
            .filter(|packed| packed.image() == image)
            .unwrap_or_else(|| Self::Other(Box::new(image)))
    }

    fn complete(image: &ImageStatus, ledger: &Ledger) -> Option<Self> {
        let (bytes, at) = (image.bytes?, image.completed_at?);
        let (tag, digest) = match ledger.known(&image.tag).filter(|(_, row)| row.digest.as_str() == image.digest) {
            Some((tag, row)) => (tag.clone(), row.digest.clone()),
            None => (image.tag.parse().ok()?, image.digest.parse().ok()?),
        };
        Some(Self::Complete { tag, digest, bytes, at: at.into() })
    }

    fn image(&self) -> ImageStatus {
        match self {
            Self::Complete { tag, digest, bytes, at } => ImageStatus {
                status: ReplicationState::Complete,
                bytes: Some(*bytes),
                completed_at: Some(at.get()),
                ..ImageStatus::pending(tag.to_string(), digest.to_string())
            },
            Self::Other(image) => image.as_ref().clone(),
        }
    }

    fn shows_the_same(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Other(earlier), Self::Other(later)) => {
                let (attempts, next_attempt_at) = (later.attempts, later.next_attempt_at);
                earlier == later || ImageStatus { attempts, next_attempt_at, ..earlier.as_ref().clone() } == **later
            }
            _ => self == later,
        }
    }

    fn tag(&self) -> &str {
        match self {
            Self::Complete { tag, .. } => tag.as_str(),
            Self::Other(image) => &image.tag,
        }
    }

    fn digest(&self) -> &str {
        match self {
            Self::Complete { digest, .. } => digest.as_str(),
            Self::Other(image) => &image.digest,
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Complete { .. } => true,
            Self::Other(image) => image.status == ReplicationState::Complete,
        }
    }
}

/// Returns one end of a pair as the columns show it.
pub(super) fn label(end: &PairEnd) -> String {
    match &end.registry_ref.namespace {
        Some(namespace) => format!("{namespace}/{}/{}", end.registry_ref.name, end.repository),
        None => format!("{}/{}", end.registry_ref.name, end.repository),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::plan::RecordedImages;
    use crate::terms::FailureCode;

    fn images() -> impl Strategy<Value = Vec<ImageStatus>> {
        let state = prop_oneof![
            4 => Just(ReplicationState::Complete),
            1 => Just(ReplicationState::Failed),
            1 => Just(ReplicationState::Pending),
        ];
        let image = (state, any::<u8>(), any::<Option<u32>>(), any::<Option<u16>>(), any::<(bool, bool, bool)>());
        let image = image.prop_map(|(status, content, at, bytes, (is_other, has_referrers, is_unread))| ImageStatus {
            status,
            failure_code: (status == ReplicationState::Failed).then_some(FailureCode::SourceNotReady),
            completed_at: at.map(|at| Timestamp::from_second(at.into()).unwrap()),
            bytes: bytes.map(u64::from),
            destination_digest: is_other.then(|| Digest::sha256(b"other").to_string()),
            referrers_hash: has_referrers.then(|| "0123456789ab.".to_owned()),
            ..ImageStatus::pending(
                format!("v{content}"),
                if is_unread { String::new() } else { Digest::sha256(&[content % 4]).to_string() },
            )
        });
        proptest::collection::vec(image, 0..9)
    }

    proptest! {
        /// A packed status is the same status, whatever the ledger shares with it.
        #[test]
        fn a_status_that_is_packed_and_unpacked_is_the_same(images in images(), known in images()) {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let status = ReplicationStatusStatus { images, source: "s/app".to_owned(), ..Default::default() };
            let packed = ShownStatus::of(status.clone(), &Ledger::restore(&RecordedImages::Shown, &known, None, now));
            prop_assert_eq!(packed.status(), status.clone());
            let complete = status.images.iter().filter(|image| image.status == ReplicationState::Complete);
            let complete: Vec<&str> = complete.map(|image| image.tag.as_str()).collect();
            prop_assert_eq!(packed.complete_tags().collect::<Vec<_>>(), complete);
            prop_assert!(packed.shows_the_same(&ShownStatus::of(status, &Ledger::default())));
        }
    }
}
