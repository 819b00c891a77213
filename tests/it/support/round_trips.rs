//! Round trips that a small image takes between two far registries, whose clients keep connections and tokens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use transship::copy::{Authority, ByteCounter, CONSENT_LASTS, Denied, Engine, ImageCopy, MountScope, Mutation};
use transship::image::{Digest, RepositoryName, Tag};
use transship::plan::CopyOptions;
use transship::registry::{Client, Credentials, EgressPolicy, Reference, RegistryOptions, RequestLimits};

use super::eventually::eventually;
use super::fixtures::KIB;
use super::image::Image;
use super::link::Link;
use super::proxy::{FaultProxy, LineFault};
use super::registry::TestRegistry;
use super::tls::install_crypto_provider;
use super::token_server::TokenServer;

/// The round trips of one image, from the look at the source's tag.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RoundTrips {
    /// Until the destination had its tag.
    pub visible: f64,
    /// Until it was read back.
    pub complete: f64,
}

/// A registry that takes only tokens, and it and its token server are far away.
pub struct Far {
    /// The registry, near.
    pub registry: TestRegistry,
    /// The way to it.
    pub proxy: FaultProxy,
    /// The way to its token server.
    pub realm: FaultProxy,
    client: Client,
    _tokens: TokenServer,
}

/// Copies `images` small images one after the other into one repository, each with a layer and a configuration of its
/// own, by the same clients and engine. The first one pays for connections, tokens and what is to be learned about
/// registries.
pub async fn measure(round_trip: Duration, images: u64) -> Vec<RoundTrips> {
    let (source, destination) = (Far::start("far-source").await, Far::start("far-destination").await);
    let pushed: Vec<Image> = (0..images).map(small_image).collect();
    for (number, image) in pushed.iter().enumerate() {
        source.registry.pusher().push(REPOSITORY, &format!("v{number}"), image).await;
    }
    source.move_away(round_trip);
    destination.move_away(round_trip);
    let engine = Engine::default();
    let mut taken = Vec::new();
    for number in 0..pushed.len() {
        taken.push(copy(&engine, (&source, &destination), &format!("v{number}"), round_trip).await);
    }
    destination.come_back();
    for (number, image) in pushed.iter().enumerate() {
        let there = destination.registry.pusher().copy_tree_digests(REPOSITORY, &format!("v{number}")).await;
        assert_eq!(there, image.tree_digests(), "v{number} is whole");
    }
    taken
}

/// Looks at a tag of the source and copies what it finds, as the operator does when it hears of a push.
async fn copy(engine: &Engine, (source, destination): (&Far, &Far), tag: &str, round_trip: Duration) -> RoundTrips {
    let (repository, name): (RepositoryName, Tag) = (REPOSITORY.parse().expect("a name"), tag.parse().expect("a tag"));
    let (began, since) = (Timestamp::now(), Instant::now());
    let head = source.client.head_manifest(&repository, Reference::Tag(&name)).await.expect("the source answers");
    let digest: Digest = head.expect("the tag is there").digest;
    let task = ImageCopy {
        source: &source.client,
        source_repository: &repository,
        destination: &destination.client,
        destination_repository: &repository,
        tag: &name,
        digest: &digest,
        options: &CopyOptions::default(),
        // The listing that every comparison makes has shown that there are none.
        was_there: false,
        written: None,
        referrer_tags: Some(Arc::new(BTreeSet::new())),
        scope: MountScope::new("a configuration"),
        across_owners: false,
        authority: &ConsentToAll,
        counter: &ByteCounter::default(),
    };
    let copied = engine.copy(&task).await.expect("the image is copied");
    let complete = since.elapsed().as_secs_f64() / round_trip.as_secs_f64();
    assert!(!copied.already_there, "{tag} is new");
    let at = destination.answered("PUT", tag).await;
    RoundTrips { visible: at.duration_since(began).as_secs_f64() / round_trip.as_secs_f64(), complete }
}

/// Returns a small image with a layer and a configuration of its own.
pub fn small_image(number: u64) -> Image {
    Image::single(95_000 + number, 1, 10 * KIB)
}

impl Far {
    pub async fn start(name: &str) -> Self {
        let tokens = TokenServer::start(name);
        tokens.set_user(USER, PASSWORD, &["repository:*:pull,push"]);
        let realm = FaultProxy::start(tokens.address());
        let options = TestRegistry::distribution(name).user(USER, PASSWORD);
        let realm_url = format!("http://{}/token", realm.host());
        let registry = options.token_server_at(&tokens, &realm_url).start().await;
        let proxy = FaultProxy::start(registry.address());
        let client = client(&proxy.host(), &realm.host());
        Self { registry, proxy, realm, client, _tokens: tokens }
    }

    /// The way to it is long for connections that are opened from now on.
    pub fn move_away(&self, round_trip: Duration) {
        let far = LineFault::Far(Link { round_trip, bandwidth: 1 << 30 });
        self.proxy.set(far);
        self.realm.set(far);
    }

    fn come_back(&self) {
        self.proxy.set(LineFault::None);
        self.realm.set(LineFault::None);
    }

    /// When the registry answered a request for a tag, by its own log.
    pub async fn answered(&self, method: &str, tag: &str) -> Timestamp {
        let path = format!("/v2/{REPOSITORY}/manifests/{tag}");
        let found = async || self.registry.answers(method).into_iter().find(|(asked, _)| *asked == path);
        eventually(Duration::from_secs(10), "the log is written", found).await.1
    }
}

fn client(host: &str, realm: &str) -> Client {
    install_crypto_provider();
    let options = RegistryOptions {
        url: format!("http://{host}").parse().expect("a URL"),
        logins: Credentials::Basic { username: USER.to_owned(), password: PASSWORD.to_owned().into() }.into(),
        ca_bundle: None,
        trusted_hosts: vec![realm.to_owned()],
        limits: RequestLimits::of_concurrency(8),
        templates: Vec::new(),
    };
    let allow = [host, realm].map(|host| host.parse().expect("a host and a port"));
    let egress = EgressPolicy { allow: allow.into(), ..EgressPolicy::default() };
    Client::new(options, Arc::new(egress)).expect("a client")
}

/// Consents at once to everything, as a channel does that is near.
struct ConsentToAll;

impl Authority for ConsentToAll {
    fn permit<'a>(&'a self, _: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        async { Ok(Instant::now() + CONSENT_LASTS) }.boxed()
    }
}

/// The repository of the images.
pub const REPOSITORY: &str = "app";
/// The user of both registries.
pub const USER: &str = "robot";
/// The password of that user.
pub const PASSWORD: &str = "far away";
