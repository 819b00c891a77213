//! Mounts, sessions and tags as registries take them.

use transship::copy::CopyError;
use transship::registry::ErrorKind;

use super::pair::{RegistryPair, client_as};
use crate::support::copy_errors::is_transient;
use crate::support::image::{Blob, Image};
use crate::support::scripted::{Location, Mount, Over, Patch, Personality, ProgressRange, ScriptedFault, When};

/// Copies an image whose layer is in two repositories, from both.
async fn copied_twice(destination: Personality) -> RegistryPair {
    let pair = RegistryPair::start(Personality::plain(), destination);
    pair.destination.create_repository("other");
    pair.copy_a_shared_layer().await;
    pair
}

/// Returns the statuses of the mounts that were asked for.
fn mounts(pair: &RegistryPair) -> Vec<u16> {
    pair.destination.log().iter().filter(|seen| seen.is("POST", "mount=")).map(|seen| seen.status).collect()
}

fn sessions(pair: &RegistryPair) -> usize {
    pair.destination.log().iter().filter(|seen| seen.method == "POST" && seen.status == 202).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_is_done_answered_with_a_session_or_refused_and_the_blob_is_there() {
    // What the mount is answered, and how many sessions that leaves: two configurations, and the layer once or twice.
    let table = [
        (Mount::Anywhere, vec![201], 3),
        (Mount::From, vec![201], 3),
        (Mount::Committed, vec![201], 3),
        (Mount::Never, vec![202], 4),
        (Mount::Refused(400), vec![400], 4),
        (Mount::Refused(401), vec![401], 4),
        (Mount::Refused(404), vec![404], 4),
        (Mount::Refused(405), vec![405], 4),
    ];
    for (mount, asked, opened) in table {
        let pair = copied_twice(Personality { mount, ..Personality::plain() }).await;
        assert_eq!((mounts(&pair), sessions(&pair)), (asked, opened), "{mount:?}: {:#?}", pair.destination.log());
        assert_eq!(pair.destination.open_uploads(), 0, "{mount:?}: a session that was answered is used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_no_longer_asked_of_a_registry_that_never_mounts() {
    let pair = RegistryPair::start(Personality::plain(), Personality { mount: Mount::Never, ..Personality::plain() });
    let layers: Vec<_> = (0..20).map(|seed| Blob::layer(seed, 500)).collect();
    for (repository, seed) in [("app", 50), ("second", 51), ("third", 52)] {
        let image = Image::with_layers(seed, "linux/amd64", layers.clone());
        pair.source.push(repository, "1", &image);
        pair.copy_of(repository, "1", &image.digest()).await.unwrap();
    }
    let asked = mounts(&pair).len();
    assert!((1..=20).contains(&asked), "of 40 that were possible {asked} were asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_is_followed_with_its_query_wherever_its_registry_is() {
    for location in [Location::Absolute, Location::Relative, Location::WrongOrigin] {
        let pair = copied_twice(Personality { location, ..Personality::plain() }).await;
        let log = pair.destination.log();
        let puts: Vec<_> = log.iter().filter(|seen| seen.is("PUT", "/blobs/uploads/")).collect();
        assert_eq!(puts.len(), 3, "{location:?}");
        assert!(puts.iter().all(|put| put.path.contains("?_state=at-0&digest=sha256")), "{puts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_to_another_host_need_trust_and_go_without_credentials() {
    let elsewhere =
        Personality { location: Location::Elsewhere, login: Personality::ecr().login, ..Personality::plain() };
    let pair = copied_twice(elsewhere).await;
    let log = pair.destination.log();
    let puts: Vec<_> = log.iter().filter(|seen| seen.is("PUT", "/blobs/uploads/")).collect();
    assert!(puts.len() == 3 && puts.iter().all(|put| put.elsewhere && !put.authorized), "{puts:?}");

    let pair = RegistryPair { to: client_as(&pair.destination, pair_password(), &[]), ..pair };
    let before = pair.destination.log().len();
    let image = Image::single(9, 1, 500);
    pair.source.push("app", "9", &image);
    assert!(pair.copy("9", &image.digest()).await.is_err());
    assert!(pair.destination.log()[before..].iter().all(|seen| !seen.elsewhere), "nothing is sent to a stranger");
}

fn pair_password() -> transship::registry::Credentials {
    let (username, password) = (crate::support::scripted::USER, crate::support::scripted::PASSWORD);
    transship::registry::Credentials::Basic { username: username.to_owned(), password: password.to_owned().into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_move_fails_once_and_an_equal_one_is_not_pushed_again() {
    let pair =
        RegistryPair::start(Personality::plain(), Personality { tags_are_immutable: true, ..Personality::plain() });
    let (first, second) = (Image::single(1, 1, 500), Image::single(2, 1, 500));
    pair.source.push("app", "1", &first);
    pair.copy("1", &first.digest()).await.unwrap();
    assert!(pair.copy("1", &first.digest()).await.unwrap().already_there);
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 1);
    pair.source.push("app", "1", &second);
    let refused = pair.copy("1", &second.digest()).await.unwrap_err();
    assert!(refused.to_string().contains("ImageTagAlreadyExistsException") && !is_transient(&refused), "{refused}");
    assert!(matches!(refused, CopyError::TagImmutable(_)), "{refused}");
    assert!([first.digest(), second.digest()].iter().all(|digest| refused.to_string().contains(digest)), "{refused}");
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 2, "it is not tried again and again");
    assert_eq!(pair.destination.tags("app")["1"], first.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_not_created_is_reported_as_such() {
    let made = Personality { repositories_are_made: true, ..Personality::plain() };
    let pair = RegistryPair::start(Personality::plain(), made);
    let image = Image::single(1, 1, 500);
    pair.source.push("other", "1", &image);
    let refused = pair.copy_of("other", "1", &image.digest()).await.unwrap_err();
    assert!(matches!(&refused, CopyError::Destination(error) if error.kind == ErrorKind::NotFound), "{refused:?}");
    assert!(refused.to_string().contains("NAME_UNKNOWN") && !is_transient(&refused), "{refused}");
    pair.destination.create_repository("other");
    pair.copy_of("other", "1", &image.digest()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_many_tags_share_is_committed_once() {
    // Distribution 2.8.2 refuses manifests after a second commit of a blob that it has.
    let collides = Personality { commits_collide: true, ..Personality::plain() };
    let pair = RegistryPair::start(Personality::plain(), collides);
    let base = Blob::layer(1, 50_000);
    let images: Vec<_> =
        (10..30).map(|seed| (seed.to_string(), Image::with_layers(seed, "linux/amd64", vec![base.clone()]))).collect();
    for (tag, image) in &images {
        pair.source.push("app", tag, image);
    }
    let digests: Vec<_> = images.iter().map(|(tag, image)| (tag, image.digest())).collect();
    for copied in futures::future::join_all(digests.iter().map(|(tag, digest)| pair.copy(tag, digest))).await {
        copied.unwrap();
    }
    let log = pair.destination.log();
    let part = base.digest.replace(':', "%3A");
    assert_eq!(log.iter().filter(|seen| seen.is("PUT", &part)).count(), 1);
    assert!(log.iter().all(|seen| seen.method == "HEAD" || seen.status < 300 || seen.status == 404), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_a_registry_refuses_for_content_it_has_is_pushed_again() {
    let pair = RegistryPair::start(Personality::plain(), Personality::distribution_2_8());
    let image = Image::single(1, 2, 500);
    pair.source.push("app", "1", &image);
    let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":""},{"code":"MANIFEST_BLOB_UNKNOWN","message":""}]}"#;
    let refusal = ScriptedFault::Answer { status: 400, headers: Vec::new(), body: body.into() };
    pair.destination.fault(When::asked("PUT", "/manifests/1"), refusal);
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_too_large_is_refused_for_good() {
    let pair = RegistryPair::start(Personality::plain(), Personality { manifest_limit: 100, ..Personality::plain() });
    let image = Image::single(1, 2, 500);
    pair.source.push("app", "1", &image);
    let refused = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(refused.to_string().contains("413") && !is_transient(&refused), "{refused}");
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_or_a_connection_that_breaks_costs_a_repetition() {
    let layer = Blob::layer(1, 300_000);
    let put = layer.digest.replace(':', "%3A");
    let table = [
        ("PUT", put.as_str(), ScriptedFault::LoseAnswer),
        ("PUT", put.as_str(), ScriptedFault::CutRequest(100_000)),
        ("PUT", "/manifests/1", ScriptedFault::LoseAnswer),
        ("POST", "/blobs/uploads/", ScriptedFault::LoseAnswer),
        ("PUT", put.as_str(), ScriptedFault::error(503, "UNAVAILABLE")),
        ("PUT", put.as_str(), ScriptedFault::error(404, "BLOB_UPLOAD_UNKNOWN")),
    ];
    for (method, part, fault) in table {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
        pair.source.push("app", "1", &image);
        pair.destination.fault(When::asked(method, part), fault.clone());
        pair.copy("1", &image.digest()).await.unwrap_or_else(|error| panic!("{method} {part} {fault:?}: {error}"));
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests(), "{method} {part} {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_cancelled_is_left_alone() {
    for product in
        [Personality::plain(), Personality { cancel: 405, ..Personality::plain() }, Personality::distribution_3()]
    {
        let pair = RegistryPair::start(Personality::plain(), product);
        let layer = Blob::layer(1, 300_000);
        let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
        pair.source.push("app", "1", &image);
        pair.source.fault(When::asked("GET", &layer.digest).always(), ScriptedFault::Flip(200_000));
        let failed = pair.copy("1", &image.digest()).await;
        assert!(matches!(failed, Err(CopyError::Source(_))), "cancelling changes nothing of the cause: {failed:?}");
        let soon = std::time::Duration::from_secs(10);
        let asked = async || pair.destination.count("DELETE", "/blobs/uploads/") >= 1;
        crate::support::eventually::eventually(soon, "the session is given up", asked).await;
    }
}

/// Registries that do not take one PUT with everything, and how many requests one large blob takes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_take_a_blob_at_once_gets_it_in_another_way() {
    let chunked = |patch_status, progress| Personality {
        patch_status,
        progress,
        body_limit: Some((5_000_000, Over::Answers)),
        ..Personality::plain()
    };
    let breaking = Personality { body_limit: Some((5_000_000, Over::Breaks)), ..Personality::plain() };
    let table = [
        ("413 over 5 MB", chunked(202, ProgressRange::True)),
        ("ECR: 201, and the range of the first chunk", chunked(201, ProgressRange::First)),
        ("pulp: 204", chunked(204, ProgressRange::True)),
        ("zot: less than was sent", chunked(202, ProgressRange::Short(1_000))),
        ("ACR: breaks off", Personality { location: Location::Relative, ..breaking }),
        ("old Artifactory", Personality { put_needs_patch: true, ..Personality::plain() }),
        ("GHCR", Personality { put_needs_patch: true, patch: Patch::LastWins, ..Personality::plain() }),
        ("416 over 4 MiB", Personality { put_needs_patch: true, patch: Patch::UpTo(4 << 20), ..Personality::plain() }),
    ];
    for (name, personality) in table {
        let pair = RegistryPair::start(Personality::plain(), personality);
        for (tag, seed) in [("1", 1), ("2", 2)] {
            let image = Image::single(seed, 1, 9_000_000);
            pair.source.push("app", tag, &image);
            pair.copy(tag, &image.digest()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(pair.destination.tree("app", tag), image.tree_digests(), "{name}");
        }
        let log = pair.destination.log();
        let sent: u64 = log.iter().filter(|seen| seen.path.contains("/blobs/uploads/")).map(|seen| seen.received).sum();
        assert!(log.iter().any(|seen| seen.method == "PATCH"), "{name}");
        // A connection that breaks may have broken for any reason: that is tried anew with each blob. And of two limits
        // at once only the last one that was met is remembered.
        let is_clear = !matches!(name, "ACR: breaks off" | "416 over 4 MiB");
        assert!(!is_clear || sent < 40_000_000, "{name}: what is taken is remembered; {sent} bytes for 18 MB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_breaks_is_taken_up_where_the_registry_says() {
    let limited = Personality { body_limit: Some((5_000_000, Over::Answers)), ..Personality::plain() };
    let pair = RegistryPair::start(Personality::plain(), limited);
    let image = Image::single(1, 1, 12_000_000);
    pair.source.push("app", "1", &image);
    pair.destination.fault(When::asked("PATCH", "/blobs/uploads/").nth(2), ScriptedFault::CutRequest(1_000_000));
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    assert!(pair.destination.count("GET", "/blobs/uploads/") >= 1, "it is asked what it has");
}
