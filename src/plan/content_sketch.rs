//! An estimate of the bytes of a set of contents, each counted once, in bounded memory.

use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// A sample of a set of manifests and blobs, from which the sum of their sizes is estimated: exact up to
/// [`MAX_SAMPLES`] contents, with a standard error of at most 9 % beyond.
///
/// It is a priority sample: of each content the size is divided by a number between 0 and 1 that its digest gives, and
/// the contents with the largest results are kept. Adding a content again, or the union of two sets, counts nothing
/// twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentSketch(Vec<Sample>);

/// The first 64 bits of a digest, and the size of its content.
type Sample = (u64, u64);

impl ContentSketch {
    /// Returns true if nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a content of `size` bytes.
    pub fn add(&mut self, digest: &Digest, size: u64) {
        let bits = digest.encoded().get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        self.insert((bits.unwrap_or_default(), size));
    }

    /// Adds every content of another set.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|sample| self.insert(*sample));
    }

    /// Returns the estimated bytes of all contents that were added.
    pub fn bytes(&self) -> u64 {
        let threshold = self.0.get(MAX_SAMPLES).map_or(0, |sample| priority(sample) as u64);
        self.0.iter().take(MAX_SAMPLES).map(|(_, size)| *size.max(&threshold)).fold(0, u64::saturating_add)
    }

    fn insert(&mut self, sample: Sample) {
        let descending = |kept: &Sample| {
            let order = priority(&sample).total_cmp(&priority(kept));
            order.then_with(|| sample.0.cmp(&kept.0))
        };
        if let Err(place) = self.0.binary_search_by(descending)
            && place <= MAX_SAMPLES
        {
            self.0.truncate(MAX_SAMPLES);
            if self.0.len() == self.0.capacity() {
                // There is one for each pair: no more room than it may take.
                self.0.reserve_exact(self.0.len().max(4).min(MAX_SAMPLES + 1 - self.0.len()));
            }
            self.0.insert(place.min(self.0.len()), sample);
        }
    }
}

fn priority((bits, size): &Sample) -> f64 {
    *size as f64 * 2f64.powi(64) / (*bits as f64 + 1.0)
}

/// The contents by which a sum is estimated; one more says how many are left out.
const MAX_SAMPLES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(contents: impl IntoIterator<Item = u64>) -> ContentSketch {
        let mut sketch = ContentSketch::default();
        contents.into_iter().for_each(|i| sketch.add(&Digest::sha256(&i.to_le_bytes()), size(i)));
        sketch
    }

    /// Few contents are large, as layers are.
    fn size(i: u64) -> u64 {
        1_000 + (i % 97).pow(4)
    }

    #[test]
    fn few_contents_are_counted_exactly_and_once() {
        let mut twice = sketch((0..100).chain(0..100));
        assert_eq!(twice.bytes(), (0..100).map(size).sum::<u64>());
        twice.merge(&sketch(50..128));
        assert_eq!(twice.bytes(), (0..128).map(size).sum::<u64>());
    }

    #[test]
    fn many_contents_are_estimated_within_a_tenth_or_so() {
        for offset in (0..40).map(|i| i * 100_000) {
            let exact = (offset..offset + 5_000).map(size).sum::<u64>() as f64;
            let estimate = sketch(offset..offset + 5_000).bytes() as f64;
            assert!((estimate / exact - 1.0).abs() < 0.3, "{estimate} instead of {exact}");
        }
    }

    #[test]
    fn the_union_of_parts_is_the_whole_in_any_order() {
        let whole = sketch(0..3_000);
        let mut union = sketch((1_000..3_000).rev());
        union.merge(&sketch(0..2_000));
        assert_eq!(union, whole);
        assert!(serde_json::to_string(&whole).unwrap().len() < 6_000, "the answer of a worker stays small");
    }
}
