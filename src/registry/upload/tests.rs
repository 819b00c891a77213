//! Uploads to hostile and odd registries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;

use crate::image::{Descriptor, RepositoryName};
use crate::registry::testing::{Reply, Seen, Server, descriptor, password};
use crate::registry::{BlobStream, Client, ErrorKind, RegistryError, UploadOutcome};

const CONTENT: &[u8] = b"0123456789";
const POST: &str = "POST /v2/team/app/blobs/uploads/";

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn pieces(content: &'static [u8], end: Option<RegistryError>) -> BlobStream {
    let pieces = content.chunks(4).map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>();
    futures::stream::iter(pieces).chain(futures::stream::iter(end.map(Err))).boxed()
}

async fn upload(client: &Client, mount_from: Option<&str>) -> Result<UploadOutcome, RegistryError> {
    let from = mount_from.map(|name| name.parse().unwrap());
    let open = || async { Ok(pieces(CONTENT, None)) };
    client.upload(&repository(), &descriptor(CONTENT), from.as_ref(), open).await
}

/// Returns the response of a sound registry.
fn sound(seen: &Seen) -> Reply {
    match seen.method.as_str() {
        "POST" => Reply::new(202, "").header("Location", "/u/1?_state=a%3Db"),
        "PUT" => Reply::new(201, ""),
        _ => Reply::new(204, ""),
    }
}

#[tokio::test]
async fn a_blob_is_put_with_its_length_and_digest_where_the_registry_says() {
    let server = Server::start(|seen, _| sound(seen)).await;
    assert_eq!(upload(&server.client(), None).await.unwrap(), UploadOutcome::Uploaded);
    let digest = descriptor(CONTENT).digest.to_string().replace(':', "%3A");
    assert_eq!(server.lines(), [POST, &format!("PUT /u/1?_state=a%3Db&digest={digest}")]);
    let put = &server.seen()[1];
    assert_eq!((put.body.as_slice(), put.is_complete), (CONTENT, true));
    assert_eq!(put.header("content-length"), Some("10"));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    assert_eq!(server.seen()[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn an_empty_blob_is_put_too() {
    let server = Server::start(|seen, _| sound(seen)).await;
    let open = || async { Ok(pieces(b"", None)) };
    server.client().upload(&repository(), &descriptor(b""), None, open).await.unwrap();
    assert_eq!(server.seen()[1].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_mount_is_a_success_a_session_or_a_refusal() {
    let digest = descriptor(CONTENT).digest.to_string().replace(':', "%3A");
    let mount = format!("{POST}?mount={digest}&from=team%2Fbase");
    // the status of the mount; what comes out; the requests after it
    let table = [
        (201, UploadOutcome::Mounted, vec![]),
        (202, UploadOutcome::Uploaded, vec!["PUT"]),
        (404, UploadOutcome::Uploaded, vec!["POST", "PUT"]),
        (405, UploadOutcome::Uploaded, vec!["POST", "PUT"]),
        (401, UploadOutcome::Uploaded, vec!["POST", "PUT"]),
    ];
    for (status, expected, after) in table {
        let server = Server::start(move |seen, _| match seen.target.contains("mount=") {
            true => Reply::new(status, "").header("Location", "/u/1"),
            false => sound(seen),
        })
        .await;
        assert_eq!(upload(&server.client(), Some("team/base")).await.unwrap(), expected, "{status}");
        assert_eq!(server.lines()[0], mount);
        let methods: Vec<_> = server.seen()[1..].iter().map(|seen| seen.method.clone()).collect();
        assert_eq!(methods, after, "{status}");
    }
}

#[tokio::test]
async fn wrong_content_never_completes_a_request_and_the_session_is_cancelled() {
    let wrong = || RegistryError::new(ErrorKind::InvalidContent, "the source: wrong digest");
    let server = Server::start(|seen, _| sound(seen)).await;
    let open = || async { Ok(pieces(CONTENT, Some(wrong()))) };
    let error = server.client().upload(&repository(), &descriptor(CONTENT), None, open).await.unwrap_err();
    assert_eq!(error.message, "the source: wrong digest");
    server.until_seen("DELETE /u/1?_state=a%3Db").await;
    assert!(server.seen().iter().all(|seen| seen.method != "PUT" || !seen.is_complete));

    for size in [9, 11] {
        let blob = Descriptor { size, ..descriptor(CONTENT) };
        let open = || async { Ok(pieces(CONTENT, None)) };
        let error = server.client().upload(&repository(), &blob, None, open).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidContent);
    }
    assert!(server.seen().iter().all(|seen| seen.method != "PUT" || !seen.is_complete));
}

#[tokio::test]
async fn a_blob_with_a_wrong_digest_is_never_completed_between_registries() {
    let source = Server::start(|_, _| Reply::new(200, CONTENT)).await;
    let server = Server::start(|seen, _| sound(seen)).await;
    let blob = Descriptor { size: 10, ..descriptor(b"other") };
    let reader = source.client();
    let open = || async { reader.blob(&repository(), &blob).await };
    let error = server.client().upload(&repository(), &blob, None, open).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidContent);
    assert!(error.message.starts_with(reader.host()), "{error}");
    assert!(server.seen().iter().all(|seen| seen.method != "PUT" || !seen.is_complete));
}

#[tokio::test]
async fn a_source_that_does_not_open_is_what_failed() {
    let server = Server::start(|seen, _| sound(seen)).await;
    let open = || async { Err(RegistryError::new(ErrorKind::Unavailable, "the source is down")) };
    let error = server.client().upload(&repository(), &descriptor(CONTENT), None, open).await.unwrap_err();
    assert_eq!(error.message, "the source is down");
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn an_upload_that_meets_a_passing_failure_starts_again_from_its_source() {
    let server = Server::start(|seen, before| match (seen.method.as_str(), before) {
        ("PUT", 0) => Reply::new(503, ""),
        ("PUT", 1) => Reply::new(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
        ("POST", 1) => Reply::new(502, ""),
        _ => sound(seen),
    })
    .await;
    let opened = AtomicUsize::new(0);
    let open = || async {
        opened.fetch_add(1, Ordering::SeqCst);
        Ok(pieces(CONTENT, None))
    };
    let outcome = server.client().upload(&repository(), &descriptor(CONTENT), None, open).await;
    assert_eq!(outcome.unwrap(), UploadOutcome::Uploaded);
    assert_eq!(opened.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_refused_upload_is_not_repeated() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "PUT" => Reply::new(403, ""),
        _ => sound(seen),
    })
    .await;
    assert_eq!(upload(&server.client(), None).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(server.count("PUT"), 1);
}

#[tokio::test]
async fn a_token_that_runs_out_before_the_put_is_renewed() {
    let server = Server::start(|seen, before| {
        let token = seen.header("authorization").unwrap_or_default();
        match (seen.target.split('?').next(), seen.method.as_str()) {
            (Some("/token"), _) => Reply::new(200, format!(r#"{{"token":"t{before}"}}"#)),
            (_, "PUT") if token == "Bearer t0" => Reply::new(401, ""),
            _ if token.is_empty() => {
                let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                Reply::new(401, "").header("WWW-Authenticate", realm)
            }
            _ => sound(seen),
        }
    })
    .await;
    assert_eq!(upload(&server.client_as(password()), Some("a")).await.unwrap(), UploadOutcome::Uploaded);
    let scopes = "scope=repository%3Aa%3Apull&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    assert!(server.lines()[1].ends_with(scopes), "{:?}", server.lines());
    let puts: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts[1].header("authorization"), Some("Bearer t1"));
}

#[tokio::test]
async fn a_session_on_another_host_needs_trust_and_gets_no_authorization() {
    let storage = Server::start(|_, _| Reply::new(201, "")).await;
    let place = format!("localhost:{}", storage.port);
    let location = format!("http://{place}/u?signature=abc");
    let server = Server::start(move |seen, _| match seen.header("authorization") {
        None => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x"),
        Some(_) => Reply::new(202, "").header("Location", &location),
    })
    .await;
    let error = upload(&server.client_trusting(password(), &[], &[&server, &storage]), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(storage.seen().is_empty());
    upload(&server.client_trusting(password(), &[place], &[&server, &storage]), None).await.unwrap();
    assert_eq!(storage.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn an_upload_whose_source_stalls_times_out() {
    let server = Server::start(|seen, _| sound(seen)).await;
    let silent = || async {
        let start = futures::stream::iter([Ok(Bytes::from_static(b"0123"))]);
        Ok(start.chain(futures::stream::pending()).boxed() as BlobStream)
    };
    let error = server.client().upload(&repository(), &descriptor(CONTENT), None, silent).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("the source gave nothing"), "{error}");
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn a_registry_that_says_nothing_after_the_upload_times_out() {
    let server = Server::start(|seen, before| match (seen.method.as_str(), before) {
        ("PUT", 0) => Reply::silence(),
        ("PUT", _) => Reply::new(403, ""),
        _ => sound(seen),
    })
    .await;
    assert_eq!(upload(&server.client(), None).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(server.count("PUT"), 2);
}

#[tokio::test]
async fn a_registry_can_be_copied_to_itself_with_one_permit_of_each_kind() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "GET" => Reply::new(200, CONTENT),
        _ => sound(seen),
    })
    .await;
    let client = Arc::new(server.client());
    let all = (0..12).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let blob = descriptor(CONTENT);
            let open = || async { client.blob(&repository(), &blob).await };
            client.upload(&repository(), &blob, None, open).await.unwrap()
        })
    });
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
}
