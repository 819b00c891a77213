//! Signatures, SBOMs and attestations: they go with their images, and are found at the destination.

use std::collections::BTreeSet;

use serde_json::Value;
use transship::copy::CopyError;

use crate::copy_images::CopiedPair;
use crate::support::image::Image;
use crate::support::pusher::Pusher;
use crate::support::registry::TestRegistry;

/// Returns the tag under which registries without a referrers API list what refers to an image.
pub(crate) fn fallback_tag(subject: &Image) -> String {
    subject.digest().replace(':', "-")
}

/// Pushes an artifact that refers to `subject`, and lists it as a client has to where there is no referrers API.
pub(crate) async fn attach(pusher: &Pusher, repository: &str, subject: &Image, artifacts: &[Image]) {
    for artifact in artifacts {
        pusher.push_untagged(repository, artifact).await;
    }
    pusher.push_manifest(repository, &fallback_tag(subject), &Image::index(artifacts.to_vec())).await;
}

/// Returns the referrers that a destination without a referrers API lists.
pub(crate) async fn listed(pusher: &Pusher, repository: &str, subject: &Image) -> BTreeSet<String> {
    let Some(index) = pusher.manifest(repository, &fallback_tag(subject)).await else { return BTreeSet::new() };
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

fn signature(seed: u64, subject: &Image) -> Image {
    Image::artifact(seed, "application/vnd.example.signature", 400, Some(subject))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_an_image_or_to_a_referrer_is_found_at_the_destination() {
    let source = TestRegistry::distribution("referrers-source").start().await;
    let image = Image::multi_platform(900, 2_000);
    let sbom = Image::artifact(901, "application/vnd.example.sbom", 3_000, Some(&image));
    let (first, of_child, of_sbom) =
        (signature(902, &image), signature(903, &image.children[0]), signature(904, &sbom));
    let pusher = source.pusher();
    pusher.push("app", "1", &image).await;
    attach(&pusher, "app", &image, &[sbom.clone(), first.clone()]).await;
    attach(&pusher, "app", &image.children[0], std::slice::from_ref(&of_child)).await;
    attach(&pusher, "app", &sbom, std::slice::from_ref(&of_sbom)).await;
    let legacy: Vec<_> = [("sig", 905), ("att", 906), ("sbom", 907)]
        .map(|(kind, seed)| (format!("{}.{kind}", fallback_tag(&image)), Image::single(seed, 1, 300)))
        .into();
    for (tag, image) in &legacy {
        pusher.push("app", tag, image).await;
    }

    for options in [TestRegistry::distribution("referrers-3"), TestRegistry::docker_2_8("referrers-2-8")] {
        let destination = options.start().await;
        let pair = CopiedPair::new(&source.host(), &destination.host());
        let copied = pair.copy("app", "1", &image.digest()).await.unwrap();
        assert_eq!((copied.already_there, copied.referrers), (false, 7));
        let there = destination.pusher();
        assert_eq!(listed(&there, "app", &image).await, BTreeSet::from([sbom.digest(), first.digest()]));
        assert_eq!(listed(&there, "app", &image.children[0]).await, BTreeSet::from([of_child.digest()]));
        assert_eq!(listed(&there, "app", &sbom).await, BTreeSet::from([of_sbom.digest()]));
        for artifact in [&sbom, &first, &of_child, &of_sbom] {
            let digests = there.copy_tree_digests("app", &artifact.digest()).await;
            assert_eq!(digests, artifact.tree_digests(), "with all its content");
        }
        for (tag, image) in &legacy {
            assert_eq!(there.digest_of("app", tag).await, Some(image.digest()), "{tag}");
        }

        let before = destination.access_log().len();
        let again =
            CopiedPair::new(&source.host(), &destination.host()).copy("app", "1", &image.digest()).await.unwrap();
        assert_eq!((again.already_there, again.moved, again.referrers), (true, 0, 7));
        let writes: Vec<_> = destination.access_log().split_off(before);
        let writes: Vec<_> = writes.iter().filter(|access| !matches!(access.method.as_str(), "GET" | "HEAD")).collect();
        assert!(writes.is_empty(), "what is there is not written again: {writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_after_the_image_is_added_to_the_list_of_the_destination() {
    let source = TestRegistry::distribution("signed-later-source").start().await;
    let destination = TestRegistry::distribution("signed-later-destination").start().await;
    let image = Image::single(910, 1, 2_000);
    let (theirs, ours) = (signature(911, &image), signature(912, &image));
    source.pusher().push("app", "1", &image).await;
    let pair = CopiedPair::new(&source.host(), &destination.host());
    assert_eq!(pair.copy("app", "1", &image.digest()).await.unwrap().referrers, 0);
    // The replica itself is signed.
    attach(&destination.pusher(), "app", &image, std::slice::from_ref(&theirs)).await;

    attach(&source.pusher(), "app", &image, std::slice::from_ref(&ours)).await;
    let next = CopiedPair::new(&source.host(), &destination.host());
    let copied = next.copy("app", "1", &image.digest()).await.unwrap();
    assert_eq!((copied.already_there, copied.referrers), (true, 1), "the digest of the image did not change");
    let there = listed(&destination.pusher(), "app", &image).await;
    assert_eq!(there, BTreeSet::from([theirs.digest(), ours.digest()]), "what others listed stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_two_tags_at_once_lose_no_signature() {
    let source = TestRegistry::distribution("signed-twice-source").start().await;
    let destination = TestRegistry::distribution("signed-twice-destination").start().await;
    let image = Image::single(920, 1, 2_000);
    let signatures: Vec<Image> = (921..927).map(|seed| signature(seed, &image)).collect();
    for tag in ["1", "2", "3"] {
        source.pusher().push("app", tag, &image).await;
    }
    attach(&source.pusher(), "app", &image, &signatures).await;
    let pair = CopiedPair::new(&source.host(), &destination.host());
    let digest = image.digest();
    let copies = ["1", "2", "3"].map(|tag| pair.copy("app", tag, &digest));
    for copied in futures::future::join_all(copies).await {
        assert_eq!(copied.unwrap().referrers, 6);
    }
    let expected: BTreeSet<String> = signatures.iter().map(Image::digest).collect();
    assert_eq!(listed(&destination.pusher(), "app", &image).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consent_to_their_tags_signatures_stay_and_the_copy_says_so() {
    let source = TestRegistry::distribution("signed-denied-source").start().await;
    let destination = TestRegistry::distribution("signed-denied-destination").start().await;
    let image = Image::single(930, 1, 2_000);
    source.pusher().push("app", "1", &image).await;
    attach(&source.pusher(), "app", &image, &[signature(931, &image)]).await;
    let pair = CopiedPair::new(&source.host(), &destination.host());
    pair.grants.refuse(&["referrers tag"]);
    let refused = pair.copy("app", "1", &image.digest()).await;
    assert!(matches!(refused, Err(CopyError::Denied(_))), "{refused:?}");
    assert_eq!(destination.pusher().digest_of("app", "1").await, Some(image.digest()), "the image itself is there");
    assert!(listed(&destination.pusher(), "app", &image).await.is_empty());
}
