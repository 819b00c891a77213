//! Makes the client of each Registry of the files, with the login of the docker configuration.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::files::Documents;
use super::flags::FileFlags;
use crate::api::Registry;
use crate::plan::DestinationReference;
use crate::registry::{Client, Credentials, DockerConfig, RegistryOptions, canonical_host};
use crate::terms::{CaReference, CreateRepositories};

/// The registries of the files.
pub(super) struct Registries(BTreeMap<DestinationReference, Known>);

/// One registry.
#[derive(Clone)]
pub(super) struct Known {
    /// Speaks to it.
    pub(super) client: Client,
    /// Its canonical host.
    pub(super) host: String,
    /// Says if repositories may be created there.
    pub(super) create: CreateRepositories,
    /// Changes with the spec, the login and the certificates.
    pub(super) version: u64,
}

impl Registries {
    /// Makes the clients; nothing is asked of the registries. A client of `earlier` that would be the same is kept, with its tokens and
    /// connections.
    ///
    /// # Errors
    /// Everything that is wrong with URLs, certificates and logins.
    pub(super) fn new(documents: &Documents, flags: &FileFlags, earlier: Option<&Self>) -> Result<Self, Vec<String>> {
        let logins = read_logins(flags.docker_config.as_deref()).map_err(|error| vec![error])?;
        let mut egress = flags.egress.policy();
        let mut errors = Vec::new();
        let mut urls = BTreeMap::new();
        for (reference, registry) in &documents.registries {
            match registry.spec.url.parse::<Url>() {
                Ok(url) if url.host_str().is_some() => {
                    let port = url.port_or_known_default().unwrap_or(443);
                    let listed = format!("{}:{port}", url.host_str().unwrap_or_default()).parse();
                    egress.allow.extend(listed.ok());
                    urls.insert(reference.clone(), url);
                }
                _ => errors.push(format!("{}: spec.url {} is no URL", for_people(reference), registry.spec.url)),
            }
        }
        let egress = Arc::new(egress);
        let mut known = BTreeMap::new();
        for (reference, url) in urls {
            let registry = &documents.registries[&reference];
            let host = canonical_host(&url);
            let create = registry.spec.create_repositories;
            let made =
                options(registry, &reference, documents, flags, (url, &host), logins.as_ref()).and_then(|options| {
                    let version = version(registry, &options);
                    let same =
                        earlier.and_then(|earlier| earlier.get(&reference)).filter(|known| known.version == version);
                    let client = match same {
                        Some(known) => known.client.clone(),
                        None => Client::new(options, egress.clone()).map_err(|error| error.message)?,
                    };
                    Ok(Known { client, host, create, version })
                });
            match made {
                Ok(made) => {
                    known.insert(reference, made);
                }
                Err(message) => errors.push(format!("{}: {message}", for_people(&reference))),
            }
        }
        if errors.is_empty() { Ok(Self(known)) } else { Err(errors) }
    }

    /// The Registry of a reference.
    pub(super) fn get(&self, reference: &DestinationReference) -> Option<&Known> {
        self.0.get(reference)
    }
}

/// A fingerprint of everything that a client is made of; it leaves no process.
fn version(registry: &Registry, options: &RegistryOptions) -> u64 {
    use secrecy::ExposeSecret;
    let mut hasher = DefaultHasher::new();
    format!("{:?}", registry.spec).hash(&mut hasher);
    options.ca_bundle.hash(&mut hasher);
    match &options.credentials {
        Credentials::Anonymous => {}
        Credentials::Basic { username, password } => (username, password.expose_secret()).hash(&mut hasher),
        Credentials::IdentityToken(token) => token.expose_secret().hash(&mut hasher),
        Credentials::TemporaryKey { id, secret, session_token } => {
            (id, secret.expose_secret(), session_token.expose_secret()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn options(
    registry: &Registry,
    reference: &DestinationReference,
    documents: &Documents,
    flags: &FileFlags,
    (url, host): (Url, &str),
    logins: Option<&(PathBuf, DockerConfig)>,
) -> Result<RegistryOptions, String> {
    let login = logins.and_then(|(_, logins)| logins.credentials_for(host, None));
    if login.is_none() && registry.spec.credentials.is_some() {
        let place = logins.map_or("there is no docker configuration".to_owned(), |(file, logins)| {
            let helpers = if logins.has_helpers() { " (credential helpers are not run)" } else { "" };
            format!("{} has no login for {host}{helpers}", file.display())
        });
        return Err(format!(
            "spec.credentials is set, but {place}: log in with a docker client, or give --docker-config"
        ));
    }
    Ok(RegistryOptions {
        ca_bundle: ca_bundle(registry, reference, documents, flags, host)?,
        url,
        credentials: login.unwrap_or(Credentials::Anonymous),
        trusted_hosts: registry.spec.trusted_hosts.clone(),
        concurrency: registry.spec.limits.concurrency as usize,
    })
}

fn ca_bundle(
    registry: &Registry,
    reference: &DestinationReference,
    documents: &Documents,
    flags: &FileFlags,
    host: &str,
) -> Result<Option<Vec<u8>>, String> {
    if let Some((_, file)) = flags.ca.iter().find(|(of, _)| of == host) {
        let read = std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()));
        return read.map(Some);
    }
    let needed = match registry.spec.tls.as_ref().and_then(|tls| tls.ca()) {
        None => return Ok(None),
        Some(CaReference::ConfigMap(key)) => {
            let maps = &documents.config_maps;
            let map = maps.get(&(reference.namespace.clone(), key.name.clone())).and_then(|map| map.data.as_ref());
            if let Some(text) = map.and_then(|data| data.get(&key.key)) {
                return Ok(Some(text.clone().into_bytes()));
            }
            format!("ConfigMap {} with the key {}", key.name, key.key)
        }
        Some(CaReference::Secret(key)) => format!("Secret {}", key.name),
    };
    Err(format!("spec.tls names {needed}, which no file has: give the certificates with --ca {host}=FILE"))
}

/// The file of the docker configuration: `given` or the config.json in it; without one that of the home folder.
pub(super) fn logins_file(given: Option<&Path>) -> Option<PathBuf> {
    match given {
        Some(path) if path.is_dir() => Some(path.join("config.json")),
        Some(path) => Some(path.to_owned()),
        None => std::env::home_dir().map(|home| home.join(".docker/config.json")),
    }
}

/// Reads the docker configuration: the given one has to be there, the default one may be absent.
fn read_logins(given: Option<&Path>) -> Result<Option<(PathBuf, DockerConfig)>, String> {
    let Some(file) = logins_file(given) else { return Ok(None) };
    match std::fs::read(&file) {
        Ok(document) => {
            let logins = DockerConfig::parse(&document).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(Some((file, logins)))
        }
        Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the docker configuration {} cannot be read: {error}", file.display())),
    }
}

fn for_people(reference: &DestinationReference) -> String {
    format!("Registry {}/{}", reference.namespace, reference.name)
}
