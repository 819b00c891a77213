//! One image on its way to two destinations: its source is read once, and neither destination hangs on the other.

use std::time::Duration;

use transship::copy::{ByteCounter, CopyError};
use transship::registry::ErrorKind;

use crate::copy_images::{CopiedPair, client};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::registry::TestRegistry;

/// A source with one image, and two destinations behind proxies, copied to by one engine.
struct TwoDestinations {
    source: TestRegistry,
    registries: [TestRegistry; 2],
    proxies: [FaultProxy; 2],
    pairs: [CopiedPair; 2],
    image: Image,
    layer: String,
}

impl TwoDestinations {
    async fn of(name: &str, layer: usize) -> Self {
        let source = TestRegistry::distribution(&format!("{name}-source")).start().await;
        let layer = Blob::layer(1, layer);
        let image = Image::with_layers(1, "linux/amd64", vec![layer.clone(), Blob::layer(2, 20_000)]);
        source.pusher().push("app", "1", &image).await;
        let registries = [
            TestRegistry::distribution(&format!("{name}-one")).start().await,
            TestRegistry::distribution(&format!("{name}-other")).start().await,
        ];
        let proxies = [0, 1].map(|number: usize| FaultProxy::start(registries[number].address()));
        let first = CopiedPair::new(&source.host(), &proxies[0].host());
        let second = CopiedPair {
            engine: first.engine.clone(),
            source: first.source.clone(),
            destination: client(&proxies[1].host()),
            progress: ByteCounter::default(),
            ..CopiedPair::new(&source.host(), &proxies[1].host())
        };
        Self { source, registries, proxies, pairs: [first, second], image, layer: layer.digest }
    }

    async fn copy(&self, number: usize) -> Result<(), CopyError> {
        self.pairs[number].copy("app", "1", &self.image.digest()).await.map(drop)
    }

    async fn has_arrived(&self, number: usize) {
        let there = self.registries[number].pusher().copy_tree_digests("app", "1").await;
        assert_eq!(there, self.image.tree_digests());
    }

    fn reads(&self) -> usize {
        let log = self.source.access_log();
        log.iter().filter(|access| access.method == "GET" && access.path.ends_with(&self.layer)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_read_once_for_two_destinations_of_which_one_is_slower() {
    let ground = TwoDestinations::of("tee", LAYER).await;
    ground.proxies[1].set(LineFault::Delay { to_upstream: Duration::from_millis(2), to_client: Duration::ZERO });
    let (one, other) = futures::join!(ground.copy(0), ground.copy(1));
    one.unwrap();
    other.unwrap();
    ground.has_arrived(0).await;
    ground.has_arrived(1).await;
    eventually(SOON, "the log is written", async || ground.reads() > 0).await;
    assert_eq!(ground.reads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_announced_shares_the_reads_though_it_begins_later() {
    let ground = TwoDestinations::of("tee-announced", 20_000).await;
    let (repository, tag, digest) =
        ("app".parse().unwrap(), "1".parse().unwrap(), ground.image.digest().parse().unwrap());
    let task = ground.pairs[1].task(&repository, &tag, &digest);
    let announced = ground.pairs[1].engine.announce(&task);
    let later = async {
        eventually(SOON, "the other copy reads", async || ground.reads() > 0).await;
        ground.copy(1).await
    };
    let (one, other) = futures::join!(ground.copy(0), later);
    drop(announced);
    one.unwrap();
    other.unwrap();
    ground.has_arrived(1).await;
    assert_eq!(ground.reads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_stalls_within_a_layer_is_left_and_catches_up() {
    let ground = TwoDestinations::of("tee-still", LAYER).await;
    ground.proxies[1].set(LineFault::Delay { to_upstream: Duration::from_millis(2), to_client: Duration::ZERO });
    let mut other = Box::pin(ground.copy(1));
    let one = async {
        let begun = async || ground.pairs[1].progress.bytes() > 1 << 20;
        let watched = async {
            eventually(SOON, "the layer is on its way to both", begun).await;
            ground.proxies[1].set(LineFault::Hold);
        };
        futures::join!(ground.copy(0), watched).0
    };
    let ended = tokio::time::timeout(SOON, futures::future::select(other.as_mut(), Box::pin(one))).await;
    match ended.expect("the first destination has its image while the other one stands still") {
        futures::future::Either::Right((one, _)) => one.unwrap(),
        futures::future::Either::Left(_) => panic!("nothing arrives where nothing moves"),
    }
    ground.has_arrived(0).await;
    ground.proxies[1].set(LineFault::None);
    other.await.unwrap();
    ground.has_arrived(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_does_not_answer_is_not_waited_for() {
    let ground = TwoDestinations::of("tee-absent", LAYER).await;
    ground.proxies[1].set(LineFault::Hold);
    let ended = tokio::time::timeout(SOON, futures::future::select(Box::pin(ground.copy(0)), Box::pin(ground.copy(1))));
    match ended.await.expect("the first destination has its image") {
        futures::future::Either::Left((one, _)) => one.unwrap(),
        futures::future::Either::Right(_) => panic!("a destination that does not answer has nothing"),
    }
    ground.has_arrived(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_no_destination_takes_is_not_read_to_its_end() {
    let ground = TwoDestinations::of("tee-given-up", 5 * LAYER).await;
    ground.proxies[0].set(LineFault::Delay { to_upstream: Duration::from_millis(2), to_client: Duration::ZERO });
    ground.proxies[1].set(LineFault::Hold);
    let mut other = Box::pin(ground.copy(1));
    {
        let begun = eventually(SOON, "the layer is on its way", async || ground.pairs[0].progress.bytes() > 1 << 20);
        let one = futures::future::select(Box::pin(ground.copy(0)), Box::pin(begun));
        let ended = futures::future::select(other.as_mut(), one).await;
        let is_under_way = matches!(ended, futures::future::Either::Right((futures::future::Either::Right(_), _)));
        assert!(is_under_way, "both copies are under way, and the first is dropped here");
    }
    let read = || ground.source.access_log().into_iter().find(|access| access.path.ends_with(&ground.layer));
    let logged = eventually(SOON, "the source has stopped", async || read().is_some());
    futures::future::select(other, Box::pin(logged)).await;
    let bytes = read().expect("it is in the log").bytes;
    assert!(bytes < 4 * LAYER as u64, "{bytes} bytes were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_source_is_reported_for_both_destinations() {
    let ground = TwoDestinations::of("tee-corrupt", LAYER).await;
    let hex = ground.layer.trim_start_matches("sha256:");
    let file = ground.source.data_folder().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[LAYER / 2] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    for ended in <[_; 2]>::from(futures::join!(ground.copy(0), ground.copy(1))) {
        let is_corrupt = matches!(&ended, Err(CopyError::Source(error)) if error.kind == ErrorKind::InvalidContent);
        assert!(is_corrupt, "{ended:?}");
    }
    for registry in &ground.registries {
        assert!(!registry.pusher().has_blob("app", &ground.layer).await);
    }
}

const LAYER: usize = 9 << 20;
const SOON: Duration = Duration::from_secs(30);
