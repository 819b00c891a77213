//! Referrers by the API, by the fallback tag, and by both.

use super::*;
use crate::registry::testing::{Reply, Server};

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn index(digests: &[&Digest]) -> String {
    let entries: Vec<_> = digests
        .iter()
        .map(|digest| format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1}}"#, media_type::OCI_MANIFEST))
        .collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, media_type::OCI_INDEX, entries.join(","))
}

fn served(document: String) -> Reply {
    Reply::new(200, document).header("Content-Type", media_type::OCI_INDEX)
}

#[tokio::test]
async fn the_api_is_read_page_by_page_and_each_referrer_counts_once() {
    let (subject, a, b) = (Digest::sha256(b"s"), Digest::sha256(b"a"), Digest::sha256(b"b"));
    let (first, second) = (index(&[&a, &a]), index(&[&b, &a]));
    let server = Server::start(move |seen, _| match seen.target.ends_with("page=2") {
        false => served(first.clone()).header("Link", "<?page=2>; rel=\"next\""),
        true => served(second.clone()),
    })
    .await;
    let found = server.client().referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap();
    assert_eq!(found, ReferrerList { digests: vec![a, b], by_api: true });
    assert_eq!(server.lines()[0], format!("GET /v2/team/app/referrers/{subject}"));
}

#[tokio::test]
async fn a_filter_counts_if_the_registry_says_so_or_no_entry_has_a_type() {
    let subject = Digest::sha256(b"s");
    let entry = |content: &[u8], more: &str| {
        let digest = Digest::sha256(content);
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1{more}}}"#, media_type::OCI_MANIFEST)
    };
    let entries = [
        entry(b"a", r#","artifactType":"a/x+json""#),
        entry(b"b", r#","artifactType":"b/x""#),
        entry(b"c", ""),
        entry(b"d", r#","artifactType":"""#),
    ];
    let document = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let listed = async |applied: Option<&'static str>, types: &[&str]| {
        let document = document.clone();
        let server = Server::start(move |_, _| match applied {
            Some(applied) => served(document.clone()).header("OCI-Filters-Applied", applied),
            None => served(document.clone()),
        })
        .await;
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        let found =
            server.client().referrers_of_types(&repository(), &subject, FallbackTag::Present, &types).await.unwrap();
        let name = |digest: &Digest| ["a", "b", "c", "d"].into_iter().find(|n| Digest::sha256(n.as_bytes()) == *digest);
        let found: Vec<_> = found.into_iter().map(|one| (name(&one.digest).unwrap(), one.artifact_type)).collect();
        (found, server.lines()[0].clone())
    };
    let (a, b) = (Some("a/x+json".to_owned()), Some("b/x".to_owned()));
    let (found, line) = listed(Some("name, artifactType"), &["a/x+json"]).await;
    assert_eq!(found, [("a", a.clone()), ("c", a.clone()), ("d", a.clone())]);
    assert!(line.ends_with("?artifactType=a%2Fx%2Bjson"), "{line}");
    for applied in [None, Some("artifact"), Some("")] {
        assert_eq!(listed(applied, &["a/x+json"]).await.0, [("a", a.clone()), ("c", None), ("d", None)]);
    }
    let (found, line) = listed(Some("artifactType"), &["b/x", "a/x+json"]).await;
    assert_eq!(found, [("a", a), ("b", b), ("c", None), ("d", None)], "no filter was asked for");
    assert!(!line.contains('?'), "{line}");
    assert_eq!(listed(None, &[]).await.0.len(), 4);
}

#[tokio::test]
async fn what_is_under_the_fallback_tag_since_before_there_was_an_api_counts_too() {
    let (subject, a, b) = (Digest::sha256(b"s"), Digest::sha256(b"a"), Digest::sha256(b"b"));
    let (by_api, by_tag) = (index(&[&a]), index(&[&b, &a]));
    let server = Server::start(move |seen, _| match seen.target.contains("/referrers/") {
        true => served(by_api.clone()),
        false => served(by_tag.clone()),
    })
    .await;
    let client = server.client();
    let found = async |fallback| {
        let found = client.referrers_of_types(&repository(), &subject, fallback, &[]).await.unwrap();
        found.into_iter().map(|referrer| referrer.digest).collect::<Vec<_>>()
    };
    assert_eq!(found(FallbackTag::Present).await, [a.clone(), b.clone()]);
    let read = client.fallback_index(&repository(), &subject).await.unwrap().unwrap();
    let before = server.lines().len();
    assert_eq!(found(FallbackTag::Read(read)).await, [a.clone(), b]);
    assert_eq!(found(FallbackTag::Absent).await, [a]);
    assert_eq!(
        server.lines().len(),
        before + 2,
        "what was read is not read again, and what is not there not asked for"
    );
}

#[tokio::test]
async fn without_an_api_the_fallback_tag_is_read_and_the_api_is_not_asked_again() {
    let (subject, a) = (Digest::sha256(b"s"), Digest::sha256(b"a"));
    let (fallback, document) = (fallback_tag(&subject), index(&[&a]));
    let server = Server::start(move |seen, _| match seen.target.ends_with(fallback.as_str()) {
        true => served(document.clone()),
        false => Reply::new(404, "404 page not found"),
    })
    .await;
    let client = server.client();
    for _ in 0..2 {
        let found = client.referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap();
        assert_eq!(found, ReferrerList { digests: vec![a.clone()], by_api: false });
    }
    let none = client.referrers(&repository(), &a, FallbackTag::Absent).await.unwrap();
    assert!(none.digests.is_empty(), "a listing knows that there is no fallback tag");
    assert_eq!((server.count("GET /v2/team/app/referrers/"), server.count("GET /v2/team/app/manifests/")), (1, 2));
}

#[tokio::test]
async fn what_is_no_index_of_referrers_under_the_fallback_tag_names_none() {
    let image = r#"{"schemaVersion":2,"config":null,"layers":[]}"#;
    let subject = Digest::sha256(image.as_bytes());
    let server = Server::start(move |seen, _| match seen.target.contains("/manifests/") {
        true => Reply::new(200, image).header("Content-Type", media_type::OCI_MANIFEST),
        false => Reply::new(404, ""),
    })
    .await;
    let found = server.client().referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap();
    assert!(found.digests.is_empty(), "GitLab answers with the subject itself");
}

#[tokio::test]
async fn a_list_that_is_wrong_in_one_place_names_it() {
    let subject = Digest::sha256(b"s");
    let server = Server::start(|_, _| served(r#"{"manifests":[{"digest":"sha256:ABC"}]}"#.to_owned())).await;
    let error = server.client().referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap_err();
    assert!(error.message.contains(r#"with a digest that is not valid: "sha256:ABC""#), "{error}");
    let next = format!("</v2/team/app/referrers/{subject}?page=2>; rel=next");
    let server = Server::start(move |_, page| match page {
        0 => served(index(&[])).header("Link", next.clone()),
        _ => Reply::new(404, ""),
    })
    .await;
    let error = server.client().referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap_err();
    assert!(error.message.contains("answered 404; the registry sent Link: </v2/team/app/referrers/"), "{error}");
}

#[tokio::test]
async fn a_read_that_fails_is_never_taken_for_none() {
    let subject = Digest::sha256(b"s");
    let circle = served(index(&[])).header("Link", format!("</v2/team/app/referrers/{subject}>; rel=next"));
    let table = [
        (Reply::new(403, ""), ErrorKind::Denied),
        (Reply::new(400, ""), ErrorKind::Rejected),
        (Reply::new(503, ""), ErrorKind::Unavailable),
        (Reply::new(200, "<html>").header("Content-Type", "text/html"), ErrorKind::InvalidContent),
        (Reply::new(200, "{}"), ErrorKind::InvalidContent),
        (Reply::new(200, r#"{"manifests":[{"digest":"sha256:../x"}]}"#), ErrorKind::InvalidContent),
        (circle, ErrorKind::InvalidContent),
    ];
    for (reply, expected) in table {
        let shown = format!("{reply:?}");
        let server = Server::start(move |_, _| reply.clone()).await;
        let error = server.client().referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap_err();
        assert_eq!(error.kind, expected, "{shown}");
    }
    let broken_tag = Server::start(|seen, _| match seen.target.contains("/referrers/") {
        true => Reply::new(404, ""),
        false => Reply::new(500, ""),
    })
    .await;
    let error = broken_tag.client().referrers(&repository(), &subject, FallbackTag::Unknown).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}
