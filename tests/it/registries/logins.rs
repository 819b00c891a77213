//! Tokens, passwords, and pauses that registries ask for.

use std::time::{Duration, Instant, SystemTime};

use transship::copy::CopyError;
use transship::registry::{Credentials, ErrorKind, Reference};

use super::pair::{RegistryPair, client, client_as};
use crate::support::image::Image;
use crate::support::scripted::{Bearer, Login, PASSWORD, Personality, ScriptedFault, ScriptedRegistry, USER, When};

fn with_tokens(bearer: Bearer) -> Personality {
    Personality { login: Login::Bearer(bearer), ..Personality::plain() }
}

fn password() -> Credentials {
    Credentials::Basic { username: USER.to_owned(), password: PASSWORD.to_owned().into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_tokens_serve_many_requests() {
    let pair = RegistryPair::start(with_tokens(Bearer::plain()), with_tokens(Bearer::plain()));
    for seed in 0..5 {
        pair.source.push("app", &seed.to_string(), &Image::single(seed, 4, 500));
    }
    let images: Vec<_> = (0..5).map(|seed| (seed.to_string(), Image::single(seed, 4, 500).digest())).collect();
    let copies = images.iter().map(|(tag, digest)| pair.copy(tag, digest));
    for copied in futures::future::join_all(copies).await {
        copied.unwrap();
    }
    assert_eq!(pair.source.tokens_given(), 1, "one to pull");
    assert_eq!(pair.destination.tokens_given(), 2, "one to pull, one to push");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_during_an_upload_is_renewed() {
    for method in ["POST", "PUT", "HEAD"] {
        let pair = RegistryPair::start(Personality::plain(), with_tokens(Bearer::plain()));
        // All tokens are there: none is got just when they run out, which would be refused for good.
        let earlier = Image::single(2, 1, 100);
        pair.source.push("app", "0", &earlier);
        pair.copy("0", &earlier.digest()).await.unwrap();
        let image = Image::single(1, 2, 1_500_000);
        pair.source.push("app", "1", &image);
        pair.destination.fault(When::asked(method, "/blobs/").nth(2), ScriptedFault::ExpireTokens);
        pair.copy("1", &image.digest()).await.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests(), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_second_are_enough() {
    let short = with_tokens(Bearer { life: 1.0, ..Bearer::plain() });
    let pair = RegistryPair::start(short.clone(), short);
    for seed in 0..3 {
        let image = Image::single(seed, 2, 500);
        pair.source.push("app", &seed.to_string(), &image);
        pair.copy(&seed.to_string(), &image.digest()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_as_azure_has_it() {
    let registry = ScriptedRegistry::start(Personality::acr());
    let image = Image::single(1, 1, 100);
    registry.push("app", "1", &image);
    let client = client_as(&registry, Credentials::IdentityToken(PASSWORD.to_owned().into()), &[]);
    let tag = "1".parse().unwrap();
    let head = client.head_manifest(&"app".parse().unwrap(), Reference::Tag(&tag)).await.unwrap();
    assert_eq!(head.unwrap().digest.to_string(), image.digest());
    assert_eq!(registry.count("POST", "/oauth2/token"), 1);
}

#[tokio::test]
async fn a_token_service_elsewhere_gets_credentials_only_if_it_is_trusted() {
    let registry = ScriptedRegistry::start(Personality::docker_hub());
    registry.push("app", "1", &Image::single(1, 1, 100));
    let (repository, tag) = ("app".parse().unwrap(), "1".parse().unwrap());
    let refused = client_as(&registry, password(), &[]).head_manifest(&repository, Reference::Tag(&tag)).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Configuration);
    assert!(registry.log().iter().all(|seen| !seen.elsewhere), "nothing was sent there");
    assert!(client(&registry).head_manifest(&repository, Reference::Tag(&tag)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_asks_for_the_right_to_pull_in_the_same_token() {
    // GitLab refuses the mount without it; cgr.dev gives no token for two repositories: then the blob is sent.
    for (one_repository, mounts) in [(false, 1), (true, 0)] {
        let bearer = Bearer { mount_wants_pull: true, one_repository, ..Bearer::plain() };
        let pair = RegistryPair::start(Personality::plain(), with_tokens(bearer));
        pair.copy_a_shared_layer().await;
        let log = pair.destination.log();
        let mounted = log.iter().filter(|seen| seen.is("POST", "mount=") && seen.status == 201).count();
        assert_eq!(mounted, mounts, "{log:?}");
    }
}

/// A registry as Quay is for a robot that may create repositories.
fn quay() -> Personality {
    with_tokens(Bearer { creates_repositories: true, ..Bearer::plain() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_repository_that_may_not_be_looked_at_is_pushed_to() {
    let pair = RegistryPair::start(Personality::plain(), quay());
    let image = Image::multi_platform(1, 500);
    for tag in ["1", "2"] {
        pair.source.push("new/app", tag, &image);
        pair.copy_of("new/app", tag, &image.digest()).await.unwrap();
        assert_eq!(pair.destination.tree("new/app", tag), image.tree_digests());
    }
    let refused = pair.destination.log().iter().filter(|seen| seen.status == 401).count();
    assert!(refused <= 12, "{refused}: {:?}", pair.destination.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_may_not_be_looked_at_is_not_overwritten() {
    for (status, kind) in [(401, ErrorKind::Unauthorized), (403, ErrorKind::Denied)] {
        let pair = RegistryPair::start(Personality::plain(), quay());
        let (image, other) = (Image::single(1, 1, 500), Image::single(2, 1, 500));
        pair.source.push("app", "1", &image);
        pair.destination.push("app", "1", &other);
        for part in ["/manifests/1", "/tags/list"] {
            for method in ["GET", "HEAD"] {
                pair.destination.fault(When::asked(method, part).always(), ScriptedFault::error(status, "DENIED"));
            }
        }
        let refused = pair.copy("1", &image.digest()).await;
        assert!(matches!(&refused, Err(CopyError::Destination(error)) if error.kind == kind), "{refused:?}");
        assert_eq!(pair.destination.tags("app")["1"], other.digest());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_repository_that_is_forbidden_is_pushed_to() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 1, 500);
    pair.source.push("new/app", "1", &image);
    // A repository is forbidden until something is in it.
    let forbidden = ScriptedFault::error(403, "DENIED");
    pair.destination.fault(When::asked("GET", "/tags/list").always(), forbidden.clone());
    for method in ["HEAD", "GET"] {
        pair.destination.fault(When::asked(method, "/manifests/1"), forbidden.clone());
    }
    pair.copy_of("new/app", "1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("new/app", "1"), image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_wrong_do_not_push_what_they_may_not_see() {
    let pair = RegistryPair::start(Personality::plain(), quay());
    let wrong = Credentials::Basic { username: USER.to_owned(), password: "wrong".to_owned().into() };
    let pair = RegistryPair { to: client_as(&pair.destination, wrong, &[]), ..pair };
    let image = Image::single(1, 1, 500);
    pair.source.push("new/app", "1", &image);
    let refused = pair.copy_of("new/app", "1", &image.digest()).await.unwrap_err();
    assert!(refused.to_string().contains("refuses the credentials"), "{refused}");
    assert_eq!(pair.destination.count("POST", "/blobs/uploads/"), 0);
}

#[tokio::test]
async fn a_pause_is_understood_in_whichever_way_it_is_asked_for() {
    let date = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(2)).unwrap();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let table = [
        (ScriptedFault::too_many(Some("1")), Duration::from_secs(1)),
        (ScriptedFault::too_many(Some(&date)), Duration::from_millis(500)),
        (ScriptedFault::too_many(Some("23.722\u{b5}s")), Duration::ZERO),
        (ScriptedFault::too_many(Some("soon")), Duration::ZERO),
        (ScriptedFault::too_many(None), Duration::ZERO),
        (ScriptedFault::Answer { status: 429, headers: Vec::new(), body: "Too Many Requests".into() }, Duration::ZERO),
    ];
    let asks = table.into_iter().map(|(fault, least)| async move {
        let registry = ScriptedRegistry::start(Personality::plain());
        registry.push("app", "1", &Image::single(1, 1, 100));
        registry.fault(When::asked("HEAD", "/manifests/"), fault.clone());
        let (repository, tag, began) = ("app".parse().unwrap(), "1".parse().unwrap(), Instant::now());
        let head = client(&registry).head_manifest(&repository, Reference::Tag(&tag)).await;
        assert!(head.unwrap_or_else(|error| panic!("{fault:?}: {error}")).is_some(), "{fault:?}");
        assert!(began.elapsed() >= least, "{fault:?}: {:?}", began.elapsed());
        assert_eq!(registry.log().len(), 2, "{fault:?}");
    });
    futures::future::join_all(asks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_hub_counts_is_not_asked_in_vain() {
    let pair =
        RegistryPair::start(Personality { manifest_gets: Some(1), ..Personality::docker_hub() }, Personality::plain());
    let image = Image::single(1, 2, 500);
    pair.source.push("app", "1", &image);
    let (repository, tag) = ("app".parse().unwrap(), "1".parse().unwrap());
    for _ in 0..10 {
        pair.from.head_manifest(&repository, Reference::Tag(&tag)).await.unwrap();
    }
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.source.count("GET", "/manifests/"), 1, "the manifest is read once, and looked at by HEAD");
}
