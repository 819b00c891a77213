//! Amazon ECR's API: signed calls, a login to the registry with an access key, and what tags point at.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::image::{Digest, RepositoryName};
use crate::registry::auth::token::AccessToken;
use crate::registry::client::Credentials;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::hosts::canonical_host;
use crate::registry::http::response::is_passing;
use crate::registry::http::retry::{Pause, Retries};
use crate::registry::http::text::clean;
use crate::registry::http::{body, retry};
use crate::registry::session::Inner;
use crate::registry::vendors::digest_apis::DigestLookup;
use crate::registry::vendors::sigv4::Signer;

/// The API of Amazon ECR that a registry belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcrApi {
    /// Where it is: the only place that requests signed with the access key go to.
    pub url: Url,
    /// Its region, such as `us-east-1`.
    pub region: String,
    /// The account that owns the registry: 12 digits.
    pub account: String,
}

impl EcrApi {
    /// The API for the registry at `host`, if that is one of the names that ECR gives to registries.
    pub fn of_host(host: &str) -> Option<Self> {
        let (account, rest) = host.split_at_checked(ACCOUNT_DIGITS)?;
        let (region, api_front, api_end) = NAMES.iter().find_map(|(front, end, api_front, api_end)| {
            Some((rest.strip_prefix(front)?.strip_suffix(end)?, api_front, api_end))
        })?;
        let is_region = !region.is_empty() && region.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let is_account = account.bytes().all(|byte| byte.is_ascii_digit());
        let url = format!("https://{api_front}{region}{api_end}/").parse().ok()?;
        (is_account && is_region).then(|| Self { url, region: region.to_owned(), account: account.to_owned() })
    }
}

/// How one client uses that API.
pub(crate) struct Ecr {
    api: EcrApi,
    key: AccessKey,
    /// It is another server than the registry, with limits of its own.
    pause: Pause,
}

struct AccessKey {
    id: String,
    secret: SecretString,
    /// What belongs to a temporary key.
    session_token: Option<SecretString>,
}

impl AccessKey {
    fn of(credentials: &Credentials) -> Option<Self> {
        match credentials {
            Credentials::Basic { username, password } if is_key_id(username) => {
                Some(Self { id: username.clone(), secret: password.clone(), session_token: None })
            }
            Credentials::TemporaryKey { id, secret, session_token } => {
                Some(Self { id: id.clone(), secret: secret.clone(), session_token: Some(session_token.clone()) })
            }
            _ => None,
        }
    }
}

/// Whether a user name has the form of an access key's id.
fn is_key_id(username: &str) -> bool {
    let rest = KEY_PREFIXES.iter().find_map(|prefix| username.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9')))
}

impl Ecr {
    /// Nothing if `credentials` are no access key: then they are a user name and a password, as everywhere.
    pub(crate) fn new(api: EcrApi, credentials: &Credentials) -> Option<Self> {
        let key = AccessKey::of(credentials)?;
        Some(Self { api, key, pause: Pause::default() })
    }

    /// The host of the API.
    pub(crate) fn host(&self) -> String {
        canonical_host(&self.api.url)
    }

    /// Whose registry it is.
    pub(crate) fn account(&self) -> &str {
        &self.api.account
    }

    /// A call of `action`, signed as of `at`; nothing if the key cannot be written into a header.
    fn request(&self, action: &str, body: &Bytes, at: Timestamp) -> Option<reqwest::Request> {
        let AccessKey { id, secret, session_token } = &self.key;
        let signer =
            Signer { key_id: id, secret: secret.expose_secret(), region: &self.api.region, service: "ecr", at };
        let (host, date, target) = (self.host(), signer.date(), format!("{TARGET}.{action}"));
        let mut signed =
            vec![("content-type", CONTENT), ("host", &host), ("x-amz-date", &date), ("x-amz-target", &target)];
        signed.extend(session_token.iter().map(|token| (SESSION_TOKEN, token.expose_secret())));
        let authorization = signer.authorization("POST", &signed, body);
        let mut headers = HeaderMap::new();
        let sent = signed.into_iter().filter(|(name, _)| *name != "host");
        for (name, value) in sent.chain([("authorization", authorization.as_str())]) {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(matches!(name, SESSION_TOKEN | "authorization"));
            headers.insert(HeaderName::from_static(name), value);
        }
        let mut request = reqwest::Request::new(Method::POST, self.api.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.clone().into());
        Some(request)
    }
}

impl Inner {
    /// A login to the registry, good for 12 hours: a user name and a password as the value of `Authorization`.
    pub(crate) async fn ecr_login(&self, ecr: &Ecr, task: &Operation) -> Result<AccessToken, RegistryError> {
        if ecr.key.session_token.is_none() && !ecr.key.id.starts_with(LASTING) {
            return Err(task.error(ErrorKind::Unauthorized, SESSION_TOKEN_MISSING));
        }
        let answer = self.ask_ecr(ecr, "GetAuthorizationToken", &json!({}), task).await?;
        read_login(&answer, Instant::now(), Timestamp::now()).ok_or_else(|| odd(task))
    }

    /// Reads pages into `told` for as long as they cost less than asking for what is lacking.
    ///
    /// # Errors
    /// Whatever a page fails with; `told` keeps what the others said.
    pub(crate) async fn read_ecr(
        &self,
        ecr: &Ecr,
        repository: &RepositoryName,
        told: &mut DigestLookup<'_>,
        task: &Operation,
    ) -> Result<(), RegistryError> {
        let mut ask = json!({ "registryId": ecr.api.account, "repositoryName": repository.as_str(),
            "maxResults": PAGE_SIZE, "filter": { "tagStatus": "TAGGED" } });
        for _ in 0..told.lacking() {
            let page = {
                let _permit = self.read_permit().await;
                self.ask_ecr(ecr, "ListImages", &ask, task).await?
            };
            for image in page["imageIds"].as_array().ok_or_else(|| odd(task))? {
                let digest = image["imageDigest"].as_str().and_then(|text| text.parse::<Digest>().ok());
                let digest = digest.ok_or_else(|| odd(task))?;
                image["imageTag"].as_str().into_iter().for_each(|tag| told.take(tag, &digest));
            }
            if page["nextToken"].is_null() || told.lacking() <= 1 {
                break;
            }
            ask["nextToken"] = page["nextToken"].clone();
        }
        Ok(())
    }

    /// One call, with its tries.
    pub(crate) async fn ask_ecr(
        &self,
        ecr: &Ecr,
        action: &str,
        ask: &Value,
        task: &Operation,
    ) -> Result<Value, RegistryError> {
        let ask = Bytes::from(ask.to_string());
        let mut retries = Retries::new(&ecr.pause, &self.deadlines);
        loop {
            match self.try_ask_ecr(ecr, action, &ask, task).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => retries.again(failure).await?,
            }
        }
    }

    async fn try_ask_ecr(&self, ecr: &Ecr, action: &str, ask: &Bytes, task: &Operation) -> Result<Value, AttemptError> {
        ecr.pause.wait(task, &self.deadlines).await?;
        let request = ecr.request(action, ask, Timestamp::now());
        let request = request.ok_or_else(|| task.error(ErrorKind::Unauthorized, KEY_UNWRITABLE))?;
        // Its host follows from that of the registry, which its owner chose: it may be in a private network as well.
        let response = self.transport.send(request, true, Some(self.deadlines.headers)).await;
        let response = response.map_err(|trouble| task.failure(trouble))?;
        if response.status() != StatusCode::OK {
            return Err(self.ecr_refused(response, &ecr.host(), task).await);
        }
        let text = body::read(response, MAX_PAGE_BYTES, &self.deadlines).await;
        let text = text.map_err(|trouble| task.failure(trouble))?;
        serde_json::from_slice(&text).map_err(|_| odd(task).into())
    }

    async fn ecr_refused(&self, response: Response, host: &str, task: &Operation) -> AttemptError {
        let (status, retry_after) = (response.status(), retry::retry_after(response.headers()));
        let text = body::read(response, MAX_ERROR_BYTES, &self.deadlines).await.unwrap_or_default();
        let said: Value = serde_json::from_slice(&text).unwrap_or_default();
        let name = said["__type"].as_str().and_then(|name| name.rsplit('#').next()).map(clean).unwrap_or_default();
        let kind = kind_of(status, &name);
        let detail = match said["message"].as_str().or_else(|| said["Message"].as_str()) {
            // AWS repeats there what was signed, the session token too.
            _ if kind == ErrorKind::Unauthorized => {
                format!(
                    "{host} refuses the access key ({name}): correct the Secret, or the clock, which may be wrong by 5 minutes"
                )
            }
            Some(message) => format!("{host} answered {} ({name}: {})", status.as_u16(), clean(message)),
            None => format!("{host} answered {} ({name})", status.as_u16()),
        };
        let retry_after = retry_after.filter(|_| kind.is_transient());
        RegistryError { retry_after, ..task.error(kind, detail) }.into()
    }
}

fn kind_of(status: StatusCode, name: &str) -> ErrorKind {
    match name {
        "ThrottlingException" | "TooManyRequestsException" | "RequestLimitExceeded" => ErrorKind::RateLimited,
        "AccessDeniedException" => ErrorKind::Denied,
        "RepositoryNotFoundException" => ErrorKind::NotFound,
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch" => ErrorKind::Unauthorized,
        _ if status.as_u16() == 429 => ErrorKind::RateLimited,
        _ if is_passing(status) => ErrorKind::Unavailable,
        _ => ErrorKind::Rejected,
    }
}

fn read_login(answer: &Value, received_at: Instant, now: Timestamp) -> Option<AccessToken> {
    let data = &answer["authorizationData"][0];
    let header = HeaderValue::from_str(&format!("Basic {}", data["authorizationToken"].as_str()?)).ok()?;
    let now = now.as_duration().as_secs_f64();
    let seconds = data["expiresAt"].as_f64().map_or(LIFE, |at| (at - now).clamp(MIN_LIFE, LIFE));
    Some(AccessToken::new(header, seconds, received_at))
}

/// What is no answer to what was asked.
pub(crate) fn odd(task: &Operation) -> RegistryError {
    task.error(ErrorKind::InvalidContent, "ECR's API answered with another document than was asked for")
}

/// The names of registries: behind the account and behind the region; and those of their APIs, around the region.
const NAMES: [(&str, &str, &str, &str); 5] = [
    (".dkr.ecr.", ".amazonaws.com", "api.ecr.", ".amazonaws.com"),
    (".dkr.ecr.", ".amazonaws.com.cn", "api.ecr.", ".amazonaws.com.cn"),
    (".dkr.ecr-fips.", ".amazonaws.com", "ecr-fips.", ".amazonaws.com"),
    (".dkr-ecr.", ".on.aws", "ecr.", ".api.aws"),
    (".dkr-ecr-fips.", ".on.aws", "ecr-fips.", ".api.aws"),
];

const ACCOUNT_DIGITS: usize = 12;

/// How the ids of access keys begin: of those that last, and of temporary ones.
const KEY_PREFIXES: [&str; 2] = [LASTING, "ASIA"];
const LASTING: &str = "AKIA";

const SESSION_TOKEN_MISSING: &str = "the user name is a temporary access key of AWS, which needs its session token: \
    add the key sessionToken to the Secret, or use a key that lasts (AKIA…)";
const KEY_UNWRITABLE: &str = "the access key has characters that no access key has: correct the Secret";

const SESSION_TOKEN: &str = "x-amz-security-token";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921";
const CONTENT: &str = "application/x-amz-json-1.1";

/// The most that ECR gives.
const PAGE_SIZE: usize = 1000;

const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// The life of a login in seconds, as AWS documents it, and the least that is believed.
const LIFE: f64 = 12.0 * 3600.0;
const MIN_LIFE: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_of_a_registry_is_known_by_its_host() {
        let table = [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", Some("https://api.ecr.us-east-1.amazonaws.com/")),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("https://api.ecr.cn-north-1.amazonaws.com.cn/")),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some("https://ecr-fips.us-gov-west-1.amazonaws.com/"),
            ),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", Some("https://ecr.eu-west-1.api.aws/")),
            ("123456789012.dkr-ecr-fips.us-west-2.on.aws", Some("https://ecr-fips.us-west-2.api.aws/")),
            ("12345678901.dkr.ecr.us-east-1.amazonaws.com", None),
            ("12345678901x.dkr.ecr.us-east-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com:444", None),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example", None),
            ("123456789012.dkr.ecr.evil.example.us-east-1.amazonaws.com", None),
            ("123456789012.dkr.ecr..amazonaws.com", None),
            ("123456789012.dkr.ecr.us-east-1/.amazonaws.com", None),
            ("public.ecr.aws", None),
            ("registry.example", None),
            ("éééééééééééé", None),
        ];
        for (host, expected) in table {
            let found = EcrApi::of_host(host);
            assert_eq!(found.as_ref().map(|api| api.url.as_str()), expected, "{host}");
        }
        let api = EcrApi::of_host(table[2].0).unwrap();
        assert_eq!((api.account.as_str(), api.region.as_str()), ("123456789012", "us-gov-west-1"));
    }

    #[test]
    fn an_access_key_is_known_by_its_id() {
        let table = [
            ("AKIAIOSFODNN7EXAMPLE", true),
            ("ASIAIOSFODNN7EXAMPLE", true),
            ("AKIAIOSFODNN7EXAMPL", false),
            ("AKIAIOSFODNN7EXAMPLEE", false),
            ("AKIAiosfodnn7example", false),
            ("AROAIOSFODNN7EXAMPLE", false),
            ("AWS", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_key_id(name), expected, "{name}");
        }
    }

    #[test]
    fn a_login_lasts_until_ecr_says_so() {
        let (received, now) = (Instant::now(), Timestamp::from_second(1_700_000_000).unwrap());
        let life = |expires_at: Value| {
            let answer = json!({"authorizationData": [{"authorizationToken": "QVdTOng=", "expiresAt": expires_at}]});
            let token = read_login(&answer, received, now).unwrap();
            assert!(token.header.is_sensitive() && token.header == "Basic QVdTOng=");
            (token.renew_at - received).as_secs()
        };
        assert_eq!(life(json!(1_700_003_600.5)), 3570, "renewed a little before");
        assert_eq!(life(Value::Null), 12 * 3600 - 30);
        assert_eq!(life(json!(1.0e12)), 12 * 3600 - 30);
        assert_eq!(life(json!(5)), 54, "a clock that is wrong is no reason to ask without end");
        assert!(read_login(&json!({"authorizationData": []}), received, now).is_none());
    }
}
