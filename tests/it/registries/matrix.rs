//! Every kind of image goes into every registry and comes out of it again.

use crate::registries::pair::RegistryPair;
use crate::support::image::Image;
use crate::support::scripted::{Personality, ScriptedRegistry};

fn images() -> Vec<(&'static str, Image)> {
    let subject = Image::single(1, 2, 500);
    vec![
        ("docker", Image::docker(2, 3, 500)),
        ("docker-list", Image::docker_list(vec![Image::docker(3, 1, 500), Image::docker(4, 1, 500)])),
        ("platforms", Image::multi_platform(20, 7_000)),
        ("nested", Image::nested_index(30, 500)),
        ("artifact", Image::artifact(40, "application/vnd.example.thing", 500, Some(&subject))),
        ("subject", subject),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_images_arrive_at_every_registry() {
    for personality in Personality::products() {
        let pair = RegistryPair::start(Personality::plain(), personality);
        arrive(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_images_come_out_of_every_registry() {
    for personality in Personality::products() {
        let pair = RegistryPair::start(personality, Personality::plain());
        arrive(&pair).await;
    }
}

async fn arrive(pair: &RegistryPair) {
    let names = format!("{} to {}", name(&pair.source), name(&pair.destination));
    for (tag, image) in images() {
        pair.source.push("app", tag, &image);
        let copied = pair.copy(tag, &image.digest()).await;
        let copied = copied.unwrap_or_else(|error| panic!("{names}: {tag}: {error}"));
        assert!(!copied.already_there && copied.moved <= copied.size, "{names}: {tag}: {copied:?}");
        assert_eq!(pair.destination.tree("app", tag), image.tree_digests(), "{names}: {tag}");
        let before = pair.destination.log().len();
        let again = pair.copy(tag, &image.digest()).await;
        assert!(again.is_ok_and(|again| again.already_there && again.moved == 0), "{names}: {tag}");
        let log = pair.destination.log();
        let writes = log[before..].iter().filter(|seen| !matches!(seen.method.as_str(), "GET" | "HEAD")).count();
        assert_eq!(writes, 0, "{names}: {tag}: nothing is written again");
    }
    let leaks = [&pair.source, &pair.destination].map(ScriptedRegistry::log);
    let leaked = leaks.iter().flatten().filter(|seen| seen.path.starts_with("/storage/") && seen.authorized);
    assert_eq!(leaked.count(), 0, "{names}: no credential goes to where blobs are kept");
}

fn name(registry: &ScriptedRegistry) -> &'static str {
    registry.name()
}
