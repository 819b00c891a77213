//! Signatures and the like are found at every registry, whether it has the referrers API or the fallback tag.

use std::collections::BTreeSet;

use super::pair::Pair;
use crate::support::image::Image;
use crate::support::scripted::{Pages, Personality, Referrers};

fn signature(seed: u64, subject: &Image) -> Image {
    Image::artifact(seed, "application/vnd.example.signature", 400, Some(subject))
}

/// What a destination lists, as whoever verifies an image would ask it.
async fn listed(pair: &Pair, subject: &Image) -> BTreeSet<String> {
    let found = pair.to.referrers(&"app".parse().unwrap(), &subject.digest().parse().unwrap(), None).await.unwrap();
    found.digests.iter().map(ToString::to_string).collect()
}

async fn signed(source: Personality, destination: Personality) {
    let names = format!("{} to {}", source.name, destination.name);
    let lists_itself = source.referrers.is_some();
    let pair = Pair::start(source, destination);
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
