//! Harbor's own API, as far as it lists what tags point at, deletes tags and creates projects. It knows no tokens: a
//! request with one is anonymous.

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{document, put, refusal};
use super::call::{Call, Gone};
use super::logins::is_user;
use super::personality::{HarborApi, Login, ScriptedDigestApi};

/// Answers a request to the API; nothing if it is for another part.
pub(super) async fn api(call: &mut Call) -> Result<Option<Response>, Gone> {
    let Some(ScriptedDigestApi::Harbor(api)) = call.personality.digest_api else { return Ok(None) };
    if call.path == "/api/v2.0/projects" && call.method == Method::POST {
        let body = call.body(1 << 16).await?.unwrap_or_default();
        return Ok(Some(create(call, serde_json::from_slice(&body).unwrap_or_default())));
    }
    Ok(lists(call, api))
}

fn lists(call: &Call, api: HarborApi) -> Option<Response> {
    let path = call.path.strip_prefix("/api/v2.0/")?;
    if path == "projects" && call.method == Method::HEAD {
        return Some(exists(call, call.query("project_name").unwrap_or_default()));
    }
    if call.method == Method::DELETE {
        return Some(delete_tag(call, path));
    }
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

fn has_project(call: &Call, name: &str) -> bool {
    let store = call.shared.store();
    let is_in = |repository: &String| repository.split_once('/').is_some_and(|(project, _)| project == name);
    store.settings.contains_key(name) || store.repositories.keys().any(is_in)
}

fn exists(call: &Call, name: &str) -> Response {
    if !is_user(call) {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    }
    if has_project(call, name) { document(200, &Value::Null) } else { refusal(404, "NOT_FOUND", "project not found") }
}

/// Creates a project, if it is asked for as Harbor's API has it.
fn create(call: &Call, ask: Value) -> Response {
    if !is_user(call) {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    }
    let name = ask["project_name"].as_str().unwrap_or_default();
    let is_json = call.headers.get("content-type").is_some_and(|value| value == "application/json");
    if name.is_empty() || !is_json || !matches!(ask["metadata"]["public"].as_str(), Some("true" | "false")) {
        return refusal(400, "BAD_REQUEST", "the body is no project");
    }
    if has_project(call, name) {
        return refusal(409, "CONFLICT", "The project named is already used");
    }
    call.shared.store().settings.insert(name.to_owned(), ask["metadata"].clone());
    document(201, &Value::Null)
}

/// Deletes a tag of an artifact, as `projects/P/repositories/R/artifacts/D/tags/T` names it.
fn delete_tag(call: &Call, path: &str) -> Response {
    let parts: Vec<&str> = path.split('/').collect();
    let ["projects", project, "repositories", name, "artifacts", digest, "tags", tag] = parts[..] else {
        return refusal(404, "NOT_FOUND", "no such path");
    };
    if !is_user(call) {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    }
    let mut store = call.shared.store();
    let found = store.repositories.get_mut(&format!("{project}/{}", name.replace("%252F", "/")));
    match found.filter(|found| found.tags.get(tag).is_some_and(|target| target == digest)) {
        Some(found) => drop(found.tags.remove(tag)),
        None => return refusal(404, "NOT_FOUND", "no such tag of the artifact"),
    }
    document(200, &json!({}))
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
