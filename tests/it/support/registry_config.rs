//! The options of a test registry, and the configuration file made of them.

use std::path::Path;

use serde_json::{Value, json};

use super::stage;
use super::tls::TestAuthority;
use super::token_server::TokenServer;

/// The two generations of the registry software that the tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// Distribution v3, built by `make go-tools`.
    Distribution3,
    /// docker-registry 2.8, from Debian.
    Docker28,
}

/// A URL to which a registry pushes its events.
struct Endpoint {
    url: String,
    headers: Vec<(String, String)>,
}

/// The values of `auth.token` in a registry's configuration.
struct TokenAuth {
    realm: String,
    service: String,
    issuer: String,
    roots: String,
}

/// The choices for one registry; `start` makes it run.
pub struct TestRegistryOptions {
    pub(super) name: String,
    pub(super) software: Software,
    pub(super) users: Vec<(String, String)>,
    pub(super) authority: Option<&'static TestAuthority>,
    token: Option<TokenAuth>,
    endpoints: Vec<Endpoint>,
    in_memory: bool,
    deletes: bool,
    relative_urls: bool,
    catalog_page: u32,
    validates_indexes: bool,
}

impl TestRegistryOptions {
    pub(super) fn new(name: &str, software: Software) -> Self {
        Self {
            name: name.to_owned(),
            software,
            users: Vec::new(),
            authority: None,
            token: None,
            endpoints: Vec::new(),
            in_memory: false,
            deletes: true,
            relative_urls: false,
            catalog_page: 1000,
            validates_indexes: false,
        }
    }

    /// Lets only the users named get in, with HTTP basic authentication; call it once for each.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Takes only bearer tokens of this server.
    #[must_use]
    pub fn token_server(self, server: &TokenServer) -> Self {
        self.token_server_at(server, &server.realm())
    }

    /// Returns the same, with a challenge that names this URL of the server.
    #[must_use]
    pub fn token_server_at(mut self, server: &TokenServer, realm: &str) -> Self {
        self.token = Some(TokenAuth {
            realm: realm.to_owned(),
            service: server.service().to_owned(),
            issuer: server.issuer().to_owned(),
            roots: TestAuthority::shared().file().display().to_string(),
        });
        self
    }

    /// Serves HTTPS with a certificate of the run's authority.
    #[must_use]
    pub fn tls(self) -> Self {
        self.tls_of(TestAuthority::shared())
    }

    /// Serves HTTPS with a certificate of some other authority.
    #[must_use]
    pub fn tls_of(mut self, authority: &'static TestAuthority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Pushes its events to a URL, with these headers.
    #[must_use]
    pub fn notify(mut self, url: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.endpoints.push(Endpoint { url: url.to_owned(), headers });
        self
    }

    /// Keeps everything in its own memory, which a restart empties.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Refuses to delete anything.
    #[must_use]
    pub fn without_deletes(mut self) -> Self {
        self.deletes = false;
        self
    }

    /// Answers with `Location` headers that have no scheme and no host.
    #[must_use]
    pub fn relative_urls(mut self) -> Self {
        self.relative_urls = true;
        self
    }

    /// Gives at most this many repositories in one page of the catalogue.
    #[must_use]
    pub fn catalog_page(mut self, repositories: u32) -> Self {
        self.catalog_page = repositories;
        self
    }

    /// Takes an index only when every manifest that it names is there; docker-registry 2.8 always does so.
    #[must_use]
    pub fn validates_indexes(mut self) -> Self {
        self.validates_indexes = true;
        self
    }

    /// Writes the configuration and the files it names, and gives the configuration's path. JSON is YAML, too.
    pub(super) fn write(&self, folder: &Path, port: u16) -> std::path::PathBuf {
        let file = |name: &str| folder.join(name).display().to_string();
        let mut http = json!({
            "addr": format!("{}:{port}", stage::address()),
            "secret": "the same after a restart, so that uploads can go on",
            "relativeurls": self.relative_urls,
        });
        if let Some(authority) = self.authority {
            let certificate = authority.loopback_certificate();
            std::fs::write(folder.join("tls.crt"), certificate.pem).expect("the certificate's file");
            std::fs::write(folder.join("tls.key"), certificate.key_pem).expect("the key's file");
            http["tls"] = json!({ "certificate": file("tls.crt"), "key": file("tls.key") });
        }
        let mut configuration = json!({
            "version": "0.1",
            "log": { "level": "info", "formatter": "text", "accesslog": { "disabled": false } },
            "storage": {
                "delete": { "enabled": self.deletes },
                "maintenance": { "uploadpurging": { "enabled": false } },
            },
            "http": http,
            "catalog": { "maxentries": self.catalog_page },
            "validation": match self.validates_indexes {
                true => json!({ "manifests": { "indexes": { "platforms": "all" } } }),
                false => json!({ "disabled": true }),
            },
            "notifications": { "endpoints": self.endpoints.iter().enumerate().map(endpoint).collect::<Vec<_>>() },
        });
        let storage = if self.in_memory { json!({}) } else { json!({ "rootdirectory": file("data") }) };
        configuration["storage"][if self.in_memory { "inmemory" } else { "filesystem" }] = storage;
        if let Some(token) = &self.token {
            configuration["auth"]["token"] = json!({
                "realm": token.realm,
                "service": token.service,
                "issuer": token.issuer,
                "rootcertbundle": token.roots,
            });
        } else if !self.users.is_empty() {
            std::fs::write(folder.join("htpasswd"), self.htpasswd()).expect("the file of users");
            configuration["auth"]["htpasswd"] = json!({ "realm": self.name, "path": file("htpasswd") });
        }
        let path = folder.join("config.yml");
        std::fs::write(&path, configuration.to_string()).expect("the registry's configuration");
        path
    }

    /// Returns the users with their hashed passwords; the lowest cost there is, since every request pays it.
    fn htpasswd(&self) -> String {
        let line = |(name, password): &(String, String)| {
            format!("{name}:{}\n", bcrypt::hash(password, 4).expect("a hash of the password"))
        };
        self.users.iter().map(line).collect()
    }
}

fn endpoint((number, endpoint): (usize, &Endpoint)) -> Value {
    let mut headers = json!({});
    for (name, value) in &endpoint.headers {
        headers[name] = json!([value]);
    }
    json!({
        "name": format!("endpoint-{number}"),
        "url": endpoint.url,
        "headers": headers,
        "timeout": "2s",
        "threshold": 3,
        "backoff": "500ms",
    })
}
