//! A token server as the Distribution project specifies it: it signs bearer tokens for the scopes its users are
//! granted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::background::BackgroundServer;
use super::stage;
use super::tls::{Certificate, TestAuthority};

const ISSUER: &str = "transship-test-issuer";

/// For so long past its expiry the registries still take a token: it is taken off, so that tokens end when they say.
const REGISTRY_LEEWAY: u64 = 60;

/// One request the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    pub method: String,
    /// The user whose credentials were right; `None` for a request without credentials or with wrong ones.
    pub user: Option<String>,
    pub service: String,
    pub scopes: Vec<String>,
    pub status: u16,
    pub user_agent: String,
}

struct User {
    password: String,
    grants: Vec<String>,
}

struct TokenState {
    users: HashMap<String, User>,
    anonymous: Vec<String>,
    lifetime: Duration,
    failures: Vec<u16>,
    requests: Vec<TokenRequest>,
    certificate: Certificate,
    issued: u64,
}

type SharedTokenState = Arc<Mutex<TokenState>>;

/// A running token server. Its settings can be changed while it runs.
pub struct TokenServer {
    server: BackgroundServer,
    service: String,
    state: SharedTokenState,
}

impl TokenServer {
    /// Starts a server that signs tokens for one service, and so far grants nothing.
    pub fn start(service: &str) -> Self {
        let state = Arc::new(Mutex::new(TokenState {
            users: HashMap::new(),
            anonymous: Vec::new(),
            lifetime: Duration::from_secs(300),
            failures: Vec::new(),
            requests: Vec::new(),
            certificate: TestAuthority::shared().certificate(&["token-server"]),
            issued: 0,
        }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let server = BackgroundServer::start("token-server", move |listener| async move {
            axum::serve(listener, router).await.expect("the token server serves");
        });
        Self { server, service: service.to_owned(), state }
    }

    /// Adds or changes a user. A grant is a scope whose name may end in `*`, such as `repository:team/*:pull,push` or
    /// `registry:catalog:*`.
    pub fn set_user(&self, name: &str, password: &str, grants: &[&str]) {
        let user = User { password: password.to_owned(), grants: owned(grants) };
        self.state().users.insert(name.to_owned(), user);
    }

    /// Grants rights to requests without credentials.
    pub fn set_anonymous(&self, grants: &[&str]) {
        self.state().anonymous = owned(grants);
    }

    /// Sets the life of the tokens signed from now on; the registries refuse them exactly from then on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state().lifetime = lifetime;
    }

    /// Answers the next requests with these statuses, one each.
    pub fn fail_next(&self, statuses: &[u16]) {
        self.state().failures = statuses.iter().rev().copied().collect();
    }

    /// Returns everything it was asked.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().expect("no holder panics")
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the URL that registries name in their challenge. By name: crane takes no realm at a loopback *address*.
    pub fn realm(&self) -> String {
        // By name where that leads here: names are looked up differently from addresses.
        let host = if stage::node().is_some() { stage::address().to_string() } else { "localhost".to_owned() };
        format!("http://{host}:{}/token", self.server.address().port())
    }

    /// Returns the service the tokens are for.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Returns the issuer the tokens name.
    pub fn issuer(&self) -> &'static str {
        ISSUER
    }
}

/// A request for rights, and its user; parsed from `GET` with basic credentials or from an OAuth2 `POST`.
struct Question {
    service: String,
    scopes: Vec<String>,
    credentials: Option<(String, String)>,
}

async fn answer(
    State(state): State<SharedTokenState>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let question = Question::parse(&method, &uri, &headers, &body);
    let mut authority = state.lock().expect("no holder panics");
    let user = question.credentials.as_ref().map(|(name, password)| {
        authority.users.get(name).filter(|user| user.password == *password).map(|_| name.clone()).ok_or(())
    });
    let (status, body) = match (authority.failures.pop(), &user) {
        (Some(failure), _) => (failure, json!({ "errors": [{ "code": "UNAVAILABLE" }] })),
        (None, Some(Err(()))) => (401, json!({ "errors": [{ "code": "UNAUTHORIZED" }] })),
        (None, Some(Ok(name))) => (200, authority.token(Some(name), &question)),
        (None, None) => (200, authority.token(None, &question)),
    };
    authority.requests.push(TokenRequest {
        method: method.to_string(),
        user: user.and_then(Result::ok),
        service: question.service,
        scopes: question.scopes,
        status,
        user_agent: headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned(),
    });
    let status = StatusCode::from_u16(status).expect("a test names real statuses");
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

impl Question {
    fn parse(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        let form = method == Method::POST;
        let encoded = if form { body } else { uri.query().unwrap_or_default().as_bytes() };
        let mut question = Self { service: String::new(), scopes: Vec::new(), credentials: None };
        let (mut user, mut password) = (None, None);
        for (name, value) in url::form_urlencoded::parse(encoded) {
            match &*name {
                "service" => question.service = value.into_owned(),
                "scope" => question.scopes.extend(value.split(' ').map(str::to_owned)),
                "username" if form => user = Some(value.into_owned()),
                "password" if form => password = Some(value.into_owned()),
                _ => {}
            }
        }
        question.credentials = if form { user.zip(password) } else { basic_credentials(headers) };
        question
    }
}

fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl TokenState {
    /// Signs a token for what is both asked for and granted; that may be nothing, which a registry then refuses.
    fn token(&mut self, user: Option<&str>, question: &Question) -> Value {
        let grants = user.and_then(|name| self.users.get(name)).map_or(&self.anonymous, |user| &user.grants);
        let access: Vec<Value> = question.scopes.iter().filter_map(|scope| granted(scope, grants)).collect();
        self.issued += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let lifetime = self.lifetime.as_secs();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate.der)] });
        let claims = json!({
            "iss": ISSUER,
            "sub": user.unwrap_or_default(),
            "aud": question.service,
            "exp": now + lifetime - REGISTRY_LEEWAY.min(now + lifetime),
            "nbf": now - 2 * REGISTRY_LEEWAY,
            "iat": now - 2 * REGISTRY_LEEWAY,
            "jti": format!("token-{}", self.issued),
            "access": access,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.certificate.key_der);
        let key = key.expect("a key for P-256");
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        json!({ "token": token, "access_token": token, "expires_in": lifetime })
    }
}

/// Returns the part of a scope that some grant covers, as the claim says it.
fn granted(scope: &str, grants: &[String]) -> Option<Value> {
    let (kind, name, wanted) = split_scope(scope)?;
    let covering: Vec<&str> = grants
        .iter()
        .filter_map(|grant| split_scope(grant))
        .filter(|(granted_kind, pattern, _)| {
            *granted_kind == kind && pattern.strip_suffix('*').map_or(*pattern == name, |start| name.starts_with(start))
        })
        .flat_map(|(_, _, actions)| actions.split(','))
        .collect();
    let actions: Vec<&str> = wanted.split(',').filter(|action| covering.contains(action)).collect();
    (!actions.is_empty()).then(|| json!({ "type": kind, "name": name, "actions": actions }))
}

/// Type, name and actions; the name may have colons in it.
fn split_scope(scope: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    Some((kind, name, actions))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
