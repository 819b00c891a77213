//! Manifests of hostile and odd registries.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::image::{Digest, MAX_MANIFEST_BYTES, Manifest, RepositoryName, Tag, media_type};
use crate::registry::testing::{Reply, Server};
use crate::registry::{ErrorKind, ManifestHead, Reference};

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
const SHA512_OF_NOTHING: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

fn names() -> (RepositoryName, Tag) {
    ("team/app".parse().unwrap(), "v1".parse().unwrap())
}

fn served(body: &str, digest: impl ToString) -> Reply {
    Reply::new(200, body).header("Content-Type", media_type::OCI_INDEX).header("Docker-Content-Digest", digest)
}

#[tokio::test]
async fn a_head_is_enough_where_the_registry_states_the_digest() {
    let server = Server::start(|_, _| served(INDEX, Digest::sha256(INDEX.as_bytes()))).await;
    let (repository, tag) = names();
    let head = server.client().head_manifest(&repository, Reference::Tag(&tag)).await.unwrap().unwrap();
    let size = Some(INDEX.len() as u64);
    assert_eq!(head, ManifestHead { digest: Digest::sha256(INDEX.as_bytes()), size, is_schema_1: false });
    assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/v1"]);
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("identity"));
    assert!(server.seen()[0].header("accept").unwrap().contains(media_type::OCI_INDEX));
}

#[tokio::test]
async fn the_manifest_is_read_where_a_head_states_nothing() {
    for status in [200, 403, 405, 412, 451] {
        let server = Server::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => Reply::new(status, "").header("Docker-Content-Digest", "nonsense"),
            _ => Reply::new(200, INDEX),
        })
        .await;
        let (repository, tag) = names();
        let head = server.client().head_manifest(&repository, Reference::Tag(&tag)).await.unwrap().unwrap();
        assert_eq!(head.digest, Digest::sha256(INDEX.as_bytes()), "{status}");
    }
    let server = Server::start(|_, _| Reply::new(404, "")).await;
    let (repository, tag) = names();
    assert_eq!(server.client().head_manifest(&repository, Reference::Tag(&tag)).await.unwrap(), None);
}

#[tokio::test]
async fn a_digest_that_is_stated_wrongly_or_in_two_ways_counts_as_not_stated() {
    let own = Digest::sha256(INDEX.as_bytes());
    let other = Digest::sha256(b"other");
    let upper = own.as_str().to_uppercase().replace("SHA256", "sha256");
    let values = [vec![], vec![upper], vec!["sha256:abc".to_owned()], vec![own.to_string(), other.to_string()]];
    for stated in values.into_iter().chain([vec![format!("{own}, {other}")], vec![own.to_string(); 2]]) {
        let shown = format!("{stated:?}");
        let server = Server::start(move |_, _| {
            stated.iter().fold(Reply::new(200, INDEX), |reply, value| reply.header("Docker-Content-Digest", value))
        })
        .await;
        let (repository, tag) = names();
        let head = server.client().head_manifest(&repository, Reference::Tag(&tag)).await.unwrap().unwrap();
        assert_eq!(head.digest, own, "{shown}");
        assert_eq!(server.client().manifest(&repository, Reference::Tag(&tag)).await.unwrap().digest, own, "{shown}");
    }
}

#[tokio::test]
async fn content_that_does_not_have_its_digest_is_refused() {
    let (repository, tag) = names();
    let other = Digest::sha256(b"other");
    let stated = other.clone();
    let server = Server::start(move |_, _| served(INDEX, &stated)).await;
    let client = server.client();
    for reference in [Reference::Tag(&tag), Reference::Digest(&other)] {
        let error = client.manifest(&repository, reference).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidContent, "{error}");
    }
    let asked = Digest::sha256(INDEX.as_bytes());
    let error = client.head_manifest(&repository, Reference::Digest(&asked)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidContent);
    let sha512 = SHA512_OF_NOTHING.parse().unwrap();
    assert!(client.manifest(&repository, Reference::Digest(&sha512)).await.is_err());
    // Asked for by its digest, the content counts and the header does not.
    assert_eq!(client.manifest(&repository, Reference::Digest(&asked)).await.unwrap().digest, asked);
}

#[tokio::test]
async fn an_answer_that_drips_ends_in_time_in_words_and_holds_up_no_other() {
    let each = Duration::from_millis(40);
    let slow = Server::start(move |seen, _| match seen.target.ends_with("head") {
        true => Reply::new(200, INDEX).drip_head(each),
        false => Reply::new(200, vec![b' '; 10_000]).drip_body(each),
    })
    .await;
    let quick = Server::start(|_, _| Reply::new(200, INDEX)).await;
    let (slow_client, client) = (slow.client(), quick.client());
    let (repository, tag) = names();
    let read = async |tag: &str| {
        let tag: Tag = tag.parse().unwrap();
        (slow_client.manifest(&repository, Reference::Tag(&tag)).await.unwrap_err(), Instant::now())
    };
    let ((head, head_at), (body, body_at), other_at) = futures::join!(read("head"), read("body"), async {
        client.manifest(&repository, Reference::Tag(&tag)).await.unwrap();
        Instant::now()
    });
    assert!(other_at < head_at && other_at < body_at, "the other answer was there first");
    assert_eq!((head.kind, body.kind), (ErrorKind::Unavailable, ErrorKind::Unavailable));
    assert!(head.message.contains("did not answer within 1.5s"), "{head}");
    assert!(body.message.contains("the answer did not end within 2s"), "{body}");
}

#[tokio::test]
async fn a_refusal_of_head_is_shown_with_the_words_of_get() {
    let words = r#"{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"image with 2 vulnerabilities"}]}"#;
    let server = Server::start(move |_, _| Reply::new(412, words)).await;
    let (repository, tag) = names();
    let error = server.client().head_manifest(&repository, Reference::Tag(&tag)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.message.contains("PROJECTPOLICYVIOLATION: image with 2 vulnerabilities"), "{error}");
}

#[tokio::test]
async fn a_refusal_that_drips_keeps_the_meaning_of_its_status() {
    let server =
        Server::start(|_, _| Reply::new(404, "no such image".repeat(1_000)).drip_body(Duration::from_millis(20))).await;
    let client = server.client_with(|deadlines| deadlines.refusal = Duration::from_millis(300));
    let (repository, tag) = names();
    let began = Instant::now();
    let error = client.manifest(&repository, Reference::Tag(&tag)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("answered 404 (no such"), "what came is shown: {error}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_404_to_head_is_confirmed_by_get_and_a_wrong_one_remembered() {
    let server = Server::start(|seen, _| match (seen.method.as_str(), seen.target.ends_with("/v1")) {
        ("GET", true) => Reply::new(200, INDEX),
        _ => Reply::new(404, ""),
    })
    .await;
    let client = server.client();
    let (repository, tag) = names();
    let absent: Tag = "absent".parse().unwrap();
    assert_eq!(client.head_manifest(&repository, Reference::Tag(&absent)).await.unwrap(), None);
    for _ in 0..2 {
        let head = client.head_manifest(&repository, Reference::Tag(&tag)).await.unwrap().unwrap();
        assert_eq!(head.digest, Digest::sha256(INDEX.as_bytes()));
    }
    assert_eq!(client.probe_manifest(&repository, Reference::Tag(&absent)).await.unwrap(), None);
    let of = |method: &str, tag: &str| format!("{method} /v2/team/app/manifests/{tag}");
    let expected = [
        of("HEAD", "absent"),
        of("GET", "absent"),
        of("HEAD", "v1"),
        of("GET", "v1"),
        of("GET", "v1"),
        of("GET", "absent"),
    ];
    assert_eq!(server.lines(), expected);
}

#[tokio::test]
async fn a_head_that_fails_is_made_up_for_by_get_and_remembered() {
    for broken in [Reply::new(500, ""), Reply::new(500, "").reset()] {
        let server = Server::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => broken.clone(),
            _ => Reply::new(200, INDEX),
        })
        .await;
        let client = server.client();
        let (repository, tag) = names();
        for _ in 0..2 {
            let head = client.probe_manifest(&repository, Reference::Tag(&tag)).await.unwrap().unwrap();
            assert_eq!(head.digest, Digest::sha256(INDEX.as_bytes()));
        }
        assert_eq!(server.count("GET"), 2);
        let heads = server.count("HEAD");
        assert!((2..=5).contains(&heads), "{heads}: the second look has none");
    }
    let server = Server::start(|seen, before| match (seen.method.as_str(), before) {
        ("HEAD", 0..4) => Reply::new(500, ""),
        _ => Reply::new(200, INDEX).header("Docker-Content-Digest", Digest::sha256(INDEX.as_bytes())),
    })
    .await;
    let (client, (repository, tag)) = (server.client(), names());
    for _ in 0..2 {
        assert!(client.probe_manifest(&repository, Reference::Tag(&tag)).await.unwrap().is_some());
    }
    assert_eq!(server.count("GET"), 1, "HEAD works again: {:?}", server.lines());
    let away = Server::start(|_, _| Reply::new(503, "")).await;
    let client = away.client();
    for _ in 0..3 {
        let error = client.probe_manifest(&repository, Reference::Tag(&tag)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }
    assert_eq!(away.count("GET"), away.count("HEAD") / 3, "GET is tried after the first look: {:?}", away.lines());
}

#[tokio::test]
async fn a_page_in_place_of_a_manifest_is_named_also_where_a_digest_is_asked_for() {
    let page = "<!DOCTYPE html><title>Sign in</title>";
    let server = Server::start(move |_, _| Reply::new(200, page).header("Content-Type", "text/html")).await;
    let digest = Digest::sha256(INDEX.as_bytes());
    let error = server.client().manifest(&names().0, Reference::Digest(&digest)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidContent);
    assert!(error.message.contains("a web page \"Sign in\"; a registry does not answer so: check spec.url"), "{error}");
}

#[tokio::test]
async fn oversize_and_odd_documents_are_refused() {
    let (repository, tag) = names();
    let kind = async |reply: Reply| {
        let server = Server::start(move |_, _| reply.clone()).await;
        server.client().manifest(&repository, Reference::Tag(&tag)).await.unwrap_err().kind
    };
    assert_eq!(kind(Reply::new(200, vec![b' '; MAX_MANIFEST_BYTES + 1])).await, ErrorKind::TooLarge);
    assert_eq!(kind(Reply::new(200, "<html>")).await, ErrorKind::InvalidContent);
    assert_eq!(kind(Reply::new(404, "")).await, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_manifest_is_put_byte_for_byte_and_refusals_are_classified() {
    let (repository, tag) = names();
    let manifest = Manifest::parse(None, Bytes::from_static(INDEX.as_bytes())).unwrap();
    let codes = |codes: &str| format!(r#"{{"errors":[{codes}]}}"#);
    let table = [
        (Reply::new(201, ""), None),
        (Reply::new(204, "").header("Docker-Content-Digest", &manifest.digest), None),
        (Reply::new(201, "").header("Docker-Content-Digest", Digest::sha256(b"")), Some(ErrorKind::InvalidContent)),
        (Reply::new(201, "").header("Docker-Content-Digest", SHA512_OF_NOTHING), Some(ErrorKind::InvalidContent)),
        (
            Reply::new(400, codes(r#"{"code":"DIGEST_INVALID"},{"code":"MANIFEST_BLOB_UNKNOWN","detail":{}}"#)),
            Some(ErrorKind::ContentMissing),
        ),
        (Reply::new(404, codes(r#"{"code":"BLOB_UNKNOWN"}"#)), Some(ErrorKind::ContentMissing)),
        (Reply::new(404, codes(r#"{"code":"MANIFEST_UNKNOWN"}"#)), Some(ErrorKind::ContentMissing)),
        (Reply::new(400, codes(r#"{"code":"MANIFEST_INVALID"}"#)), Some(ErrorKind::ManifestInvalid)),
        (Reply::new(404, codes(r#"{"code":"NAME_UNKNOWN"}"#)), Some(ErrorKind::NotFound)),
        (Reply::new(403, "<html>"), Some(ErrorKind::Denied)),
    ];
    for (reply, expected) in table {
        let (answer, shown) = (reply.clone(), format!("{reply:?}"));
        let server = Server::start(move |_, _| answer.clone()).await;
        let result = server.client().put_manifest(&repository, Reference::Tag(&tag), &manifest).await;
        assert_eq!(result.err().map(|error| error.kind), expected, "{shown}");
        let seen = &server.seen()[0];
        assert_eq!((seen.line().as_str(), seen.body.as_slice()), ("PUT /v2/team/app/manifests/v1", INDEX.as_bytes()));
        assert_eq!(seen.header("content-type"), Some(media_type::OCI_INDEX));
        assert_eq!(server.seen().len(), 1);
    }
}
