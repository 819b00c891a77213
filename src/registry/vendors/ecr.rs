//! Amazon ECR's API: signed calls, a login to the registry with an access key, the digests of tags, existing layers,
//! and the deletion of tags.

mod creation;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::image::{Descriptor, Digest, RepositoryName, Tag};
use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::issuer::LoginIssuer;
use crate::registry::auth::token::AccessToken;
use crate::registry::content::manifests::DeletionAnswer;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::hosts::{HostTrust, canonical_host};
use crate::registry::http::limiter::Load;
use crate::registry::http::response::is_passing;
use crate::registry::http::retry::{self, Pause, Retries};
use crate::registry::http::text::clean;
use crate::registry::http::{Http, body};
use crate::registry::vendors::digest_lookup::DigestLookup;
use crate::registry::vendors::sigv4::Signer;

/// The API of Amazon ECR that a registry belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcrApi {
    /// Its URL: requests signed with the access key go nowhere else.
    pub url: Url,
    /// Its region, such as `us-east-1`.
    pub region: String,
    /// The account that owns the registry: 12 digits.
    pub account: String,
}

impl EcrApi {
    /// Returns the API of the registry at `host`, if that has the form of ECR's host names.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        let (account, rest) = host.split_at_checked(ACCOUNT_DIGITS)?;
        let (region, form) = HOST_FORMS.iter().find_map(|form| {
            let region = rest.strip_prefix(form.registry.0)?.strip_suffix(form.registry.1)?;
            Some((region, form))
        })?;
        let is_region = !region.is_empty() && region.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let is_account = account.bytes().all(|byte| byte.is_ascii_digit());
        let url = format!("https://{}{region}{}/", form.api.0, form.api.1).parse().ok()?;
        (is_account && is_region).then(|| Self { url, region: region.to_owned(), account: account.to_owned() })
    }
}

/// The use of that API by one client.
pub(crate) struct Ecr {
    http: Arc<Http>,
    api: EcrApi,
    key: AccessKey,
    /// The API is another server than the registry, with limits of its own.
    pause: Pause,
}

struct AccessKey {
    id: String,
    secret: SecretString,
    /// Present for a temporary key.
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

/// Returns true if a user name has the form of the id of an access key.
fn is_key_id(username: &str) -> bool {
    let rest = KEY_PREFIXES.iter().find_map(|prefix| username.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9')))
}

impl Ecr {
    /// Returns `None` if `credentials` are no access key: then they are a user name and a password, as everywhere.
    pub(crate) fn new(http: Arc<Http>, api: EcrApi, credentials: &Credentials) -> Option<Self> {
        let key = AccessKey::of(credentials)?;
        Some(Self { http, api, key, pause: Pause::default() })
    }

    /// Reads pages into `lookup` for as long as they cost less than HEADs for the missing tags.
    ///
    /// # Errors
    /// The error of a page; `lookup` keeps the digests of the others.
    pub(super) async fn list_images(
        &self,
        repository: &RepositoryName,
        lookup: &mut DigestLookup<'_>,
        operation: &Operation,
    ) -> Result<(), RegistryError> {
        let mut query = json!({ "registryId": self.api.account, "repositoryName": repository.as_str(),
            "maxResults": PAGE_SIZE, "filter": { "tagStatus": "TAGGED" } });
        for _ in 0..lookup.missing() {
            let page = {
                let _permit = self.http.read_permit(Load::Small).await;
                self.call("ListImages", &query, operation).await?
            };
            for image in page["imageIds"].as_array().ok_or_else(|| unexpected(operation))? {
                let digest = image["imageDigest"].as_str().and_then(|text| text.parse::<Digest>().ok());
                let digest = digest.ok_or_else(|| unexpected(operation))?;
                image["imageTag"].as_str().into_iter().for_each(|tag| lookup.add(tag, &digest));
            }
            if page["nextToken"].is_null() || lookup.missing() <= 1 {
                break;
            }
            query["nextToken"] = page["nextToken"].clone();
        }
        Ok(())
    }

    /// Adds to `found` those of `blobs` that are available with the stated size. Everyone who may push has the right to
    /// ask.
    ///
    /// # Errors
    /// The error of a call; `found` keeps the results of the others.
    pub(super) async fn check_layers(
        &self,
        repository: &RepositoryName,
        blobs: &[&Descriptor],
        found: &mut HashSet<Digest>,
        operation: &Operation,
    ) -> Result<(), RegistryError> {
        for blobs in blobs.chunks(MAX_LAYERS) {
            let digests: Vec<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
            let query = json!({ "registryId": self.api.account, "repositoryName": repository.as_str(),
                "layerDigests": digests });
            let answer = {
                let _permit = self.http.read_permit(Load::Small).await;
                self.call("BatchCheckLayerAvailability", &query, operation).await?
            };
            for layer in answer["layers"].as_array().ok_or_else(|| unexpected(operation))? {
                let is_available = |blob: &&&Descriptor| {
                    layer["layerDigest"] == blob.digest.as_str()
                        && layer["layerAvailability"] == "AVAILABLE"
                        && layer["layerSize"] == blob.size
                };
                found.extend(blobs.iter().find(is_available).map(|blob| blob.digest.clone()));
            }
        }
        Ok(())
    }

    /// Deletes a tag, and with the last tag of an image the image. ECR refuses that for an image that an index needs.
    ///
    /// # Errors
    /// `Denied` without the right to `ecr:BatchDeleteImage`; `Rejected` with ECR's cause.
    pub(super) async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        operation: &Operation,
    ) -> Result<DeletionAnswer, RegistryError> {
        let query = json!({ "registryId": self.api.account, "repositoryName": repository.as_str(),
            "imageIds": [{ "imageTag": tag.as_str() }] });
        let answer = {
            let _permit = self.http.write_permit(Load::Small).await;
            self.call("BatchDeleteImage", &query, operation).await?
        };
        let deleted = answer["imageIds"].as_array().ok_or_else(|| unexpected(operation))?;
        if deleted.iter().any(|image| image["imageTag"] == tag.as_str()) {
            return Ok(DeletionAnswer::Done);
        }
        let failure = &answer["failures"][0];
        match failure["failureCode"].as_str() {
            Some("ImageNotFound") => Ok(DeletionAnswer::Absent),
            Some(code) => {
                let reason = failure["failureReason"].as_str().unwrap_or_default();
                Err(operation.error(ErrorKind::Rejected, format!("{}: {}", clean(code), clean(reason))))
            }
            None => Err(unexpected(operation)),
        }
    }

    /// Calls `action`, with retries.
    async fn call(&self, action: &str, query: &Value, operation: &Operation) -> Result<Value, RegistryError> {
        let query = Bytes::from(query.to_string());
        let mut retries = Retries::new(&self.pause, self.http.deadlines());
        loop {
            match self.try_call(action, &query, operation).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => retries.again(failed).await?,
            }
        }
    }

    async fn try_call(&self, action: &str, query: &Bytes, operation: &Operation) -> Result<Value, AttemptError> {
        self.pause.wait(operation, self.http.deadlines()).await?;
        let request = self.request(action, query, Timestamp::now());
        let request = request.ok_or_else(|| operation.error(ErrorKind::Unauthorized, KEY_UNWRITABLE))?;
        // Its host follows from that of the registry, which its owner chose: it may be in a private network as well.
        let sent = self.http.send_to_service(request, HostTrust::Own).await;
        let response = sent.map_err(|error| operation.attempt_error(error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response, operation).await);
        }
        let text = body::read(response, MAX_PAGE_BYTES, self.http.deadlines()).await;
        let text = text.map_err(|error| operation.attempt_error(error))?;
        serde_json::from_slice(&text).map_err(|_| unexpected(operation).into())
    }

    /// Creates a call of `action`, signed as of `at`; `None` if the key cannot be written into a header.
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

    async fn refused(&self, response: Response, operation: &Operation) -> AttemptError {
        let (status, retry_after) = (response.status(), retry::retry_after(response.headers()));
        let text = body::read(response, MAX_ERROR_BYTES, self.http.deadlines()).await.unwrap_or_default();
        let document: Value = serde_json::from_slice(&text).unwrap_or_default();
        let name = document["__type"].as_str().and_then(|name| name.rsplit('#').next()).map(clean).unwrap_or_default();
        let (kind, host) = (kind_of(status, &name), self.host());
        let detail = match document["message"].as_str().or_else(|| document["Message"].as_str()) {
            // AWS repeats the signed text there, the session token included.
            _ if kind == ErrorKind::Unauthorized => {
                format!(
                    "{host} refuses the access key ({name}): correct the Secret, or the clock, which may be wrong by 5 minutes"
                )
            }
            Some(message) => format!("{host} answered {} ({name}: {})", status.as_u16(), clean(message)),
            None => format!("{host} answered {} ({name})", status.as_u16()),
        };
        let retry_after = retry_after.filter(|_| kind.is_transient());
        RegistryError { retry_after, ..operation.error(kind, detail) }.into()
    }

    async fn login(&self, operation: &Operation) -> Result<AccessToken, RegistryError> {
        if self.key.session_token.is_none() && !self.key.id.starts_with(LASTING) {
            return Err(operation.error(ErrorKind::Unauthorized, SESSION_TOKEN_MISSING));
        }
        let answer = self.call("GetAuthorizationToken", &json!({}), operation).await?;
        read_login(&answer, Instant::now(), Timestamp::now()).ok_or_else(|| unexpected(operation))
    }
}

impl LoginIssuer for Ecr {
    fn host(&self) -> String {
        canonical_host(&self.api.url)
    }

    /// Requests a user name and a password for the registry, valid for 12 hours.
    fn issue<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, Result<AccessToken, RegistryError>> {
        self.login(operation).boxed()
    }
}

fn kind_of(status: StatusCode, name: &str) -> ErrorKind {
    match name {
        "ThrottlingException" | "TooManyRequestsException" | "RequestLimitExceeded" => ErrorKind::RateLimited,
        "AccessDeniedException" => ErrorKind::Denied,
        "RepositoryNotFoundException" => ErrorKind::NotFound,
        "RepositoryAlreadyExistsException" => ErrorKind::AlreadyExists,
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
    let seconds = data["expiresAt"].as_f64().map_or(MAX_LIFE, |at| (at - now).clamp(MIN_LIFE, MAX_LIFE));
    Some(AccessToken::new(header, seconds, received_at))
}

fn unexpected(operation: &Operation) -> RegistryError {
    let detail = "ECR's API answered with another document than was asked for";
    operation.error(ErrorKind::InvalidContent, detail)
}

/// A form of ECR's host names: the text before and after the region.
struct HostForm {
    /// Behind the account.
    registry: (&'static str, &'static str),
    api: (&'static str, &'static str),
}

const HOST_FORMS: [HostForm; 5] = [
    HostForm { registry: (".dkr.ecr.", ".amazonaws.com"), api: ("api.ecr.", ".amazonaws.com") },
    HostForm { registry: (".dkr.ecr.", ".amazonaws.com.cn"), api: ("api.ecr.", ".amazonaws.com.cn") },
    HostForm { registry: (".dkr.ecr-fips.", ".amazonaws.com"), api: ("ecr-fips.", ".amazonaws.com") },
    HostForm { registry: (".dkr-ecr.", ".on.aws"), api: ("ecr.", ".api.aws") },
    HostForm { registry: (".dkr-ecr-fips.", ".on.aws"), api: ("ecr-fips.", ".api.aws") },
];

const ACCOUNT_DIGITS: usize = 12;

/// The first letters of the ids of access keys: of lasting and of temporary ones.
const KEY_PREFIXES: [&str; 2] = [LASTING, "ASIA"];
const LASTING: &str = "AKIA";

const SESSION_TOKEN_MISSING: &str = "the user name is a temporary access key of AWS, which needs its session token: \
    add the key sessionToken to the Secret, or use a key that lasts (AKIA…)";
const KEY_UNWRITABLE: &str = "the access key has characters that no access key has: correct the Secret";

const SESSION_TOKEN: &str = "x-amz-security-token";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921";
const CONTENT: &str = "application/x-amz-json-1.1";

/// The largest page of ECR.
const PAGE_SIZE: usize = 1000;

/// The layers that one call of ECR may name.
const MAX_LAYERS: usize = 100;

const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// The life of a login in seconds, as AWS documents it, and the shortest that is believed.
const MAX_LIFE: f64 = 12.0 * 3600.0;
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
