//! The referrers of the images of a source repository: a fingerprint for each image shows changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::image::{Digest, Tag, cosign_tags, fallback_tag};

/// The interval in which a referrers API is asked about images whose digest did not change. Changes of tags are seen
/// with every listing of tags.
pub const REFERRERS_INTERVAL: Duration = Duration::from_secs(3600);

/// The referrers of the images of one source repository, as last observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenReferrers {
    /// The digest of each tag; `None` if it was never read.
    tags: BTreeMap<Tag, Option<Digest>>,
    by_api: BTreeMap<Digest, Digest>,
}

impl SeenReferrers {
    /// Records a complete listing: every tag of the repository that stands for referrers, with its digest. A tag
    /// without one could not be read: the digest that it had is kept.
    pub fn see_tags(&mut self, tags: BTreeMap<Tag, Option<Digest>>) {
        let mut earlier = std::mem::replace(&mut self.tags, tags);
        for (tag, digest) in self.tags.iter_mut().filter(|(_, digest)| digest.is_none()) {
            *digest = earlier.remove(tag).flatten();
        }
    }

    /// Records one such tag as it was pushed.
    pub fn see_tag(&mut self, tag: Tag, digest: Digest) {
        self.tags.insert(tag, Some(digest));
    }

    /// Records the list of the referrers API for an image; its order does not matter.
    pub fn see_listed(&mut self, subject: &Digest, listed: &[Digest]) {
        if listed.is_empty() {
            self.by_api.remove(subject);
        } else {
            let mut lines: Vec<&str> = listed.iter().map(Digest::as_str).collect();
            lines.sort_unstable();
            self.by_api.insert(subject.clone(), Digest::sha256(lines.join("\n").as_bytes()));
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
            let digest = self.tags.get(&tag)?.as_ref().map_or("unread", Digest::as_str);
            Some(format!("{tag} {digest}\n"))
        };
        let lines: String = tags.filter_map(line).collect();
        (!lines.is_empty()).then(|| short(&lines))
    }

    /// Returns a fingerprint of the list of the referrers API; `None` if it is empty.
    pub fn listed_fingerprint(&self, image: &Digest) -> Option<String> {
        self.by_api.get(image).map(|listed| short(listed.as_str()))
    }
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
    use super::*;

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
        seen.see_tag(fallback_tag(&other), a.clone());
        assert_eq!(of(&seen, &image), listed);
        seen.see_tag(fallback_tag(&image), a.clone());
        let with_tag = of(&seen, &image);
        assert_ne!(with_tag, listed);
        assert_eq!(Referred::parse(&with_tag.word().unwrap()), with_tag);
        seen.see_tag(fallback_tag(&image), b);
        assert_ne!(of(&seen, &image), with_tag, "a tag that moves is a change");
        assert_eq!((seen.all_tags(1), seen.all_tags(2).map(|tags| tags.len())), (None, Some(2)));
        seen.see_tags(BTreeMap::new());
        assert_eq!(of(&seen, &image), listed);
        seen.retain(|digest| *digest == other);
        assert_eq!(of(&seen, &image), Referred::default());
        assert_eq!(Referred::parse("0123456789ab"), Referred::default(), "an unknown form is nothing");
    }
}
