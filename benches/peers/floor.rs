//! A client of our own that asks for no more than a copy takes, to measure others against: no retries, no
//! authentication, no looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Client, Response, StatusCode};
use serde_json::Value;

use crate::support::image::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::support::tls::install_crypto_provider;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The images that the floor client copies.
#[derive(Args, Debug)]
pub struct FloorFlags {
    /// The URL of the registry to read from.
    #[arg(long)]
    source: String,
    /// The URL of a registry to write to (repeatable).
    #[arg(long, required = true)]
    destination: Vec<String>,
    /// A repository to copy (repeatable).
    #[arg(long, required = true)]
    repository: Vec<String>,
    /// Copies only tags that begin like this.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Asks the destination for every tag, manifest and blob in the end.
    #[arg(long)]
    read_back: bool,
    /// Copies only tags that are not at the destination.
    #[arg(long)]
    compare: bool,
}

/// A manifest that was read.
struct FloorManifest {
    digest: String,
    media_type: String,
    bytes: Bytes,
    children: Vec<String>,
    blobs: Vec<(String, u64)>,
}

/// The content to be written to one repository.
#[derive(Default)]
struct RepositoryWork {
    repository: String,
    tags: Vec<(String, Arc<FloorManifest>)>,
    children: Vec<Arc<FloorManifest>>,
    /// With their sizes.
    blobs: BTreeMap<String, u64>,
}

struct Floor {
    client: Client,
    flags: FloorFlags,
}

/// Copies: lists of tags, manifests, each blob once, mounts, manifests.
///
/// # Errors
/// The first thing that goes wrong.
pub async fn run(flags: FloorFlags) -> Result<()> {
    install_crypto_provider();
    let client = Client::builder().user_agent("floor").no_proxy().pool_max_idle_per_host(AT_ONCE).build()?;
    let floor = Floor { client, flags };
    let reads = futures::stream::iter(&floor.flags.repository).map(|repository| floor.read(repository));
    let work: Vec<RepositoryWork> = reads.buffered(AT_ONCE).try_collect().await?;
    floor.copy_blobs(&work).await?;
    for destination in &floor.flags.destination {
        let children =
            work.iter().flat_map(|w| w.children.iter().map(|manifest| (&w.repository, &manifest.digest, manifest)));
        let tags = work.iter().flat_map(|w| w.tags.iter().map(|(tag, manifest)| (&w.repository, tag, manifest)));
        for manifests in [children.collect::<Vec<_>>(), tags.collect()] {
            let puts = futures::stream::iter(manifests).map(|(repository, reference, manifest)| {
                floor.put_manifest(destination, repository, reference, manifest)
            });
            puts.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        if floor.flags.read_back {
            floor.read_back(destination, &work).await?;
        }
    }
    Ok(())
}

impl Floor {
    /// Returns the tags of a repository with all manifests below them.
    async fn read(&self, repository: &str) -> Result<RepositoryWork> {
        let mut work = RepositoryWork { repository: repository.to_owned(), ..RepositoryWork::default() };
        let mut tags = Vec::new();
        loop {
            let last = tags.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let url = format!("{}/v2/{repository}/tags/list?n=1000{last}", self.flags.source);
            let page: Value = ok(self.client.get(url).send().await?)?.json().await?;
            let page = page["tags"].as_array().cloned().unwrap_or_default();
            tags.extend(page.iter().filter_map(Value::as_str).map(str::to_owned));
            if page.len() < 1_000 {
                break;
            }
        }
        tags.retain(|tag| tag.starts_with(&self.flags.prefix));
        let wanted = futures::stream::iter(tags).map(async |tag| match self.is_there(repository, &tag).await? {
            true => Ok(None),
            false => {
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some((self.manifest(repository, &tag).await?, tag)))
            }
        });
        let tops: Vec<_> = wanted.buffered(AT_ONCE).try_collect().await?;
        let mut seen = BTreeSet::new();
        let mut wanted: Vec<String> = Vec::new();
        for (manifest, tag) in tops.into_iter().flatten() {
            wanted.extend(manifest.children.iter().filter(|child| seen.insert((*child).clone())).cloned());
            work.blobs.extend(manifest.blobs.iter().cloned());
            work.tags.push((tag, manifest));
        }
        while !wanted.is_empty() {
            let level = futures::stream::iter(std::mem::take(&mut wanted))
                .map(async |digest| self.manifest(repository, &digest).await);
            for manifest in level.buffered(AT_ONCE).try_collect::<Vec<_>>().await? {
                wanted.extend(manifest.children.iter().filter(|child| seen.insert((*child).clone())).cloned());
                work.blobs.extend(manifest.blobs.iter().cloned());
                work.children.insert(0, manifest);
            }
        }
        Ok(work)
    }

    /// Returns true if all destinations have the tag at the same digest, where that is to be looked at.
    async fn is_there(&self, repository: &str, tag: &str) -> Result<bool> {
        if !self.flags.compare {
            return Ok(false);
        }
        let mut digests = BTreeSet::new();
        for registry in std::iter::once(&self.flags.source).chain(&self.flags.destination) {
            let url = format!("{registry}/v2/{repository}/manifests/{tag}");
            let head = self.client.head(url).header(ACCEPT, manifests()).send().await?;
            digests.insert(head.headers().get(DIGEST).map(|value| value.as_bytes().to_vec()));
        }
        Ok(digests.len() == 1)
    }

    async fn manifest(&self, repository: &str, reference: &str) -> Result<Arc<FloorManifest>> {
        let url = format!("{}/v2/{repository}/manifests/{reference}", self.flags.source);
        let answer = ok(self.client.get(url).header(ACCEPT, manifests()).send().await?)?;
        let header = |name: &str| {
            Ok::<_, reqwest::header::ToStrError>(match answer.headers().get(name) {
                Some(value) => value.to_str()?.to_owned(),
                None => String::new(),
            })
        };
        let (digest, media_type) = (header(DIGEST)?, header("content-type")?);
        let bytes = answer.bytes().await?;
        let manifest: Value = serde_json::from_slice(&bytes)?;
        let named = |field: &str| match &manifest[field] {
            Value::Array(entries) => entries.clone(),
            Value::Null => Vec::new(),
            single => vec![single.clone()],
        };
        let digest_of = |entry: &Value| entry["digest"].as_str().unwrap_or_default().to_owned();
        let blobs = named("config").into_iter().chain(named("layers"));
        let blobs = blobs.map(|entry| (digest_of(&entry), entry["size"].as_u64().unwrap_or_default())).collect();
        let children = named("manifests").iter().map(digest_of).collect();
        Ok(Arc::new(FloorManifest { digest, media_type, bytes, children, blobs }))
    }

    /// Each blob goes to the first repository that needs it, and is mounted by the others.
    async fn copy_blobs(&self, work: &[RepositoryWork]) -> Result<()> {
        let mut first: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
        let mut mounts = Vec::new();
        for work in work {
            for (digest, size) in &work.blobs {
                match first.get(digest.as_str()) {
                    None => drop(first.insert(digest, (&work.repository, *size))),
                    Some((from, _)) => mounts.push((digest.as_str(), *from, work.repository.as_str())),
                }
            }
        }
        let mut largest_first: Vec<_> = first.iter().collect();
        largest_first.sort_by_key(|(_, (_, size))| std::cmp::Reverse(*size));
        let copies = futures::stream::iter(largest_first)
            .map(|(digest, (repository, size))| self.copy_blob(repository, digest, *size));
        copies.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let mounts = futures::stream::iter(mounts).map(async |(digest, from, repository)| {
            for destination in &self.flags.destination {
                let url = format!("{destination}/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
                let mounted = self.client.post(url).header(CONTENT_LENGTH, 0).send().await?;
                if mounted.status() != StatusCode::CREATED {
                    return Err(format!("{digest} was not mounted: {}", mounted.status()).into());
                }
            }
            Ok(())
        });
        mounts.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn copy_blob(&self, repository: &str, digest: &str, size: u64) -> Result<()> {
        let url = format!("{}/v2/{repository}/blobs/{digest}", self.flags.source);
        let answer = ok(self.client.get(url).send().await?)?;
        if let [destination] = self.flags.destination.as_slice() {
            return self.upload(destination, repository, digest, size, Body::wrap_stream(answer.bytes_stream())).await;
        }
        let bytes = answer.bytes().await?;
        for destination in &self.flags.destination {
            self.upload(destination, repository, digest, size, bytes.clone().into()).await?;
        }
        Ok(())
    }

    async fn upload(&self, registry: &str, repository: &str, digest: &str, size: u64, body: Body) -> Result<()> {
        let url = format!("{registry}/v2/{repository}/blobs/uploads/");
        let begun = ok(self.client.post(url).header(CONTENT_LENGTH, 0).send().await?)?;
        let location = begun.headers().get(LOCATION).ok_or("an upload has a location")?.to_str()?;
        let mark = if location.contains('?') { '&' } else { '?' };
        let put = self.client.put(format!("{location}{mark}digest={digest}"));
        let put = put.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, size).body(body);
        ok(put.send().await?).map(drop)
    }

    async fn put_manifest(
        &self,
        registry: &str,
        repository: &str,
        reference: &str,
        manifest: &FloorManifest,
    ) -> Result<()> {
        let put = self.client.put(format!("{registry}/v2/{repository}/manifests/{reference}"));
        let put = put.header(CONTENT_TYPE, &manifest.media_type).body(manifest.bytes.clone());
        ok(put.send().await?).map(drop)
    }

    async fn read_back(&self, registry: &str, work: &[RepositoryWork]) -> Result<()> {
        let mut paths = Vec::new();
        for RepositoryWork { repository, tags, children, blobs } in work {
            paths.extend(tags.iter().map(|(tag, _)| format!("{registry}/v2/{repository}/manifests/{tag}")));
            paths.extend(children.iter().map(|m| format!("{registry}/v2/{repository}/manifests/{}", m.digest)));
            paths.extend(blobs.keys().map(|digest| format!("{registry}/v2/{repository}/blobs/{digest}")));
        }
        let looks = futures::stream::iter(paths)
            .map(async |url| ok(self.client.head(url).header(ACCEPT, manifests()).send().await?).map(drop));
        looks.buffer_unordered(AT_ONCE).try_collect().await
    }
}

fn ok(answer: Response) -> Result<Response> {
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(format!("{}: {}", answer.url(), answer.status()).into()),
    }
}

fn manifests() -> String {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ")
}

const AT_ONCE: usize = 8;
const DIGEST: &str = "docker-content-digest";
