//! Manifests: read under what the client accepts, pushed after what they name, deleted.

#![allow(clippy::result_large_err, reason = "an answer that is no success is an error here, and answers are large")]

use axum::http::Method;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{answer, document, empty, put, refusal};
use super::call::{Call, Gone};
use super::shared::Role;
use super::store::{StoredManifest, StoredRepository, is_digest, verifies};

/// Answers a request for a manifest.
pub(super) async fn of(call: &mut Call, repository: &str, reference: &str) -> Result<Response, Gone> {
    if reference.contains(':') && !is_digest(reference) {
        return Ok(refusal(400, "DIGEST_INVALID", "not a digest"));
    }
    match call.method {
        Method::GET | Method::HEAD => Ok(read(call, repository, reference)),
        Method::PUT => push(call, repository, reference).await,
        Method::DELETE => Ok(delete(call, repository, reference)),
        _ => Ok(refusal(405, "UNSUPPORTED", "not for manifests")),
    }
}

fn read(call: &Call, repository: &str, reference: &str) -> Response {
    let personality = &call.personality;
    let is_head = call.method == Method::HEAD;
    if let (true, Some(status)) = (is_head, personality.head_manifest) {
        return refusal(status, "DENIED", "HEAD is not for you");
    }
    let missing = || match personality.missing_manifest {
        404 => refusal(404, "MANIFEST_UNKNOWN", "no such manifest"),
        status => refusal(status, "DENIED", "no such manifest, or not for you"),
    };
    let mut store = call.shared.store();
    let window = personality.quota_window;
    let left = personality.manifest_gets.map(|most| store.count_manifest_get(!is_head, most, window));
    if left == Some(None) {
        return refusal(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.");
    }
    let Some(found) = store.repositories.get(repository) else { return missing() };
    let alias = reference.strip_prefix("sha256-").map(|hex| format!("sha256:{hex}"));
    let alias = alias.filter(|_| personality.digest_tags_are_aliases);
    let found = found.find(reference).or_else(|| found.find(alias.as_deref()?));
    let Some((digest, manifest)) = found else { return missing() };
    if !is_accepted(call, &manifest.media_type) {
        return refusal(404, "MANIFEST_UNKNOWN", "what there is, the client does not accept");
    }
    let media_type = if personality.forgets_media_types { "application/json" } else { &manifest.media_type };
    let mut response = answer(200, [("content-type", media_type.to_owned())], manifest.bytes.clone());
    let headers = response.headers_mut();
    if if is_head { personality.digest_header.0 } else { personality.digest_header.1 } {
        put(headers, "docker-content-digest", digest);
    }
    if let (Some(most), Some(left)) = (personality.manifest_gets, left.flatten()) {
        put(headers, "ratelimit-limit", &format!("{most};w={window}"));
        put(headers, "ratelimit-remaining", &format!("{left};w={window}"));
    }
    if let Some(warning) = personality.warning {
        put(headers, "warning", &format!("299 - \"{warning}\""));
    }
    response
}

/// A request that accepts nothing in particular accepts everything.
fn is_accepted(call: &Call, media_type: &str) -> bool {
    let accepted: Vec<&str> = call.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut ranges =
        accepted.iter().flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or(range));
    accepted.is_empty()
        || ranges.any(|range| matches!(range.trim(), "*/*" | "application/*") || range.trim() == media_type)
}

async fn push(call: &mut Call, repository: &str, reference: &str) -> Result<Response, Gone> {
    let Some(bytes) = call.body(call.personality.manifest_limit).await? else {
        return Ok(refusal(413, "SIZE_INVALID", "too large for a manifest"));
    };
    let media_type =
        call.header(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
    Ok(match check(call, repository, reference, &media_type, &bytes) {
        Ok(digest) => commit(call, repository, reference, &digest, &media_type, bytes),
        Err(refused) => *refused,
    })
}

/// Returns the digest under which the manifest is to be kept, if it may be.
fn check(call: &Call, name: &str, reference: &str, media_type: &str, bytes: &Bytes) -> Result<String, Box<Response>> {
    let personality = &call.personality;
    let view: Value =
        serde_json::from_slice(bytes).map_err(|_| Box::new(refusal(400, "MANIFEST_INVALID", "not JSON")))?;
    if view["schemaVersion"] == 1 {
        return Err(refusal(400, "MANIFEST_INVALID", "schema version 1 is not supported any more").into());
    }
    if view["mediaType"].as_str().is_some_and(|stated| stated != media_type) {
        return Err(refusal(400, "MANIFEST_INVALID", "served under another media type").into());
    }
    let digest = if reference.contains(':') { reference.to_owned() } else { crate::support::image::sha256(bytes) };
    if !verifies(&digest, bytes) {
        return Err(refusal(400, "DIGEST_INVALID", "the content has another digest").into());
    }
    let mut store = call.shared.store();
    if personality.repositories_are_made && !store.repositories.contains_key(name) {
        return Err(refusal(404, "NAME_UNKNOWN", "the repository does not exist in the registry").into());
    }
    let found = store.repositories.entry(name.to_owned()).or_default();
    if personality.tags_are_immutable && found.tags.contains_key(reference) {
        let message = format!("ImageTagAlreadyExistsException: the tag {reference} exists and is immutable");
        return Err(refusal(400, "TAG_INVALID", &message).into());
    }
    let manifest = StoredManifest { media_type: media_type.to_owned(), bytes: bytes.clone(), view };
    complete(call, found, &manifest).map(|()| digest)
}

/// Makes sure that what the manifest names is there, as far as the registry wants it.
fn complete(call: &Call, found: &mut StoredRepository, manifest: &StoredManifest) -> Result<(), Box<Response>> {
    let missing =
        |digest: &str| json!({ "code": "MANIFEST_BLOB_UNKNOWN", "message": "unknown to registry", "detail": digest });
    let mut errors = Vec::new();
    if call.personality.wants_blobs {
        errors.extend(manifest.blobs().into_iter().filter(|blob| !found.blobs.contains(*blob)).map(missing));
    }
    if call.personality.wants_children {
        let absent = manifest.children().into_iter().filter(|child| !found.manifests.contains_key(*child));
        errors.extend(absent.map(missing));
    }
    if call.personality.commits_collide {
        let collided: Vec<_> = manifest.blobs().into_iter().filter(|blob| found.twice.contains(*blob)).collect();
        for digest in collided {
            found.twice.remove(digest);
            errors
                .push(json!({ "code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content" }));
            errors.push(missing(digest));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(document(if errors.len() > 1 { 400 } else { 404 }, &json!({ "errors": errors })).into())
    }
}

fn commit(call: &Call, name: &str, reference: &str, digest: &str, media_type: &str, bytes: Bytes) -> Response {
    let mut store = call.shared.store();
    store.put_manifest(name, digest, media_type, bytes);
    let found = store.repositories.get_mut(name).expect("it has just been put there");
    let tags: Vec<String> = match reference.contains(':') {
        true => call.query.iter().filter(|(key, _)| key == "tag").map(|(_, tag)| tag.clone()).collect(),
        false => vec![reference.to_owned()],
    };
    let as_parameter = reference.contains(':') && call.personality.tag_parameter;
    for tag in tags.iter().filter(|_| as_parameter || !reference.contains(':')) {
        found.tag(tag, digest);
    }
    let location = call.url(Role::Registry, &format!("/v2/{name}/manifests/{digest}"));
    let mut response = empty(201, [("location", location)]);
    let headers = response.headers_mut();
    if call.personality.digest_header.2 {
        put(headers, "docker-content-digest", digest);
    }
    tags.iter().filter(|_| as_parameter).for_each(|tag| put(headers, "oci-tag", tag));
    if let Some(subject) = found.manifests[digest].subject().filter(|_| call.personality.referrers.is_some()) {
        put(headers, "oci-subject", subject);
    }
    response
}

fn delete(call: &Call, name: &str, reference: &str) -> Response {
    let mut store = call.shared.store();
    let Some(found) = store.repositories.get_mut(name) else {
        return refusal(404, "NAME_UNKNOWN", "no such repository");
    };
    let gone = match reference.contains(':') {
        true => {
            found.tags.retain(|_, target| target != reference);
            found.manifests.remove(reference).is_some()
        }
        false if call.personality.delete_tag != 202 => {
            return refusal(call.personality.delete_tag, "UNSUPPORTED", "tags cannot be deleted so");
        }
        false => found.tags.remove(reference).is_some(),
    };
    if gone { empty(202, []) } else { refusal(404, "MANIFEST_UNKNOWN", "no such manifest") }
}
