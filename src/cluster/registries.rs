//! The clients of Registry objects, replaced when a spec or a Secret changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Client, ResourceExt};
use url::Url;

use super::credentials::{CredentialsError, missing_reference, registry_credentials};
use crate::api::Registry;
use crate::image::hex;
use crate::locked::Locked;
use crate::plan::{HostBindings, check_registry};
use crate::registry::{
    self, EgressPolicy, ErrorKind, Logins, QuotaStatement, RefusedSet, RegistryError, RegistryOptions, RequestLimits,
    canonical_host, credential_host,
};
use crate::replication::Unusable;
use crate::terms::{RegistryQuota, reason};

/// The clients of all Registry objects in use, by their uid.
pub(crate) struct Registries {
    kubernetes: Client,
    egress: Arc<EgressPolicy>,
    hosts: HostBindings,
    known: Locked<HashMap<String, Known>>,
}

struct Known {
    generation: Option<i64>,
    fingerprint: [u8; 32],
    client: registry::Client,
    options: RegistryOptions,
    read_at: Instant,
    /// True if the Secrets may say something else by now.
    is_doubted: bool,
    /// The time of the last read of the Secrets that the API server did not answer, if none has succeeded since.
    unanswered_at: Option<Instant>,
    /// True if what they held cannot be used any more, by the last answer of the API server.
    is_withdrawn: bool,
    /// The time of the last check that passed.
    passed_at: Option<Instant>,
}

impl Registries {
    /// Returns an empty table. Secrets are read through `kubernetes`; every client obeys `egress` and `hosts`.
    pub(crate) fn new(kubernetes: Client, egress: Arc<EgressPolicy>, hosts: HostBindings) -> Self {
        Self { kubernetes, egress, hosts, known: Locked::default() }
    }

    /// Returns the client of `registry`. Its Secrets are read again when they were last read more than [`MAX_AGE`] ago;
    /// while they say the same, the client stays the same, with its tokens and connections. It also stays while the API
    /// server does not answer.
    ///
    /// # Errors
    /// [`Unusable`] if the spec, a Secret or the CA bundle cannot be used, or if the API server does not answer while
    /// there is no client of this spec yet.
    pub(crate) async fn client(&self, registry: &Registry) -> Result<registry::Client, Unusable> {
        self.known(registry, |known| known.client.clone()).await
    }

    /// Returns the addresses of the cluster that no client may reach.
    pub(crate) fn refused(&self) -> RefusedSet {
        self.egress.refused.set()
    }

    /// Returns the options of the client of `registry`, and a version that changes with them.
    ///
    /// # Errors
    /// As [`Registries::client`].
    pub(crate) async fn access(&self, registry: &Registry) -> Result<(String, RegistryOptions), Unusable> {
        let version = |known: &Known| {
            let generation = known.generation.unwrap_or_default().to_be_bytes();
            let digest = aws_lc_rs::digest::digest(
                &aws_lc_rs::digest::SHA256,
                &[&known.fingerprint[..], &generation[..]].concat(),
            );
            hex(&digest.as_ref()[..8])
        };
        self.known(registry, |known| (version(known), known.options.clone())).await
    }

    async fn known<T>(&self, registry: &Registry, take: impl Fn(&Known) -> T) -> Result<T, Unusable> {
        let uid = registry.uid().unwrap_or_default();
        let generation = registry.metadata.generation;
        if let Some(known) = self.known.lock().get(&uid)
            && known.generation == generation
            && known.is_fresh()
        {
            return Ok(take(known));
        }
        let url: Url = registry.spec.url.parse().map_err(|error| Unusable {
            reason: reason::INVALID_SPEC,
            message: format!("spec.url {} is no URL: {error}", registry.spec.url),
        })?;
        check_registry(&registry.spec).map_err(|error| Unusable { reason: error.reason, message: error.message })?;
        if !self.may_use_host(registry) {
            return Err(unknown_host(&url));
        }
        let host = credential_host(&url);
        let (logins, ca_bundle) = match registry_credentials(&self.kubernetes, registry, &host).await {
            Ok(read) => read,
            Err(error) => return self.last(registry, &error, take).ok_or_else(|| error.into()),
        };
        let fingerprint = fingerprint(&logins, ca_bundle.as_deref());
        let mut known = self.known.lock();
        if let Some(present) = known.get_mut(&uid)
            && present.generation == generation
            && present.fingerprint == fingerprint
        {
            (present.read_at, present.unanswered_at) = (Instant::now(), None);
            (present.is_doubted, present.is_withdrawn) = (false, false);
            return Ok(take(present));
        }
        let options = options(registry, url, logins, ca_bundle);
        let client = match known.get(&uid) {
            Some(earlier) => earlier.client.successor(options.clone(), self.egress.clone()),
            None => registry::Client::new(options.clone(), self.egress.clone()),
        };
        let client = client.map_err(|error| Unusable {
            reason: if error.kind == ErrorKind::Configuration { reason::CA_INVALID } else { reason_of(&error) },
            message: error.message,
        })?;
        let made = Known {
            generation,
            fingerprint,
            client,
            options,
            read_at: Instant::now(),
            is_doubted: false,
            unanswered_at: None,
            is_withdrawn: false,
            passed_at: None,
        };
        let taken = take(&made);
        known.insert(uid, made);
        Ok(taken)
    }

    /// Takes from the last client of `registry`, with its present spec, if `error` says nothing about the Secrets, and
    /// nothing was withdrawn before.
    fn last<T>(&self, registry: &Registry, error: &CredentialsError, take: impl Fn(&Known) -> T) -> Option<T> {
        let mut known = self.known.lock();
        let last = known.get_mut(&registry.uid().unwrap_or_default())?;
        if !error.is_unanswered() {
            (last.is_withdrawn, last.unanswered_at) = (true, None);
        }
        if last.is_withdrawn || last.generation != registry.metadata.generation {
            return None;
        }
        last.unanswered_at = Some(Instant::now());
        Some(take(last))
    }

    /// Returns true if the API server did not answer the last read of the Secrets of the Registry with this uid: they
    /// may hold other credentials than its client uses.
    pub(crate) fn is_unanswered(&self, uid: &str) -> bool {
        self.known.lock().get(uid).is_some_and(|known| known.unanswered_at.is_some())
    }

    /// Returns true if the administrator lets the namespace of `registry` use its host.
    pub(crate) fn may_use_host(&self, registry: &Registry) -> bool {
        let host = registry.spec.url.parse().map(|url| canonical_host(&url));
        host.is_ok_and(|host| self.hosts.allow(&host, &registry.namespace().unwrap_or_default()))
    }

    /// Makes the next [`Registries::client`] read the Secrets again, because the registry refused the credentials; not
    /// more often than every [`MIN_AGE`], however many images fail for that.
    pub(crate) fn read_again(&self, uid: &str) {
        if let Some(known) = self.known.lock().get_mut(uid) {
            (known.is_doubted, known.passed_at) = (true, None);
        }
    }

    /// Returns true if the next [`Registries::client`] reads the Secrets, and so finds what is missing.
    pub(crate) fn reads_next(&self, registry: &Registry) -> bool {
        let known = self.known.lock();
        let known = known.get(&registry.uid().unwrap_or_default());
        known.is_none_or(|known| known.generation != registry.metadata.generation || !known.is_fresh())
    }

    /// Records that the Registry with this uid passed its check.
    pub(crate) fn passed(&self, uid: &str) {
        if let Some(known) = self.known.lock().get_mut(uid) {
            known.passed_at = Some(Instant::now());
        }
    }

    /// Returns true if `registry` passed its check, as it is now, less than `age` ago.
    pub(crate) fn has_passed(&self, registry: &Registry, age: Duration) -> bool {
        let known = self.known.lock();
        let known = known.get(&registry.uid().unwrap_or_default());
        let known = known.filter(|known| known.generation == registry.metadata.generation);
        known.and_then(|known| known.passed_at).is_some_and(|passed_at| passed_at.elapsed() < age)
    }

    /// Returns true if this process has sent requests to the Registry with this uid in the last seconds.
    pub(crate) fn is_in_use(&self, uid: &str) -> bool {
        self.known.lock().get(uid).is_some_and(|known| known.client.pacer().is_in_use())
    }

    /// Gives this process a part of the limits of a Registry that `processes` use.
    pub(crate) fn take_part(&self, uid: &str, part: f64, processes: u32) {
        if let Some(known) = self.known.lock().get(uid) {
            known.client.set_limits(known.options.limits.part(part, processes));
        }
    }

    /// Returns a part of the limits of the Registry with this uid, for another of `processes` that use it.
    pub(crate) fn part(&self, uid: &str, part: f64, processes: u32) -> Option<RequestLimits> {
        self.known.lock().get(uid).map(|known| known.options.limits.part(part, processes))
    }

    /// Returns the quota that `registry` stated last, to this process or to a worker.
    pub(crate) fn quota(&self, registry: &Registry) -> Option<RegistryQuota> {
        let known = self.known.lock();
        let QuotaStatement { limit, remaining, window } = known.get(&registry.uid()?)?.client.pacer().quota()?;
        Some(RegistryQuota { limit, remaining, window_seconds: window })
    }

    /// Takes a statement of the Registry with this uid about its quota, which a worker got.
    pub(crate) fn take_quota(&self, uid: &str, statement: QuotaStatement) {
        if let Some(known) = self.known.lock().get(uid) {
            known.client.pacer().take_quota(statement);
        }
    }

    /// Returns the Secret or ConfigMap that `registry` names and that does not exist. No content is read.
    pub(crate) async fn missing_reference(&self, registry: &Registry) -> Option<Unusable> {
        missing_reference(&self.kubernetes, registry).await.map(Unusable::from)
    }

    /// Drops the client of a Registry object that does not exist any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.known.lock().remove(uid);
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.unanswered_at.is_some_and(|at| at.elapsed() < UNANSWERED_PAUSE)
            || (!self.is_withdrawn && self.read_at.elapsed() < if self.is_doubted { MIN_AGE } else { MAX_AGE })
    }
}

/// Returns the reason of a Registry's condition for `error`.
pub(crate) fn reason_of(error: &RegistryError) -> &'static str {
    match error.kind {
        ErrorKind::Unauthorized | ErrorKind::Denied => reason::AUTHENTICATION_FAILED,
        ErrorKind::HostUnknown => reason::HOST_UNKNOWN,
        ErrorKind::TlsRefused => reason::TLS_REFUSED,
        ErrorKind::EgressRefused => reason::EGRESS_REFUSED,
        ErrorKind::Configuration => reason::INVALID_SPEC,
        _ => reason::UNREACHABLE,
    }
}

/// Returns the error of a host that the administrator keeps for other namespaces: it reads like that of one that does
/// not exist.
fn unknown_host(url: &Url) -> Unusable {
    let (host, name) = (canonical_host(url), url.host_str().unwrap_or_default());
    let message = format!("{host}: asking for the API: the host name {name} does not resolve");
    Unusable { reason: reason::HOST_UNKNOWN, message }
}

fn options(registry: &Registry, url: Url, logins: Logins, ca_bundle: Option<Vec<u8>>) -> RegistryOptions {
    let limits = &registry.spec.limits;
    RegistryOptions {
        url,
        logins,
        ca_bundle,
        trusted_hosts: registry.spec.trusted_hosts.clone(),
        limits: RequestLimits::new(limits.concurrency, limits.requests_per_second, limits.bandwidth),
        templates: registry.spec.repository_templates.clone(),
    }
}

/// Returns a hash of logins and CA bundle, which shows changes without keeping the secrets.
fn fingerprint(logins: &Logins, ca_bundle: Option<&[u8]>) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(logins.fingerprint().as_str().as_bytes());
    context.update(ca_bundle.unwrap_or_default());
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The maximum age of Secrets that were read.
const MAX_AGE: Duration = Duration::from_secs(60);
/// The maximum age of Secrets that a registry refuses.
const MIN_AGE: Duration = Duration::from_secs(15);
/// The pause after a read of Secrets that the API server did not answer: each may take its whole deadline.
const UNANSWERED_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::task::{Context, Poll};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tower::Service;

    use super::*;

    /// An API server that answers every request with one status code, and with the Secret if that is 200.
    #[derive(Clone, Default)]
    struct OneAnswer(Arc<AtomicU16>);

    impl Service<Request<Body>> for OneAnswer {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let secret = json!({"metadata": {"name": "s", "annotations": {"transship.dev/registry-host": "r.example"}},
                "type": "Opaque", "data": {"username": "dQ==", "password": "cA=="}});
            let code = self.0.load(Ordering::SeqCst);
            let body = if code == 200 { secret.to_string() } else { "no".to_owned() };
            ready(Ok(Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap()))
        }
    }

    fn registry(uid: &str, generation: i64) -> Registry {
        serde_json::from_value(json!({"apiVersion": "transship.dev/v1alpha1", "kind": "Registry",
            "metadata": {"namespace": "n", "name": "r", "uid": uid, "generation": generation},
            "spec": {"url": "https://r.example", "credentials": {"secretRef": {"name": "s"}}}}))
        .unwrap()
    }

    /// Has the next use of the client read the Secret, as it does after a minute.
    fn age(registries: &Registries) {
        let long_ago = Instant::now().checked_sub(MAX_AGE).expect("the machine runs for a minute");
        for known in registries.known.lock().values_mut() {
            (known.read_at, known.unanswered_at) = (long_ago, known.unanswered_at.map(|_| long_ago));
        }
    }

    #[tokio::test]
    async fn a_client_is_kept_while_the_api_server_does_not_answer() {
        let server = OneAnswer::default();
        let registries = Registries::new(Client::new(server.clone(), "n"), Arc::default(), HostBindings::default());
        let known = registry("known", 1);
        // The answer; the reason why there is no client; true if the Secret may have changed unnoticed.
        let table = [
            (200, None, false),
            (500, None, true),
            (200, None, false),
            (401, None, true),
            (200, None, false),
            (404, Some(reason::SECRET_NOT_FOUND), false),
            (403, Some(reason::SECRET_NOT_FOUND), false),
            (500, Some(reason::UNREACHABLE), false),
            (200, None, false),
            (500, None, true),
        ];
        for (code, expected, is_unanswered) in table {
            server.0.store(code, Ordering::SeqCst);
            age(&registries);
            let refusal = registries.client(&known).await.err().map(|unusable| unusable.reason);
            assert_eq!((refusal, registries.is_unanswered("known")), (expected, is_unanswered), "{code}");
        }

        server.0.store(500, Ordering::SeqCst);
        for without_client in [registry("new", 1), registry("known", 2)] {
            let refusal = registries.client(&without_client).await.err().map(|unusable| unusable.reason);
            assert_eq!(refusal, Some(reason::UNREACHABLE));
        }
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_is_not_asked_at_every_use() {
        let server = OneAnswer::default();
        let registries = Registries::new(Client::new(server.clone(), "n"), Arc::default(), HostBindings::default());
        let known = registry("known", 1);
        server.0.store(200, Ordering::SeqCst);
        assert!(registries.client(&known).await.is_ok());
        age(&registries);
        assert!(registries.reads_next(&known));
        server.0.store(500, Ordering::SeqCst);
        assert!(registries.client(&known).await.is_ok());
        assert!(!registries.reads_next(&known));
    }
}
