//! Reads the credentials of a Registry from its Secrets, and returns them only for the host that they are bound to.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};
use secrecy::SecretString;

use super::call::{CallError, call};
use crate::api::{REGISTRY_HOST, Registry};
use crate::registry::{Credentials, DockerConfig, Logins};
use crate::replication::Unusable;
use crate::terms::{CaReference, OBJECT_NAME, reason};

/// The failure to read a Secret or ConfigMap. The message names the object, never its content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// A person has to change something. Absent and forbidden objects read the same.
    #[error("{message}")]
    Invalid {
        /// One of [`crate::terms::reason`].
        reason: &'static str,
        /// The message of the condition, with the remedy.
        message: String,
    },
    /// The API server did not say what the object holds: a later read may succeed though nothing is changed.
    #[error("{kind} {name} cannot be read now, as the API server does not answer: it is read again by itself")]
    Unanswered {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// The name of the object.
        name: String,
    },
}

impl CredentialsError {
    fn invalid(reason: &'static str, message: String) -> Self {
        Self::Invalid { reason, message }
    }

    /// Returns true if the API server did not answer: the error says nothing about the object.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }
}

impl From<CredentialsError> for Unusable {
    fn from(error: CredentialsError) -> Self {
        let reason = match error {
            CredentialsError::Invalid { reason, .. } => reason,
            CredentialsError::Unanswered { .. } => reason::UNREACHABLE,
        };
        Self { reason, message: error.to_string() }
    }
}

/// Returns the credentials and the CA bundle of `registry`, whose canonical host is `host`.
///
/// # Errors
/// [`CredentialsError`] if an object is absent, of the wrong form, not bound to `host`, or cannot be read now.
pub(crate) async fn registry_credentials(
    client: &Client,
    registry: &Registry,
    host: &str,
) -> Result<(Logins, Option<Vec<u8>>), CredentialsError> {
    let namespace = registry.namespace().unwrap_or_default();
    let logins = match &registry.spec.credentials {
        None => Logins::default(),
        Some(source) => {
            let secret = read_secret(client, &namespace, &source.secret_ref.name).await?;
            parse_logins(&secret, host)?
        }
    };
    let ca = match registry.spec.tls.as_ref().and_then(|tls| tls.ca()) {
        None => None,
        Some(CaReference::Secret(reference)) => {
            let secret = read_secret(client, &namespace, &reference.name).await?;
            let value = secret.data.as_ref().and_then(|data| data.get(&reference.key)).map(|value| value.0.clone());
            Some(value.ok_or_else(|| missing_ca("Secret", &reference.name, &reference.key))?)
        }
        Some(CaReference::ConfigMap(reference)) => {
            check_name("ConfigMap", &reference.name)?;
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            let map = call(maps.get(&reference.name))
                .await
                .map_err(|error| unreadable("ConfigMap", &reference.name, &error))?;
            let value =
                map.data.as_ref().and_then(|data| data.get(&reference.key)).map(|value| value.clone().into_bytes());
            Some(value.ok_or_else(|| missing_ca("ConfigMap", &reference.name, &reference.key))?)
        }
    };
    Ok((logins, ca))
}

/// Returns the error of the first Secret or ConfigMap that `registry` names for its connection and that does not exist.
/// Reads no content. An API server that does not answer counts as nothing missing.
pub(crate) async fn missing_reference(client: &Client, registry: &Registry) -> Option<CredentialsError> {
    let namespace = registry.namespace().unwrap_or_default();
    let (secrets, maps): (Api<Secret>, Api<ConfigMap>) =
        (Api::namespaced(client.clone(), &namespace), Api::namespaced(client.clone(), &namespace));
    let credentials = registry.spec.credentials.as_ref().map(|source| source.secret_ref.name.as_str());
    let (ca_secret, ca_map) = match registry.spec.tls.as_ref().and_then(|tls| tls.ca()) {
        Some(CaReference::Secret(reference)) => (Some(reference.name.as_str()), None),
        Some(CaReference::ConfigMap(reference)) => (None, Some(reference.name.as_str())),
        None => (None, None),
    };
    for name in [credentials, ca_secret].into_iter().flatten() {
        if let Err(error) = check_name("Secret", name) {
            return Some(error);
        }
        if let Err(error) = call(secrets.get_metadata(name)).await
            && is_missing(&error)
        {
            return Some(unreadable("Secret", name, &error));
        }
    }
    if let Err(error) = check_name("ConfigMap", ca_map?) {
        return Some(error);
    }
    let error = call(maps.get_metadata(ca_map?)).await.err().filter(is_missing)?;
    Some(unreadable("ConfigMap", ca_map?, &error))
}

/// Returns the token that senders of notifications for `registry` must present; `None` if it takes no notifications.
///
/// # Errors
/// [`CredentialsError`] if the Secret is absent, holds no token of at least 16 characters, or cannot be read now.
pub(crate) async fn notification_token(
    client: &Client,
    registry: &Registry,
) -> Result<Option<Vec<u8>>, CredentialsError> {
    let Some(notifications) = &registry.spec.notifications else {
        return Ok(None);
    };
    let name = &notifications.auth.secret_ref.name;
    let secret = read_secret(client, &registry.namespace().unwrap_or_default(), name).await?;
    match secret.data.as_ref().and_then(|data| data.get("token")) {
        Some(token) if token.0.len() >= MIN_TOKEN_LENGTH => Ok(Some(token.0.clone())),
        _ => Err(CredentialsError::invalid(
            reason::SECRET_INVALID,
            format!("Secret {name} needs the key token with at least {MIN_TOKEN_LENGTH} characters"),
        )),
    }
}

fn parse_logins(secret: &Secret, host: &str) -> Result<Logins, CredentialsError> {
    let name = secret.name_any();
    let none = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&none);
    let invalid = |what: &str| CredentialsError::invalid(reason::SECRET_INVALID, format!("Secret {name} {what}"));
    match secret.type_.as_deref().unwrap_or("Opaque") {
        kind @ ("kubernetes.io/dockerconfigjson" | "kubernetes.io/dockercfg") => {
            let key = if kind.ends_with("json") { ".dockerconfigjson" } else { ".dockercfg" };
            let document = data.get(key).ok_or_else(|| invalid(&format!("lacks the key {key}")))?;
            let config = DockerConfig::parse(&document.0)
                .map_err(|error| invalid(&format!("is no docker configuration: {error}")))?;
            let logins = config.logins_for(host);
            if !logins.entries().is_empty() {
                return Ok(logins);
            }
            let unused = logins.unused().map(|unused| format!(" ({unused})")).unwrap_or_default();
            Err(CredentialsError::invalid(
                reason::SECRET_NOT_BOUND_TO_HOST,
                format!("Secret {name} has no login for host {host}{unused}: add one under auths"),
            ))
        }
        "kubernetes.io/basic-auth" | "Opaque" => {
            if secret.annotations().get(REGISTRY_HOST).map(String::as_str) != Some(host) {
                return Err(CredentialsError::invalid(
                    reason::SECRET_NOT_BOUND_TO_HOST,
                    format!("Secret {name} is not bound to this registry: annotate it with {REGISTRY_HOST}: {host}"),
                ));
            }
            let text = |key: &str| utf8(data, key).ok_or_else(|| invalid(&format!("needs the key {key}")));
            let (username, password) = (text("username")?, SecretString::from(text("password")?));
            let credentials = match utf8(data, "sessionToken") {
                Some(token) => {
                    Credentials::TemporaryKey { id: username, secret: password, session_token: token.into() }
                }
                None => Credentials::Basic { username, password },
            };
            Ok(credentials.into())
        }
        other => Err(invalid(&format!(
            "is of type {other}, which holds no registry credentials: use kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth"
        ))),
    }
}

fn utf8(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok()).filter(|value| !value.is_empty())
}

pub(super) async fn read_secret(client: &Client, namespace: &str, name: &str) -> Result<Secret, CredentialsError> {
    check_name("Secret", name)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    call(secrets.get(name)).await.map_err(|error| unreadable("Secret", name, &error))
}

/// Refuses a name that no object can have: an object that was created before names had a pattern may hold one.
fn check_name(kind: &str, name: &str) -> Result<(), CredentialsError> {
    if OBJECT_NAME.matches(name) {
        return Ok(());
    }
    Err(CredentialsError::invalid(reason::SECRET_NOT_FOUND, format!("{name:?} is not the name of a {kind}")))
}

/// Returns true if the API server has answered that the operator gets no such object: it does not exist, or may not be
/// read. A missing permission does not pass by itself, and may have been withdrawn on purpose: content that was read
/// before is not used any more.
fn is_missing(error: &CallError) -> bool {
    error.is_not_found() || error.is_forbidden()
}

fn unreadable(kind: &'static str, name: &str, error: &CallError) -> CredentialsError {
    if is_missing(error) {
        let message = format!("{kind} {name} does not exist in this namespace, or the operator may not read it");
        return CredentialsError::invalid(reason::SECRET_NOT_FOUND, message);
    }
    CredentialsError::Unanswered { kind, name: name.to_owned() }
}

fn missing_ca(kind: &str, name: &str, key: &str) -> CredentialsError {
    let message = format!("{kind} {name} lacks the key {key} with the CA certificates");
    CredentialsError::invalid(reason::CA_INVALID, message)
}

const MIN_TOKEN_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn secret(yaml: &str) -> Secret {
        serde_saphyr::from_str(yaml).unwrap()
    }

    /// Returns reason and message of a Secret that cannot be used.
    fn refusal<T>(parsed: Result<T, CredentialsError>) -> (&'static str, String) {
        let Unusable { reason, message } = parsed.err().unwrap().into();
        (reason, message)
    }

    #[test]
    fn an_api_server_that_does_not_answer_says_nothing_about_a_secret() {
        let answered = |code| {
            let status = kube::core::Status::failure("no", "No").with_code(code);
            CallError::from(kube::Error::Api(status.boxed()))
        };
        for answer in [404, 403].map(answered) {
            let error = unreadable("Secret", "s", &answer);
            assert!(!error.is_unanswered());
            assert_eq!(Unusable::from(error).reason, reason::SECRET_NOT_FOUND);
        }
        for failure in [401, 429, 500, 503, 504].map(answered).into_iter().chain([CallError::Deadline]) {
            let error = unreadable("Secret", "s", &failure);
            assert!(error.is_unanswered(), "{error:?}");
            let Unusable { reason, message } = error.into();
            assert_eq!(reason, reason::UNREACHABLE);
            assert!(message.starts_with("Secret s cannot be read now"), "{message}");
        }
    }

    #[test]
    fn a_secret_is_used_for_the_host_that_it_is_bound_to_and_no_other() {
        let bound = secret(
            "{metadata: {name: s, annotations: {transship.dev/registry-host: 'r.example.com:5000'}}, type: Opaque, \
             data: {username: dQ==, password: cA==}}",
        );
        assert!(parse_logins(&bound, "r.example.com:5000").is_ok());
        for host in ["r.example.com", "evil.example.com:5000", ""] {
            assert_eq!(refusal(parse_logins(&bound, host)).0, reason::SECRET_NOT_BOUND_TO_HOST);
        }
        let unbound =
            secret("{metadata: {name: s}, type: kubernetes.io/basic-auth, data: {username: dQ==, password: cA==}}");
        assert_eq!(refusal(parse_logins(&unbound, "r")).0, reason::SECRET_NOT_BOUND_TO_HOST);
    }

    #[test]
    fn a_secret_of_another_type_or_without_its_keys_is_named_and_not_shown() {
        let tls = secret("{metadata: {name: s}, type: kubernetes.io/tls, data: {tls.key: c2VjcmV0}}");
        assert_eq!(refusal(parse_logins(&tls, "r")).0, reason::SECRET_INVALID);
        let half = secret(
            "{metadata: {name: s, annotations: {transship.dev/registry-host: r}}, type: Opaque, data: {username: dQ==}}",
        );
        assert!(refusal(parse_logins(&half, "r")).1.contains("password"));
    }

    #[test]
    fn a_secret_with_a_session_token_is_a_temporary_key_of_aws() {
        let mut key = secret(
            "{metadata: {name: s, annotations: {transship.dev/registry-host: r}}, type: kubernetes.io/basic-auth, \
             data: {username: dQ==, password: cA==, sessionToken: dA==}}",
        );
        let parsed = parse_logins(&key, "r").unwrap().credentials(None).clone();
        assert!(matches!(parsed, Credentials::TemporaryKey { id, session_token, .. }
            if id == "u" && session_token.expose_secret() == "t"));
        key.data.as_mut().unwrap().remove("sessionToken");
        assert!(matches!(parse_logins(&key, "r").unwrap().credentials(None), Credentials::Basic { .. }));
    }

    #[test]
    fn a_docker_configuration_gives_each_path_of_a_host_its_login() {
        let of = |document: &str| {
            let mut config = secret("{metadata: {name: s}, type: kubernetes.io/dockerconfigjson, data: {}}");
            let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(document.as_bytes().to_vec()))]);
            config.data = Some(data);
            parse_logins(&config, "r.example")
        };
        let two = r#"{"auths":{"r.example/team":{"auth":"dDpw"},"r.example":{"auth":"YTpw"},"other":{"auth":"%"}}}"#;
        let logins = of(two).unwrap();
        let user = |repository: &str| match logins.credentials(Some(&repository.parse().unwrap())) {
            Credentials::Basic { username, .. } => username.clone(),
            _ => String::new(),
        };
        assert_eq!((user("team/app"), user("teams/app"), logins.unused()), ("t".to_owned(), "a".to_owned(), None));

        let (_, message) = refusal(of(r#"{"auths":{"r.example":{"auth":"c2VjcmV0"},"other":{"auth":"YTpw"}}}"#));
        assert!(message.contains("its entry r.example cannot be read"), "{message}");
        assert!(!message.contains("secret"), "{message}");
        assert_eq!(refusal(of(r#"{"auths":{}}"#)).0, reason::SECRET_NOT_BOUND_TO_HOST);
    }
}
