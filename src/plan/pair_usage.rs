//! The usage of a pair: bytes that were moved for it, and bytes that it keeps at its destination.

use std::time::Duration;

use jiff::Timestamp;

use super::content_sketch::ContentSketch;
use crate::terms::PairSummary;

/// The usage of one pair of repositories.
///
/// Content that is no longer referenced leaves the sum after two cycles of audits, in each of which every image is
/// verified. A restart forgets the contents, and keeps their sum until a cycle is complete.
#[derive(Clone, Debug, Default)]
pub struct PairUsage {
    moved: u64,
    stored: u64,
    /// The bytes that an earlier process counted as stored, and those that it counted as moved.
    earlier: Option<(u64, u64)>,
    last: ContentSketch,
    present: ContentSketch,
    began: Option<Timestamp>,
}

impl PairUsage {
    /// Restores what an earlier process published. The bytes of the `largest` verified image are a bound from below: it
    /// may have ended before it published what it had verified.
    pub fn restore(summary: &PairSummary, largest: u64) -> Self {
        let (moved, stored) = (summary.bytes_moved, summary.bytes_stored.max(largest));
        Self { moved, stored, earlier: Some((stored, moved)), ..Self::default() }
    }

    /// Counts the bytes that one copy has moved, whatever its result.
    pub fn take_moved(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes);
        self.stored = self.present_stored();
    }

    /// Counts the content of an image that was verified.
    pub fn take_verified(&mut self, content: &ContentSketch, now: Timestamp) {
        let began = *self.began.get_or_insert(now);
        if now.duration_since(began).unsigned_abs() >= CYCLE {
            self.last = std::mem::take(&mut self.present);
            (self.began, self.earlier) = (Some(now), None);
        }
        self.present.merge(content);
        self.stored = self.present_stored();
    }

    /// Returns the bytes that were moved for the pair.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Returns the bytes that the pair keeps at its destination, content that its images share counted once.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    fn present_stored(&self) -> u64 {
        let mut all = self.present.clone();
        all.merge(&self.last);
        let earlier = self.earlier.map(|(stored, moved)| stored.saturating_add(self.moved - moved));
        all.bytes().max(earlier.unwrap_or_default())
    }
}

/// The time in which every image is verified once: an interval of audits, and time for the last of them.
const CYCLE: Duration = Duration::from_secs(25 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    fn image(contents: &[(&str, u64)]) -> ContentSketch {
        let mut sketch = ContentSketch::default();
        contents.iter().for_each(|(name, size)| sketch.add(&Digest::sha256(name.as_bytes()), *size));
        sketch
    }

    #[test]
    fn content_that_images_share_is_stored_once() {
        let mut usage = PairUsage::default();
        usage.take_moved(110);
        usage.take_verified(&image(&[("base", 100), ("one", 10)]), at(0));
        usage.take_moved(20);
        usage.take_verified(&image(&[("base", 100), ("two", 20)]), at(0));
        assert_eq!((usage.moved(), usage.stored()), (130, 130));
    }

    #[test]
    fn what_is_verified_no_more_leaves_the_sum_after_two_cycles() {
        let mut usage = PairUsage::default();
        let (stays, leaves) = (image(&[("base", 100), ("one", 10)]), image(&[("base", 100), ("two", 20)]));
        usage.take_verified(&stays, at(0));
        usage.take_verified(&leaves, at(1));
        let stored: Vec<u64> = [26, 40, 52]
            .map(|hour| {
                usage.take_verified(&stays, at(hour));
                usage.stored()
            })
            .into();
        assert_eq!(stored, [130, 130, 110]);
    }

    #[test]
    fn a_restart_keeps_the_sums_until_every_image_was_verified() {
        let summary = PairSummary { bytes_moved: 1_000, bytes_stored: 500, ..PairSummary::default() };
        assert_eq!(PairUsage::restore(&summary, 700).stored(), 700, "no less than one of them");
        let mut usage = PairUsage::restore(&summary, 0);
        assert_eq!((usage.moved(), usage.stored()), (1_000, 500));
        usage.take_moved(30);
        usage.take_verified(&image(&[("base", 100), ("new", 30)]), at(0));
        assert_eq!((usage.moved(), usage.stored()), (1_030, 530), "what was moved since was not there");
        usage.take_verified(&image(&[("base", 100), ("old", 300)]), at(20));
        usage.take_verified(&image(&[("base", 100), ("new", 30)]), at(26));
        assert_eq!(usage.stored(), 430, "every image was verified since");
    }
}
