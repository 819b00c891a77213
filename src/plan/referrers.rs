//! What refers to the images of a source repository, as it was last seen: a fingerprint for each image tells when it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::image::{Digest, Tag, cosign_tags, fallback_tag};

/// How often a referrers API is asked about images whose digest did not change; changes of tags are seen whenever tags are listed.
pub const REFERRERS_EVERY: Duration = Duration::from_secs(3600);

/// What refers to the images of one source repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenReferrers {
    tags: BTreeMap<Tag, Digest>,
    by_api: BTreeMap<Digest, Digest>,
}

impl SeenReferrers {
    /// Every tag of the repository that stands for referrers, with what it points at: a complete listing.
    pub fn see_tags(&mut self, tags: BTreeMap<Tag, Digest>) {
        self.tags = tags;
    }

    /// One such tag, as it was pushed.
    pub fn see_tag(&mut self, tag: Tag, digest: Digest) {
        self.tags.insert(tag, digest);
    }

    /// What the referrers API lists for an image; the order says nothing.
    pub fn see_listed(&mut self, subject: &Digest, listed: &[Digest]) {
        if listed.is_empty() {
            self.by_api.remove(subject);
        } else {
            let mut lines: Vec<&str> = listed.iter().map(Digest::as_str).collect();
            lines.sort_unstable();
            self.by_api.insert(subject.clone(), Digest::sha256(lines.join("\n").as_bytes()));
        }
    }

    /// Forgets what refers to images that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&Digest) -> bool) {
        self.by_api.retain(|subject, _| is_there(subject));
    }

    /// Every tag that stands for referrers, if there are at most `most`.
    pub fn all_tags(&self, most: usize) -> Option<BTreeSet<Tag>> {
        (self.tags.len() <= most).then(|| self.tags.keys().cloned().collect())
    }

    /// A fingerprint of what refers to an image, 12 characters; `None` if nothing does. Of what refers to a single platform of it
    /// nothing is known here.
    pub fn fingerprint(&self, image: &Digest) -> Option<String> {
        let parts = [self.tags_fingerprint(image), self.listed_fingerprint(image)];
        match parts.iter().flatten().count() {
            0 => None,
            _ => Some(short(&format!("{parts:?}"))),
        }
    }

    /// The same, of what its tags tell alone.
    pub fn tags_fingerprint(&self, image: &Digest) -> Option<String> {
        let tags = cosign_tags(image).into_iter().chain([fallback_tag(image)]);
        let lines: String =
            tags.filter_map(|tag| self.tags.get(&tag).map(|digest| format!("{tag} {digest}\n"))).collect();
        (!lines.is_empty()).then(|| short(&lines))
    }

    /// The same, of what the referrers API tells alone.
    pub fn listed_fingerprint(&self, image: &Digest) -> Option<String> {
        self.by_api.get(image).map(|listed| short(listed.as_str()))
    }
}

fn short(text: &str) -> String {
    Digest::sha256(text.as_bytes()).encoded()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_of_an_image_changes_with_what_refers_to_it_and_with_nothing_else() {
        let (image, other, a, b) =
            (Digest::sha256(b"i"), Digest::sha256(b"o"), Digest::sha256(b"a"), Digest::sha256(b"b"));
        let mut seen = SeenReferrers::default();
        assert_eq!((seen.fingerprint(&image), seen.all_tags(9)), (None, Some(BTreeSet::new())));
        seen.see_listed(&image, &[a.clone(), b.clone()]);
        let listed = seen.fingerprint(&image);
        assert_eq!((listed.as_ref().map(String::len), seen.fingerprint(&other)), (Some(12), None));
        seen.see_listed(&image, &[b.clone(), a.clone()]);
        assert_eq!(seen.fingerprint(&image), listed, "the order says nothing");
        seen.see_tag(fallback_tag(&other), a.clone());
        assert_eq!(seen.fingerprint(&image), listed);
        seen.see_tag(fallback_tag(&image), a.clone());
        let with_tag = seen.fingerprint(&image);
        assert_ne!(with_tag, listed);
        seen.see_tag(fallback_tag(&image), b);
        assert_ne!(seen.fingerprint(&image), with_tag, "a tag that moves is a change");
        assert_eq!((seen.all_tags(1), seen.all_tags(2).map(|tags| tags.len())), (None, Some(2)));
        seen.see_tags(BTreeMap::new());
        assert_eq!(seen.fingerprint(&image), listed);
        seen.retain(|digest| *digest == other);
        assert_eq!(seen.fingerprint(&image), None);
    }
}
