//! Registries that take chunks only, each with its own idea of how.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;

use crate::image::RepositoryName;
use crate::registry::testing::{Reply, Seen, Server, descriptor, password};
use crate::registry::upload::ladder::{Rung, UploadProfile};
use crate::registry::{BlobStream, Client, ErrorKind, RegistryError, UploadOutcome};

const CONTENT: &[u8] = b"0123456789";

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn profile(rungs: &'static [Rung]) -> UploadProfile {
    UploadProfile { rungs, chunk: 4, min_chunk: 1, max_single_request: u64::MAX }
}

/// Returns `client` with another profile of its registry.
fn with_profile(mut client: Client, profile: UploadProfile) -> Client {
    client.uploads_mut().set_profile(profile);
    client
}

/// Returns a client that sends chunks of 4 bytes from the start.
fn chunking(server: &Server) -> Client {
    with_profile(
        server.client(),
        UploadProfile { max_single_request: 0, ..profile(&[Rung::Put, Rung::Patch, Rung::Chunks]) },
    )
}

fn whole() -> BlobStream {
    futures::stream::iter(CONTENT.chunks(3).map(|piece| Ok(Bytes::from_static(piece)))).boxed()
}

async fn upload(client: &Client) -> Result<UploadOutcome, RegistryError> {
    client.upload(&repository(), &descriptor(CONTENT), None, || async { Ok(whole()) }).await
}

/// A session that keeps what it is sent in order, as a registry does.
#[derive(Clone, Default)]
struct StoredUpload(Arc<Mutex<Vec<u8>>>);

impl StoredUpload {
    fn answer(&self, seen: &Seen) -> Reply {
        let mut kept = self.0.lock().unwrap();
        match seen.method.as_str() {
            "POST" => {
                kept.clear();
                Reply::new(202, "").header("Location", "/u/0?s=0")
            }
            "PATCH" => {
                let first = kept.len().to_string();
                if seen.header("content-range").is_some_and(|range| range.split('-').next() != Some(first.as_str())) {
                    return Reply::new(416, "");
                }
                kept.extend_from_slice(&seen.body);
                Reply::new(202, "").header("Location", format!("/u/0?s={}", kept.len()))
            }
            "GET" => Reply::new(204, "").header("Range", format!("0-{}", kept.len().saturating_sub(1))),
            "PUT" => {
                kept.extend_from_slice(&seen.body);
                let digest = descriptor(&kept).digest.to_string().replace(':', "%3A");
                Reply::new(if seen.target.ends_with(&digest) { 201 } else { 400 }, "")
            }
            _ => Reply::new(403, ""),
        }
    }

    fn is_right(&self) -> bool {
        *self.0.lock().unwrap() == CONTENT
    }
}

/// Returns the ranges of all chunks that came in.
fn ranges(server: &Server) -> Vec<String> {
    let patches = server.seen().into_iter().filter(|seen| seen.method == "PATCH");
    patches.map(|seen| seen.header("content-range").unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn a_blob_goes_in_chunks_each_to_where_the_last_answer_says() {
    // ECR answers 201 and a Range that sticks at the first chunk; pulp and others 204; zot the range of the last chunk
    for (status, range) in [(202, "0-3"), (201, "0-3"), (204, ""), (200, "4-7")] {
        let kept = StoredUpload::default();
        let session = kept.clone();
        let server = Server::start(move |seen, _| {
            let reply = session.answer(seen);
            match seen.method.as_str() {
                "PATCH" => {
                    let length = session.0.lock().unwrap().len();
                    Reply::new(status, "").header("Location", format!("/u/0?s={length}")).header("Range", range)
                }
                _ => reply,
            }
        })
        .await;
        assert_eq!(upload(&chunking(&server)).await.unwrap(), UploadOutcome::Uploaded, "{status}");
        assert!(kept.is_right());
        assert_eq!(ranges(&server), ["0-3", "4-7", "8-9"], "{status}");
        let lines = server.lines();
        assert_eq!(&lines[1..4], ["PATCH /u/0?s=0", "PATCH /u/0?s=4", "PATCH /u/0?s=8"]);
        let last = server.seen().pop().unwrap();
        assert!(last.target.starts_with("/u/0?s=10&digest=sha256%3A"), "{lines:?}");
        assert_eq!((last.method.as_str(), last.header("content-length")), ("PUT", Some("0")));
    }
}

#[tokio::test]
async fn a_refused_way_leads_to_the_next_and_the_next_blob_starts_there() {
    let refused = |status: u16, code: &str| Reply::new(status, format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#));
    // the answer to a PUT with a body; whether a PATCH of the whole is taken; the methods of the first and second
    // upload
    let one: &[&str] = &["POST", "PUT", "POST", "PATCH", "PUT"];
    let two: &[&str] = &["POST", "PUT", "POST", "PATCH", "PATCH", "PATCH", "PUT"];
    let table = [
        (Reply::new(404, ""), one, 3),
        (Reply::new(405, ""), one, 3),
        (Reply::new(501, ""), one, 3),
        (refused(400, "UNSUPPORTED"), one, 3),
        (Reply::new(413, "<html>nginx</html>"), two, 5),
    ];
    for (refusal, first, second) in table {
        let shown = format!("{refusal:?}");
        let kept = StoredUpload::default();
        let session = kept.clone();
        let server = Server::start(move |seen, _| match (seen.method.as_str(), seen.body.len()) {
            ("PUT", 1..) => refusal.clone(),
            _ => session.answer(seen),
        })
        .await;
        let client = with_profile(server.client(), profile(&[Rung::Put, Rung::Patch, Rung::Chunks]));
        upload(&client).await.unwrap();
        assert!(kept.is_right(), "{shown}");
        let methods = || {
            let all = server.seen().into_iter().map(|seen| seen.method).filter(|method| method != "DELETE");
            all.collect::<Vec<_>>()
        };
        assert_eq!(methods(), first, "{shown}");
        upload(&client).await.unwrap();
        assert_eq!(methods().len() - first.len(), second, "{shown}: {:?}", methods());
    }
}

#[tokio::test]
async fn a_chunk_that_is_too_large_is_halved() {
    let kept = StoredUpload::default();
    let session = kept.clone();
    let server = Server::start(move |seen, _| match seen.body.len() {
        3.. => Reply::new(413, ""),
        _ => session.answer(seen),
    })
    .await;
    upload(&chunking(&server)).await.unwrap();
    assert!(kept.is_right());
    assert_eq!(ranges(&server), ["0-3", "0-1", "2-3", "4-5", "6-7", "8-9"]);
}

#[tokio::test]
async fn chunks_are_at_least_as_long_as_the_registry_asks_for() {
    let kept = StoredUpload::default();
    let session = kept.clone();
    let server = Server::start(move |seen, _| session.answer(seen).header("OCI-Chunk-Min-Length", 6)).await;
    upload(&chunking(&server)).await.unwrap();
    assert_eq!(ranges(&server), ["0-5", "6-9"]);
}

#[tokio::test]
async fn after_a_break_the_upload_resumes_and_the_source_is_read_once() {
    // whether the second chunk was kept when it broke; the chunks
    for (is_kept, expected) in [(true, vec!["0-3", "4-7", "8-9"]), (false, vec!["0-3", "4-7", "4-7", "8-9"])] {
        for broken in [Reply::new(503, ""), Reply::new(200, "").reset(), Reply::silence()] {
            let kept = StoredUpload::default();
            let session = kept.clone();
            let server = Server::start(move |seen, before| match (seen.method.as_str(), before) {
                ("PATCH", 1) => {
                    if is_kept {
                        session.answer(seen);
                    }
                    broken.clone()
                }
                _ => session.answer(seen),
            })
            .await;
            let opened = AtomicUsize::new(0);
            let open = || async {
                opened.fetch_add(1, Ordering::SeqCst);
                Ok(whole())
            };
            chunking(&server).upload(&repository(), &descriptor(CONTENT), None, open).await.unwrap();
            assert!(kept.is_right());
            assert_eq!(
                (ranges(&server), opened.load(Ordering::SeqCst)),
                (expected.iter().map(|r| r.to_string()).collect(), 1)
            );
        }
    }
}

#[tokio::test]
async fn a_registry_that_lost_bytes_gets_them_again_and_no_others() {
    // where the loss comes out: at the next chunk with 416, or when the upload is completed with 416 or 400
    for (at, status) in [("PATCH", 416), ("PUT", 416), ("PUT", 400)] {
        let kept = StoredUpload::default();
        let session = kept.clone();
        let server = Server::start(move |seen, before| match (seen.method.as_str(), before) {
            ("PATCH", 2) if at == "PATCH" => {
                session.0.lock().unwrap().truncate(6);
                Reply::new(status, "")
            }
            ("PUT", 0) if at == "PUT" => {
                session.0.lock().unwrap().truncate(6);
                Reply::new(status, "")
            }
            _ => session.answer(seen),
        })
        .await;
        upload(&chunking(&server)).await.unwrap();
        assert!(kept.is_right(), "{at} {status}");
        assert_eq!(ranges(&server)[3..], ["6-9"], "{at} {status}");
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn a_registry_that_loses_everything_again_and_again_is_given_up() {
    let server = Server::start(|seen, _| match (seen.method.as_str(), seen.header("content-range")) {
        ("POST", _) => Reply::new(202, "").header("Location", "/u"),
        ("PATCH", Some("0-3")) => Reply::new(202, ""),
        ("PATCH", _) => Reply::new(416, ""),
        _ => Reply::new(204, "").header("Range", "0-0"),
    })
    .await;
    let error = upload(&chunking(&server)).await.unwrap_err();
    assert!(server.seen().len() < 100, "{error}: {}", server.seen().len());
}

#[tokio::test]
async fn a_source_that_breaks_goes_on_and_the_registry_gets_nothing_twice() {
    let kept = StoredUpload::default();
    let session = kept.clone();
    let server = Server::start(move |seen, _| session.answer(seen)).await;
    let opened = AtomicUsize::new(0);
    let open = || async {
        match opened.fetch_add(1, Ordering::SeqCst) {
            0 => {
                let error = RegistryError::new(ErrorKind::Unavailable, "the source broke");
                Ok(whole().take(2).chain(futures::stream::iter([Err(error)])).boxed())
            }
            _ => Ok(whole()),
        }
    };
    chunking(&server).upload(&repository(), &descriptor(CONTENT), None, open).await.unwrap();
    assert!(kept.is_right());
    assert_eq!(
        (ranges(&server), opened.load(Ordering::SeqCst)),
        (["0-3", "4-7", "8-9"].map(str::to_owned).to_vec(), 2)
    );
}

#[tokio::test]
async fn a_source_that_is_wrong_or_changes_never_gets_its_last_chunk_sent() {
    let one = |content: &'static [u8]| futures::stream::iter([Ok(Bytes::from_static(content))]).boxed() as BlobStream;
    // what the first stream gives before it breaks, if it does; what the next one gives
    for (first, second) in
        [(None, b"01234567x9".as_slice()), (None, b"012345678"), (None, b"01234567890"), (Some(b"0x2345"), CONTENT)]
    {
        let kept = StoredUpload::default();
        let session = kept.clone();
        let server = Server::start(move |seen, _| session.answer(seen)).await;
        let opened = AtomicUsize::new(0);
        let open = || async {
            match (opened.fetch_add(1, Ordering::SeqCst), first) {
                (0, Some(first)) => {
                    let error = RegistryError::new(ErrorKind::Unavailable, "the source broke");
                    Ok(one(first).chain(futures::stream::iter([Err(error)])).boxed())
                }
                _ => Ok(one(second)),
            }
        };
        let error = chunking(&server).upload(&repository(), &descriptor(CONTENT), None, open).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidContent, "{error}");
        assert_eq!(server.count("PUT"), 0);
        assert!(kept.0.lock().unwrap().len() < CONTENT.len());
    }
}

#[tokio::test]
async fn a_token_that_expires_between_chunks_is_renewed_in_the_same_session() {
    let kept = StoredUpload::default();
    let session = kept.clone();
    let server = Server::start(move |seen, before| {
        let token = seen.header("authorization").unwrap_or_default();
        match (seen.target.starts_with("/token"), seen.method.as_str()) {
            (true, _) => Reply::new(200, format!(r#"{{"token":"t{before}"}}"#)),
            _ if token.is_empty() || (seen.method == "PATCH" && before >= 1 && token == "Bearer t0") => {
                let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                Reply::new(401, "").header("WWW-Authenticate", realm)
            }
            _ => session.answer(seen),
        }
    })
    .await;
    let client = UploadProfile { max_single_request: 0, ..profile(&[Rung::Chunks]) };
    upload(&with_profile(server.client_as(password()), client)).await.unwrap();
    assert!(kept.is_right());
    assert_eq!(ranges(&server), ["0-3", "4-7", "4-7", "8-9"]);
    assert_eq!(server.count("GET /token"), 2);
}

#[tokio::test]
async fn a_session_that_is_gone_is_opened_anew_even_where_it_cannot_be_given_up() {
    let kept = StoredUpload::default();
    let session = kept.clone();
    let server = Server::start(move |seen, before| match (seen.method.as_str(), before) {
        ("PATCH", 1) => Reply::new(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
        // an append-only user may not delete
        ("DELETE", _) => Reply::new(403, ""),
        _ => session.answer(seen),
    })
    .await;
    upload(&chunking(&server)).await.unwrap();
    assert!(kept.is_right());
    assert_eq!(server.count("POST"), 2);
}
