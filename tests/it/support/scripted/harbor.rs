//! Harbor's own API, as far as it lists what tags point at. It knows no tokens: a request with one is anonymous.

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{document, put, refusal};
use super::call::Call;
use super::logins::is_user;
use super::personality::{HarborApi, Login, ScriptedDigestApi};

/// Answers a request to the API; nothing if it is for another part.
pub(super) fn api(call: &Call) -> Option<Response> {
    let Some(ScriptedDigestApi::Harbor(api)) = call.personality.digest_api else { return None };
    let path = call.path.strip_prefix("/api/v2.0/")?;
    if call.method != Method::GET {
        return Some(refusal(405, "METHOD_NOT_ALLOWED", "lists only"));
    }
    if path == "projects" {
        return Some(projects(call, api));
    }
    let place = path.strip_prefix("projects/")?.strip_suffix("/artifacts")?.split_once("/repositories/");
    // The name of a repository is one part of the path, in which slashes are encoded twice.
    let place = place.filter(|(project, name)| !project.contains('/') && !name.contains('/') && !name.contains("%2F"));
    Some(match place {
        Some((project, name)) => artifacts(call, api, project, &name.replace("%252F", "/")),
        None => refusal(404, "NOT_FOUND", "no such path"),
    })
}

fn is_public(call: &Call) -> bool {
    matches!(call.personality.login, Login::Bearer(bearer) if bearer.anonymous_pull)
}

/// Returns the projects that a user may see: an anonymous one sees the public ones.
fn projects(call: &Call, api: HarborApi) -> Response {
    let store = call.shared.store();
    let mut names: Vec<&str> = store.repositories.keys().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    names.dedup();
    names.retain(|name| call.query("q").is_none_or(|query| query == format!("name={name}")));
    names.retain(|_| is_user(call) || is_public(call));
    let about = |name: &&str| match api.is_proxy {
        true => json!({ "name": name, "project_id": 1, "registry_id": 3, "metadata": { "public": "false" } }),
        false => json!({ "name": name, "project_id": 1, "metadata": { "public": "false" } }),
    };
    page(call, api, names.iter().map(about).collect())
}

fn artifacts(call: &Call, api: HarborApi, project: &str, name: &str) -> Response {
    let is_known = is_user(call);
    let is_anybody = is_public(call) && !call.headers.contains_key(AUTHORIZATION);
    if !is_known && !is_anybody {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    }
    if is_known && !api.may_list {
        return refusal(403, "FORBIDDEN", "forbidden");
    }
    let store = call.shared.store();
    let Some(found) = store.repositories.get(&format!("{project}/{name}")) else {
        return refusal(404, "NOT_FOUND", "no such repository");
    };
    let is_child = |digest: &str| found.manifests.values().any(|manifest| manifest.children().contains(&digest));
    let listed = found.manifests.iter().filter_map(|(digest, manifest)| {
        let tags: Vec<_> = found.tags.iter().filter(|(_, target)| *target == digest).map(|(tag, _)| tag).collect();
        let is_listed =
            if call.query("q") == Some("tags=*") { !tags.is_empty() } else { !tags.is_empty() || !is_child(digest) };
        let tags = tags.iter().map(|tag| json!({ "id": 7, "name": tag, "immutable": false })).collect::<Vec<_>>();
        let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
        // What refers to another one is an accessory of that.
        (is_listed && manifest.subject().is_none()).then(|| {
            json!({ "digest": digest, "type": "IMAGE", "manifest_media_type": manifest.media_type, "tags": tags,
                "size": manifest.bytes.len(), "extra_attrs": { "os": "linux" } })
        })
    });
    page(call, api, listed.collect())
}

fn page(call: &Call, api: HarborApi, items: Vec<Value>) -> Response {
    let number = |name: &str, default: usize| call.query(name).map_or(Ok(default), str::parse::<usize>);
    let (Ok(page @ 1..), Ok(asked @ 1..=100)) = (number("page", 1), number("page_size", 10)) else {
        return refusal(422, "UNPROCESSABLE_ENTITY", "page_size in query should be less than or equal to 100");
    };
    let size = asked.min(api.page);
    let shown: Vec<_> = items.iter().skip((page - 1) * size).take(size).collect();
    let mut response = document(200, &json!(shown));
    put(response.headers_mut(), "x-total-count", &items.len().to_string());
    if page * size < items.len() {
        let link = format!("<{}?page={}&page_size={size}>; rel=\"next\"", call.path, page + 1);
        put(response.headers_mut(), "link", &link);
    }
    response
}
