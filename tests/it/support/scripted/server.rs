//! Takes requests: writes them down, lets them meet their faults, asks for a login, and leads them to their part.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_RANGE, RANGE, USER_AGENT};
use axum::response::Response;
use tokio::net::TcpListener;

use super::answer::{AnswerRoute, document, empty, endless, put, refusal, replace, send};
use super::call::{Call, Gone};
use super::faults::ScriptedFault;
use super::log::SeenRequest;
use super::shared::{RegistryState, Role};
use super::wire::{Cut, Lines};
use super::{blobs, ecr, harbor, listing, logins, manifests, uploads};

/// Serves one origin.
pub(super) async fn serve(listener: TcpListener, shared: Arc<RegistryState>, role: Role) {
    let lines = Lines { listener, accepted: shared.accepted.clone() };
    let router = Router::new().fallback(handle).with_state((shared, role));
    let served = axum::serve(lines, router.into_make_service_with_connect_info::<Cut>()).await;
    served.expect("a registry serves");
}

async fn handle(
    State((shared, role)): State<(Arc<RegistryState>, Role)>,
    ConnectInfo(line): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let seen = seen(&request, role, line.number());
    let fault = shared.faults.next(&seen.method, &seen.path);
    let is_head = seen.method == "HEAD";
    let entry = shared.log.begin(seen);
    let mut way =
        AnswerRoute { entry: entry.clone(), line: line.clone(), cut_at: None, flip: None, ends_at: None, is_head };
    let mut cut_request = None;
    let mut loses_answer = false;
    let mut other_headers = Vec::new();
    let mut answer_after = Duration::ZERO;
    match fault {
        None => {}
        Some(ScriptedFault::Answer { status, headers, body }) => {
            let mut response = super::answer::answer(status, [], body);
            for (name, value) in headers {
                put(response.headers_mut(), name, &value);
            }
            return send(response, way);
        }
        Some(ScriptedFault::Endless { status, headers, first, more }) => {
            let mut response = endless(status, first, more);
            headers.iter().for_each(|(name, value)| put(response.headers_mut(), name, value));
            return send(response, way);
        }
        Some(ScriptedFault::Headers(headers)) => other_headers = headers,
        Some(ScriptedFault::CollectGarbage) => shared.store().collect_garbage(),
        Some(ScriptedFault::CutAnswer(at)) => way.cut_at = Some(at),
        Some(ScriptedFault::CutRequest(at)) => cut_request = Some(at),
        Some(ScriptedFault::LoseAnswer) => loses_answer = true,
        Some(ScriptedFault::Hold) => return std::future::pending().await,
        Some(ScriptedFault::Delay(time)) => tokio::time::sleep(time).await,
        Some(ScriptedFault::AnswerLate(time)) => answer_after = time,
        Some(ScriptedFault::EffectLate(time)) => return effect_late(shared, role, request, way, time).await,
        Some(ScriptedFault::ExpireTokens) => shared.tokens.expire(),
        Some(ScriptedFault::Flip(at)) => way.flip = Some(at),
        Some(ScriptedFault::Shorten { after, states_length }) => {
            way.ends_at = Some(after);
            other_headers = vec![("content-length", if states_length { after.to_string() } else { String::new() })];
        }
    }
    let personality = shared.personality.lock().expect("no holder panics").clone();
    let mut call = Call::new(request, shared, role, personality, entry, cut_request);
    match lead(&mut call).await {
        Ok(mut response) if !loses_answer => {
            call.drain().await;
            tokio::time::sleep(answer_after).await;
            replace(response.headers_mut(), &other_headers);
            send(response, way)
        }
        _ => {
            line.cut();
            empty(500, [])
        }
    }
}

/// Carries a request out after a while, as a registry does whose client has given it up.
async fn effect_late(
    shared: Arc<RegistryState>,
    role: Role,
    request: Request,
    way: AnswerRoute,
    after: Duration,
) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let carried_out = tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let personality = shared.personality.lock().expect("no holder panics").clone();
        let request = Request::from_parts(head, Body::from(body));
        let mut call = Call::new(request, shared, role, personality, way.entry.clone(), None);
        match lead(&mut call).await {
            Ok(response) => send(response, way),
            Err(Gone) => empty(500, []),
        }
    });
    carried_out.await.expect("it is carried out")
}

fn seen(request: &Request, role: Role, connection: usize) -> SeenRequest {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    SeenRequest {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string) + &ecr::action(request),
        authorized: request.headers().contains_key(AUTHORIZATION),
        elsewhere: role == Role::Other,
        connection,
        range: text(RANGE),
        content_range: text(CONTENT_RANGE),
        user_agent: text(USER_AGENT).unwrap_or_default(),
        ..SeenRequest::default()
    }
}

async fn lead(call: &mut Call) -> Result<Response, Gone> {
    if let Some(response) = logins::service(call).await? {
        return Ok(response);
    }
    if call.role == Role::Other {
        return match call.path.strip_prefix("/storage/").map(str::to_owned) {
            Some(rest) => Ok(blobs::stored(call, &rest)),
            None => uploads::elsewhere(call).await,
        };
    }
    if let Some(response) = ecr::api(call).await? {
        return Ok(response);
    }
    if let Some(response) = harbor::api(call).await? {
        return Ok(response);
    }
    let Some(path) = call.path.strip_prefix("/v2/").map(str::to_owned) else {
        return Ok(refusal(404, "NOT_FOUND", "no API here"));
    };
    if let Some(response) = logins::challenge(call, &path) {
        return Ok(response);
    }
    match path.as_str() {
        "" => Ok(document(200, &serde_json::json!({}))),
        "_catalog" => Ok(listing::catalog(call)),
        _ => lead_into(call, &path).await,
    }
}

/// Leads into the repository that the path names.
async fn lead_into(call: &mut Call, path: &str) -> Result<Response, Gone> {
    if let Some((repository, session)) = path.split_once("/blobs/uploads/") {
        return uploads::of(call, repository, session).await;
    }
    if let Some(repository) = path.strip_suffix("/blobs/uploads") {
        return uploads::of(call, repository, "").await;
    }
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return Ok(listing::tags(call, repository));
    }
    if let Some((repository, digest)) = path.rsplit_once("/blobs/") {
        return Ok(blobs::of(call, repository, digest));
    }
    if let Some((repository, reference)) = path.rsplit_once("/manifests/") {
        return manifests::of(call, repository, reference).await;
    }
    if let Some((repository, digest)) = path.rsplit_once("/referrers/") {
        return Ok(listing::referrers(call, repository, digest));
    }
    Ok(refusal(404, "NOT_FOUND", "no such API"))
}
