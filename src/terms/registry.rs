//! The spec and status of the kind `Registry`: one endpoint that images are read from or written to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::lists::{keyed_by, set};
use super::name::OBJECT_NAME_TEXT;
use super::pattern::Pattern;
use super::repository_template::{MAX_REPOSITORY_TEMPLATES, RepositoryTemplate};
use super::rule::{ValidationRule, ValidationRules, checked_by, immutable};

/// One registry endpoint with its credentials, TLS settings and limits. It lives in the namespace of its owner: users
/// who may write there decide which images are replicated from it, and by policy which are replicated into it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&REGISTRY_RULES))]
pub struct RegistrySpec {
    /// The address of the registry: `https://host[:port]`, without user, path, query or fragment. Immutable: create
    /// another Registry for another endpoint.
    #[schemars(length(min = 8, max = 512), transform = checked_by(&URL_RULES), transform = immutable(URL_IS_IMMUTABLE))]
    pub url: String,
    /// Permits an `http://` URL. Images and credentials then cross the network unencrypted. Default: false.
    #[serde(default, rename = "allowHTTP")]
    pub allow_http: bool,
    /// The credentials. Absent: anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSource>,
    /// The verification of the registry's certificate. Absent: by the certificate authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Further hosts (`host` or `host:port`) that belong to this registry, at most 16: those that it sends clients to
    /// for tokens, for blobs and for uploads. An address of IPv6 with a port stands in brackets (`[::1]:5000`).
    /// Credentials are sent to a token service only if it is the registry's own host, a well-known one, or listed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 261), regex(pattern = TRUSTED_HOST)),
        transform = set
    )]
    pub trusted_hosts: Vec<String>,
    /// The treatment of repositories that this registry lacks, as a destination. `Auto`: the first push creates them if
    /// the destination's policy also allows `CreateRepository`. `Never`: images for missing repositories fail with
    /// `RepositoryNotFound`. Default: Auto.
    #[serde(default)]
    pub create_repositories: CreateRepositories,
    /// The settings of repositories that are created here, by the prefix of their names, at most 20. They are applied
    /// when a repository is created, and never change one that exists. Settings that the registry does not have stall
    /// this object with `RepositoryTemplateUnsupported`. Amazon ECR creates repositories only by a template, and needs
    /// an access key as credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_REPOSITORY_TEMPLATES), transform = keyed_by("prefix"))]
    pub repository_templates: Vec<RepositoryTemplate>,
    /// Bounds on the use of the registry by everything that uses this Registry, in all processes together: the operator
    /// divides them among the copy Jobs that run. A change takes effect at once.
    #[serde(default)]
    pub limits: Limits,
    /// Push notifications that this registry sends to the operator at `/v1/notify/{namespace}/{name}`. Absent: the
    /// comparisons of each configuration find new images, once per interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,
}

/// The source of the credentials of a Registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSource {
    /// A Secret of the same namespace. Its type is `kubernetes.io/dockerconfigjson` (the entries for this host are used;
    /// with several, such as `host` and `host/team`, that of the longest path above a repository),
    /// `kubernetes.io/basic-auth`, or `Opaque` with the keys `username` and `password`. The latter two need the
    /// annotation `transship.dev/registry-host: host[:port]`, equal to the host of `spec.url`. For Amazon ECR, username
    /// and password may be the id and the secret of an access key, which needs no renewal, unlike the passwords of
    /// `docker login`; a temporary key has the key `sessionToken` as well.
    pub secret_ref: SecretReference,
}

/// A reference to a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The name of a Secret in the namespace of this object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_TEXT))]
    pub name: String,
}

/// The verification of a registry's certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&TLS_RULES))]
pub struct Tls {
    /// A key of a Secret of the same namespace with PEM certificates. They are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<KeyReference>,
    /// A key of a ConfigMap of the same namespace with PEM certificates. They are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<KeyReference>,
}

impl Tls {
    /// Returns the one reference that is set.
    pub fn ca(&self) -> Option<CaReference<'_>> {
        match (&self.ca_secret_ref, &self.ca_config_map_ref) {
            (Some(secret), _) => Some(CaReference::Secret(secret)),
            (None, Some(config_map)) => Some(CaReference::ConfigMap(config_map)),
            (None, None) => None,
        }
    }
}

/// A reference to CA certificates.
#[derive(Clone, Copy, Debug)]
pub enum CaReference<'a> {
    /// A key of a ConfigMap.
    ConfigMap(&'a KeyReference),
    /// A key of a Secret.
    Secret(&'a KeyReference),
}

/// A reference to one key of a Secret or ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// The name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_TEXT))]
    pub name: String,
    /// The key inside the object. Default: ca.crt.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

/// The treatment of repositories that a destination lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CreateRepositories {
    /// The first push creates the repository if the policy allows it.
    #[default]
    Auto,
    /// No repository is created.
    Never,
}

/// Bounds on the use of a registry, for all processes together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The largest number of concurrent requests, 1 to 64. Default: 8.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,
    /// The largest number of requests a second, at most 10000. Requests to other hosts that the registry sends clients
    /// to, for blobs or tokens, do not count. Default: 0, any number.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(max = 10_000))]
    pub requests_per_second: u32,
    /// The largest number of bytes a second, read and written together: 65536 or more. Default: 0, any number.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(transform = checked_by(&BANDWIDTH_RULES))]
    pub bandwidth: u64,
    /// The looks a second, at most 10000, at tags that are replicated already, to see if they have moved. The
    /// configurations of all namespaces that read from one host share them; a pause saves up those of 10 seconds. New
    /// tags, notified ones, and those of a comparison that a person requests do not wait for them. 0: any number, so
    /// that each comparison looks at every tag. Default: 20.
    #[serde(default = "default_sweep")]
    #[schemars(range(max = 10_000))]
    pub sweep_requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let (concurrency, sweep_requests_per_second) = (default_concurrency(), default_sweep());
        Self { concurrency, requests_per_second: 0, bandwidth: 0, sweep_requests_per_second }
    }
}

fn default_sweep() -> u32 {
    DEFAULT_SWEEP_REQUESTS
}

/// The looks at known tags a second, unless a Registry sets others.
pub const DEFAULT_SWEEP_REQUESTS: u32 = 20;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_concurrency() -> u32 {
    8
}

/// Push notifications that a registry sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notifications {
    /// The format of the notifications.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The authentication of the sender.
    pub auth: NotificationAuth,
}

/// The format of push notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NotificationType {
    /// CNCF Distribution's event envelope.
    Distribution,
}

/// The authentication of a sender of notifications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationAuth {
    /// The authentication scheme.
    #[serde(rename = "type")]
    pub kind: NotificationAuthType,
    /// A Secret of the same namespace whose key `token` holds the expected token, at least 16 characters.
    pub secret_ref: SecretReference,
}

/// The authentication scheme of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NotificationAuthType {
    /// `Authorization: Bearer <token>`.
    Bearer,
}

/// The state of a Registry as the operator observed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the registry answers and accepts the credentials. `Stalled`: a user must change something.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[schemars(transform = keyed_by("type"))]
    pub conditions: Vec<Condition>,
    /// The quota of requests that the registry states in its answers, as Docker Hub does. Work slows down before it is
    /// used up. Written again once the quota has changed by a tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<RegistryQuota>,
}

/// A quota of requests, as a registry stated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryQuota {
    /// The requests that the registry takes in each window.
    pub limit: u64,
    /// The requests that were left.
    pub remaining: u64,
    /// The window in seconds.
    pub window_seconds: u64,
}

/// The rules for `spec.limits.bandwidth` of a Registry.
pub static BANDWIDTH_RULES: ValidationRules<u64> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "self == 0 || self >= 65536",
        "spec.limits.bandwidth is in bytes a second: 65536 or more, or 0 for any number",
        |bandwidth| *bandwidth == 0 || *bandwidth >= 65_536,
    )]
});

/// The rules for the spec of a Registry.
pub static REGISTRY_RULES: ValidationRules<RegistrySpec> = ValidationRules::new(|| {
    vec![
        ValidationRule::at(
            ".url",
            "!self.url.startsWith('http://') || self.allowHTTP",
            "spec.url is plain http: use https, or set spec.allowHTTP: true to send images and credentials unencrypted",
            |spec| !spec.url.starts_with("http://") || spec.allow_http,
        ),
        ValidationRule::at(
            ".tls",
            "!has(self.tls) || self.url.startsWith('https://')",
            "spec.tls has no effect on a plain http spec.url: use https or remove spec.tls",
            |spec| spec.tls.is_none() || spec.url.starts_with("https://"),
        ),
    ]
});

/// The rules for `spec.url` of a Registry.
pub static URL_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        format!("self.matches('{URL}')"),
        "spec.url must be https://host[:port] without user, path, query or fragment; credentials belong in the Secret of spec.credentials.secretRef",
        |url| URL.matches(url),
    )]
});

/// The rules for `spec.tls` of a Registry.
pub static TLS_RULES: ValidationRules<Tls> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "has(self.caSecretRef) != has(self.caConfigMapRef)",
        "spec.tls needs exactly one of caSecretRef and caConfigMapRef",
        |tls| tls.ca_secret_ref.is_some() != tls.ca_config_map_ref.is_some(),
    )]
});

const URL_IS_IMMUTABLE: &str = "spec.url is immutable: create another Registry for another endpoint";

/// A name or address with or without a port; an address of IPv6 with a port stands in brackets.
const TRUSTED_HOST: &str = r"^(([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)$";

static URL: Pattern =
    Pattern::new("^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?/?$");
