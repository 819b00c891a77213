//! The complete record of the verified images of a pair that outgrows its status: packed rows in buckets.

use super::packed_rows::PackedRows;
use crate::terms::{ImageStatus, ReplicationState};

/// The verified images of a pair. While they all fit into its status, the status is the record and nothing is held here.
/// Once they do not, each row belongs to a bucket by the hash of its tag: a change rewrites one bucket. Rows move only when
/// the pair has twice as many images as its buckets were made for: there are more of them then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRecord {
    options: Option<String>,
    /// The rows of each bucket; none while the status is the record.
    buckets: Vec<Bucket>,
    is_kept: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bucket {
    rows: PackedRows,
    is_changed: bool,
}

/// The content of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBucket {
    /// Its number, from 0.
    pub index: usize,
    /// The number of buckets of the record.
    pub of: usize,
    /// The fingerprint of the options by which the images were copied.
    pub options: Option<String>,
    /// A row for each image, in the order of their tags.
    pub rows: Vec<String>,
}

/// The content of one bucket as a store has it, in little memory.
#[derive(Debug)]
pub struct StoredBucket {
    index: usize,
    of: usize,
    options: Option<String>,
    rows: PackedRows,
}

impl From<RecordBucket> for StoredBucket {
    fn from(RecordBucket { index, of, options, rows: texts }: RecordBucket) -> Self {
        let mut rows = PackedRows::default();
        for row in &texts {
            rows.put(row);
        }
        Self { index, of, options, rows }
    }
}

impl ImageRecord {
    /// Returns the record of a pair whose status shows all of its images, copied by `options`.
    pub fn of_status(options: Option<String>) -> Self {
        Self { options, ..Self::default() }
    }

    /// Restores a record from its buckets; those that were copied by other options than `options` do not count, nor do
    /// those from before there were more of them, and rows that cannot be read say nothing. `None` if there is no bucket.
    pub fn kept(buckets: impl IntoIterator<Item = impl Into<StoredBucket>>, options: Option<String>) -> Option<Self> {
        let buckets: Vec<StoredBucket> = buckets.into_iter().map(Into::into).collect();
        let of = buckets.iter().map(|bucket| bucket.of).max()?.clamp(1, MAX_BUCKETS);
        let mut record = Self { options, buckets: vec![Bucket::default(); of], is_kept: true };
        for bucket in buckets {
            let is_counted = bucket.of == of && bucket.options == record.options;
            if let Some(kept) = record.buckets.get_mut(bucket.index) {
                if is_counted {
                    kept.rows = bucket.rows;
                }
                kept.is_changed = !is_counted;
            }
        }
        Some(record)
    }

    /// Returns true once the status is not the record any more.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Returns true once images are held: changes of them count from then on.
    pub fn is_held(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Holds the verified images of the pair, as the status does not show them all any more.
    pub fn hold(&mut self, images: &[ImageStatus]) {
        self.buckets = vec![Bucket::default()];
        images.iter().for_each(|image| self.verify(image));
    }

    /// Returns every image that is held.
    pub fn images(&self) -> impl Iterator<Item = ImageStatus> + '_ {
        let rows = self.buckets.iter().flat_map(|bucket| bucket.rows.texts());
        rows.filter_map(|row| image_of(&row))
    }

    /// Records that an image was verified, if images are held.
    pub fn verify(&mut self, image: &ImageStatus) {
        self.change(&image.tag, |rows| rows.put(&row_of(image)));
    }

    /// Records that a tag is no longer replicated.
    pub fn forget(&mut self, tag: &str) {
        self.change(tag, |rows| rows.remove(tag));
    }

    /// Records that all images have to be verified anew, by these options.
    pub fn start_over(&mut self, options: Option<String>) {
        self.options = options;
        for bucket in &mut self.buckets {
            *bucket = Bucket { rows: PackedRows::default(), is_changed: true };
        }
    }

    /// Keeps the images that are held in buckets from now on, and in more of them where they have become too small; the
    /// pair has `images` images.
    pub fn outgrow(&mut self, images: u64) {
        if !self.is_held() {
            return;
        }
        let images = usize::try_from(images).unwrap_or(usize::MAX);
        let wanted = images.div_ceil(ROWS).clamp(1, MAX_BUCKETS);
        if self.is_kept && wanted <= 2 * self.buckets.len() {
            return;
        }
        let mut buckets = vec![Bucket { rows: PackedRows::default(), is_changed: true }; wanted.next_power_of_two()];
        for row in self.buckets.iter().flat_map(|bucket| bucket.rows.texts()) {
            let index = index(row.split_once(' ').unwrap_or_default().0, buckets.len());
            buckets[index].rows.put(&row);
        }
        (self.buckets, self.is_kept) = (buckets, true);
    }

    /// Takes the first bucket from this number on that was changed since it was last written; `None` if there is none, or
    /// the status is the record.
    pub fn take_changed(&mut self, from: usize) -> Option<RecordBucket> {
        let of = self.buckets.len();
        let changed = self.buckets.iter_mut().enumerate().skip(from).filter(|_| self.is_kept);
        let (index, bucket) = changed.into_iter().find(|(_, bucket)| bucket.is_changed)?;
        bucket.is_changed = false;
        // Images beyond the bound of an object are verified anew after a restart.
        let rows = bucket.rows.texts().take(MAX_ROWS).collect();
        Some(RecordBucket { index, of, options: self.options.clone(), rows })
    }

    /// Has a bucket written again: the last write of it failed.
    pub fn write_again(&mut self, index: usize) {
        if let Some(bucket) = self.buckets.get_mut(index) {
            bucket.is_changed = true;
        }
    }

    /// Has every bucket written again: the objects are gone.
    pub fn write_all_again(&mut self) {
        self.buckets.iter_mut().for_each(|bucket| bucket.is_changed = true);
    }

    fn change(&mut self, tag: &str, change: impl FnOnce(&mut PackedRows) -> bool) {
        if !self.is_held() {
            return;
        }
        let index = index(tag, self.buckets.len());
        let bucket = &mut self.buckets[index];
        bucket.is_changed |= change(&mut bucket.rows);
    }
}

/// Returns the bucket of a tag: FNV-1a, which stays the same in every version of the program.
fn index(tag: &str, of: usize) -> usize {
    let hash = tag
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The lower bits of this hash alone are poor.
    usize::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or_default() % of.max(1)
}

/// Returns the row of a verified image. A dash stands for what it has not; the time of an early audit is at the end, where
/// there is one.
fn row_of(image: &ImageStatus) -> String {
    let at = image.completed_at.map_or("-".to_owned(), |at| at.as_second().to_string());
    let bytes = image.bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
    let (destination, referrers) = (word(&image.destination_digest), word(&image.referrers_hash));
    let audit = image.next_attempt_at.map_or(String::new(), |at| format!(" {}", at.as_second()));
    format!("{} {} {at} {bytes} {destination} {referrers}{audit}", image.tag, image.digest)
}

/// Returns the image of a row; `None` if it is none.
fn image_of(row: &str) -> Option<ImageStatus> {
    let words: Vec<&str> = row.split(' ').collect();
    let (words, audit) = words.split_at_checked(6)?;
    let [tag, digest, at, bytes, destination, referrers] = words[..] else { return None };
    let word = |word: &str| (word != "-").then(|| word.to_owned());
    let time = |word: &str| word.parse().ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    Some(ImageStatus {
        status: ReplicationState::Complete,
        completed_at: time(at),
        next_attempt_at: audit.first().and_then(|at| time(at)),
        bytes: bytes.parse().ok(),
        destination_digest: word(destination),
        referrers_hash: word(referrers),
        ..ImageStatus::pending(tag.to_owned(), digest.to_owned())
    })
}

/// The rows for which a bucket is made: about 130 kB.
const ROWS: usize = 1_000;
/// The rows that an object may hold: less than a mebibyte with the longest tags and hashes.
const MAX_ROWS: usize = 2_400;
/// A power of two, as every number of buckets.
const MAX_BUCKETS: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn image(tag: &str, content: u64) -> ImageStatus {
        ImageStatus {
            status: ReplicationState::Complete,
            bytes: Some(content),
            completed_at: Some(jiff::Timestamp::from_second(1_700_000_000).unwrap()),
            destination_digest: content.is_multiple_of(3).then(|| format!("sha256:{content:0>64}")),
            referrers_hash: content.is_multiple_of(2).then(|| "fingerprint".to_owned()),
            next_attempt_at: content.is_multiple_of(5).then(|| jiff::Timestamp::from_second(1_700_000_060).unwrap()),
            ..ImageStatus::pending(tag.to_owned(), format!("sha256:{content:064x}"))
        }
    }

    fn held(images: &[ImageStatus]) -> ImageRecord {
        let mut record = ImageRecord::default();
        record.hold(images);
        record
    }

    fn written(record: &mut ImageRecord) -> Vec<RecordBucket> {
        std::iter::from_fn(|| record.take_changed(0)).collect()
    }

    #[test]
    fn nothing_is_kept_while_the_status_is_the_record() {
        let mut record = ImageRecord::of_status(None);
        record.verify(&image("v1", 1));
        record.outgrow(1);
        assert!(!record.is_held() && !record.is_kept());
        record.hold(&[image("v1", 1)]);
        record.verify(&image("v2", 2));
        assert!(!record.is_kept());
        assert_eq!(written(&mut record), []);
        record.outgrow(2);
        let buckets = written(&mut record);
        assert_eq!((buckets.len(), buckets[0].of, buckets[0].rows.len()), (1, 1, 2));
        assert_eq!(written(&mut record), [], "what was written is not written again");
    }

    #[test]
    fn one_change_rewrites_one_bucket() {
        let mut record = held(&[]);
        (0..20_000).for_each(|n| record.verify(&image(&format!("v{n}"), n)));
        record.outgrow(20_000);
        let buckets = written(&mut record);
        assert_eq!(buckets.len(), 32);
        assert!(buckets.iter().all(|bucket| (400..900).contains(&bucket.rows.len())), "they are even");
        record.verify(&image("v7", 7));
        assert_eq!(written(&mut record), [], "it was verified with the same content");
        record.verify(&image("v7", 8));
        record.forget("unknown");
        let changed = written(&mut record);
        assert_eq!(changed.len(), 1);
        record.write_again(changed[0].index);
        assert_eq!(written(&mut record), changed, "a write that failed is repeated");
    }

    #[test]
    fn a_bucket_that_changes_while_others_are_written_waits() {
        let mut record = held(&[]);
        (0..20_000).for_each(|n| record.verify(&image(&format!("v{n}"), n)));
        record.outgrow(20_000);
        let mut indices = Vec::new();
        while let Some(bucket) = record.take_changed(indices.len()) {
            (0..20_000)
                .for_each(|n| record.verify(&image(&format!("v{n}"), 1_000_000 * (bucket.index as u64 + 1) + n)));
            indices.push(bucket.index);
        }
        assert_eq!(indices, (0..32).collect::<Vec<_>>(), "each once");
        assert_eq!(written(&mut record).len(), 32);
    }

    #[test]
    fn a_record_that_was_begun_small_holds_every_row_of_a_pair_that_has_grown() {
        let (mut record, mut store) = (held(&[]), BTreeMap::new());
        for n in 0..20_000 {
            record.verify(&image(&format!("v{n}"), n));
            if n % 300 == 299 {
                record.outgrow(n + 1);
                store.extend(written(&mut record).into_iter().map(|bucket| (bucket.index, bucket)));
            }
        }
        record.outgrow(20_000);
        store.extend(written(&mut record).into_iter().map(|bucket| (bucket.index, bucket)));
        assert_eq!(ImageRecord::kept(store.into_values(), None).unwrap().images().count(), 20_000);
    }

    #[test]
    fn a_process_killed_while_buckets_became_more_left_a_part_of_them() {
        let mut record = held(&[]);
        (0..5_000).for_each(|n| record.verify(&image(&format!("v{n}"), n)));
        record.outgrow(1_000);
        let mut store: BTreeMap<usize, RecordBucket> =
            written(&mut record).into_iter().map(|bucket| (bucket.index, bucket)).collect();
        record.outgrow(5_000);
        let first = record.take_changed(0).unwrap();
        let rows = first.rows.len();
        store.insert(first.index, first);
        let mut restored = ImageRecord::kept(store.into_values(), None).unwrap();
        assert_eq!(restored.images().count(), rows, "the others are verified anew");
        (0..5_000).for_each(|n| restored.verify(&image(&format!("v{n}"), n)));
        let store = written(&mut restored);
        assert!(!store.is_empty());
        assert_eq!(restored.images().count(), 5_000);
    }

    #[test]
    fn rows_of_other_options_and_rows_that_cannot_be_read_do_not_count() {
        let mut record = held(&[]);
        record.verify(&image("v1", 1));
        record.outgrow(1);
        let mut buckets = written(&mut record);
        buckets[0].rows.push("v2 is no row".to_owned());
        assert_eq!(ImageRecord::kept(buckets.clone(), None).unwrap().images().collect::<Vec<_>>(), [image("v1", 1)]);
        let mut other = ImageRecord::kept(buckets, Some("amd64".to_owned())).unwrap();
        assert_eq!(other.images().count(), 0);
        assert_eq!(written(&mut other).len(), 1, "they are written over");
        assert_eq!(ImageRecord::kept(Vec::<RecordBucket>::new(), None), None);
    }

    #[test]
    fn the_largest_bucket_fits_into_an_object() {
        let longest = |n: usize| ImageStatus {
            destination_digest: Some(format!("sha512:{n:0128}")),
            referrers_hash: Some("f".repeat(64)),
            bytes: Some(u64::MAX),
            ..image(&format!("{n:0>128}"), 1)
        };
        let mut record = held(&[]);
        record.outgrow(1);
        (0..3_000).for_each(|n| record.verify(&longest(n)));
        let bytes: usize = written(&mut record)[0].rows.iter().map(|row| row.len() + 3).sum();
        assert!(bytes < 1_100_000, "{bytes}");
    }

    #[derive(Clone, Debug)]
    enum RecordStep {
        Verify(u8, u64),
        Forget(u8),
        StartOver(bool),
        Outgrow(u64),
        Write { fails: bool },
    }

    fn steps() -> impl Strategy<Value = Vec<RecordStep>> {
        let step = prop_oneof![
            8 => (any::<u8>(), 0..9_u64).prop_map(|(tag, content)| RecordStep::Verify(tag, content)),
            3 => any::<u8>().prop_map(RecordStep::Forget),
            1 => any::<bool>().prop_map(RecordStep::StartOver),
            1 => (0..9_000_u64).prop_map(RecordStep::Outgrow),
            4 => any::<bool>().prop_map(|fails| RecordStep::Write { fails }),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        /// Whatever happened before, once everything was written the buckets have exactly the images of the record.
        #[test]
        fn what_was_written_is_what_is_restored(steps in steps()) {
            let (mut record, mut store) = (held(&[]), BTreeMap::new());
            let mut expected: BTreeMap<String, ImageStatus> = BTreeMap::new();
            for step in steps {
                match step {
                    RecordStep::Verify(tag, content) => {
                        let image = image(&format!("v{tag}"), content);
                        record.verify(&image);
                        expected.insert(image.tag.clone(), image);
                    }
                    RecordStep::Forget(tag) => {
                        record.forget(&format!("v{tag}"));
                        expected.remove(&format!("v{tag}"));
                    }
                    RecordStep::StartOver(choice) => {
                        record.start_over(choice.then(|| "amd64".to_owned()));
                        expected.clear();
                    }
                    RecordStep::Outgrow(images) => record.outgrow(images),
                    RecordStep::Write { fails } => {
                        if let Some(bucket) = record.take_changed(0) {
                            if fails {
                                record.write_again(bucket.index);
                            } else {
                                store.insert(bucket.index, bucket);
                            }
                        }
                    }
                }
            }
            record.outgrow(1);
            store.extend(written(&mut record).into_iter().map(|bucket| (bucket.index, bucket)));
            let restored = ImageRecord::kept(store.into_values(), record.options.clone()).unwrap();
            let found: BTreeSet<String> = restored.images().map(|image| format!("{image:?}")).collect();
            prop_assert_eq!(found, expected.values().map(|image| format!("{image:?}")).collect::<BTreeSet<_>>());
            prop_assert_eq!(restored, record);
        }
    }
}
