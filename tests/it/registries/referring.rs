//! Signatures and the like are found at every registry, whether it has the referrers API or the fallback tag.

use std::collections::BTreeSet;

use transship::copy::CopyError;
use transship::plan::CodedError;
use transship::registry::FallbackTag;
use transship::terms::FailureCode;

use super::pair::RegistryPair;
use crate::support::image::{Blob, Image};
use crate::support::scripted::{Pages, Personality, Referrers, ScriptedFault, When};

fn signature(seed: u64, subject: &Image) -> Image {
    Image::artifact(seed, SIGNATURE, 400, Some(subject))
}

/// Returns the referrers that a destination lists, as a verifier would request them.
async fn listed(pair: &RegistryPair, subject: &Image) -> BTreeSet<String> {
    let found = pair
        .to
        .referrers(&"app".parse().unwrap(), &subject.digest().parse().unwrap(), FallbackTag::Unknown)
        .await
        .unwrap();
    found.digests.iter().map(ToString::to_string).collect()
}

async fn signed(source: Personality, destination: Personality) {
    let names = format!("{} to {}", source.name, destination.name);
    let lists_itself = source.referrers.is_some();
    let pair = RegistryPair::start(source, destination);
    let image = Image::single(1, 1, 500);
    let signatures: Vec<_> = (2..5).map(|seed| signature(seed, &image)).collect();
    pair.source.push("app", "1", &image);
    for signature in &signatures {
        pair.source.push_untagged("app", signature);
    }
    if !lists_itself {
        pair.source.push("app", &image.digest().replace(':', "-"), &Image::index(signatures.clone()));
    }
    let copied = pair.copy("1", &image.digest()).await.unwrap_or_else(|error| panic!("{names}: {error}"));
    assert_eq!(copied.referrers, 3, "{names}");
    assert_eq!(listed(&pair, &image).await, signatures.iter().map(Image::digest).collect(), "{names}");
    for signature in &signatures {
        assert_eq!(pair.destination.tree("app", &signature.digest()), signature.tree_digests(), "{names}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_found_at_every_registry() {
    for product in Personality::products() {
        signed(Personality::plain(), product).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_come_out_of_every_registry() {
    for product in Personality::products() {
        signed(product, Personality::distribution_3()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_come_page_by_page_and_filtered_or_not() {
    let pages = Pages { names: 1000, referrers: 2 };
    signed(Personality { pages, ..Personality::plain() }, Personality::plain()).await;
    let unfiltered = Some(Referrers { filters: false });
    signed(Personality { referrers: unfiltered, ..Personality::plain() }, Personality::plain()).await;
}

/// Copies from a source that has an SBOM and a signature of an image, and a signature of the SBOM; only artifacts of
/// `types` go along. Answers what came, in this order, and what of the referrers API was asked at the source.
async fn chosen(source: Personality, types: &[&str]) -> ([bool; 3], Vec<String>) {
    let lists_itself = source.referrers.is_some();
    let mut pair = RegistryPair::start(source, Personality::plain());
    pair.options.referrer_artifact_types = types.iter().map(ToString::to_string).collect();
    let image = Image::single(1, 1, 500);
    let sbom = Image::artifact(2, SBOM, 400, Some(&image));
    let (signature, of_sbom) = (signature(3, &image), signature(4, &sbom));
    pair.source.push("app", "1", &image);
    for artifact in [&sbom, &signature, &of_sbom] {
        pair.source.push_untagged("app", artifact);
    }
    if !lists_itself {
        // Such a list says nothing of types: the manifests do.
        pair.source.push(
            "app",
            &image.digest().replace(':', "-"),
            &Image::index(vec![sbom.clone(), signature.clone()]),
        );
        pair.source.push("app", &sbom.digest().replace(':', "-"), &Image::index(vec![of_sbom.clone()]));
    }
    let copied = pair.copy("1", &image.digest()).await.unwrap();
    let came = [&sbom, &signature, &of_sbom].map(|one| pair.destination.manifest("app", &one.digest()).is_some());
    assert_eq!(copied.referrers, came.iter().filter(|came| **came).count(), "{types:?}");
    let asked = pair.source.log().into_iter().map(|seen| seen.path).filter(|path| path.contains("/referrers/"));
    (came, asked.collect())
}

const SBOM: &str = "application/vnd.example.sbom+json";
const SIGNATURE: &str = "application/vnd.example.signature";

#[tokio::test(flavor = "multi_thread")]
async fn only_artifacts_of_the_named_types_go_along_at_every_level() {
    let unfiltered = Some(Referrers { filters: false });
    let sources = [
        Personality::plain(),
        Personality { referrers: unfiltered, ..Personality::plain() },
        Personality { referrers: None, ..Personality::plain() },
    ];
    for source in sources {
        let of = async |types: &[&str]| chosen(source.clone(), types).await.0;
        assert_eq!(of(&[]).await, [true, true, true]);
        assert_eq!(of(&[SBOM]).await, [true, false, false]);
        assert_eq!(of(&[SIGNATURE]).await, [false, true, false], "nothing leads to the signature of the SBOM");
        assert_eq!(of(&[SIGNATURE, SBOM]).await, [true, true, true]);
        assert_eq!(of(&["application/vnd.example.Signature"]).await, [false, false, false]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_asked_for_a_type_only_where_it_is_one() {
    let (_, asked) = chosen(Personality::plain(), &[SBOM]).await;
    let filter = "?artifactType=application%2Fvnd.example.sbom%2Bjson";
    assert!(!asked.is_empty() && asked.iter().all(|path| path.ends_with(filter)), "{asked:?}");
    let (_, asked) = chosen(Personality::plain(), &[SBOM, SIGNATURE]).await;
    assert!(!asked.is_empty() && asked.iter().all(|path| !path.contains('?')), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_cosign_count_by_the_types_of_their_layers() {
    const SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    for (types, expected) in [(vec![], [true, true]), (vec![SIGNING], [true, false]), (vec![SBOM], [false, false])] {
        let mut pair = RegistryPair::start(Personality::plain(), Personality::plain());
        pair.options.referrer_artifact_types = types.iter().map(ToString::to_string).collect();
        let image = Image::single(1, 1, 500);
        pair.source.push("app", "1", &image);
        let tag = |kind: &str| format!("{}.{kind}", image.digest().replace(':', "-"));
        for (seed, kind, layer) in [(2, "sig", SIGNING), (3, "att", "application/vnd.dsse.envelope.v1+json")] {
            let layer = Blob { media_type: layer.to_owned(), ..Blob::layer(seed, 300) };
            pair.source.push("app", &tag(kind), &Image::with_layers(seed, "linux/amd64", vec![layer]));
        }
        pair.copy("1", &image.digest()).await.unwrap();
        let tags = pair.destination.tags("app");
        assert_eq!(["sig", "att"].map(|kind| tags.contains_key(&tag(kind))), expected, "{types:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_referrer_without_a_manifest_is_named_after_the_others() {
    for source in [Personality::plain(), Personality { referrers: None, ..Personality::plain() }] {
        let lists_itself = source.referrers.is_some();
        let pair = RegistryPair::start(source, Personality::plain());
        let image = Image::single(1, 1, 500);
        let (gone, kept) = (signature(2, &image), signature(3, &image));
        pair.source.push("app", "1", &image);
        [&gone, &kept].iter().for_each(|one| drop(pair.source.push_untagged("app", one)));
        if !lists_itself {
            let both = Image::index(vec![gone.clone(), kept.clone()]);
            pair.source.push("app", &image.digest().replace(':', "-"), &both);
        }
        let missing = When::asked("", format!("/manifests/{}", gone.digest())).always();
        pair.source.fault(missing, ScriptedFault::error(404, "MANIFEST_UNKNOWN"));
        for _ in 0..2 {
            let refused = pair.copy("1", &image.digest()).await.unwrap_err();
            assert!(matches!(refused, CopyError::ReferrerNotFound(_)), "{refused:?}");
            let words =
                [gone.digest(), "has no manifest for it (404)".to_owned(), "push it again, or delete".to_owned()];
            assert!(words.iter().all(|words| refused.to_string().contains(words)), "{refused}");
            assert_eq!(CodedError::from(refused).code, FailureCode::ImageNotFound);
        }
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        assert_eq!(listed(&pair, &image).await, [kept.digest()].into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_cosign_without_a_manifest_is_named_after_the_others() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 1, 500);
    pair.source.push("app", "1", &image);
    let tag = |kind: &str| format!("{}.{kind}", image.digest().replace(':', "-"));
    pair.source.tag("app", &tag("sig"), &format!("sha256:{}", "0".repeat(64)));
    pair.source.push("app", &tag("sbom"), &Image::single(2, 1, 300));
    let refused = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("lists the tag {} in app", tag("sig"))), "{refused}");
    assert_eq!(pair.destination.tags("app").into_keys().collect::<Vec<_>>(), ["1".to_owned(), tag("sbom")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_deleted_after_it_was_listed_is_no_failure() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 1, 500);
    let (gone, kept) = (signature(2, &image), signature(3, &image));
    pair.source.push("app", "1", &image);
    pair.source.push_untagged("app", &kept);
    let body = serde_json::json!({"schemaVersion": 2, "manifests": [gone.descriptor(), kept.descriptor()]}).to_string();
    let headers = vec![("content-type", "application/vnd.oci.image.index.v1+json".to_owned())];
    let stale = ScriptedFault::Answer { status: 200, headers, body: body.into() };
    let lists = format!("/referrers/{}", image.digest());
    pair.source.fault(When::asked("GET", lists.clone()), stale);
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.source.count("GET", &lists), 2, "it was listed once more");
    assert_eq!(listed(&pair, &image).await, [kept.digest()].into());
}
