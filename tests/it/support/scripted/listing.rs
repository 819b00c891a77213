//! Lists, page by page: tags, repositories, referrers.

use std::fmt::Write;

use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{answer, document, put, refusal};
use super::call::Call;
use super::personality::Links;
use super::shared::Role;
use super::store::is_digest;
use crate::support::image::OCI_INDEX;

/// Answers `tags/list`.
pub(super) fn tags(call: &Call, name: &str) -> Response {
    let store = call.shared.store();
    let Some(found) = store.repositories.get(name) else { return refusal(404, "NAME_UNKNOWN", "no such repository") };
    if found.crowd > 0 {
        return crowd(call, found.crowd, found.tags.keys());
    }
    let mut names: Vec<String> = found.tags.keys().cloned().collect();
    if call.personality.unsorted {
        names.reverse();
    }
    let mut more = json!({ "name": name });
    if call.personality.google_lists {
        let of = |digest: &String| {
            found.tags.iter().filter(|(_, at)| *at == digest).map(|(tag, _)| tag.clone()).collect::<Vec<_>>()
        };
        let entries = found.manifests.keys().map(|digest| (digest.clone(), json!({ "tag": of(digest) })));
        more["manifest"] = Value::Object(entries.collect());
        more["child"] = json!([]);
    }
    drop(store);
    page(call, "tags", names, more)
}

/// Returns a page of very many tags, the last of which also has those that there are.
fn crowd<'a>(call: &Call, count: usize, real: impl Iterator<Item = &'a String>) -> Response {
    let size = call.query("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX).min(call.personality.pages.names);
    let behind = |last: &str| last.strip_prefix("build-").and_then(|number| number.parse::<usize>().ok());
    let start = call.query("last").and_then(behind).map_or(0, |last| last + 1);
    let end = count.min(start.saturating_add(size));
    let mut body = String::with_capacity(16 * (end - start) + 1_000);
    body.push_str("{\"tags\":[");
    let mut separator = "";
    for number in start..end {
        write!(body, "{separator}\"build-{number:07}\"").expect("a string takes text");
        separator = ",";
    }
    for tag in real.filter(|_| end == count) {
        write!(body, "{separator}\"{tag}\"").expect("a string takes text");
        separator = ",";
    }
    body.push_str("]}");
    let mut response = answer(200, [("content-type", "application/json".to_owned())], body);
    if end < count {
        let target = format!("{}?n={size}&last=build-{:07}", call.path, end - 1);
        put(response.headers_mut(), "link", &format!("<{target}>; rel=\"next\""));
    }
    response
}

/// Answers `_catalog`.
pub(super) fn catalog(call: &Call) -> Response {
    match call.personality.catalog {
        200 => {
            let names = call.shared.store().repositories.keys().cloned().collect();
            page(call, "repositories", names, json!({}))
        }
        status => refusal(status, if status == 404 { "UNSUPPORTED" } else { "DENIED" }, "no catalog"),
    }
}

fn page(call: &Call, key: &str, names: Vec<String>, mut document_of: Value) -> Response {
    let asked = call.query("n").map(str::parse::<usize>);
    let asked = match asked {
        Some(Err(_)) => return refusal(400, "PAGINATION_NUMBER_INVALID", "n is a number"),
        Some(Ok(n)) if call.personality.largest_n.is_some_and(|most| n > most) => {
            return refusal(400, "UNSUPPORTED", "n is too large");
        }
        asked => asked.and_then(Result::ok),
    };
    let size = asked.unwrap_or(usize::MAX).min(call.personality.pages.names);
    let start = match (call.query("last"), call.query("next_page")) {
        (_, Some(token)) => token.strip_prefix("opaque-").and_then(|at| at.parse().ok()).unwrap_or(names.len()),
        // The first one behind it; by place, where they are in no order.
        (Some(last), None) if call.personality.unsorted => {
            names.iter().position(|name| name == last).map_or(names.len(), |at| at + 1)
        }
        (Some(last), None) => names.iter().take_while(|name| name.as_str() <= last).count(),
        (None, None) => 0,
    };
    let end = names.len().min(start.saturating_add(size));
    let listed = &names[start.min(end)..end];
    document_of[key] = json!(listed);
    let mut response = document(200, &document_of);
    if let (Some(last), true) = (listed.last(), end < names.len()) {
        let target = match call.personality.links {
            Links::Token => format!("{}?next_page=opaque-{end}", call.path),
            _ => format!("{}?n={size}&last={last}", call.path),
        };
        put(response.headers_mut(), "link", &link(call, &target));
    }
    response
}

/// Returns the header that links to the page at `target`.
fn link(call: &Call, target: &str) -> String {
    match call.personality.links {
        Links::Last | Links::Token => format!("<{target}>; rel=\"next\""),
        Links::Elsewhere => format!("<{}>; rel=\"next\"", call.url(Role::Other, target)),
        Links::Foreign => format!("<{}>; rel=\"next\"", call.url(Role::Other, "/v2/other/list?sig=canary")),
        Links::Bare => format!("{target}; rel=next"),
        Links::Unrelated => format!("<{target}>"),
        Links::Several => format!("<{0}>; rel=\"first\", <{0}>; rel=\"prev\", <{target}>; rel=\"next\"", call.path),
    }
}

/// Answers `referrers/<digest>`.
pub(super) fn referrers(call: &Call, name: &str, subject: &str) -> Response {
    let Some(api) = call.personality.referrers else { return refusal(404, "NOT_FOUND", "no such API") };
    if !is_digest(subject) {
        return refusal(400, "DIGEST_INVALID", "not a digest");
    }
    let store = call.shared.store();
    let found = store.repositories.get(name).and_then(|found| Some((found, found.referring.get(subject)?)));
    let referring = found.into_iter().flat_map(|(found, digests)| {
        digests.iter().filter_map(|digest| Some(found.manifests.get(digest)?.descriptor(digest)))
    });
    let mut descriptors: Vec<Value> = referring.collect();
    drop(store);
    let filter = call.query("artifactType").filter(|_| api.filters);
    if let Some(wanted) = filter {
        descriptors.retain(|descriptor| descriptor["artifactType"] == wanted);
    }
    let start: usize = call.query("start").and_then(|text| text.parse().ok()).unwrap_or(0).min(descriptors.len());
    let end = descriptors.len().min(start + call.personality.pages.referrers);
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors[start..end] });
    let mut response = answer(200, [("content-type", OCI_INDEX.to_owned())], index.to_string());
    if filter.is_some() {
        put(response.headers_mut(), "oci-filters-applied", "artifactType");
    }
    if end < descriptors.len() {
        let encoded = |wanted: &str| url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect::<String>();
        let kept = filter.map(|wanted| format!("&artifactType={}", encoded(wanted))).unwrap_or_default();
        let target = format!("{}?start={end}{kept}", call.path);
        put(response.headers_mut(), "link", &link(call, &target));
    }
    response
}
