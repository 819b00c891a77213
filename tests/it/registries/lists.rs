//! Lists as registries page them.

use std::collections::BTreeSet;

use transship::image::Tag;
use transship::registry::{Client, ErrorKind, FallbackTag, RegistryError};

use super::pair::client;
use crate::support::image::Image;
use crate::support::scripted::{Links, Login, Pages, Personality, ScriptedFault, ScriptedRegistry, When};

fn with_tags(personality: Personality, count: usize) -> ScriptedRegistry {
    let registry = ScriptedRegistry::start(personality);
    let digest = registry.push_untagged("app", &Image::single(1, 1, 100));
    (0..count).for_each(|number| registry.tag("app", &format!("v{number}"), &digest));
    registry
}

/// Lists every tag; `None` if the repository does not exist.
async fn tags(client: &Client, repository: &str) -> Result<Option<BTreeSet<Tag>>, RegistryError> {
    let listing = client.tags_and_digests(&repository.parse().unwrap(), &|_| true).await?;
    Ok(listing.map(|listing| listing.tags))
}

#[tokio::test]
async fn every_tag_is_listed_however_a_registry_pages_them() {
    for personality in Personality::products() {
        let name = personality.name;
        let registry = with_tags(personality, 2_500);
        let listed = tags(&client(&registry), "app").await.unwrap().unwrap();
        assert_eq!(listed.len(), 2_500, "{name}");
        let log = registry.log();
        let pages: Vec<_> = log.iter().filter(|seen| seen.is("GET", "/tags/list") && seen.status == 200).collect();
        assert!(pages.len() > 1, "{name}");
        let asked = |path: &str| path.split("n=").nth(1).map(|n| n.split('&').next().unwrap().parse::<u32>().unwrap());
        let first = pages.iter().find(|seen| seen.path.contains("?n=")).unwrap();
        assert!(asked(&first.path).unwrap() <= 1000, "ECR refuses more");
    }
}

#[tokio::test]
async fn a_list_of_very_many_short_pages_ends() {
    let registry = with_tags(Personality { pages: Pages { names: 10, referrers: 10 }, ..Personality::plain() }, 3);
    registry.crowd("app", 105_000);
    let keep = |tag: &Tag| tag.as_str().starts_with('v') || tag.as_str().ends_with("-0099999");
    let listing = client(&registry).tags_and_digests(&"app".parse().unwrap(), &keep).await.unwrap().unwrap();
    let kept: Vec<&str> = listing.tags.iter().map(Tag::as_str).collect();
    assert_eq!(kept, ["build-0099999", "v0", "v1", "v2"]);
    assert_eq!((registry.count("GET", "/tags/list"), listing.left_out), (10_500, 104_999));
}

#[tokio::test]
async fn the_link_of_a_page_is_followed_as_it_is() {
    let pages = Pages { names: 10, referrers: 10 };
    let registry = with_tags(Personality { links: Links::Token, pages, ..Personality::plain() }, 25);
    assert_eq!(tags(&client(&registry), "app").await.unwrap().unwrap().len(), 25);
    let lines: Vec<_> = registry.log().iter().map(|seen| seen.path.clone()).collect();
    let token = |at: u32| format!("/v2/app/tags/list?next_page=opaque-{at}");
    assert_eq!(lines, ["/v2/app/tags/list?n=1000".to_owned(), token(10), token(20)]);
}

#[tokio::test]
async fn the_next_page_is_never_fetched_from_another_host() {
    let pages = Pages { names: 10, referrers: 10 };
    let registry = with_tags(Personality { links: Links::Foreign, pages, ..Personality::plain() }, 25);
    (0..11).for_each(|number| registry.create_repository(&format!("other-{number}")));
    let client = client(&registry);
    let (tags, names) = (tags(&client, "app").await.unwrap_err(), client.repositories().await.unwrap_err());
    for refused in [tags, names] {
        assert_eq!(refused.kind, ErrorKind::InvalidContent, "{refused}");
        assert!(refused.message.contains("Link: <http://localhost:"), "{refused}");
        assert!(refused.message.contains("set the external URL") && !refused.message.contains("canary"), "{refused}");
    }
    assert!(registry.log().iter().all(|seen| !seen.elsewhere));
}

#[tokio::test]
async fn a_link_is_followed_in_whichever_form_and_at_its_registry() {
    let pages = Pages { names: 10, referrers: 2 };
    for links in [Links::Elsewhere, Links::Bare, Links::Unrelated, Links::Several] {
        let registry = with_tags(Personality { links, pages, login: Login::Basic, ..Personality::plain() }, 25);
        (0..24).for_each(|number| registry.create_repository(&format!("other-{number:02}")));
        let subject = Image::single(2, 1, 100);
        let digest = registry.push("app", "v0", &subject).parse().unwrap();
        for seed in 3..8 {
            registry.push_untagged("app", &Image::artifact(seed, "application/vnd.example.thing", 100, Some(&subject)));
        }
        let client = client(&registry);
        assert_eq!(tags(&client, "app").await.unwrap().unwrap().len(), 25, "{links:?}");
        assert_eq!(client.repositories().await.unwrap().names.len(), 25, "{links:?}");
        let referrers = client.referrers(&"app".parse().unwrap(), &digest, FallbackTag::Absent).await.unwrap();
        assert_eq!(referrers.digests.len(), 5, "{links:?}");
        assert!(registry.log().iter().all(|seen| !seen.elsewhere), "{links:?}");
    }
}

#[tokio::test]
async fn only_a_registry_says_that_a_repository_is_absent() {
    let registry = with_tags(Personality::plain(), 2);
    let client = client(&registry);
    let code = |code: &str| format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
    for (body, is_absent) in [
        (code("NAME_UNKNOWN"), true),
        (code("NOT_FOUND"), true),
        (String::new(), true),
        (code("UNAUTHORIZED"), false),
        (code("DENIED"), false),
        ("<html>no such page</html>".to_owned(), false),
    ] {
        let answer = ScriptedFault::Answer { status: 404, headers: Vec::new(), body: body.clone().into() };
        registry.fault(When::asked("GET", "app/tags/list"), answer);
        let listed = tags(&client, "app").await;
        assert_eq!(listed.as_ref().is_ok_and(Option::is_none), is_absent, "{body}: {listed:?}");
    }
}

#[tokio::test]
async fn names_that_are_not_valid_are_counted_and_shown_by_example() {
    let registry = with_tags(Personality::plain(), 2);
    ["Team/App", "team/APP"].iter().for_each(|name| registry.create_repository(name));
    let digest = registry.tags("app")["v0"].clone();
    ["sha256:abc", "-x"].iter().for_each(|tag| registry.tag("app", tag, &digest));
    let client = client(&registry);
    let listed = client.repositories().await.unwrap();
    assert_eq!(listed.names, ["app".parse().unwrap()]);
    assert_eq!(listed.invalid.to_string(), r#"2 names that are not valid, such as "Team/App", "team/APP""#);
    let listing = client.tags_and_digests(&"app".parse().unwrap(), &|_| true).await.unwrap().unwrap();
    assert_eq!((listing.tags.len(), listing.left_out), (2, 0));
    assert_eq!(listing.invalid.examples, ["-x", "sha256:abc"]);
}

#[tokio::test]
async fn a_list_that_fails_is_no_empty_list() {
    let registry = with_tags(Personality { pages: Pages { names: 10, referrers: 10 }, ..Personality::plain() }, 25);
    let client = client(&registry);
    for (status, body) in [(200, "{}"), (200, "<html>"), (403, ""), (404, "<html>no such page</html>")] {
        registry.fault(
            When::asked("GET", "last="),
            ScriptedFault::Answer { status, headers: Vec::new(), body: body.into() },
        );
        let listed = tags(&client, "app").await;
        assert!(listed.is_err(), "a second page of {status} {body}: {listed:?}");
    }
    assert_eq!(tags(&client, "app").await.unwrap().unwrap().len(), 25);
    assert_eq!(tags(&client, "absent").await.unwrap(), None);
}

#[tokio::test]
async fn a_catalog_that_is_not_offered_is_unsupported() {
    for product in [Personality::ghcr(), Personality::docker_hub(), Personality::gitlab()] {
        let registry = with_tags(product, 1);
        let refused = client(&registry).repositories().await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported, "{}: {refused}", registry.name());
    }
    let registry = with_tags(Personality::quay(), 1);
    assert_eq!(client(&registry).repositories().await.unwrap().names, ["app".parse().unwrap()]);
}
