//! Lists of tags with their digests, by an API that a registry has besides that of the specification.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use transship::registry::{Client, Credentials, ErrorKind, Listing, Reference};

use super::pair::{client, client_as, client_of_ecr};
use crate::standalone::{Files, text};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::ecr::{KEY_ID, SECRET_KEY, SESSION_TOKEN, TEMPORARY_KEY_ID};
use crate::support::scripted::{
    Bearer, HarborApi, Login, PASSWORD, Personality, ScriptedDigestApi, ScriptedFault, ScriptedRegistry, USER, When,
};

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
    Personality { digest_api: Some(ScriptedDigestApi::Harbor(api)), ..Personality::harbor() }
}

async fn listing(client: &Client) -> Listing {
    client.tags_and_digests(&REPOSITORY.parse().unwrap(), &|_| true).await.unwrap().unwrap()
}

/// Counts the digests of a listing; panics where one is wrong.
fn right(registry: &ScriptedRegistry, listing: &Listing) -> usize {
    let tags: BTreeMap<_, _> = registry.tags(REPOSITORY);
    assert_eq!(listing.tags.len(), tags.len());
    for (tag, digest) in &listing.digests {
        assert_eq!(tags[tag.as_str()], digest.as_str(), "{tag}");
    }
    listing.digests.len()
}

/// Returns the requests from the `from`th on, but for those to get a token.
fn asked(registry: &ScriptedRegistry, from: usize) -> Vec<String> {
    let log = registry.log().split_off(from);
    let is_token = |path: &str| path.starts_with("/service/token");
    log.iter().filter(|seen| !is_token(&seen.path) && seen.status != 401).map(|seen| seen.line()).collect()
}

#[tokio::test]
async fn harbor_lists_digests_of_tags_and_no_tag_is_requested() {
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
async fn a_public_project_of_harbor_lists_digests_for_everyone() {
    let login = |anonymous_pull| {
        Login::Bearer(Bearer { path: "/service/token", service: "harbor-registry", anonymous_pull, ..Bearer::plain() })
    };
    let registry = with_images(Personality { login: login(true), ..harbor_with(harbor(100)) });
    let anonymous = client_as(&registry, Credentials::Anonymous, &[]);
    assert_eq!(right(&registry, &listing(&anonymous).await), 50);
    let of_api = registry.log().into_iter().filter(|seen| seen.path.starts_with("/api/"));
    assert!(
        of_api.into_iter().all(|seen| !seen.authorized),
        "an anonymous client has no password, and tokens are not for the API"
    );
}

#[tokio::test]
async fn where_harbor_lists_no_digests_tags_are_requested_for_an_hour() {
    let refused = HarborApi { may_list: false, ..harbor(100) };
    let proxy = HarborApi { is_proxy: true, ..harbor(100) };
    let html = ScriptedFault::Answer { status: 200, headers: Vec::new(), body: "<html>a portal</html>".into() };
    let list = ScriptedFault::Answer { status: 200, headers: Vec::new(), body: "[]".into() };
    let no_project = ScriptedFault::error(404, "NOT_FOUND");
    let away = vec![("location", "http://elsewhere.example/".to_owned())];
    let away = ScriptedFault::Answer { status: 302, headers: away, body: bytes::Bytes::new() };
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
async fn a_page_that_fails_leaves_the_digests_of_the_others() {
    let registry = with_images(harbor_with(harbor(4)));
    registry.fault(When::asked("GET", "&page=3").always(), ScriptedFault::error(403, "FORBIDDEN"));
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
    let few = client.tags_and_digests(&repository.parse().unwrap(), &|_| true).await.unwrap().unwrap();
    assert_eq!((few.tags.len(), few.digests.len()), (2, 0));
    assert_eq!(registry.count("GET", "/api/"), 0, "two HEADs are no dearer than a page and a look at the project");
    // As many pages as tags: the first page shows that.
    let repository = "team/many";
    for seed in 0..4 {
        registry.push(repository, &seed.to_string(), &Image::single(seed, 1, 100));
    }
    let many = client.tags_and_digests(&repository.parse().unwrap(), &|_| true).await.unwrap().unwrap();
    assert_eq!(many.digests.len(), 1);
    assert_eq!(registry.count("GET", "/artifacts"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_while_pages_are_read_is_asked_for() {
    let registry = with_images(harbor_with(harbor(4)));
    let mut images: Vec<_> = registry.tags(REPOSITORY).into_iter().map(|(tag, digest)| (digest, tag)).collect();
    images.sort();
    let (moved, (last, _)) = (images[0].1.clone(), images[images.len() - 1].clone());
    registry.fault(When::asked("GET", "&page=2"), ScriptedFault::Delay(Duration::from_millis(500)));
    let client = client(&registry);
    let moves = async {
        let is_reading = async || registry.count("GET", "&page=2") == 1;
        eventually(Duration::from_secs(10), "the second page is asked for", is_reading).await;
        registry.tag(REPOSITORY, &moved, &last);
    };
    let (listing, ()) = tokio::join!(listing(&client), moves);
    assert_eq!(right(&registry, &listing), 49);
    assert!(!listing.digests.contains_key(&moved.parse().unwrap()), "both digests were listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_nothing_new_costs_lists_and_no_look_at_a_tag() {
    let source = with_images(harbor_with(harbor(100)));
    let destination = ScriptedRegistry::start(Personality::plain());
    let mut files = Files::new("digest-lists");
    for (name, registry) in [("source", &source), ("destination", &destination)] {
        let spec = json!({"url": registry.url(), "allowHTTP": true, "credentials": {"secretRef": {"name": name}}});
        files.login_at(&registry.host(), USER, PASSWORD);
        files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
    }
    let rules = json!([{"name": "all", "repositoryFilters": [{"filter": REPOSITORY, "filterType": "EXACT_MATCH"}],
        "referrers": "Ignore", "destinations": [{"registryRef": {"name": "destination"}}]}]);
    let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": rules});
    files.add("ReplicationConfiguration", json!({"namespace": "team-a", "name": "all"}), spec);
    let sync = async || {
        let (from, to) = (source.log().len(), destination.log().len());
        let output = files.run("sync", &["--state", &files.state()]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(!text(&output).contains(PASSWORD));
        (asked(&source, from), destination.log().split_off(to))
    };
    sync().await;
    assert_eq!(destination.tags(REPOSITORY), source.tags(REPOSITORY));
    let (again, destination_log) = sync().await;
    assert_eq!((again.len(), destination_log.len()), (3, 0), "the tags, the project, the artifacts: {again:#?}");
    let is_list = |line: &String| line.contains("/tags/list") || line.contains("/api/v2.0/");
    assert!(again.iter().all(is_list), "{again:#?}");

    let newer = source.push(REPOSITORY, "v3.1", &Image::single(99, 1, 100));
    let (moved, _) = sync().await;
    assert_eq!(destination.tags(REPOSITORY)["v3.1"], newer, "{moved:#?}");
}

fn ecr(page: usize) -> ScriptedRegistry {
    with_images(Personality { digest_api: Some(ScriptedDigestApi::Ecr { page }), ..Personality::ecr() })
}

fn access_key(secret: &str) -> Credentials {
    Credentials::Basic { username: KEY_ID.to_owned(), password: secret.to_owned().into() }
}

fn temporary_key(session_token: &str) -> Credentials {
    let (secret, session_token) = (SECRET_KEY.to_owned().into(), session_token.to_owned().into());
    Credentials::TemporaryKey { id: TEMPORARY_KEY_ID.to_owned(), secret, session_token }
}

#[tokio::test]
async fn ecr_lists_digests_of_tags_for_an_access_key() {
    for credentials in [access_key(SECRET_KEY), temporary_key(SESSION_TOKEN)] {
        let registry = ecr(20);
        let client = client_of_ecr(&registry, credentials);
        assert_eq!(right(&registry, &listing(&client).await), 50);
        let tags = format!("GET /v2/{REPOSITORY}/tags/list?n=1000");
        let (login, page) = ("POST /#GetAuthorizationToken".to_owned(), "POST /#ListImages".to_owned());
        assert_eq!(asked(&registry, 0), [login, tags.clone(), page.clone(), page.clone(), page.clone()]);
        let before = registry.log().len();
        assert_eq!(right(&registry, &listing(&client).await), 50);
        assert_eq!(asked(&registry, before), [tags, page.clone(), page.clone(), page], "one login is enough");
    }
}

#[tokio::test]
async fn where_ecr_lists_no_digests_tags_are_requested_one_by_one() {
    let denied =
        r#"{"__type":"AccessDeniedException","message":"User: arn:aws:iam::123456789012:user/x is not authorized"}"#;
    let answer = |status, body: &str| ScriptedFault::Answer {
        status,
        headers: Vec::new(),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
    };
    for (what, fault) in [
        ("a key without the right", answer(400, denied)),
        ("something else", answer(200, "<html>")),
        ("no list", answer(200, "{}")),
        ("no digest", answer(200, r#"{"imageIds":[{"imageTag":"v1.1"}]}"#)),
    ] {
        let registry = ecr(1000);
        registry.fault(When::asked("POST", "#ListImages"), fault);
        let client = client_of_ecr(&registry, access_key(SECRET_KEY));
        for _ in 0..2 {
            assert_eq!(right(&registry, &listing(&client).await), 0, "{what}");
            assert_eq!(registry.count("POST", "#ListImages"), 1, "{what}");
        }
    }
    let registry = ecr(1000);
    let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    registry.fault(When::asked("POST", "#ListImages"), answer(400, throttled));
    let client = client_of_ecr(&registry, access_key(SECRET_KEY));
    assert_eq!(right(&registry, &listing(&client).await), 50, "what passes is tried again");
    // Who logged in by himself has no key to sign with.
    let password = Credentials::Basic { username: USER.to_owned(), password: PASSWORD.to_owned().into() };
    let registry = ecr(1000);
    assert_eq!(right(&registry, &listing(&client_of_ecr(&registry, password)).await), 0);
    assert_eq!(registry.count("POST", ""), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ecr_login_is_got_once_by_access_key_and_renewed_when_refused() {
    let registry = ecr(1000);
    let client = client_of_ecr(&registry, access_key(SECRET_KEY));
    let (repository, tags) =
        (REPOSITORY.parse().unwrap(), ["v1.1", "v2.2", "v3.3", "v4.4"].map(|tag| tag.parse().unwrap()));
    for logins in [1, 2] {
        let heads = tags.iter().map(|tag| client.head_manifest(&repository, Reference::Tag(tag)));
        assert!(join_all(heads).await.into_iter().all(|head| head.unwrap().is_some()));
        assert_eq!(registry.count("POST", "#GetAuthorizationToken"), logins);
        registry.expire_tokens();
    }
}

#[tokio::test]
async fn a_refused_access_key_is_reported_and_not_shown() {
    let without_session =
        Credentials::Basic { username: TEMPORARY_KEY_ID.to_owned(), password: SECRET_KEY.to_owned().into() };
    let table = [
        ("a wrong secret", access_key("canary-wrong-secret"), 1, "InvalidSignatureException"),
        ("a wrong session token", temporary_key("canary-wrong-session-token"), 1, "InvalidSignatureException"),
        ("a temporary key alone", without_session, 0, "sessionToken"),
        ("a secret that is none", temporary_key("canary\n"), 0, "correct the Secret"),
    ];
    for (what, credentials, asked, said) in table {
        let registry = ecr(1000);
        let client = client_of_ecr(&registry, credentials.clone());
        let refused = client.ping().await.unwrap_err();
        assert_eq!((refused.kind, registry.count("POST", "")), (ErrorKind::Unauthorized, asked), "{what}: {refused}");
        let shown = format!("{refused} {refused:?} {client:?} {credentials:?}");
        assert!(shown.contains(said) && !shown.contains("canary"), "{what}: {shown}");
    }
}

#[tokio::test]
async fn an_access_key_never_goes_to_the_registry_or_to_a_token_service() {
    let bearer = Login::Bearer(Bearer::plain());
    let registry = with_images(Personality { login: bearer, ..Personality::ecr() });
    let refused = client_of_ecr(&registry, access_key(SECRET_KEY)).ping().await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unauthorized);
    assert!(registry.log().iter().all(|seen| !seen.authorized && seen.method != "POST"), "{:?}", registry.log());
}
