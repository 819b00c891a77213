//! Makes the client of each Registry of the files, with the login of the docker configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::error::{ClientError, SetupError, UnusedCa};
use super::files::Documents;
use super::flags::FileFlags;
use crate::api::Registry;
use crate::plan::NamespacedName;
use crate::registry::{
    Client, DockerConfig, EgressPolicy, HostPort, Logins, RegistryOptions, RequestLimits, canonical_host,
    credential_host,
};
use crate::terms::{CaReference, CreateRepositories};

/// The Registries of the files, by reference.
pub(super) struct FileRegistries(BTreeMap<NamespacedName, FileRegistry>);

/// The client of one Registry, and the parts of its spec that the core asks for.
#[derive(Clone)]
pub(super) struct FileRegistry {
    /// Speaks to it.
    pub(super) client: Client,
    /// Its canonical host.
    pub(super) host: String,
    /// Says if repositories may be created there.
    pub(super) create: CreateRepositories,
    /// Changes with the spec, the login and the certificates.
    pub(super) version: u64,
}

impl FileRegistries {
    /// Makes the clients; nothing is asked of the registries. A client of `earlier` that would be the same is kept,
    /// with its tokens and connections.
    ///
    /// # Errors
    /// Everything that is wrong with URLs, certificates and logins.
    pub(super) fn new(
        documents: &Documents,
        flags: &FileFlags,
        earlier: Option<&Self>,
    ) -> Result<Self, Vec<SetupError>> {
        let logins = read_logins(flags.docker_config.as_deref()).map_err(|error| vec![error])?;
        let (urls, mut errors) = urls(documents);
        errors.extend(unused_certificates(flags, &urls));
        let mut egress = flags.egress.policy();
        egress.allow.extend(urls.values().filter_map(|url| {
            let port = url.port_or_known_default().unwrap_or(443);
            format!("{}:{port}", url.host_str().unwrap_or_default()).parse().ok()
        }));
        let setup = Setup { documents, flags, logins, egress: Arc::new(egress), earlier };
        let mut registries = BTreeMap::new();
        for (reference, url) in urls {
            match setup.registry(&reference, url) {
                Ok(registry) => drop(registries.insert(reference, registry)),
                Err(error) => errors.push(SetupError::Registry { registry: reference, error }),
            }
        }
        if errors.is_empty() { Ok(Self(registries)) } else { Err(errors) }
    }

    /// Returns the Registry of a reference.
    pub(super) fn get(&self, reference: &NamespacedName) -> Option<&FileRegistry> {
        self.0.get(reference)
    }
}

/// Parses the URL of every Registry. Returns an error for each that has no host.
fn urls(documents: &Documents) -> (BTreeMap<NamespacedName, Url>, Vec<SetupError>) {
    let (mut urls, mut errors) = (BTreeMap::new(), Vec::new());
    for (reference, registry) in &documents.registries {
        match registry.spec.url.parse::<Url>() {
            Ok(url) if url.host_str().is_some() => drop(urls.insert(reference.clone(), url)),
            _ => errors.push(SetupError::Registry {
                registry: reference.clone(),
                error: ClientError::Url(registry.spec.url.clone()),
            }),
        }
    }
    (urls, errors)
}

/// Returns a warning for each host of `--egress-allow` that no Registry names: every other host has to be public.
pub(super) fn unused_egress(documents: &Documents, flags: &FileFlags) -> Vec<String> {
    let mut named: BTreeSet<HostPort> = BTreeSet::new();
    for registry in documents.registries.values() {
        let Ok(url) = registry.spec.url.parse::<Url>() else { continue };
        named.extend(HostPort::of(&url));
        let spellings = |host: &String| ["", ":443", ":80"].map(|port| format!("{host}{port}"));
        let trusted = registry.spec.trusted_hosts.iter().flat_map(spellings);
        named.extend(trusted.filter_map(|host| host.parse::<HostPort>().ok()));
    }
    let unused = flags.egress.policy().allow.into_iter().filter(|host| !named.contains(host));
    let line = |host: HostPort| {
        format!(
            "--egress-allow {host} has no effect: no Registry of the files has this host and port in spec.url or \
             spec.trustedHosts"
        )
    };
    unused.map(line).collect()
}

/// Returns an error for each flag `--ca` that has no effect.
fn unused_certificates<'a>(
    flags: &'a FileFlags,
    urls: &'a BTreeMap<NamespacedName, Url>,
) -> impl Iterator<Item = SetupError> + 'a {
    flags.ca.iter().enumerate().filter_map(|(index, (host, _))| {
        let mut of_host = urls.values().filter(|url| canonical_host(url) == *host).peekable();
        let fault = if flags.ca[..index].iter().any(|(earlier, _)| earlier == host) {
            UnusedCa::Twice
        } else if of_host.peek().is_none() {
            let hosts: BTreeSet<String> = urls.values().map(canonical_host).collect();
            UnusedCa::Unknown(hosts.into_iter().collect::<Vec<_>>().join(", "))
        } else if of_host.all(|url| url.scheme() == "http") {
            UnusedCa::PlainHttp
        } else {
            return None;
        };
        Some(SetupError::UnusedCa { host: host.clone(), fault })
    })
}

/// The sources of clients: objects, flags, logins, and the clients of an earlier reading.
struct Setup<'a> {
    documents: &'a Documents,
    flags: &'a FileFlags,
    logins: Option<ConfiguredLogins>,
    egress: Arc<EgressPolicy>,
    earlier: Option<&'a FileRegistries>,
}

impl Setup<'_> {
    fn registry(&self, reference: &NamespacedName, url: Url) -> Result<FileRegistry, ClientError> {
        let registry = &self.documents.registries[reference];
        let (host, credential_host) = (canonical_host(&url), credential_host(&url));
        let limits = &registry.spec.limits;
        let options = RegistryOptions {
            ca_bundle: self.ca_bundle(registry, reference, &host)?,
            url,
            logins: self.logins(registry, &credential_host)?,
            trusted_hosts: registry.spec.trusted_hosts.clone(),
            limits: RequestLimits::new(limits.concurrency, limits.requests_per_second, limits.bandwidth),
            templates: registry.spec.repository_templates.clone(),
        };
        let version = version(registry, &options);
        let earlier = self.earlier.and_then(|earlier| earlier.get(reference));
        let client = match earlier.filter(|earlier| earlier.version == version) {
            Some(same) => same.client.clone(),
            None => {
                let client = match earlier {
                    Some(earlier) => earlier.client.successor(options, self.egress.clone()),
                    None => Client::new(options, self.egress.clone()),
                };
                client.map_err(|error| ClientError::Options(error.message))?
            }
        };
        Ok(FileRegistry { client, host, create: registry.spec.create_repositories, version })
    }

    fn logins(&self, registry: &Registry, host: &str) -> Result<Logins, ClientError> {
        let logins = self.logins.as_ref().map(|logins| logins.config.logins_for(host)).unwrap_or_default();
        if !logins.entries().is_empty() || registry.spec.credentials.is_none() {
            return Ok(logins);
        }
        Err(ClientError::NoLogin(match &self.logins {
            None => "there is no docker configuration".to_owned(),
            Some(ConfiguredLogins { file, .. }) => {
                let unused = logins.unused().map(|unused| format!(" ({unused})")).unwrap_or_default();
                format!("{} has no login for {host}{unused}", file.display())
            }
        }))
    }

    fn ca_bundle(
        &self,
        registry: &Registry,
        reference: &NamespacedName,
        host: &str,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        if let Some((_, file)) = self.flags.ca.iter().find(|(of, _)| of == host) {
            let failed = |error| ClientError::UnreadableCertificates { file: file.clone(), error };
            return std::fs::read(file).map(Some).map_err(failed);
        }
        let needed = match registry.spec.tls.as_ref().and_then(|tls| tls.ca()) {
            None => return Ok(None),
            Some(CaReference::ConfigMap(key)) => {
                let maps = &self.documents.config_maps;
                let map = maps.get(&(reference.namespace.clone(), key.name.clone())).and_then(|map| map.data.as_ref());
                if let Some(text) = map.and_then(|data| data.get(&key.key)) {
                    return Ok(Some(text.clone().into_bytes()));
                }
                format!("ConfigMap {} with the key {}", key.name, key.key)
            }
            Some(CaReference::Secret(key)) => format!("Secret {}", key.name),
        };
        Err(ClientError::NoCertificates { needed, host: host.to_owned() })
    }
}

/// Returns a fingerprint of everything that a client is made of; it leaves no process.
fn version(registry: &Registry, options: &RegistryOptions) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?}", registry.spec).hash(&mut hasher);
    options.ca_bundle.hash(&mut hasher);
    options.logins.fingerprint().hash(&mut hasher);
    hasher.finish()
}

/// Returns the file of the docker configuration: `given` or the config.json in it; without one, or with an empty one,
/// that of the home folder.
pub(super) fn logins_file(given: Option<&Path>) -> Option<PathBuf> {
    match given.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if path.is_dir() => Some(path.join("config.json")),
        Some(path) => Some(path.to_owned()),
        None => std::env::home_dir().map(|home| home.join(".docker/config.json")),
    }
}

/// A docker configuration with its file.
struct ConfiguredLogins {
    file: PathBuf,
    config: DockerConfig,
}

/// Returns true if `file` is not what the user named: `DOCKER_CONFIG` names a folder, which may be absent as well.
fn may_be_absent(given: Option<&Path>, file: &Path) -> bool {
    given != Some(file) || std::env::var_os("DOCKER_CONFIG").as_deref() == Some(file.as_os_str())
}

/// Reads the docker configuration. As with docker, a folder may have none, and a file may be empty; a file that is given
/// by name has to be there.
fn read_logins(given: Option<&Path>) -> Result<Option<ConfiguredLogins>, SetupError> {
    let Some(file) = logins_file(given) else { return Ok(None) };
    match std::fs::read(&file) {
        Ok(document) if document.trim_ascii().is_empty() => {
            Ok(Some(ConfiguredLogins { file, config: DockerConfig::default() }))
        }
        Ok(document) => match DockerConfig::parse(&document) {
            Ok(config) => Ok(Some(ConfiguredLogins { file, config })),
            Err(error) => Err(SetupError::InvalidLogins { file, message: error.to_string() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_be_absent(given, &file) => Ok(None),
        Err(error) => Err(SetupError::UnreadableLogins { file, error }),
    }
}
