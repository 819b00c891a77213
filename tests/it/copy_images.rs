//! The copy engine between real registries: what arrives, what it costs, and what stops it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Method, StatusCode};
use transship::copy::{
    Authority, ByteCounter, CONSENT_LASTS, Copied, CopyError, Denied, Engine, EngineLimits, ImageCopy, MountScope,
    Mutation,
};
use transship::image::Digest;
use transship::plan::CopyOptions;
use transship::registry::{Client, Credentials, EgressPolicy, ErrorKind, RegistryOptions, RequestLimits};

use crate::support::copy_errors::is_transient;
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::registry::{AccessLine, TestRegistry};
use crate::support::tls::install_crypto_provider;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_images_arrive_with_equal_digests() {
    let source = TestRegistry::distribution("kinds-source").start().await;
    let subject = Image::single(1, 2, 500);
    let images = [
        ("docker", Image::docker(2, 3, 500)),
        ("docker-list", Image::docker_list(vec![Image::docker(3, 1, 500), Image::docker(4, 1, 500)])),
        ("platforms", Image::multi_platform(20, 70_000)),
        ("nested", Image::nested_index(30, 500)),
        ("artifact", Image::artifact(40, "application/vnd.example.thing", 500, Some(&subject))),
        ("subject", subject),
    ];
    for (tag, image) in &images {
        source.pusher().push("kinds", tag, image).await;
    }
    for options in [TestRegistry::distribution("kinds-3"), TestRegistry::docker_2_8("kinds-2-8")] {
        let destination = options.start().await;
        let pair = CopiedPair::new(&source.host(), &destination.host());
        for (tag, image) in &images {
            let copied = pair.copy("kinds", tag, &image.digest()).await.unwrap();
            assert!(!copied.already_there && copied.moved <= copied.size, "{tag}: {copied:?}");
            let pusher = destination.pusher();
            assert_eq!(pusher.digest_of("kinds", tag).await, Some(image.digest()), "{tag}");
            assert_eq!(pusher.copy_tree_digests("kinds", tag).await, image.tree_digests(), "{tag}");
            let again = pair.copy("kinds", tag, &image.digest()).await.unwrap();
            assert_eq!(again, Copied { moved: 0, already_there: true, ..copied }, "{tag}");
        }
        let writes = writes(&destination);
        assert!(writes.iter().all(|write| write.status < 300), "{writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_layer_crosses_once() {
    let source = TestRegistry::distribution("shared-source").start().await;
    let base = Blob::layer(1, 300_000);
    let names: Vec<_> = (0..4).flat_map(|r| (0..5).map(move |t| (format!("team/app{r}"), format!("v{t}")))).collect();
    let mut digests = Vec::new();
    for (seed, (repository, tag)) in (100_u64..).zip(&names) {
        let image = Image::with_layers(seed, "linux/amd64", vec![base.clone(), Blob::layer(seed, 1000)]);
        digests.push(source.pusher().push(repository, tag, &image).await);
    }
    for options in [TestRegistry::distribution("shared-3"), TestRegistry::docker_2_8("shared-2-8")] {
        let destination = options.start().await;
        let before = source.access_log().len();
        for across_owners in [false, true] {
            // The second round finds everything: nothing is written again, whichever copy asks.
            let pair = CopiedPair { across_owners, ..CopiedPair::new(&source.host(), &destination.host()) };
            let copies =
                names.iter().zip(&digests).map(|((repository, tag), digest)| pair.copy(repository, tag, digest));
            for copied in futures::future::join_all(copies).await {
                assert_eq!(copied.unwrap().already_there, across_owners);
            }
        }
        let put = format!("digest={}", base.digest.replace(':', "%3A"));
        let is_upload = |access: &&AccessLine| {
            access.method == "PUT" && (access.path.contains(&put) || access.path.contains(&base.digest))
        };
        let writes = writes(&destination);
        assert_eq!(writes.iter().filter(is_upload).count(), 1, "uploads of the base layer");
        let mounts = writes.iter().filter(|write| write.path.contains("mount=") && write.status == 201).count();
        assert_eq!(mounts, 3, "the other repositories mount it");
        let reads = &source.access_log()[before..];
        let is_read = |access: &&AccessLine| access.method == "GET" && access.path.ends_with(&base.digest);
        assert_eq!(reads.iter().filter(is_read).count(), 1, "reads of the base layer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_owners_registry_mounts_only_what_this_source_has_served() {
    let source = TestRegistry::distribution("owners-source").start().await;
    let destination = TestRegistry::distribution("owners-destination").start().await;
    let image = Image::single(1, 2, 2000);
    for repository in ["a", "b", "c"] {
        source.pusher().push(repository, "1", &image).await;
    }
    destination.pusher().push("a", "1", &image).await;
    let pair = CopiedPair { across_owners: true, ..CopiedPair::new(&source.host(), &destination.host()) };
    assert!(pair.copy("a", "1", &image.digest()).await.unwrap().already_there);
    let moved: u64 = image.blobs.iter().map(|blob| blob.bytes.len() as u64).sum();
    assert_eq!(pair.copy("b", "1", &image.digest()).await.unwrap().moved, moved, "to know a digest proves nothing");
    assert_eq!(pair.copy("c", "1", &image.digest()).await.unwrap().moved, 0, "what was served is mounted");
    let other = CopiedPair { scope: MountScope::new("another configuration"), ..pair };
    source.pusher().push("d", "1", &image).await;
    assert_eq!(other.copy("d", "1", &image.digest()).await.unwrap().moved, moved, "scopes share nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_is_completed_by_the_next() {
    for options in [TestRegistry::distribution("interrupted-3"), TestRegistry::docker_2_8("interrupted-2-8")] {
        let source = TestRegistry::distribution("interrupted-source").start().await;
        let destination = options.start().await;
        let layers = vec![Blob::layer(1, 3 << 20), Blob::layer(2, 2 << 20)];
        let image = Image::with_layers(1, "linux/amd64", layers.clone());
        source.pusher().push("app", "1", &image).await;
        let proxy = FaultProxy::start(source.address());
        proxy.set(LineFault::Delay { to_upstream: Duration::ZERO, to_client: Duration::from_millis(5) });
        let slow = CopiedPair { engine: one_blob_at_a_time(), ..CopiedPair::new(&proxy.host(), &destination.host()) };
        {
            let digest = image.digest();
            let copy = slow.copy("app", "1", &digest);
            let held = async {
                let first = 3 << 20;
                eventually(SOON, "one layer is over", async || slow.progress.bytes() >= first).await;
                proxy.set(LineFault::Hold);
                let arrived = async || destination.pusher().has_blob("app", &layers[0].digest).await;
                eventually(SOON, "one layer has arrived", arrived).await;
            };
            futures::pin_mut!(copy);
            let done = futures::future::select(copy, Box::pin(held)).await;
            assert!(matches!(done, futures::future::Either::Right(_)), "the copy hangs, and is dropped here");
        }
        assert_eq!(destination.pusher().digest_of("app", "1").await, None, "no tag before its content");
        let next = CopiedPair::new(&source.host(), &destination.host());
        let copied = next.copy("app", "1", &image.digest()).await.unwrap();
        assert!(copied.moved < 3 << 20, "the layer that had arrived is found again: {copied:?}");
        assert_eq!(destination.pusher().copy_tree_digests("app", "1").await, image.tree_digests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_no_tag_is_written() {
    let source = TestRegistry::distribution("grants-source").start().await;
    let destination = TestRegistry::distribution("grants-destination").start().await;
    let (old, new) = (Image::single(1, 1, 100), Image::single(2, 1, 100));
    source.pusher().push("app", "1", &new).await;
    let pair = CopiedPair::new(&source.host(), &destination.host());

    pair.grants.refuse(&["upload", "create", "tag"]);
    assert!(matches!(pair.copy("app", "1", &new.digest()).await, Err(CopyError::Denied(_))));
    assert!(destination.access_log().is_empty(), "no request whatever without consent");

    pair.grants.refuse(&["create"]);
    assert!(matches!(pair.copy("app", "1", &new.digest()).await, Err(CopyError::Denied(_))));
    assert!(writes(&destination).is_empty(), "{:?}", writes(&destination));
    assert_eq!(pair.grants.take(), ["upload", "create app"]);

    pair.grants.refuse(&["tag"]);
    assert!(matches!(pair.copy("app", "1", &new.digest()).await, Err(CopyError::Denied(_))));
    assert_eq!(destination.pusher().digest_of("app", "1").await, None);
    assert_eq!(pair.grants.take().last().unwrap(), &format!("tag app:1 {} over nothing", new.digest()));

    destination.pusher().push("app", "1", &old).await;
    assert!(matches!(pair.copy("app", "1", &new.digest()).await, Err(CopyError::Denied(_))));
    assert_eq!(destination.pusher().digest_of("app", "1").await, Some(old.digest()));
    let asked = pair.grants.take();
    assert_eq!(asked.last().unwrap(), &format!("tag app:1 {} over {}", new.digest(), old.digest()));
    assert!(!asked.contains(&"create app".to_owned()), "it exists");

    pair.grants.refuse(&[]);
    assert!(pair.copy("app", "1", &new.digest()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_is_withdrawn_stops_a_blob_on_its_way() {
    let source = TestRegistry::distribution("withdrawn-source").start().await;
    let destination = TestRegistry::distribution("withdrawn-destination").start().await;
    let image = Image::single(1, 1, 4 << 20);
    source.pusher().push("app", "1", &image).await;
    let proxy = FaultProxy::start(destination.address());
    // Slow enough that it is still under way when consent goes.
    let slowly = Duration::from_millis(50);
    proxy.set(LineFault::Delay { to_upstream: slowly, to_client: Duration::ZERO });
    let pair = CopiedPair::new(&source.host(), &proxy.host());
    let held = async {
        eventually(SOON, "the layer is under way", async || pair.progress.bytes() > 0).await;
        proxy.set(LineFault::Hold);
        pair.grants.refuse(&["upload"]);
        Instant::now()
    };
    let digest = image.digest();
    let (copied, since) = futures::join!(pair.copy("app", "1", &digest), held);
    assert!(matches!(copied, Err(CopyError::Denied(_))), "{copied:?}");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert_eq!(destination.pusher().digest_of("app", "1").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_whose_closure_lost_a_blob_is_repaired() {
    for options in [TestRegistry::distribution("lost-3"), TestRegistry::docker_2_8("lost-2-8")] {
        let source = TestRegistry::distribution("lost-source").start().await;
        let destination = options.start().await;
        let image = Image::multi_platform(1, 2000);
        source.pusher().push("app", "1", &image).await;
        let pair = CopiedPair::new(&source.host(), &destination.host());
        pair.copy("app", "1", &image.digest()).await.unwrap();
        assert!(pair.copy("app", "1", &image.digest()).await.unwrap().already_there);

        for blob in image.children[0].blobs.iter().chain(&image.children[1].blobs) {
            delete_blob(&destination, "app", &blob.digest).await;
        }
        let repaired = pair.copy("app", "1", &image.digest()).await.unwrap();
        assert!(!repaired.already_there && repaired.moved > 0, "{repaired:?}");
        assert_eq!(destination.pusher().copy_tree_digests("app", "1").await, image.tree_digests());

        let child = image.children[2].digest();
        assert_eq!(destination.pusher().delete_manifest("app", &child).await, StatusCode::ACCEPTED);
        assert!(!pair.copy("app", "1", &image.digest()).await.unwrap().already_there);
        assert_eq!(destination.pusher().copy_tree_digests("app", "1").await, image.tree_digests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_a_destination_is_not_believed_over_it() {
    for options in [TestRegistry::distribution("memory-3"), TestRegistry::docker_2_8("memory-2-8")] {
        let source = TestRegistry::distribution("memory-source").start().await;
        let destination = options.start().await;
        let base = Blob::layer(1, 5000);
        let image = |seed| Image::with_layers(seed, "linux/amd64", vec![base.clone(), Blob::layer(seed, 100)]);
        for (tag, seed) in [("1", 2), ("2", 3)] {
            source.pusher().push("app", tag, &image(seed)).await;
        }
        let pair = CopiedPair::new(&source.host(), &destination.host());
        pair.copy("app", "1", &image(2).digest()).await.unwrap();
        delete_blob(&destination, "app", &base.digest).await;
        pair.copy("app", "2", &image(3).digest()).await.unwrap();
        assert_eq!(destination.pusher().copy_tree_digests("app", "2").await, image(3).tree_digests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_name_their_side() {
    let mut source = TestRegistry::distribution("sides-source").start().await;
    let mut destination = TestRegistry::distribution("sides-destination").start().await;
    let image = Image::single(1, 2, 100_000);
    source.pusher().push("app", "1", &image).await;
    let proxy = FaultProxy::start(source.address());
    let pair = CopiedPair::new(&proxy.host(), &destination.host());

    let unknown = Digest::sha256(b"no registry has this").to_string();
    assert!(matches!(pair.copy("app", "1", &unknown).await, Err(CopyError::SourceChanged)));
    proxy.set(LineFault::CutAfter(20_000));
    let cut = pair.copy("app", "1", &image.digest()).await;
    assert!(matches!(&cut, Err(CopyError::Source(_))), "{cut:?}");
    assert!(is_transient(&cut.unwrap_err()));
    assert_eq!(destination.pusher().digest_of("app", "1").await, None);
    proxy.set(LineFault::None);
    destination.stop();
    let down = pair.copy("app", "1", &image.digest()).await;
    assert!(matches!(&down, Err(CopyError::Destination(error)) if error.kind == ErrorKind::Unavailable), "{down:?}");
    destination.restart().await;
    source.stop();
    let down = pair.copy("app", "1", &image.digest()).await;
    assert!(matches!(&down, Err(CopyError::Source(error)) if error.kind == ErrorKind::Unavailable), "{down:?}");
    source.restart().await;
    assert!(pair.copy("app", "1", &image.digest()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_layer_never_arrives_and_is_read_once_for_all_who_wait() {
    let source = TestRegistry::distribution("corrupt-source").start().await;
    let destination = TestRegistry::distribution("corrupt-destination").start().await;
    let base = Blob::layer(1, 200_000);
    let image = |seed| Image::with_layers(seed, "linux/amd64", vec![base.clone()]);
    for seed in 2..12 {
        source.pusher().push("app", &seed.to_string(), &image(seed)).await;
    }
    let hex = base.digest.trim_start_matches("sha256:");
    let file = source.data_folder().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let before = source.access_log().len();
    let pair = CopiedPair::new(&source.host(), &destination.host());
    let images: Vec<_> = (2..12).map(|seed| (seed.to_string(), image(seed).digest())).collect();
    let copies = images.iter().map(|(tag, digest)| pair.copy("app", tag, digest));
    for copied in futures::future::join_all(copies).await {
        let corrupt = matches!(&copied, Err(CopyError::Source(error)) if error.kind == ErrorKind::InvalidContent);
        assert!(corrupt, "{copied:?}");
    }
    assert!(!destination.pusher().has_blob("app", &base.digest).await);
    assert_eq!(destination.pusher().tags("app").await, BTreeSet::new());
    let log = source.access_log();
    let reads = log[before..].iter().filter(|access| access.method == "GET" && access.path.ends_with(&base.digest));
    assert!(reads.count() <= 3, "ten images that wait for one layer do not read it ten times");
}

/// Two registries, an engine between them, and consent.
pub(crate) struct CopiedPair {
    pub(crate) engine: Engine,
    pub(crate) source: Client,
    pub(crate) destination: Client,
    pub(crate) options: CopyOptions,
    pub(crate) scope: MountScope,
    pub(crate) across_owners: bool,
    pub(crate) grants: Arc<ScriptedGrants>,
    pub(crate) progress: ByteCounter,
}

impl CopiedPair {
    pub(crate) fn new(source: &str, destination: &str) -> Self {
        Self {
            engine: Engine::default(),
            source: client(source),
            destination: client(destination),
            options: CopyOptions::default(),
            scope: MountScope::new("a configuration"),
            across_owners: false,
            grants: Arc::default(),
            progress: ByteCounter::default(),
        }
    }

    pub(crate) async fn copy(&self, repository: &str, tag: &str, digest: &str) -> Result<Copied, CopyError> {
        let (repository, tag, digest) =
            (repository.parse().unwrap(), tag.parse().unwrap(), digest.parse::<Digest>().unwrap());
        self.engine.copy(&self.task(&repository, &tag, &digest)).await
    }

    pub(crate) fn task<'a>(
        &'a self,
        repository: &'a transship::image::RepositoryName,
        tag: &'a transship::image::Tag,
        digest: &'a Digest,
    ) -> ImageCopy<'a> {
        ImageCopy {
            source: &self.source,
            source_repository: repository,
            destination: &self.destination,
            destination_repository: repository,
            tag,
            digest,
            options: &self.options,
            was_there: false,
            written: None,
            referrer_tags: None,
            scope: self.scope.clone(),
            across_owners: self.across_owners,
            authority: &*self.grants,
            counter: &self.progress,
        }
    }
}

/// Consents to everything but the listed refusals; notes each request.
#[derive(Default)]
pub(crate) struct ScriptedGrants {
    refused: [AtomicBool; 5],
    asked: std::sync::Mutex<Vec<String>>,
}

const KINDS: [&str; 4] = ["upload", "create", "tag", "referrers tag"];

impl ScriptedGrants {
    pub(crate) fn refuse(&self, kinds: &[&str]) {
        for (refused, kind) in self.refused.iter().zip(KINDS) {
            refused.store(kinds.contains(&kind), Ordering::SeqCst);
        }
        self.take();
    }

    /// Takes the requests since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Authority for ScriptedGrants {
    fn permit<'a>(&'a self, effect: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        let (kind, asked) = match effect {
            Mutation::Upload { .. } => (0, "upload".to_owned()),
            Mutation::CreateRepository { repository } => (1, format!("create {repository}")),
            Mutation::DeleteTag { tag } => (4, format!("delete {tag}")),
            Mutation::WriteTag { repository, tag, digest, replaces } => {
                let replaced = replaces.map_or("nothing".to_owned(), Digest::to_string);
                let kind = if tag.as_str().starts_with("sha256-") { 3 } else { 2 };
                (kind, format!("tag {repository}:{tag} {digest} over {replaced}"))
            }
        };
        self.asked.lock().unwrap().push(asked);
        let refused = self.refused[kind].load(Ordering::SeqCst);
        let refusal = || Denied { reason: "Test".to_owned(), message: "the test refuses".to_owned() };
        async move { if refused { Err(refusal()) } else { Ok(Instant::now() + CONSENT_LASTS) } }.boxed()
    }
}

pub(crate) fn client(host: &str) -> Client {
    install_crypto_provider();
    let options = RegistryOptions {
        url: format!("http://{host}").parse().unwrap(),
        logins: Credentials::Anonymous.into(),
        ca_bundle: None,
        trusted_hosts: Vec::new(),
        limits: RequestLimits::of_concurrency(8),
        templates: Vec::new(),
    };
    let egress = EgressPolicy { allow: [host.parse().unwrap()].into(), ..EgressPolicy::default() };
    Client::new(options, Arc::new(egress)).unwrap()
}

fn one_blob_at_a_time() -> Engine {
    Engine::new(EngineLimits { blobs: 1, ..EngineLimits::default() })
}

/// Returns the requests of the engine that change something.
fn writes(registry: &TestRegistry) -> Vec<AccessLine> {
    let is_write = |access: &AccessLine| {
        !matches!(access.method.as_str(), "GET" | "HEAD") && !access.user_agent.starts_with("transship-test-pusher")
    };
    registry.access_log().into_iter().filter(is_write).collect()
}

async fn delete_blob(registry: &TestRegistry, repository: &str, digest: &str) {
    let url = format!("{}/v2/{repository}/blobs/{digest}", registry.url());
    let status = registry.pusher().send(Method::DELETE, &url, |delete| delete).await.status();
    assert!(matches!(status, StatusCode::ACCEPTED | StatusCode::NOT_FOUND), "{status}");
}
