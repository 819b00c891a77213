//! Answers: with the error document of the specification where something is refused, and bodies that break on command.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;

use super::log::Entry;
use super::wire::Cut;

/// Returns an answer with these headers.
pub(super) fn answer<const N: usize>(status: u16, headers: [(&str, String); N], body: impl Into<Bytes>) -> Response {
    let body: Bytes = body.into();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        put(response.headers_mut(), name, &value);
    }
    // 204 has no body, and says nothing of one.
    if status != 204 {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    *response.body_mut() = Body::from(body);
    response
}

/// Returns an answer without a body.
pub(super) fn empty<const N: usize>(status: u16, headers: [(&str, String); N]) -> Response {
    answer(status, headers, Bytes::new())
}

/// Returns a refusal with the error document of the specification.
pub(super) fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": message, "detail": {} }] });
    document(status, &body)
}

/// Returns a JSON document.
pub(super) fn document(status: u16, body: &serde_json::Value) -> Response {
    answer(status, [("content-type", "application/json".to_owned())], body.to_string())
}

/// Returns an answer that does not end.
pub(super) fn endless(status: u16, first: &'static str, more: &'static str) -> Response {
    let more = Bytes::from(more.repeat(16 * 1024 / more.len() + 1));
    let pieces = futures::stream::once(async move { Bytes::from(first) }).chain(futures::stream::repeat(more));
    let mut response = Response::new(Body::from_stream(pieces.map(Ok::<_, std::io::Error>)));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// Puts these headers in place of those of the same names.
pub(super) fn replace(headers: &mut HeaderMap, others: &[(&str, String)]) {
    others.iter().for_each(|(name, _)| _ = headers.remove(*name));
    others.iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| put(headers, name, value));
}

pub(super) fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
    headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
}

/// The treatment of the body of an answer on its way.
pub(super) struct AnswerRoute {
    pub(super) entry: Entry,
    pub(super) line: Cut,
    /// The number of bytes that are sent before the connection breaks.
    pub(super) cut_at: Option<u64>,
    /// The byte that is changed.
    pub(super) flip: Option<u64>,
    /// The number of bytes after which the body ends.
    pub(super) ends_at: Option<u64>,
    pub(super) is_head: bool,
}

/// Sends `response` that way, and counts what of it is sent.
pub(super) fn send(response: Response, way: AnswerRoute) -> Response {
    let status = response.status().as_u16();
    way.entry.update(|seen| seen.status = status);
    if way.is_head {
        return response;
    }
    let (parts, body) = response.into_parts();
    let pieces = body.into_data_stream();
    let sent = futures::stream::unfold((pieces, way, 0_u64), |(mut pieces, way, at)| async move {
        if way.cut_at.is_some_and(|end| at >= end) {
            // What was sent leaves first.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            way.line.cut();
            return Some((Err(std::io::Error::other("cut")), (pieces, way, at)));
        }
        if way.ends_at.is_some_and(|end| at >= end) {
            return None;
        }
        let mut piece = pieces.next().await?.ok()?;
        if let Some(end) = way.cut_at.or(way.ends_at) {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            piece.truncate(left);
        }
        if let Some(place) = way.flip.and_then(|flip| flip.checked_sub(at)).filter(|place| *place < piece.len() as u64)
        {
            let mut changed = piece.to_vec();
            changed[usize::try_from(place).expect("a place in memory")] ^= 1;
            piece = changed.into();
        }
        let at = at + piece.len() as u64;
        way.entry.update(|seen| seen.sent = at);
        Some((Ok(piece), (pieces, way, at)))
    });
    Response::from_parts(parts, Body::from_stream(sent))
}
