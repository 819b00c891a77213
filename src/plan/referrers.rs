//! The referrers of the images of a source repository: a fingerprint for each image shows changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::image::{Digest, Tag, base_of_referrer_tag, cosign_tags, fallback_tag};

/// The interval in which a referrers API is asked about images whose digest did not change. Changes of tags are seen
/// with every listing of tags.
pub const REFERRERS_INTERVAL: Duration = Duration::from_secs(3600);

/// The referrers of the images of one source repository, as last observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenReferrers {
    tags: Arc<SeenTags>,
    /// Fingerprints, of lists that are not empty.
    by_api: BTreeMap<Digest, Box<str>>,
}

/// Tags that stand for referrers.
pub type SeenTags = BTreeMap<Tag, SeenTag>;

/// A tag that stands for referrers, as last observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenTag {
    /// Its digest; `None` if it was never read.
    pub digest: Option<Digest>,
    /// The time of the last observation.
    pub at: Timestamp,
}

impl SeenReferrers {
    /// Records a complete listing that was observed by `now`: every tag of the repository that stands for referrers,
    /// with its digest. A tag without one was not read: the digest that it had is kept. Returns the fallback tags of
    /// the images whose referrers have changed.
    pub fn see_tags(&mut self, tags: BTreeMap<Tag, Option<Digest>>, now: Timestamp) -> BTreeSet<Tag> {
        let mut earlier = std::mem::take(Arc::make_mut(&mut self.tags));
        let mut changed = BTreeSet::new();
        let seen = tags.into_iter().map(|(tag, digest)| {
            let known = earlier.remove(&tag);
            let is_same = known.as_ref().is_some_and(|known| digest.is_none() || known.digest == digest);
            if !is_same {
                changed.insert(base_of_referrer_tag(&tag));
            }
            let at = if digest.is_some() { now } else { known.as_ref().map_or(now, |known| known.at) };
            let digest = digest.or_else(|| known?.digest);
            (tag, SeenTag { digest, at })
        });
        self.tags = Arc::new(seen.collect());
        changed.extend(earlier.keys().map(base_of_referrer_tag));
        changed
    }

    /// Records one such tag as it was observed alone; returns true if its digest is another one than before.
    pub fn see_tag(&mut self, tag: Tag, digest: Digest, now: Timestamp) -> bool {
        let seen = SeenTag { digest: Some(digest), at: now };
        let earlier = Arc::make_mut(&mut self.tags).insert(tag, seen.clone());
        earlier.is_none_or(|earlier| earlier.digest != seen.digest)
    }

    /// Returns all tags, to be shared.
    pub fn tags(&self) -> Arc<SeenTags> {
        self.tags.clone()
    }

    /// Returns the first tag behind `after` that was read before a time, and not since.
    pub fn next_known(&self, after: Option<&Tag>, before: Timestamp) -> Option<&Tag> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut tags = self.tags.range((behind, Bound::Unbounded));
        tags.find_map(|(tag, seen)| (seen.digest.is_some() && seen.at < before).then_some(tag))
    }

    /// Records the list of the referrers API for an image; its order does not matter.
    pub fn see_listed(&mut self, subject: &Digest, listed: &[Digest]) {
        match list_fingerprint(listed) {
            Some(fingerprint) => drop(self.by_api.insert(subject.clone(), fingerprint.into())),
            None => drop(self.by_api.remove(subject)),
        }
    }

    /// Records the list that a copy of an image saw, unless one is known: that may be newer.
    pub fn see_copied(&mut self, subject: &Digest, fingerprint: &str) {
        if !self.by_api.contains_key(subject) {
            self.by_api.insert(subject.clone(), fingerprint.into());
        }
    }

    /// Forgets the referrers of images that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&Digest) -> bool) {
        self.by_api.retain(|subject, _| is_there(subject));
    }

    /// Returns every tag that stands for referrers, if there are at most `most`.
    pub fn all_tags(&self, most: usize) -> Option<BTreeSet<Tag>> {
        (self.tags.len() <= most).then(|| self.tags.keys().cloned().collect())
    }

    /// Returns a fingerprint, 12 characters, of the tags that refer to an image; `None` if none does. Referrers of a
    /// single platform of the image are not part of it.
    pub fn tags_fingerprint(&self, image: &Digest) -> Option<String> {
        let tags = cosign_tags(image).into_iter().chain([fallback_tag(image)]);
        let line = |tag: Tag| {
            let digest = self.tags.get(&tag)?.digest.as_ref().map_or("unread", Digest::as_str);
            Some(format!("{tag} {digest}\n"))
        };
        let lines: String = tags.filter_map(line).collect();
        (!lines.is_empty()).then(|| short(&lines))
    }

    /// Returns a fingerprint of the list of the referrers API; `None` if it is empty.
    pub fn listed_fingerprint(&self, image: &Digest) -> Option<String> {
        self.by_api.get(image).map(|fingerprint| fingerprint.to_string())
    }
}

/// Returns a fingerprint, 12 characters, of the list of the referrers API for an image, whatever its order; `None` if it
/// is empty.
pub fn list_fingerprint(listed: &[Digest]) -> Option<String> {
    let mut lines: Vec<&str> = listed.iter().map(Digest::as_str).collect();
    lines.sort_unstable();
    (!lines.is_empty()).then(|| short(&lines.join("\n")))
}

/// Deserializes a fingerprint. Another text, which only a worker that is not ours sends, counts as none: the image is
/// checked again.
pub(super) fn fingerprint_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let is_fingerprint = |text: &String| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(Option::<String>::deserialize(deserializer)?.filter(is_fingerprint))
}

fn short(text: &str) -> String {
    Digest::sha256(text.as_bytes()).encoded()[..12].to_owned()
}

/// Fingerprints of the referrers of an image: of its tags, and of the list of the referrers API. Small, as most images
/// have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referred(Option<Box<Fingerprints>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprints {
    tags: Option<String>,
    listed: Option<String>,
}

impl Referred {
    /// Returns the fingerprints of the tags, `None` if no tag refers to the image, and of the list, `None` if it is empty
    /// or was never requested.
    pub fn new(tags: Option<String>, listed: Option<String>) -> Self {
        let is_any = tags.is_some() || listed.is_some();
        Self(is_any.then(|| Box::new(Fingerprints { tags, listed })))
    }

    /// Returns the same with another list.
    pub fn with_list(self, listed: String) -> Self {
        Self::new(self.0.and_then(|parts| parts.tags), Some(listed))
    }

    /// Returns the fingerprint of the list.
    pub fn listed(&self) -> Option<&str> {
        self.0.as_ref()?.listed.as_deref()
    }

    /// Returns both parts as one word of at most 25 characters; `None` if nothing refers to the image.
    pub fn word(&self) -> Option<String> {
        let Fingerprints { tags, listed } = self.0.as_deref()?;
        Some(format!("{}.{}", tags.as_deref().unwrap_or_default(), listed.as_deref().unwrap_or_default()))
    }

    /// Parses the word of [`Referred::word`]. An unknown form counts as no referrers, so that the image is checked
    /// again.
    pub fn parse(word: &str) -> Self {
        let (tags, listed) = word.split_once('.').unwrap_or_default();
        let part = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Self::new(part(tags), part(listed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Replica;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_tag_that_was_not_read_keeps_its_digest_and_changes_nothing() {
        let (image, a, b) = (Digest::sha256(b"i"), Digest::sha256(b"a"), Digest::sha256(b"b"));
        let [signature, ..] = cosign_tags(&image);
        let mut seen = SeenReferrers::default();
        let mut list = |digest: Option<&Digest>, second| {
            let changed = seen.see_tags([(signature.clone(), digest.cloned())].into(), at(second));
            (changed.len(), seen.tags()[&signature].clone(), seen.next_known(None, at(5)).is_some())
        };
        let tag = |digest: Option<&Digest>, second| SeenTag { digest: digest.cloned(), at: at(second) };
        assert_eq!(list(None, 1), (1, tag(None, 1), false));
        assert_eq!(list(Some(&a), 2), (1, tag(Some(&a), 2), true));
        assert_eq!(list(None, 3), (0, tag(Some(&a), 2), true));
        assert_eq!(list(Some(&a), 4), (0, tag(Some(&a), 4), true));
        assert_eq!(list(Some(&b), 6), (1, tag(Some(&b), 6), false));
    }

    #[test]
    fn a_worker_that_sends_no_fingerprint_names_no_referrers() {
        let long = "a".repeat(9_000);
        let some = list_fingerprint(&[Digest::sha256(b"a")]).unwrap();
        for (sent, taken) in [(some.as_str(), Some(some.as_str())), (&long, None), ("", None), ("......------", None)] {
            let replica: Replica = serde_json::from_value(json!({"bytes": 1, "listed": sent})).unwrap();
            assert_eq!(replica.listed.as_deref(), taken);
        }
    }

    #[test]
    fn the_fingerprints_of_an_image_change_with_its_referrers_alone() {
        let (image, other, a, b) =
            (Digest::sha256(b"i"), Digest::sha256(b"o"), Digest::sha256(b"a"), Digest::sha256(b"b"));
        let of = |seen: &SeenReferrers, image: &Digest| {
            Referred::new(seen.tags_fingerprint(image), seen.listed_fingerprint(image))
        };
        let mut seen = SeenReferrers::default();
        assert_eq!((of(&seen, &image).word(), seen.all_tags(9)), (None, Some(BTreeSet::new())));
        seen.see_listed(&image, &[a.clone(), b.clone()]);
        let listed = of(&seen, &image);
        assert_eq!((listed.word().map(|word| word.len()), of(&seen, &other).word()), (Some(13), None));
        seen.see_listed(&image, &[b.clone(), a.clone()]);
        assert_eq!(of(&seen, &image), listed, "the order says nothing");
        assert!(seen.see_tag(fallback_tag(&other), a.clone(), at(1)));
        assert_eq!(of(&seen, &image), listed);
        assert!(seen.see_tag(fallback_tag(&image), a.clone(), at(1)));
        let with_tag = of(&seen, &image);
        assert_ne!(with_tag, listed);
        assert_eq!(Referred::parse(&with_tag.word().unwrap()), with_tag);
        assert!(seen.see_tag(fallback_tag(&image), b.clone(), at(1)) && !seen.see_tag(fallback_tag(&image), b, at(2)));
        assert_ne!(of(&seen, &image), with_tag, "a tag that moves is a change");
        assert_eq!((seen.all_tags(1), seen.all_tags(2).map(|tags| tags.len())), (None, Some(2)));
        let gone = seen.see_tags(BTreeMap::new(), at(3));
        assert_eq!(gone, [&image, &other].map(fallback_tag).into());
        assert_eq!(of(&seen, &image), listed);
        seen.retain(|digest| *digest == other);
        assert_eq!(of(&seen, &image), Referred::default());
        assert_eq!(Referred::parse("0123456789ab"), Referred::default(), "an unknown form is nothing");
    }
}
