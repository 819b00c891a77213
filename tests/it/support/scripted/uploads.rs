//! Upload sessions: opened, filled by PATCH and PUT, asked about, cancelled; and mounts, which need none.

use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_RANGE};
use axum::response::Response;

use super::answer::{empty, put, refusal};
use super::call::{Call, Gone, Piece};
use super::logins;
use super::personality::{Location, Login, Mount, Patch, ProgressRange};
use super::shared::Role;
use super::store::{StoredUpload, is_digest, verifies};

/// Answers a request for a session; `session` is empty where one is to be opened.
pub(super) async fn of(call: &mut Call, repository: &str, session: &str) -> Result<Response, Gone> {
    if session.is_empty() {
        return match call.method {
            Method::POST => post(call, repository).await,
            _ => Ok(refusal(405, "UNSUPPORTED", "sessions are opened by POST")),
        };
    }
    let is_there = call.shared.store().uploads.get(session).is_some_and(|upload| upload.repository == repository);
    if !is_there {
        return Ok(refusal(404, "BLOB_UPLOAD_UNKNOWN", "no such session"));
    }
    match call.method {
        Method::PATCH => patch(call, session).await,
        Method::PUT => finish(call, session).await,
        Method::GET => Ok(progress(call, session, 204)),
        Method::DELETE => Ok(cancel(call, session)),
        _ => Ok(refusal(405, "UNSUPPORTED", "not for sessions")),
    }
}

/// Serves a session whose `Location` is on the other origin; a request with an `Authorization` is refused.
pub(super) async fn elsewhere(call: &mut Call) -> Result<Response, Gone> {
    if call.headers.contains_key(AUTHORIZATION) {
        return Ok(refusal(400, "DENIED", "Only one auth mechanism allowed"));
    }
    let path = call.path.clone();
    match path.strip_prefix("/v2/").and_then(|path| path.split_once("/blobs/uploads/")) {
        Some((repository, session)) if !session.is_empty() => of(call, repository, session).await,
        _ => Ok(empty(404, [])),
    }
}

async fn post(call: &mut Call, repository: &str) -> Result<Response, Gone> {
    let is_there = call.shared.store().repositories.contains_key(repository);
    if call.personality.repositories_are_made && !is_there {
        return Ok(refusal(404, "NAME_UNKNOWN", "the repository does not exist in the registry"));
    }
    if let Some(digest) = call.query("mount").map(str::to_owned) {
        if let Some(response) = mount(call, repository, &digest) {
            return Ok(response);
        }
        return Ok(open(call, repository));
    }
    match call.query("digest").map(str::to_owned) {
        Some(digest) if call.personality.single_post => {
            let Some(body) = call.body(usize::MAX).await? else { return Ok(too_large()) };
            Ok(commit(call, repository, &digest, body.to_vec()))
        }
        _ => Ok(open(call, repository)),
    }
}

/// Returns the answer to a mount; nothing where it is answered with a session.
fn mount(call: &Call, repository: &str, digest: &str) -> Option<Response> {
    let from = call.query("from");
    if let Mount::Refused(status) = call.personality.mount {
        return Some(refusal(status, "UNSUPPORTED", "no mounts"));
    }
    if from.is_none() && call.personality.mount == Mount::From {
        return Some(refusal(400, "BLOB_UPLOAD_INVALID", "a mount needs from"));
    }
    if let (Login::Bearer(bearer), Some(from)) = (call.personality.login, from)
        && !call.has_grant(&format!("repository:{from}:pull"))
    {
        // Distribution and others open a session then.
        return bearer.mount_wants_pull.then(|| logins::unauthorized(call, &format!("repository:{from}:pull")));
    }
    let mut store = call.shared.store();
    let has = |name: &String| {
        let found = &store.repositories[name];
        let is_committed = || found.manifests.values().any(|manifest| manifest.blobs().contains(&digest));
        found.blobs.contains(digest) && (call.personality.mount != Mount::Committed || is_committed())
    };
    let is_mounted = match from {
        _ if call.personality.mount == Mount::Never => false,
        Some(from) => store.repositories.contains_key(from) && has(&from.to_owned()),
        None => call.personality.mount == Mount::Anywhere && store.repositories.keys().any(has),
    };
    if !is_mounted {
        return None;
    }
    store.repositories.entry(repository.to_owned()).or_default().blobs.insert(digest.to_owned());
    Some(created(call, repository, digest))
}

fn open(call: &Call, repository: &str) -> Response {
    let mut store = call.shared.store();
    store.begun += 1;
    let session = format!("session-{}", store.begun);
    store
        .uploads
        .insert(session.clone(), StoredUpload { repository: repository.to_owned(), ..StoredUpload::default() });
    drop(store);
    let mut response = progress(call, &session, 202);
    response.headers_mut().remove("range");
    if let Some(least) = call.personality.chunk_min_length {
        put(response.headers_mut(), "oci-chunk-min-length", &least.to_string());
    }
    response
}

/// Answers with the place of the session and the bytes that it has; with this status.
fn progress(call: &Call, session: &str, status: u16) -> Response {
    let mut store = call.shared.store();
    let Some(upload) = store.uploads.get_mut(session) else {
        return refusal(404, "BLOB_UPLOAD_UNKNOWN", "no such session");
    };
    let length = upload.bytes.len() as u64;
    let is_chunk = call.method == Method::PATCH;
    let end = match call.personality.progress {
        ProgressRange::First if is_chunk => upload.first_end,
        ProgressRange::Short(by) if is_chunk && status < 300 && upload.patches == 1 && length > by => {
            upload.bytes.truncate(usize::try_from(length - by).expect("a place in memory"));
            length - by - 1
        }
        _ => length.saturating_sub(1),
    };
    let path = format!("/v2/{}/blobs/uploads/{session}?_state=at-{length}", upload.repository);
    let location = match call.personality.location {
        Location::Absolute => call.url(Role::Registry, &path),
        Location::Relative => path,
        Location::WrongOrigin => format!("https://{}:8443{path}", call.shared.origin(Role::Registry).ip()),
        Location::Elsewhere => call.url(Role::Other, &path),
    };
    empty(status, [("location", location), ("range", format!("0-{end}")), ("docker-upload-uuid", session.to_owned())])
}

async fn patch(call: &mut Call, session: &str) -> Result<Response, Gone> {
    let length: u64 = call.headers.get("content-length").and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
    match call.personality.patch {
        Patch::Refused => return Ok(refusal(400, "UNSUPPORTED", "uploads are monolithic")),
        Patch::UpTo(most) if length > most => return Ok(progress(call, session, 416)),
        _ => {}
    }
    if is_disorder(call, session) {
        return Ok(progress(call, session, call.personality.disorder.0));
    }
    if call.personality.patch == Patch::LastWins {
        call.shared.store().uploads.get_mut(session).expect("it is there").bytes.clear();
    }
    if !take(call, session).await? {
        return Ok(too_large());
    }
    {
        let mut store = call.shared.store();
        let Some(upload) = store.uploads.get_mut(session) else { return Err(Gone) };
        upload.patches += 1;
        if upload.patches == 1 {
            upload.first_end = (upload.bytes.len() as u64).saturating_sub(1);
        }
    }
    Ok(progress(call, session, call.personality.patch_status))
}

async fn finish(call: &mut Call, session: &str) -> Result<Response, Gone> {
    let Some(digest) = call.query("digest").map(str::to_owned) else {
        return Ok(refusal(400, "DIGEST_INVALID", "no digest"));
    };
    if is_disorder(call, session) {
        return Ok(progress(call, session, call.personality.disorder.1));
    }
    let has_body = call.headers.get("content-length").is_some_and(|length| length != "0");
    let patches = call.shared.store().uploads.get(session).map_or(0, |upload| upload.patches);
    if call.personality.put_needs_patch && has_body && patches == 0 {
        return Ok(refusal(404, "BLOB_UPLOAD_UNKNOWN", "a session needs PATCH first"));
    }
    if !take(call, session).await? {
        return Ok(too_large());
    }
    let Some(upload) = call.shared.store().uploads.remove(session) else { return Err(Gone) };
    Ok(commit(call, &upload.repository, &digest, upload.bytes))
}

/// Returns true if `Content-Range` says that the body belongs at another place than the end.
fn is_disorder(call: &Call, session: &str) -> bool {
    let Some(range) = call.header(CONTENT_RANGE) else { return false };
    let first = range.split_once('-').and_then(|(first, _)| first.parse::<u64>().ok());
    let length = call.shared.store().uploads.get(session).map_or(0, |upload| upload.bytes.len() as u64);
    first != Some(length)
}

/// Takes the body into the session, piece by piece: what came in before a break stays. `false` if it is too large.
async fn take(call: &mut Call, session: &str) -> Result<bool, Gone> {
    while let Some(piece) = call.next_piece().await? {
        let Piece::Bytes(piece) = piece else { return Ok(false) };
        let mut store = call.shared.store();
        let Some(upload) = store.uploads.get_mut(session) else { return Err(Gone) };
        upload.bytes.extend_from_slice(&piece);
    }
    Ok(true)
}

fn commit(call: &Call, repository: &str, digest: &str, bytes: Vec<u8>) -> Response {
    if !is_digest(digest) || !verifies(digest, &bytes) {
        return refusal(400, "DIGEST_INVALID", "the content has another digest");
    }
    let mut store = call.shared.store();
    store.put_blob(repository, digest, bytes.into());
    drop(store);
    created(call, repository, digest)
}

fn created(call: &Call, repository: &str, digest: &str) -> Response {
    let location = call.url(Role::Registry, &format!("/v2/{repository}/blobs/{digest}"));
    empty(201, [("location", location), ("docker-content-digest", digest.to_owned())])
}

fn cancel(call: &Call, session: &str) -> Response {
    if call.personality.cancel >= 300 {
        return refusal(call.personality.cancel, "UNSUPPORTED", "sessions end by themselves");
    }
    call.shared.store().uploads.remove(session);
    empty(call.personality.cancel, [])
}

fn too_large() -> Response {
    refusal(413, "SIZE_INVALID", "too large")
}
