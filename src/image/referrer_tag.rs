//! Tags that stand for referrers of an image: the fallback of the referrers API, and those of cosign.

use super::digest::Digest;
use super::name::Tag;

/// Returns the tag under which registries without a referrers API hold the index of the referrers of `subject`:
/// algorithm and hash, cut to 32 and 64 characters (distribution specification 1.1, "Referrers Tag Schema").
pub fn fallback_tag(subject: &Digest) -> Tag {
    let (algorithm, hash) = subject.as_str().split_once(':').expect("a digest has both");
    // Neither of the two algorithms has a character that a tag must not have.
    let tag = format!("{algorithm}-{}", &hash[..64]);
    tag.parse().expect("an algorithm and a hash make a tag")
}

/// Returns the tags under which cosign keeps the signatures, attestations and SBOMs of `subject` where it does not use
/// a subject field.
pub fn cosign_tags(subject: &Digest) -> [Tag; 3] {
    let base = fallback_tag(subject);
    COSIGN_SUFFIXES.map(|suffix| format!("{base}{suffix}").parse().expect("a short suffix leaves a tag"))
}

/// Returns true if a tag stands for referrers of an image, and is no image of its own.
pub fn is_referrer_tag(tag: &Tag) -> bool {
    let text = tag.as_str();
    let Some(rest) = ALGORITHMS.iter().find_map(|algorithm| text.strip_prefix(algorithm)) else { return false };
    let is_hash = rest.len() >= 64 && rest.bytes().take(64).all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_hash && (rest.len() == 64 || COSIGN_SUFFIXES.contains(&&rest[64..]))
}

/// Returns the fallback tag of the image whose referrers `tag` stands for.
pub fn base_of_referrer_tag(tag: &Tag) -> Tag {
    let base = COSIGN_SUFFIXES.iter().find_map(|suffix| tag.as_str().strip_suffix(suffix));
    base.and_then(|base| base.parse().ok()).unwrap_or_else(|| tag.clone())
}

const ALGORITHMS: [&str; 2] = ["sha256-", "sha512-"];
const COSIGN_SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_a_digest_are_those_of_the_specification_and_of_cosign() {
        let digest = Digest::sha256(b"x");
        assert_eq!(fallback_tag(&digest).as_str(), format!("sha256-{}", digest.encoded()));
        assert_eq!(cosign_tags(&digest)[1].as_str(), format!("sha256-{}.att", digest.encoded()));
        let long: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
        assert_eq!(fallback_tag(&long).as_str(), format!("sha512-{}", "ab".repeat(32)));
        for tag in cosign_tags(&long).iter().chain(&cosign_tags(&digest)).chain([&fallback_tag(&digest)]) {
            assert!(is_referrer_tag(tag), "{tag}");
            assert!([&digest, &long].map(fallback_tag).contains(&base_of_referrer_tag(tag)), "{tag}");
        }
    }

    #[test]
    fn tags_of_images_are_no_referrers() {
        let hash = "a".repeat(64);
        for tag in
            ["v1".to_owned(), "sha256-abc".to_owned(), format!("sha256-{hash}x"), format!("sha256-{hash}.txt"), hash]
        {
            assert!(!is_referrer_tag(&tag.parse().unwrap()), "{tag}");
        }
    }
}
