//! `make micro`: what hashing, selecting and reading manifests take of the processor.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program for developers")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transship::image::{Algorithm, Digest, DigestHasher, Manifest, RepositoryName, Tag};
use transship::plan::{CopyOptions, NamespacedName, PatternRoom, RepositoryFilters, Rule, Selection, TagFilters};
use transship::terms::{RepositoryFilter, RepositoryFilterType, TagFilter, TagFilterType, VersionSyntax};

criterion_group!(benches, hashing, selection, manifests);
criterion_main!(benches);

/// Pieces go from one pipe into another and are hashed on the way, as blobs are.
fn hashing(criterion: &mut Criterion) {
    const WHOLE: usize = 64 << 20;
    const PIECE: usize = 64 << 10;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let piece = vec![0x5a; PIECE];
    let mut group = criterion.benchmark_group("blobs");
    group.sample_size(10).throughput(Throughput::Bytes(WHOLE as u64));
    group.bench_function("hash", |bencher| {
        bencher.iter(|| {
            let mut hasher = DigestHasher::new(Algorithm::Sha256);
            (0..WHOLE / PIECE).for_each(|_| hasher.update(black_box(&piece)));
            hasher.finish()
        });
    });
    group.bench_function("hash and forward", |bencher| {
        bencher.iter(|| runtime.block_on(forward(&piece, WHOLE / PIECE)));
    });
    group.finish();
}

async fn forward(piece: &[u8], pieces: usize) -> Digest {
    let (mut sender, mut from) = tokio::io::duplex(256 << 10);
    let (mut to, mut receiver) = tokio::io::duplex(256 << 10);
    let send = async move {
        for _ in 0..pieces {
            sender.write_all(piece).await.unwrap();
        }
    };
    let hash = async move {
        let (mut hasher, mut buffer) = (DigestHasher::new(Algorithm::Sha256), vec![0; piece.len()]);
        loop {
            match from.read(&mut buffer).await.unwrap() {
                0 => return hasher.finish(),
                length => {
                    hasher.update(&buffer[..length]);
                    to.write_all(&buffer[..length]).await.unwrap();
                }
            }
        }
    };
    let receive = async move { tokio::io::copy(&mut receiver, &mut tokio::io::sink()).await.unwrap() };
    let ((), digest, _) = tokio::join!(send, hash, receive);
    digest
}

/// A hundred thousand repositories against 25 rules of four prefixes and an exact name, and as many tags of one of
/// them.
fn selection(criterion: &mut Criterion) {
    let names: Vec<RepositoryName> =
        (0..100_000).map(|number| format!("team-{}/app-{number}", number % 97).parse().unwrap()).collect();
    let filter = |filter: &str, filter_type| TagFilter {
        filter: filter.to_owned(),
        filter_type,
        version_syntax: VersionSyntax::default(),
    };
    let wanted = [filter(">=1.2 <3", TagFilterType::SemverMatch), filter("release-*", TagFilterType::GlobMatch)];
    let unwanted = [filter(".*-(rc|beta)[0-9]*", TagFilterType::RegexMatch)];
    let tags = Arc::new(TagFilters::parse(Some(&wanted), &unwanted, &mut PatternRoom::default()).unwrap());
    let of_repositories = |filter: String, filter_type| RepositoryFilter { filter, filter_type };
    let rule = |number: usize| {
        let prefix = |part: usize| format!("team-{}/", 4 * number + part);
        let prefixes = (0..4).map(|part| of_repositories(prefix(part), RepositoryFilterType::PrefixMatch));
        let exact = of_repositories(names[number].to_string(), RepositoryFilterType::ExactMatch);
        let filters: Vec<_> = prefixes.chain([exact]).collect();
        Rule {
            name: format!("rule-{number}"),
            repositories: RepositoryFilters::parse("spec.rules", Some(&filters), &[], &mut PatternRoom::default())
                .unwrap(),
            destinations: vec![NamespacedName { namespace: "team".to_owned(), name: format!("d-{number}") }.into()],
            options: CopyOptions::default(),
            deletion: None,
            newest: None,
            choice_hash: String::new(),
            tags: tags.clone(),
            immutable_tags: Vec::new(),
        }
    };
    let selection = Selection { rules: (0..25).map(rule).collect() };
    let mut group = criterion.benchmark_group("selection");
    group.sample_size(10).throughput(Throughput::Elements(names.len() as u64));
    group.bench_function("100,000 repositories, 25 rules", |bencher| {
        bencher.iter(|| names.iter().map(|name| selection.matches(name).len()).sum::<usize>());
    });
    let listed: Vec<Tag> = (0..100_000)
        .map(|number| match number % 4 {
            0 => format!("v1.{}.{number}", number % 9),
            1 => format!("release-{number}"),
            2 => format!("release-{number}-rc{}", number % 3),
            _ => format!("v1.{}.{number}-beta{}", number % 9, number % 3),
        })
        .map(|tag| tag.parse().unwrap())
        .collect();
    let of_one = selection.tags_of(&names[0]);
    let taken = listed.iter().filter(|tag| of_one.takes(tag)).count();
    assert!((listed.len() / 4..listed.len() * 3 / 4).contains(&taken), "{taken} tags are taken");
    group.bench_function("100,000 tags, filters of each type", |bencher| {
        bencher.iter(|| listed.iter().filter(|tag| of_one.takes(tag)).count());
    });
    group.finish();
}

/// A manifest of fifty layers, and an index of fifty images.
fn manifests(criterion: &mut Criterion) {
    let descriptor = |number: usize, media_type: &str| json!({"mediaType": media_type, "digest": Digest::sha256(&number.to_le_bytes()).as_str(), "size": 1000 + number});
    let layers: Vec<_> = (0..50).map(|n| descriptor(n, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
    let children: Vec<_> = (0..50).map(|n| descriptor(n, "application/vnd.oci.image.manifest.v1+json")).collect();
    let image = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(99, "application/vnd.oci.image.config.v1+json"), "layers": layers});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children});
    let mut group = criterion.benchmark_group("manifests");
    for (name, document) in [("image of 50 layers", image), ("index of 50 images", index)] {
        let bytes = Bytes::from(document.to_string());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || bytes.clone(),
                |bytes| Manifest::parse(None, bytes).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
