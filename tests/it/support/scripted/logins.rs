//! Logins: the challenge, and the token service.

use std::time::Duration;

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::answer::{document, put, refusal};
use super::call::{Call, Gone};
use super::ecr;
use super::personality::{Bearer, Login};
use super::shared::Role;

/// The user that may do everything.
pub const USER: &str = "transship";
pub const PASSWORD: &str = "secret";

/// Returns the answer to a request that is not allowed; nothing if it is.
pub(super) fn challenge(call: &Call, path: &str) -> Option<Response> {
    match call.personality.login {
        Login::Anonymous => None,
        Login::Basic => (!is_user(call) && !ecr::is_login(call)).then(|| {
            let mut response = refusal(401, "UNAUTHORIZED", "authentication required");
            put(response.headers_mut(), "www-authenticate", "Basic realm=\"scripted\",service=\"scripted\"");
            response
        }),
        Login::Bearer(bearer) => {
            let scope = scope(call, path, &bearer);
            let wanted: Vec<String> = scope.iter().flat_map(|scope| each(scope)).collect();
            let is_allowed = match wanted.is_empty() {
                true => call.has_grant(""),
                false => wanted.iter().all(|grant| call.has_grant(grant)),
            };
            (!is_allowed).then(|| unauthorized(call, scope.as_deref().unwrap_or_default()))
        }
    }
}

/// 401 that asks for a token of this scope.
pub(super) fn unauthorized(call: &Call, scope: &str) -> Response {
    let mut response = refusal(401, "UNAUTHORIZED", "authentication required");
    if let Login::Bearer(bearer) = call.personality.login {
        let realm = call.url(if bearer.elsewhere { Role::Other } else { Role::Registry }, bearer.path);
        let scope = if scope.is_empty() { String::new() } else { format!(",scope=\"{scope}\"") };
        let value = format!("Bearer realm=\"{realm}\",service=\"{}\"{scope}", bearer.service);
        put(response.headers_mut(), "www-authenticate", &value);
    }
    response
}

/// Returns the scope that a request needs; nothing for `/v2/` itself.
fn scope(call: &Call, path: &str, bearer: &Bearer) -> Option<String> {
    if path == "_catalog" {
        return Some("registry:catalog:*".to_owned());
    }
    let parts = ["/blobs/", "/manifests/", "/tags/", "/referrers/"];
    let end = parts.iter().filter_map(|part| path.rfind(part)).max();
    let repository = path.split_once("/blobs/uploads").map(|(name, _)| name).or_else(|| Some(&path[..end?]))?;
    let actions = match call.method {
        Method::GET | Method::HEAD if !path.contains("/blobs/uploads/") => "pull",
        Method::DELETE if !path.contains("/blobs/uploads/") || bearer.cancel_wants_delete => "delete",
        _ => "pull,push",
    };
    Some(format!("repository:{repository}:{actions}"))
}

/// Creates the repository of a scope to push. Returns the beginning of the grants that a repository without one has not.
fn create(call: &Call, scope: &str) -> Option<String> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let mut store = call.shared.store();
    if actions.contains("push") {
        store.repositories.entry(name.to_owned()).or_default();
    }
    (!store.repositories.contains_key(name)).then(|| format!("repository:{name}:"))
}

/// Returns the single grants of a scope.
fn each(scope: &str) -> Vec<String> {
    match scope.rsplit_once(':') {
        Some((name, actions)) => actions.split(',').map(|action| format!("{name}:{action}")).collect(),
        None => Vec::new(),
    }
}

/// Returns true if the request has the right password.
pub(super) fn is_user(call: &Call) -> bool {
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    call.header(AUTHORIZATION) == Some(right.as_str())
}

/// Answers a request to the token service; nothing if it is for another part.
pub(super) async fn service(call: &mut Call) -> Result<Option<Response>, Gone> {
    let Login::Bearer(bearer) = call.personality.login else { return Ok(None) };
    let role = if bearer.elsewhere { Role::Other } else { Role::Registry };
    if call.role != role || call.path != bearer.path {
        return Ok(None);
    }
    let mut parameters = call.query.clone();
    let mut is_known = is_user(call);
    if call.method == Method::POST {
        let Some(form) = call.body(1 << 16).await? else { return Ok(Some(refusal(413, "SIZE_INVALID", "too large"))) };
        parameters = url::form_urlencoded::parse(&form).into_owned().collect();
        is_known = parameters.iter().any(|(name, value)| name == "refresh_token" && value == PASSWORD);
    }
    let is_anonymous = !call.headers.contains_key(AUTHORIZATION) && call.method == Method::GET;
    let may_come = is_known || (is_anonymous && bearer.anonymous_pull);
    if !may_come {
        return Ok(Some(refusal(401, "UNAUTHORIZED", "wrong password")));
    }
    let asked = parameters.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
    let scopes: Vec<String> = asked.filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    if bearer.one_repository && scopes.len() > 1 {
        return Ok(Some(refusal(403, "DENIED", "one repository a token")));
    }
    let mut grants: Vec<String> = scopes.iter().flat_map(|scope| each(scope)).collect();
    grants.retain(|grant| is_known || grant.ends_with(":pull"));
    if bearer.creates_repositories {
        scopes.iter().filter_map(|scope| create(call, scope)).for_each(|absent| {
            grants.retain(|grant| !grant.starts_with(&absent));
        });
    }
    let token = call.shared.tokens.give(grants, Duration::from_secs_f64(bearer.life));
    let mut given = json!({ bearer.field: token });
    if bearer.has_expiry {
        given["expires_in"] = json!(bearer.life);
    }
    Ok(Some(document(200, &given)))
}
