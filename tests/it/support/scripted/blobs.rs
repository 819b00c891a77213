//! Blobs: looked for, read in whole or in part, deleted.

use std::io::Write;

use axum::body::Body;
use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;

use super::answer::{answer, empty, put, refusal};
use super::call::Call;
use super::personality::{BlobServing, Range};
use super::shared::Role;
use super::store::is_digest;

/// Answers a request for a blob.
pub(super) fn of(call: &Call, repository: &str, digest: &str) -> Response {
    if !is_digest(digest) {
        return refusal(400, "DIGEST_INVALID", "not a digest");
    }
    if let (&Method::HEAD, Some(status)) = (&call.method, call.personality.head_blob) {
        return refusal(status, "DENIED", "HEAD is not for you");
    }
    let mut store = call.shared.store();
    let Some(found) = store.repositories.get_mut(repository) else {
        return refusal(404, "NAME_UNKNOWN", "no such repository");
    };
    if !found.blobs.contains(digest) {
        return refusal(404, "BLOB_UNKNOWN", "no such blob");
    }
    if call.method == Method::DELETE {
        found.blobs.remove(digest);
        return empty(202, []);
    }
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return refusal(405, "UNSUPPORTED", "not for blobs");
    }
    if let BlobServing::Redirect { uses, .. } = call.personality.serving {
        let signature = store.sign(uses);
        let path = format!("/storage/{digest}?X-Amz-Signature={signature}");
        return empty(307, [("location", call.url(Role::Other, &path))]);
    }
    let content = store.contents.get(digest).expect("what is linked is kept").clone();
    drop(store);
    served(call, digest, content)
}

/// Serves the other origin's blobs: to requests with a signature and without any other credentials.
pub(super) fn stored(call: &Call, digest: &str) -> Response {
    let xml = |code: &str, message: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        answer(if code == "AccessDenied" { 403 } else { 400 }, [("content-type", "application/xml".to_owned())], body)
    };
    if call.headers.contains_key(AUTHORIZATION) {
        return xml("InvalidArgument", "Only one auth mechanism allowed");
    }
    let signed_for_get = matches!(call.personality.serving, BlobServing::Redirect { signed_for_get: true, .. });
    if signed_for_get && call.method == Method::HEAD {
        return xml("AccessDenied", "signed for another method");
    }
    let signature = call.query("X-Amz-Signature").and_then(|text| text.parse().ok());
    let mut store = call.shared.store();
    if !signature.is_some_and(|signature| store.use_signature(signature)) {
        return xml("AccessDenied", "Request has expired");
    }
    let content = store.contents.get(digest).cloned();
    drop(store);
    content.map_or_else(|| empty(404, []), |content| served(call, digest, content))
}

fn served(call: &Call, digest: &str, content: Bytes) -> Response {
    let personality = &call.personality;
    let octets = ("content-type", "application/octet-stream".to_owned());
    let asked = call.header(RANGE).filter(|_| call.method == Method::GET);
    let mut response = match (asked, personality.range) {
        (Some(_), Range::Refused) => return refusal(400, "UNSUPPORTED", "no ranges"),
        (Some(range), Range::Served) => match part(range, content.len()) {
            Some((first, last)) => {
                let range_sent = format!("bytes {first}-{last}/{}", content.len());
                answer(206, [octets, (CONTENT_RANGE.as_str(), range_sent)], content.slice(first..=last))
            }
            None => return empty(416, [(CONTENT_RANGE.as_str(), format!("bytes */{}", content.len()))]),
        },
        _ if personality.gzips_blobs && !call.header(ACCEPT_ENCODING).is_some_and(|text| text.contains("identity")) => {
            answer(200, [octets, ("content-encoding", "gzip".to_owned())], gzipped(&content))
        }
        _ => answer(200, [octets], content),
    };
    let headers = response.headers_mut();
    put(headers, "docker-content-digest", digest);
    if personality.range == Range::Served {
        put(headers, "accept-ranges", "bytes");
    }
    if personality.hides_lengths && response.status() == 200 {
        return without_length(response, call.method == Method::HEAD);
    }
    response
}

/// HEAD then states a length of 0, and GET is chunked.
fn without_length(response: Response, is_head: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    if is_head {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from_stream(body.into_data_stream()))
}

/// Returns the first and last place of one range (RFC 9110, 14.1.2), if it can be satisfied.
fn part(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1)?;
    let (first, last) = match (first, last) {
        ("", suffix) => (length.saturating_sub(suffix.parse().ok()?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => (first.parse().ok()?, last.parse::<usize>().ok()?.min(end)),
    };
    (first <= last).then_some((first, last))
}

/// Returns a gzip file of `bytes`, stored without compression (RFC 1952 and 1951).
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a block of at most 65535 bytes");
        file.push(u8::from(blocks.peek().is_none()));
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&(!length).to_le_bytes());
        file.write_all(block).expect("memory takes all");
    }
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    file.extend_from_slice(&(!crc).to_le_bytes());
    file.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    file
}
