//! Two scripted registries with the project's clients and an engine between them.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use transship::copy::{
    Authority, ByteCounter, CONSENT_LASTS, Copied, CopyError, Denied, Engine, ImageCopy, MountScope, Mutation,
};
use transship::image::{Digest, RepositoryName, Tag};
use transship::plan::CopyOptions;
use transship::registry::{Client, Credentials, EcrApi, EgressPolicy, RegistryOptions, RequestLimits};

use crate::support::image::{Blob, Image};
use crate::support::scripted::ecr::{ACCOUNT, KEY_ID, REGION, SECRET_KEY};
use crate::support::scripted::{PASSWORD, Personality, ScriptedRegistry, USER};
use crate::support::tls::install_crypto_provider;

/// A source, a destination, and an engine.
pub struct RegistryPair {
    pub source: ScriptedRegistry,
    pub destination: ScriptedRegistry,
    pub from: Client,
    pub to: Client,
    pub engine: Engine,
    pub options: CopyOptions,
    pub progress: ByteCounter,
}

impl RegistryPair {
    /// Both have started, and the destination has the repository `app`, wherever repositories are to be made.
    pub fn start(source: Personality, destination: Personality) -> Self {
        let (source, destination) = (ScriptedRegistry::start(source), ScriptedRegistry::start(destination));
        destination.create_repository("app");
        let (from, to) = (client(&source), client(&destination));
        let (engine, options, progress) = (Engine::default(), CopyOptions::default(), ByteCounter::default());
        Self { source, destination, from, to, engine, options, progress }
    }

    /// Copies from `app` to `app`.
    pub async fn copy(&self, tag: &str, digest: &str) -> Result<Copied, CopyError> {
        self.copy_of("app", tag, digest).await
    }

    /// Copies two images of one layer, the one in `app`, the other in `other`.
    pub async fn copy_a_shared_layer(&self) {
        let base = Blob::layer(1, 2_000);
        for (repository, seed) in [("app", 2), ("other", 3)] {
            let image = Image::with_layers(seed, "linux/amd64", vec![base.clone()]);
            self.source.push(repository, "1", &image);
            self.copy_of(repository, "1", &image.digest()).await.unwrap();
            assert_eq!(self.destination.tree(repository, "1"), image.tree_digests());
        }
    }

    /// Copies from `app` to `app` with the consent of `authority`.
    pub async fn copy_under(&self, authority: &dyn Authority, tag: &str, digest: &str) -> Result<Copied, CopyError> {
        let (repository, tag, digest) = ("app".parse().unwrap(), tag.parse().unwrap(), digest.parse().unwrap());
        let task = self.task(&self.from, (&repository, &tag, &digest));
        self.engine.copy(&ImageCopy { authority, ..task }).await
    }

    pub async fn copy_of(&self, repository: &str, tag: &str, digest: &str) -> Result<Copied, CopyError> {
        self.copy_from(&self.from, repository, tag, digest).await
    }

    /// Copies from another source.
    pub async fn copy_from(
        &self,
        from: &Client,
        repository: &str,
        tag: &str,
        digest: &str,
    ) -> Result<Copied, CopyError> {
        let (repository, tag, digest) = (repository.parse().unwrap(), tag.parse().unwrap(), digest.parse().unwrap());
        self.engine.copy(&self.task(from, (&repository, &tag, &digest))).await
    }

    fn task<'a>(
        &'a self,
        source: &'a Client,
        (repository, tag, digest): (&'a RepositoryName, &'a Tag, &'a Digest),
    ) -> ImageCopy<'a> {
        ImageCopy {
            source,
            source_repository: repository,
            destination: &self.to,
            destination_repository: repository,
            tag,
            digest,
            options: &self.options,
            was_there: false,
            written: None,
            referrer_tags: None,
            scope: MountScope::new("a configuration"),
            across_owners: false,
            authority: &Everything,
            counter: &self.progress,
        }
    }
}

/// Returns a client with the right password, that may reach both origins.
pub fn client(registry: &ScriptedRegistry) -> Client {
    let password = Credentials::Basic { username: USER.to_owned(), password: PASSWORD.to_owned().into() };
    client_as(registry, password, &[registry.other_host()])
}

pub fn client_as(registry: &ScriptedRegistry, credentials: Credentials, trusted: &[String]) -> Client {
    let (options, egress) = access(registry, credentials, trusted);
    Client::new(options, egress).unwrap()
}

/// Returns a client that takes the registry for one of Amazon ECR.
pub fn client_of_ecr(registry: &ScriptedRegistry, credentials: Credentials) -> Client {
    let api = EcrApi { url: registry.url().parse().unwrap(), region: REGION.to_owned(), account: ACCOUNT.to_owned() };
    let (options, egress) = access(registry, credentials, &[registry.other_host()]);
    Client::with_ecr_api(options, egress, api).unwrap()
}

/// Returns the same with settings of repositories that are created.
pub fn client_with_templates(registry: &ScriptedRegistry, templates: Value) -> Client {
    let key = Credentials::Basic { username: KEY_ID.to_owned(), password: SECRET_KEY.to_owned().into() };
    let api = EcrApi { url: registry.url().parse().unwrap(), region: REGION.to_owned(), account: ACCOUNT.to_owned() };
    let (options, egress) = access(registry, key, &[registry.other_host()]);
    let options = RegistryOptions { templates: serde_json::from_value(templates).unwrap(), ..options };
    Client::with_ecr_api(options, egress, api).unwrap()
}

fn access(
    registry: &ScriptedRegistry,
    credentials: Credentials,
    trusted: &[String],
) -> (RegistryOptions, Arc<EgressPolicy>) {
    install_crypto_provider();
    let options = RegistryOptions {
        url: registry.url().parse().unwrap(),
        logins: credentials.into(),
        ca_bundle: None,
        trusted_hosts: trusted.to_vec(),
        limits: RequestLimits::of_concurrency(8),
        templates: Vec::new(),
    };
    let hosts = [registry.host(), registry.other_host()];
    let allow = hosts.iter().map(|host| host.parse().unwrap()).collect();
    (options, Arc::new(EgressPolicy { allow, ..EgressPolicy::default() }))
}

/// Consents to everything.
struct Everything;

impl Authority for Everything {
    fn permit<'a>(&'a self, _: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        async { Ok(Instant::now() + CONSENT_LASTS) }.boxed()
    }
}
