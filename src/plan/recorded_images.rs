//! The images of a pair as an earlier process left them: recorded, and shown by the status.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image_record::ImageRecord;
use crate::terms::{ImageStatus, ReplicationState};

/// The verified images that a store has of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RecordedImages {
    /// Those that the status shows.
    #[default]
    Shown,
    /// All of them.
    Listed(Vec<ImageStatus>),
    /// All of them, in little memory.
    Packed(Arc<ImageRecord>),
}

impl RecordedImages {
    /// Has `take` take every image that is known: verified, as recorded, or else as the status shows it in `shown`. One
    /// that is shown as verified and that the record has forgotten is pending. Packed images are unpacked one by one.
    pub fn each(&self, shown: &[ImageStatus], mut take: impl FnMut(&ImageStatus)) {
        let is_complete = |image: &ImageStatus| image.status == ReplicationState::Complete;
        let mut left: BTreeMap<&str, &ImageStatus> = shown.iter().map(|image| (image.tag.as_str(), image)).collect();
        let mut weigh = |recorded: &ImageStatus| match left.remove(recorded.tag.as_str()) {
            // Statuses are written later than records.
            Some(shown) if !is_complete(shown) && shown.digest != recorded.digest => take(shown),
            _ => take(recorded),
        };
        match self {
            Self::Shown => return shown.iter().for_each(take),
            Self::Listed(images) => images.iter().for_each(&mut weigh),
            Self::Packed(record) => record.images().for_each(|image| weigh(&image)),
        }
        for image in left.into_values() {
            match is_complete(image) {
                true => take(&ImageStatus::pending(image.tag.clone(), image.digest.clone())),
                false => take(image),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tag: &str, content: u8, status: ReplicationState) -> ImageStatus {
        ImageStatus { status, ..ImageStatus::pending(tag.to_owned(), format!("sha256:{content:064x}")) }
    }

    fn all(recorded: &RecordedImages, shown: &[ImageStatus]) -> Vec<ImageStatus> {
        let mut images = Vec::new();
        recorded.each(shown, |image| images.push(image.clone()));
        images
    }

    #[test]
    fn records_and_statuses_complete_each_other() {
        use ReplicationState::{Complete, Failed, Pending};
        let recorded = [("same", 1), ("moved", 2), ("hidden", 3)].map(|(tag, content)| image(tag, content, Complete));
        let shown = [
            image("same", 1, Failed),
            image("moved", 9, Pending),
            image("forgotten", 4, Complete),
            image("open", 5, Failed),
        ];
        let mut record = ImageRecord::default();
        record.hold(&recorded);
        for recorded in [RecordedImages::Listed(recorded.to_vec()), RecordedImages::Packed(record.into())] {
            let mut found = all(&recorded, &shown);
            found.sort_by(|a, b| a.tag.cmp(&b.tag));
            let expected = [
                image("forgotten", 4, Pending),
                image("hidden", 3, Complete),
                image("moved", 9, Pending),
                image("open", 5, Failed),
                image("same", 1, Complete),
            ];
            assert_eq!(found, expected);
        }
        assert_eq!(all(&RecordedImages::Shown, &shown), shown);
    }
}
