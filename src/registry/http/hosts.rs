//! The hosts of one registry: its own, those its owner trusts, and the URLs in its responses that may be followed.
//!
//! The names of Docker Hub are here, as they belong to the syntax of image names: `docker.io` is served by another
//! host.

use std::net::Ipv6Addr;

use url::Url;

use crate::image::RepositoryName;
use crate::registry::error::{ErrorKind, HttpError, RegistryError};
use crate::registry::http::egress::{HostPort, bare};

/// Returns the host of `url` that identifies a registry: `host`, or `host:port` if the port is not the default of the
/// scheme; lower case, and `docker.io` for each of its names.
pub fn canonical_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None if is_docker_hub(&host) => DOCKER_HUB.to_owned(),
        None => host,
    }
}

/// Returns the host that credentials for `url` have to be bound to. Plain http always names its port: credentials for a
/// host without one are meant for https, and so is port 443.
pub fn credential_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    match (url.scheme(), url.port()) {
        ("http", None) => format!("{host}:80"),
        ("http", Some(443)) => format!("http://{host}:443"),
        _ => canonical_host(url),
    }
}

/// Returns true if `host` is one of the names of Docker Hub.
pub(crate) fn is_docker_hub(host: &str) -> bool {
    matches!(host, DOCKER_HUB | DOCKER_HUB_WIRE | "index.docker.io" | "www.docker.io" | "registry.hub.docker.com")
}

/// Returns the advice on a repository that Docker Hub does not find: official images have a namespace of their own
/// there, which clients like `docker` add.
pub(crate) fn official_image_advice(host: &str, repository: &str) -> Option<String> {
    let is_short = is_docker_hub(host) && !repository.is_empty() && !repository.contains('/');
    is_short.then(|| format!("an official image of Docker Hub is named with its namespace here: library/{repository}"))
}

/// A token service on another host that a registry is known to use.
pub(crate) struct KnownRealm {
    /// The host that serves the API of the registry.
    pub(crate) registry: &'static str,
    /// The host of the token service, reached by https at the default port.
    pub(crate) realm: &'static str,
}

/// The trust in a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostTrust {
    /// The registry's own host.
    Own,
    /// A host that the owner of the registry trusts.
    Trusted,
    /// A host that only an answer names.
    Other,
}

/// The hosts of one registry.
pub(crate) struct Hosts {
    /// The URL that requests go to, without a path.
    base: Url,
    /// The canonical host.
    host: String,
    trusted: Vec<HostPort>,
    known_realms: &'static [KnownRealm],
}

impl Hosts {
    /// `trusted` holds `host` (with the port of the scheme in use) and `host:port`.
    ///
    /// # Errors
    /// `Configuration` if one of them is malformed.
    pub(crate) fn new(
        url: &Url,
        trusted: &[String],
        known_realms: &'static [KnownRealm],
    ) -> Result<Self, RegistryError> {
        let unusable = |detail: String| RegistryError::new(ErrorKind::Configuration, detail);
        let host = canonical_host(url);
        if !matches!(url.scheme(), "https" | "http") || !is_host(url) || has_userinfo(url) {
            return Err(unusable("the URL of a registry is http(s)://host[:port], without a user".to_owned()));
        }
        let mut base = url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        if host == DOCKER_HUB {
            base.set_host(Some(DOCKER_HUB_WIRE)).map_err(|error| unusable(error.to_string()))?;
        }
        let mut known = Vec::new();
        for text in trusted {
            // An address of IPv6 with a port stands in brackets; without one it may.
            let text = match text.parse::<Ipv6Addr>() {
                Ok(address) => format!("[{address}]"),
                Err(_) => text.clone(),
            };
            let bare_ports = ["", ":443", ":80"].iter().filter_map(|port| format!("{text}{port}").parse().ok());
            let found: Vec<HostPort> = bare_ports.collect();
            if found.is_empty() {
                return Err(unusable(format!("trusted host {text:?} is not of the form host or host:port")));
            }
            known.extend(found);
        }
        Ok(Self { base, host, trusted: known, known_realms })
    }

    /// Returns the canonical host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the URL of `/v2/`.
    pub(crate) fn root(&self) -> Url {
        self.at("/v2/")
    }

    /// Returns the URL of `path` (without a leading slash) in `repository`.
    pub(crate) fn of(&self, repository: &RepositoryName, path: &str) -> Url {
        self.at(&format!("/v2/{repository}/{path}"))
    }

    /// Returns the URL of the catalog.
    pub(crate) fn catalog(&self) -> Url {
        self.at("/v2/_catalog")
    }

    /// Returns the URL of a path on the registry's own origin.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// Returns true if `url` has the scheme, host and port of the registry: only then it gets an `Authorization`.
    pub(crate) fn is_own_origin(&self, url: &Url) -> bool {
        is_same_origin(&self.base, url)
    }

    /// Returns the canonical host of `url` if that is not the registry's own origin.
    pub(crate) fn elsewhere(&self, url: &Url) -> Option<String> {
        (!self.is_own_origin(url)).then(|| canonical_host(url))
    }

    /// Returns the trust in the host of `url`: the registry's own at any port, a trusted one, or another.
    pub(crate) fn trust(&self, url: &Url) -> HostTrust {
        match (self.is_own_host(url), self.is_trusted_strictly(url)) {
            (true, _) => HostTrust::Own,
            (false, true) => HostTrust::Trusted,
            (false, false) => HostTrust::Other,
        }
    }

    /// Returns the host of a token service whose words are not shown: one that is neither on the registry's own host
    /// nor known to belong to it.
    pub(crate) fn foreign_realm(&self, realm: &Url) -> Option<String> {
        let is_shown = self.is_own_host(realm) || self.is_known_realm(&host_of(realm));
        (!is_shown).then(|| canonical_host(realm))
    }

    /// Returns true if `url` is on the registry's own host, at any port.
    pub(crate) fn is_own_host(&self, url: &Url) -> bool {
        host_of(url) == host_of(&self.base)
    }

    /// Returns the URL that a redirect of `from` to `location` leads to.
    ///
    /// # Errors
    /// `Rejected` if it may not be followed: it must be https, or go to the same origin or a trusted host.
    pub(crate) fn redirect(&self, from: &Url, location: &str) -> Result<Url, HttpError> {
        let target = resolve(from, location)?;
        if is_same_origin(from, &target) || target.scheme() == "https" || self.is_trusted_strictly(&target) {
            return Ok(target);
        }
        Err(HttpError::new(
            ErrorKind::Rejected,
            format!("redirects to plain http on {}, which trustedHosts does not list", host_of(&target)),
        ))
    }

    /// Returns the URL of an upload session. On the registry's own host its own scheme and port are kept: registries
    /// behind a proxy often name the wrong ones (distribution#2225).
    ///
    /// # Errors
    /// As [`Hosts::redirect`].
    pub(crate) fn upload(&self, from: &Url, location: &str) -> Result<Url, HttpError> {
        self.redirect(from, location)
            .or_else(|error| match resolve(from, location) {
                Ok(target) if self.is_own_host(&target) => Ok(target),
                _ => Err(error),
            })
            .map(|target| self.homed(target))
    }

    /// Returns the URL of the next page of `list`, which is the same list with another query: registries behind a proxy
    /// often name another scheme, host or port, or a longer path.
    ///
    /// # Errors
    /// `InvalidContent` if it is another list.
    pub(crate) fn next_page(&self, list: &Url, from: &Url, link: &str) -> Result<Url, HttpError> {
        let mut target = self.homed(resolve(from, link)?);
        if target.path().ends_with(list.path()) {
            target.set_path(list.path());
            return Ok(if self.is_own_origin(&target) { target } else { self.at_own_origin(&target) });
        }
        let place = if self.is_own_origin(&target) {
            format!("another list, {}", target.path())
        } else {
            format!("on another host, {}", host_of(&target))
        };
        let detail = format!("the next page of the list is said to be {place}");
        Err(HttpError::new(ErrorKind::InvalidContent, detail))
    }

    /// Returns the URL of a token service that the credentials may be sent to.
    ///
    /// # Errors
    /// `Configuration`, naming the field `trustedHosts`, if they may not.
    pub(crate) fn realm(&self, text: &str) -> Result<Url, HttpError> {
        let invalid = || HttpError::new(ErrorKind::InvalidContent, "names a token service that is no URL");
        let mut realm = Url::parse(text).map_err(|_| invalid())?;
        realm.set_fragment(None);
        if !is_host(&realm) || has_userinfo(&realm) {
            return Err(invalid());
        }
        let trusted = self.is_trusted_strictly(&realm);
        let own = self.is_own_origin(&realm)
            || (self.is_own_host(&realm) && realm.scheme() == "https" && realm.port().is_none());
        let known = realm.scheme() == "https" && realm.port().is_none() && self.is_known_realm(&host_of(&realm));
        let plain = realm.scheme() == "http" && self.base.scheme() != "http";
        if matches!(realm.scheme(), "https" | "http") && !plain && (own || trusted || known) {
            return Ok(realm);
        }
        if plain && (self.is_own_host(&realm) || trusted) {
            let detail = format!(
                "asks to log in at http://{}, without encryption, and credentials are sent by https only: let it name \
                 itself by https, as with the external URL of a registry behind a proxy",
                canonical_host(&realm)
            );
            return Err(HttpError::new(ErrorKind::Configuration, detail));
        }
        Err(HttpError::new(
            ErrorKind::Configuration,
            format!(
                "asks to log in at {}://{}, which is not its own host; if it is right, list it in trustedHosts",
                realm.scheme(),
                canonical_host(&realm)
            ),
        ))
    }

    fn is_known_realm(&self, realm: &str) -> bool {
        let registry = host_of(&self.base);
        self.known_realms.iter().any(|known| known.registry == registry && known.realm == realm)
    }

    fn is_trusted_strictly(&self, url: &Url) -> bool {
        HostPort::of(url).is_some_and(|target| self.trusted.contains(&target))
    }

    /// Returns `target` with the registry's own scheme and port, if it is on its host and not trusted with another one.
    fn homed(&self, mut target: Url) -> Url {
        if self.is_own_host(&target) && !self.is_trusted_strictly(&target) {
            target = self.at_own_origin(&target);
        }
        target
    }

    /// Returns the path and query of `target` at the registry's own scheme, host and port.
    fn at_own_origin(&self, target: &Url) -> Url {
        let mut url = self.at(target.path());
        url.set_query(target.query());
        url
    }
}

fn resolve(from: &Url, location: &str) -> Result<Url, HttpError> {
    let invalid = || HttpError::new(ErrorKind::InvalidContent, "points to something that is no http(s) URL");
    if location.len() > MAX_LOCATION_BYTES {
        return Err(HttpError::new(ErrorKind::TooLarge, "points to a URL of over 16 KiB"));
    }
    let mut target = from.join(location).map_err(|_| invalid())?;
    target.set_fragment(None);
    if !matches!(target.scheme(), "https" | "http") || !is_host(&target) || has_userinfo(&target) {
        return Err(invalid());
    }
    Ok(target)
}

/// Returns true if two URLs have the same scheme, host and port.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && host_of(one) == host_of(other)
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Returns the host of `url`, without brackets, trailing dot and port.
fn host_of(url: &Url) -> String {
    bare(url.host_str().unwrap_or_default())
}

/// Returns true if the host of `url` can exist: not empty, and no longer than the DNS allows (RFC 1035, 2.3.4).
fn is_host(url: &Url) -> bool {
    let host = host_of(url);
    !host.is_empty() && !host.ends_with('.') && host.len() <= MAX_HOST_BYTES
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

const MAX_HOST_BYTES: usize = 253;

const DOCKER_HUB: &str = "docker.io";

/// The host that serves the API of Docker Hub.
const DOCKER_HUB_WIRE: &str = "registry-1.docker.io";

const MAX_LOCATION_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN_REALMS: [KnownRealm; 1] = [KnownRealm { registry: "known.example", realm: "auth.example" }];

    fn hosts(url: &str, trusted: &[&str]) -> Hosts {
        let trusted: Vec<_> = trusted.iter().map(|host| (*host).to_owned()).collect();
        Hosts::new(&url.parse().unwrap(), &trusted, &KNOWN_REALMS).unwrap()
    }

    #[test]
    fn hosts_are_canonical() {
        let table = [
            ("https://Registry.Example:443/", "registry.example"),
            ("https://registry.example.:5000", "registry.example:5000"),
            ("http://registry.example:80", "registry.example"),
            ("http://[::1]:5000", "[::1]:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://registry-1.docker.io", "docker.io"),
            ("https://docker.io", "docker.io"),
        ];
        for (url, expected) in table {
            assert_eq!(canonical_host(&url.parse().unwrap()), expected, "{url}");
        }
        assert_eq!(hosts("https://docker.io", &[]).root().as_str(), "https://registry-1.docker.io/v2/");
    }

    #[test]
    fn credentials_for_https_are_not_those_for_http() {
        let table = [
            ("https://registry.corp", "registry.corp"),
            ("https://registry.corp:443", "registry.corp"),
            ("http://registry.corp", "registry.corp:80"),
            ("http://Registry.corp.:80/", "registry.corp:80"),
            ("http://[::1]", "[::1]:80"),
            ("http://registry.corp:5000", "registry.corp:5000"),
            ("http://registry.corp:443", "http://registry.corp:443"),
            ("http://docker.io", "docker.io:80"),
        ];
        for (url, expected) in table {
            assert_eq!(credential_host(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn credentials_go_to_realms_of_the_registry_itself_only() {
        // registry, trusted host, realm, whether it is allowed
        let table = [
            ("https://r.example", "", "https://r.example/token", true),
            ("https://r.example:5000", "", "https://r.example:5000/token", true),
            ("https://r.example:5000", "", "https://r.example/token", true),
            ("http://r.example:5000", "", "http://r.example:5000/token", true),
            ("https://r.example", "", "http://r.example/token", false),
            ("https://r.example", "", "https://r.example:8443/token", false),
            ("https://r.example", "", "https://evil.example/token", false),
            ("https://r.example", "", "https://r.example.evil.example/token", false),
            ("https://r.example", "", "https://r.example@evil.example/token", false),
            ("https://r.example", "", "ftp://r.example/token", false),
            ("https://r.example", "auth.example", "https://auth.example/token", true),
            ("https://r.example", "auth.example", "http://auth.example/token", false),
            ("https://r.example", "auth.example", "https://auth.example:8443/token", false),
            ("https://r.example", "auth.example:8443", "https://auth.example:8443/token", true),
            ("http://r.example", "auth.example:80", "http://auth.example/token", true),
            ("https://known.example", "", "https://auth.example/token", true),
            ("https://known.example", "", "https://auth.example:8443/token", false),
            ("https://known.example", "", "http://auth.example/token", false),
            ("https://r.example", "", "https://auth.example/token", false),
        ];
        for (registry, trusted, realm, expected) in table {
            let trusted: &[&str] = if trusted.is_empty() { &[] } else { &[trusted] };
            assert_eq!(hosts(registry, trusted).realm(realm).is_ok(), expected, "{registry} {realm}");
        }
        let refused = hosts("https://r.example", &[]).realm("https://evil.example/token").unwrap_err();
        assert!(refused.detail.contains("trustedHosts") && refused.detail.contains("evil.example"), "{refused:?}");
        for (trusted, realm) in
            [(&[][..], "http://r.example/token"), (&["auth.example"][..], "http://auth.example/token")]
        {
            let plain = hosts("https://r.example", trusted).realm(realm).unwrap_err();
            assert!(plain.detail.contains("without encryption"), "{plain:?}");
            assert!(!plain.detail.contains("trustedHosts") && !plain.detail.contains("not its own host"), "{plain:?}");
        }
    }

    #[test]
    fn an_address_of_ipv6_is_trusted_in_each_of_its_spellings() {
        // trusted host; a URL; whether it is trusted
        let table = [
            ("[::1]:5000", "http://[::1]:5000/", true),
            ("[::1]:5000", "http://[::1]/", false),
            ("::1", "https://[::1]/", true),
            ("::1", "http://[::1]/", true),
            ("::1", "http://[::1]:5000/", false),
            ("[::1]", "https://[::1]/", true),
            ("2001:DB8:0:0::1", "https://[2001:db8::1]/", true),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443/", true),
        ];
        for (trusted, url, expected) in table {
            assert_eq!(
                hosts("https://r.example", &[trusted]).trust(&url.parse().unwrap()) == HostTrust::Trusted,
                expected,
                "{trusted} {url}"
            );
        }
        for malformed in ["[::1", "::1]", "[::1]:", "[::1]:0", "[]", ":::", "[::1]x"] {
            let trusted = [malformed.to_owned()];
            assert!(Hosts::new(&"https://r.example".parse().unwrap(), &trusted, &KNOWN_REALMS).is_err(), "{malformed}");
        }
    }

    #[test]
    fn upload_locations_keep_the_scheme_and_port_of_the_registry() {
        let hosts = hosts("https://r.example:5000", &["storage.example:9000"]);
        let from = hosts.root();
        let table = [
            ("/v2/a/blobs/uploads/1?_state=x%3D", Some("https://r.example:5000/v2/a/blobs/uploads/1?_state=x%3D")),
            ("http://r.example/v2/u", Some("https://r.example:5000/v2/u")),
            ("https://r.example:443/v2/u", Some("https://r.example:5000/v2/u")),
            ("https://public.example/u?a=b", Some("https://public.example/u?a=b")),
            ("http://public.example/u", None),
            ("http://storage.example:9000/u", Some("http://storage.example:9000/u")),
            ("file:///etc/passwd", None),
            ("https://user:secret@public.example/u", None),
        ];
        for (location, expected) in table {
            let found = hosts.upload(&from, location).ok();
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{location}");
        }
    }

    #[test]
    fn pages_and_redirects_stay_where_they_may() {
        let hosts = hosts("https://r.example", &[]);
        let from = hosts.catalog();
        assert_eq!(hosts.next_page(&from, &from, "/v2/_catalog?last=b&n=2").unwrap().query(), Some("last=b&n=2"));
        assert!(hosts.next_page(&from, &from, "http://r.example/v2/_catalog?last=b").is_ok());
        let behind = hosts.next_page(&from, &from, "http://internal.example:5000/v2/_catalog?last=b").unwrap();
        assert_eq!(behind.as_str(), "https://r.example/v2/_catalog?last=b");
        assert!(hosts.next_page(&from, &from, "https://evil.example/v2/other/_catalog").is_err());
        let behind = hosts.next_page(&from, &from, "/proxy/v2/_catalog?last=b").unwrap();
        assert_eq!((behind.path(), behind.query()), ("/v2/_catalog", Some("last=b")));
        let other = hosts.next_page(&from, &from, "/v2/app/tags/list?last=b").unwrap_err();
        assert!(other.detail.ends_with("is said to be another list, /v2/app/tags/list"), "{}", other.detail);
        assert!(hosts.redirect(&from, "https://cdn.example/blob").is_ok());
        assert!(hosts.redirect(&from, "http://cdn.example/blob").is_err());
        assert!(hosts.redirect(&from, "http://r.example/blob").is_err());
    }
}
