//! Lists that tell what tags point at, by an API that a registry has besides that of the specification.

use std::collections::BTreeMap;

use transship::registry::{Client, Listing};

use super::pair::{client, client_as};
use crate::support::image::Image;
use crate::support::scripted::{Bearer, DigestApi, Fault, HarborApi, Login, Personality, ScriptedRegistry, When};

const REPOSITORY: &str = "team/apps/web";

/// Ten images with five tags each; others have no tag, or belong to an index or to another image.
fn with_images(personality: Personality) -> ScriptedRegistry {
    let registry = ScriptedRegistry::start(personality);
    for seed in 0..10 {
        let digest = registry.push_untagged(REPOSITORY, &Image::single(seed, 1, 100));
        (0..5).for_each(|number| registry.tag(REPOSITORY, &format!("v{seed}.{number}"), &digest));
    }
    let signed = Image::multi_platform(20, 100);
    registry.push_untagged(REPOSITORY, &signed);
    registry.push_untagged(REPOSITORY, &Image::artifact(30, "application/vnd.example.signature", 100, Some(&signed)));
    registry
}

fn harbor(page: usize) -> HarborApi {
    HarborApi { page, may_list: true, is_proxy: false }
}

fn harbor_with(api: HarborApi) -> Personality {
    Personality { digest_api: Some(DigestApi::Harbor(api)), ..Personality::harbor() }
}

async fn listing(client: &Client) -> Listing {
    client.tags_and_digests(&REPOSITORY.parse().unwrap()).await.unwrap().unwrap()
}

/// The digests of a listing that are right; panics where one is wrong.
fn right(registry: &ScriptedRegistry, listing: &Listing) -> usize {
    let tags: BTreeMap<_, _> = registry.tags(REPOSITORY);
    assert_eq!(listing.tags.len(), tags.len());
    for (tag, digest) in &listing.digests {
        assert_eq!(tags[tag.as_str()], digest.as_str(), "{tag}");
    }
    listing.digests.len()
}

/// The requests from the `from`th on, but for those to get a token.
fn asked(registry: &ScriptedRegistry, from: usize) -> Vec<String> {
    let log = registry.log().split_off(from);
    let is_token = |path: &str| path.starts_with("/service/token");
    log.iter().filter(|seen| !is_token(&seen.path) && seen.status != 401).map(|seen| seen.line()).collect()
}

#[tokio::test]
async fn harbor_tells_what_tags_point_at_and_no_tag_is_asked_for() {
    let registry = with_images(harbor_with(harbor(4)));
    let client = client(&registry);
    assert_eq!(right(&registry, &listing(&client).await), 50);
    let page = |number| {
        format!(
            "GET /api/v2.0/projects/team/repositories/apps%252Fweb/artifacts?q=tags%3D*&with_tag=true&page={number}&page_size=100"
        )
    };
    let project = "GET /api/v2.0/projects?q=name%3Dteam&with_detail=false".to_owned();
    let tags = format!("GET /v2/{REPOSITORY}/tags/list?n=1000");
    assert_eq!(asked(&registry, 0), [tags.clone(), project, page(1), page(2), page(3)]);
    let before = registry.log().len();
    assert_eq!(right(&registry, &listing(&client).await), 50);
    assert_eq!(asked(&registry, before), [tags, page(1), page(2), page(3)], "the project is known");
}

#[tokio::test]
async fn a_public_project_of_harbor_tells_it_to_everybody() {
    let login = |anonymous_pull| {
        Login::Bearer(Bearer { path: "/service/token", service: "harbor-registry", anonymous_pull, ..Bearer::plain() })
    };
    let registry = with_images(Personality { login: login(true), ..harbor_with(harbor(100)) });
    let nobody = client_as(&registry, transship::registry::Credentials::Anonymous, &[]);
    assert_eq!(right(&registry, &listing(&nobody).await), 50);
    let of_api = registry.log().into_iter().filter(|seen| seen.path.starts_with("/api/"));
    assert!(of_api.into_iter().all(|seen| !seen.authorized), "nobody has a password, and tokens are not for the API");
}

#[tokio::test]
async fn where_harbor_does_not_tell_it_tags_are_asked_for_one_by_one_for_an_hour() {
    let refused = HarborApi { may_list: false, ..harbor(100) };
    let proxy = HarborApi { is_proxy: true, ..harbor(100) };
    let html = Fault::Answer { status: 200, headers: Vec::new(), body: "<html>a portal</html>".to_owned() };
    let list = Fault::Answer { status: 200, headers: Vec::new(), body: "[]".to_owned() };
    let no_project = Fault::error(404, "NOT_FOUND");
    let away = vec![("location", "http://elsewhere.example/".to_owned())];
    let away = Fault::Answer { status: 302, headers: away, body: String::new() };
    let table = [
        ("a robot without the right to list", refused, None, 2),
        ("a proxy cache, which lists what its tags were", proxy, None, 1),
        ("a page of something else", harbor(100), Some(("/artifacts", html)), 2),
        ("a list that does not say how long it is", harbor(100), Some(("/artifacts", list)), 2),
        ("a project that is not shown", harbor(100), Some(("/projects?", no_project)), 1),
        ("another host", harbor(100), Some(("/projects?", away)), 1),
    ];
    for (what, api, fault, requests) in table {
        let registry = with_images(harbor_with(api));
        if let Some((part, fault)) = fault {
            registry.fault(When::asked("GET", part), fault);
        }
        let client = client(&registry);
        for _ in 0..2 {
            assert_eq!(right(&registry, &listing(&client).await), 0, "{what}");
            assert_eq!(registry.count("GET", "/api/"), requests, "{what}");
        }
    }
}

#[tokio::test]
async fn a_page_that_fails_leaves_what_the_others_told() {
    let registry = with_images(harbor_with(harbor(4)));
    registry.fault(When::asked("GET", "&page=3").always(), Fault::error(403, "FORBIDDEN"));
    let client = client(&registry);
    assert_eq!(right(&registry, &listing(&client).await), 40);
    let before = registry.count("GET", "/api/");
    assert_eq!(right(&registry, &listing(&client).await), 0);
    assert_eq!(registry.count("GET", "/api/"), before, "what is refused is not asked for again");
}

#[tokio::test]
async fn pages_are_not_read_where_asking_for_the_tags_costs_less() {
    let registry = with_images(harbor_with(harbor(1)));
    let repository = "team/few";
    let digest = registry.push_untagged(repository, &Image::single(50, 1, 100));
    ["1", "2"].iter().for_each(|tag| registry.tag(repository, tag, &digest));
    let client = client(&registry);
    let few = client.tags_and_digests(&repository.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((few.tags.len(), few.digests.len()), (2, 0));
    assert_eq!(registry.count("GET", "/api/"), 0, "two HEADs are no dearer than a page and a look at the project");
    // As many pages as tags: the first page tells that.
    let repository = "team/many";
    for seed in 0..4 {
        registry.push(repository, &seed.to_string(), &Image::single(seed, 1, 100));
    }
    let many = client.tags_and_digests(&repository.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(many.digests.len(), 1);
    assert_eq!(registry.count("GET", "/artifacts"), 1);
}
