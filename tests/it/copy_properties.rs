//! Properties of the copy of any image: nothing is written too early, nothing twice, and an interrupted copy can be
//! completed.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::registries::pair::RegistryPair;
use crate::support::image::{Blob, Image};
use crate::support::scripted::{Personality, ScriptedFault, ScriptedRegistry, When};

/// Returns an image, or an index of images, or one that nests another; layers are shared between them.
fn images() -> impl Strategy<Value = Image> {
    let layer = (0_u64..6, 20_usize..3_000).prop_map(|(seed, size)| Blob::layer(seed, size));
    let image =
        (any::<u64>(), proptest::collection::vec(layer, 0..4), any::<bool>()).prop_map(|(seed, layers, is_docker)| {
            match is_docker {
                true => Image::docker(seed, 2, 500),
                false => Image::with_layers(seed, "linux/amd64", layers),
            }
        });
    image.prop_recursive(2, 8, 3, |inner| proptest::collection::vec(inner, 1..4).prop_map(Image::index))
}

/// Runs `holds` for `cases` inputs, the same ones each time.
fn for_any<S: Strategy>(cases: u32, inputs: &S, holds: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..Config::default() };
    TestRunner::new(config).run(inputs, holds).unwrap();
}

fn refused(registry: &ScriptedRegistry) -> Vec<String> {
    let log = registry.log();
    log.iter().filter(|seen| seen.method == "PUT" && seen.status >= 400).map(|seen| seen.line()).collect()
}

fn writes(registry: &ScriptedRegistry) -> usize {
    registry.log().iter().filter(|seen| !matches!(seen.method.as_str(), "GET" | "HEAD")).count()
}

#[test]
fn a_manifest_comes_after_its_content_and_a_second_copy_writes_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for_any(40, &images(), |image| {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        pair.source.push("app", "1", &image);
        let digest = image.digest();
        runtime.block_on(pair.copy("1", &digest)).unwrap();
        // The registry refuses a manifest that names what it does not have.
        prop_assert_eq!(refused(&pair.destination), Vec::<String>::new());
        prop_assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        let before = writes(&pair.destination);
        let fresh = RegistryPair { engine: Default::default(), ..pair };
        let again = runtime.block_on(fresh.copy("1", &digest)).unwrap();
        prop_assert!(again.already_there && again.moved == 0, "{again:?}");
        prop_assert_eq!(writes(&fresh.destination), before);
        Ok(())
    });
}

#[test]
fn an_interrupted_copy_followed_by_a_whole_one_ends_as_a_whole_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let interrupted = AtomicU64::new(0);
    for_any(40, &(images(), 1_u32..40), |(image, request)| {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        pair.source.push("app", "1", &image);
        let digest = image.digest();
        pair.destination.fault(When::asked("", "/v2/").nth(request).always(), ScriptedFault::error(403, "DENIED"));
        if runtime.block_on(pair.copy("1", &digest)).is_err() {
            interrupted.fetch_add(1, Ordering::Relaxed);
        }
        if pair.destination.tags("app").contains_key("1") {
            prop_assert_eq!(pair.destination.tree("app", "1"), image.tree_digests(), "a tag is whole or is not there");
        }
        pair.destination.clear_faults();
        let next = RegistryPair { engine: Default::default(), ..pair };
        runtime.block_on(next.copy("1", &digest)).unwrap();
        prop_assert_eq!(next.destination.contents("app"), image.tree_digests());
        prop_assert_eq!(next.destination.tags("app"), [("1".to_owned(), digest)].into());
        Ok(())
    });
    assert!(interrupted.into_inner() > 10, "most copies are interrupted");
}
