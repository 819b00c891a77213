//! Sends single HTTP requests: TLS, the egress guard on every connection, deadlines, and the classes of failures.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Request, Response};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::{Host, Url};

use crate::locked::Locked;
use crate::registry::error::{ErrorKind, HttpError, RegistryError};
use crate::registry::http::advice;
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::egress::{EgressPolicy, Reach};
use crate::registry::http::hosts::HostTrust;
use crate::registry::http::idle::CountedClient;
use crate::registry::http::resolver::{AddressRefusedError, GuardedResolver, HostNotFoundError};
use crate::registry::http::text::clean;
use crate::registry::http::trust::CaBundle;

/// Sends the requests of one client.
pub(crate) struct Transport {
    policy: Arc<EgressPolicy>,
    /// The certificates to trust besides the system's.
    added: CaBundle,
    /// The TLS configuration, once a request needs it: http needs no certificates. The system may have none, and reading
    /// them takes longer than copying a small image.
    tls: Locked<Option<Arc<rustls::ClientConfig>>>,
    connections: usize,
    connect: Duration,
    clients: Locked<Arc<HttpClients>>,
    counted: CountedClient,
}

/// One HTTP client for each [`Reach`], as the reach of a connection is decided before DNS, for http and https, and for
/// ports of API servers and others. Created when needed.
type HttpClients = [[[OnceCell<reqwest::Client>; 2]; 2]; 3];

impl Transport {
    /// # Errors
    /// `Configuration` if the CA bundle cannot be used.
    pub(crate) fn new(
        policy: Arc<EgressPolicy>,
        ca_bundle: Option<&[u8]>,
        connections: usize,
        deadlines: &Deadlines,
    ) -> Result<Self, RegistryError> {
        let added = ca_bundle.map(CaBundle::parse).transpose();
        let added = added.map_err(|error| RegistryError::new(error.kind, error.detail))?.unwrap_or_default();
        let (tls, clients) = (Locked::default(), Locked::default());
        let counted = CountedClient::new();
        Ok(Self { policy, added, tls, connections, connect: deadlines.connect, clients, counted })
    }

    /// Names the certificates of the CA bundle that cannot be used.
    pub(crate) fn skipped_certificates(&self) -> Option<String> {
        self.added.skipped()
    }

    /// Makes later requests open new connections; requests under way keep theirs.
    pub(crate) fn drop_connections(&self) {
        *self.clients.lock() = Arc::default();
    }

    /// Sends `request` and waits for the headers of the response, not longer than `deadline`.
    ///
    /// Only the registry's own host is reached at private addresses without the administrator: the owner of a registry
    /// may be a stranger to the network of the operator.
    pub(crate) async fn send(
        &self,
        request: Request,
        trust: HostTrust,
        deadline: Option<Duration>,
    ) -> Result<Response, HttpError> {
        let reach = match trust {
            HostTrust::Own | HostTrust::Trusted if self.policy.lists(request.url()) => Reach::Listed,
            HostTrust::Own => Reach::Guarded,
            HostTrust::Trusted | HostTrust::Other => Reach::Public,
        };
        let is_cluster_port = self.policy.refused.is_cluster_port(request.url().port_or_known_default());
        self.check_literal(request.url(), reach, is_cluster_port)?;
        let is_tls = request.url().scheme() != "http";
        let clients = self.clients.lock().clone();
        let client = &clients[reach as usize][usize::from(is_tls)][usize::from(is_cluster_port)];
        let resolver = || GuardedResolver { policy: self.policy.clone(), reach, is_cluster_port };
        let client = client.get_or_try_init(|| async { self.build(resolver(), is_tls) }).await?;
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let sent = client.execute(request);
        match deadline {
            None => sent.await.map_err(|error| self.classify(&error, &host, is_tls)),
            Some(deadline) => match timeout(deadline, sent).await {
                Ok(result) => result.map_err(|error| self.classify(&error, &host, is_tls)),
                Err(_) => {
                    let detail = format!("{host} did not answer within {deadline:?}");
                    Err(HttpError::new(ErrorKind::Unavailable, detail))
                }
            },
        }
    }

    /// Judges an address in a URL, which bypasses the resolver.
    fn check_literal(&self, url: &Url, reach: Reach, is_cluster_port: bool) -> Result<(), HttpError> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(HttpError::new(ErrorKind::EgressRefused, "the URL names no host")),
        };
        let judged = self.policy.judge(address, reach, is_cluster_port);
        judged.map_err(|what| refused(&format!("{address} is {what}")))
    }

    fn build(&self, resolver: GuardedResolver, is_tls: bool) -> Result<reqwest::Client, HttpError> {
        let tls = if is_tls { self.tls_config()? } else { WITHOUT_TLS.clone() };
        let builder = self.builder(resolver).tls_backend_preconfigured(rustls::ClientConfig::clone(&tls));
        builder.build().map_err(|error| {
            let detail = format!("the certificates to trust cannot be used: {}", root_cause(&error));
            HttpError::new(ErrorKind::Configuration, detail)
        })
    }

    fn tls_config(&self) -> Result<Arc<rustls::ClientConfig>, HttpError> {
        let mut tls = self.tls.lock();
        if let Some(config) = &*tls {
            return Ok(config.clone());
        }
        let config = self.added.client_config()?;
        Ok(tls.insert(config).clone())
    }

    /// Returns the failure that `error` is; where a certificate is refused, those of the CA bundle that were skipped
    /// may be the cause.
    fn classify(&self, error: &reqwest::Error, host: &str, is_tls: bool) -> HttpError {
        let failed = classify(error, host, is_tls);
        match self.added.skipped() {
            Some(skipped) if failed.kind == ErrorKind::TlsRefused => {
                let detail = format!("{}; of the CA bundle {skipped}", failed.detail);
                HttpError { detail, ..failed }
            }
            _ => failed,
        }
    }

    fn builder(&self, resolver: GuardedResolver) -> reqwest::ClientBuilder {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        reqwest::Client::builder()
            .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .http1_only()
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect)
            .pool_idle_timeout(self.counted.idle_time())
            .pool_max_idle_per_host(CONNECTIONS_PER_PERMIT * self.connections)
            .dns_resolver(resolver)
    }
}

/// Returns the text of the innermost cause of `error`, which names no URL.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let last = causes(error).last();
    last.filter(|cause| !cause.is::<reqwest::Error>())
        .map_or_else(|| "the request failed".to_owned(), |cause| clean(&cause.to_string()))
}

fn classify(error: &reqwest::Error, host: &str, is_tls: bool) -> HttpError {
    for cause in causes(error) {
        if let Some(AddressRefusedError(detail)) = cause.downcast_ref() {
            return refused(detail);
        }
        if let Some(unknown) = cause.downcast_ref::<HostNotFoundError>() {
            return HttpError::new(ErrorKind::HostUnknown, unknown.to_string());
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            let hint = if tls.to_string().contains("CaUsedAsEndEntity") { SELF_SIGNED_HINT } else { "" };
            let detail = format!("TLS with {host} failed: {}{hint}{}", clean(&tls.to_string()), advice::on_tls(tls));
            return HttpError::new(ErrorKind::TlsRefused, detail);
        }
    }
    if error.is_connect() {
        let cause = if error.is_timeout() { "it took too long".to_owned() } else { root_cause(error) };
        return HttpError::connecting(format!("cannot connect to {host}: {cause}"));
    }
    let cause = root_cause(error);
    let advice = if is_tls { String::new() } else { advice::on_broken_http(&cause) };
    HttpError::new(ErrorKind::Unavailable, format!("the connection to {host} broke: {cause}{advice}"))
}

fn refused(detail: &str) -> HttpError {
    let detail = format!("{detail}; the egress guard refuses it (an administrator can list it with --egress-allow)");
    HttpError::new(ErrorKind::EgressRefused, detail)
}

/// Returns `error` and its causes, also those inside I/O errors, which their `source` skips.
fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error as &'a (dyn Error + 'static)), |cause: &&'a (dyn Error + 'static)| {
        let cause: &'a (dyn Error + 'static) = *cause;
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inside) => Some(inside as &'a (dyn Error + 'static)),
            None => cause.source(),
        }
    })
}

/// The TLS configuration of all clients that send http only: each would keep one of its own that trusts nothing.
static WITHOUT_TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let builder = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
    Arc::new(builder.with_no_client_auth())
});

/// The advice for a certificate that is an authority's and shown by a server.
const SELF_SIGNED_HINT: &str = " (the server shows the certificate of an authority as its own: add that very certificate \
to the CA bundle, or sign one for the server with it)";

/// Reads and writes each have permits for bodies and for small requests (see `limiter`): with fewer connections than
/// permits, connections would be closed and opened again all the time.
const CONNECTIONS_PER_PERMIT: usize = 4;
