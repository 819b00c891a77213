//! Sets of images to copy, by which copying is measured and its requests are counted; the same every time.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use super::image::{Blob, Image};
use super::pusher::Pusher;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// Repositories to copy.
#[derive(Debug, Clone)]
pub struct Fixture {
    pub repositories: Vec<FixtureRepository>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct FixtureRepository {
    pub name: String,
    pub tags: Vec<(String, Image)>,
    /// The referrers of the images of the tags, by the digest of their subject.
    pub referrers: Vec<(String, Image)>,
}

/// The content that a destination must have in the end: the fixture without its bytes.
#[derive(Debug, Clone, Default)]
pub struct ExpectedContents {
    pub repositories: BTreeMap<String, RepositoryContents>,
}

/// The content that one repository must have.
#[derive(Debug, Clone, Default)]
pub struct RepositoryContents {
    /// The digest of each tag.
    pub tags: BTreeMap<String, String>,
    /// Every manifest.
    pub manifests: BTreeSet<String>,
    /// The size of every blob.
    pub blobs: BTreeMap<String, u64>,
    /// The referrers that must be listed for a digest.
    pub referrers: BTreeMap<String, BTreeSet<String>>,
    /// The number of further tags that the source lists.
    pub other_tags: usize,
}

/// **A**: `tags` images for two platforms of five layers, of which three are shared by a platform's images.
pub fn multi_platform(tags: u64, layer: usize) -> Fixture {
    let bases = [base(10, 3, layer), base(20, 3, layer)];
    let image = |tag: u64| multi_platform_image(&bases, tag, 1_000 + 10 * tag, layer);
    one_repository("app", (0..tags).map(|tag| (format!("v{tag}"), image(tag))).collect())
}

/// **E**: another image for one tag of [`multi_platform`], with one new layer.
pub fn changed_platform_image(fixture: &Fixture, tag: usize, layer: usize) -> Image {
    let mut children = fixture.repositories[0].tags[tag].1.children.clone();
    let mut layers: Vec<Blob> = children[0].blobs[1..].to_vec();
    *layers.last_mut().expect("the image has layers") = Blob::layer(999_999, layer);
    children[0] = Image::with_layers(999_999, "linux/amd64", layers);
    Image::index(children)
}

/// **B**: `tags` small images of four layers, of which three are shared by all.
pub fn small_tags(tags: u64, layer: usize) -> Fixture {
    let shared = base(30, 3, layer);
    one_repository(
        "app",
        (0..tags).map(|tag| (format!("v{tag}"), on_base(&shared, 2_000 + 10 * tag, 1, layer))).collect(),
    )
}

/// **C** and **fleet**: `repositories` of `tags` images with two layers of their own on one of `bases` bases of three
/// layers.
pub fn shared_bases(repositories: u64, tags: u64, bases: u64, base_layer: usize, layer: usize) -> Fixture {
    let bases: Vec<_> = (0..bases).map(|number| base(40 + 10 * number, 3, base_layer)).collect();
    let repository = |number: u64| {
        let shared = &bases[usize::try_from(number).expect("a small number") % bases.len()];
        let image = |tag: u64| on_base(shared, 100_000 + 1_000 * number + 10 * tag, 2, layer);
        repository_of(&format!("svc-{number:02}"), (0..tags).map(|tag| (format!("v{tag}"), image(tag))).collect())
    };
    Fixture { repositories: (0..repositories).map(repository).collect() }
}

/// **D**: one image of `layers` layers.
pub fn bulk(layers: u64, layer: usize) -> Fixture {
    one_repository("bulk", vec![("v0".to_owned(), Image::single(50, layers, layer))])
}

/// **F**: a fixture of one repository with a signature and a software bill of materials for each tag.
pub fn signed(mut fixture: Fixture) -> Fixture {
    let repository = &mut fixture.repositories[0];
    for (number, (_, image)) in repository.tags.iter().enumerate() {
        for (kind, size) in
            [("application/vnd.dev.sigstore.bundle.v0.3+json", 4 * KIB), ("application/spdx+json", 64 * KIB)]
        {
            let seed = 60_000 + 10 * number as u64 + size as u64 % 7;
            repository.referrers.push((image.digest(), Image::artifact(seed, kind, size, Some(image))));
        }
    }
    fixture
}

/// **G**: `tags` tags for `images` images.
pub fn aliases(tags: usize, images: u64, layer: usize) -> Fixture {
    let shared = base(70, 3, layer);
    let images: Vec<_> = (0..images).map(|number| on_base(&shared, 70_000 + 10 * number, 1, layer)).collect();
    let tag = |number: usize| (format!("v{number}"), images[number % images.len()].clone());
    one_repository("app", (0..tags).map(tag).collect())
}

/// **H**: `tags` tags, of which the last ten begin with `wanted-`.
pub fn many_tags(tags: usize, layer: usize) -> Fixture {
    let mut fixture = aliases(tags, 20, layer);
    for (tag, _) in fixture.repositories[0].tags.iter_mut().rev().take(10) {
        *tag = format!("wanted-{tag}");
    }
    fixture
}

/// **I**: images whose layers are not compressed.
pub fn plain_tar(tags: u64, layer: usize) -> Fixture {
    let image = |tag: u64| {
        let layers = (0..3).map(|number| Blob::plain_layer(80_000 + 10 * tag + number, layer)).collect();
        Image::with_layers(80_000 + tag, "linux/amd64", layers)
    };
    one_repository("plain", (0..tags).map(|tag| (format!("v{tag}"), image(tag))).collect())
}

fn one_repository(name: &str, tags: Vec<(String, Image)>) -> Fixture {
    Fixture { repositories: vec![repository_of(name, tags)] }
}

fn repository_of(name: &str, tags: Vec<(String, Image)>) -> FixtureRepository {
    FixtureRepository { name: name.to_owned(), tags, referrers: Vec::new() }
}

fn base(seed: u64, layers: u64, layer: usize) -> Vec<Blob> {
    (0..layers).map(|number| Blob::layer(seed + number, layer)).collect()
}

fn on_base(shared: &[Blob], seed: u64, own: u64, layer: usize) -> Image {
    let layers = shared.iter().cloned().chain(base(seed, own, layer)).collect();
    Image::with_layers(seed, "linux/amd64", layers)
}

fn multi_platform_image(bases: &[Vec<Blob>; 2], tag: u64, seed: u64, layer: usize) -> Image {
    let child = |(number, (platform, shared)): (u64, (&str, &Vec<Blob>))| {
        let layers = shared.iter().cloned().chain(base(seed + 2 * number, 2, layer)).collect();
        Image::with_layers(10 * tag + number, platform, layers)
    };
    Image::index((0..).zip(["linux/amd64", "linux/arm64"].into_iter().zip(bases)).map(child).collect())
}

impl Fixture {
    /// Pushes all of it, each part of a repository once.
    pub async fn push(&self, pusher: &Pusher) {
        for repository in &self.repositories {
            let (mut blobs, mut children) = (BTreeMap::new(), BTreeMap::new());
            for (_, image) in repository.tags.iter().chain(&repository.referrers) {
                collect(image, &mut blobs, &mut children);
            }
            let name = &repository.name;
            let blobs = futures::stream::iter(blobs.values()).map(|blob| pusher.push_blob(name, blob));
            blobs.buffer_unordered(PUSHES_AT_ONCE).collect::<()>().await;
            let children =
                futures::stream::iter(&children).map(|(digest, image)| pusher.push_manifest(name, digest, image));
            children.buffer_unordered(PUSHES_AT_ONCE).map(drop).collect::<()>().await;
            let tags =
                futures::stream::iter(&repository.tags).map(|(tag, image)| pusher.push_manifest(name, tag, image));
            tags.buffer_unordered(PUSHES_AT_ONCE).map(drop).collect::<()>().await;
            let mut lists: BTreeMap<&str, Vec<Image>> = BTreeMap::new();
            for (subject, referrer) in &repository.referrers {
                pusher.push_manifest(name, &referrer.digest(), referrer).await;
                lists.entry(subject).or_default().push(referrer.clone());
            }
            // A registry without the API for referrers has their list under a tag.
            for (subject, referrers) in lists {
                pusher.push_manifest(name, &subject.replace(':', "-"), &Image::index(referrers)).await;
            }
        }
    }

    /// Returns the content that a destination must have.
    pub fn contents(&self) -> ExpectedContents {
        let mut contents = ExpectedContents::default();
        for repository in &self.repositories {
            let into = contents.repositories.entry(repository.name.clone()).or_default();
            for (tag, image) in &repository.tags {
                into.tags.insert(tag.clone(), image.digest());
                into.add(image);
            }
            for (subject, referrer) in &repository.referrers {
                into.referrers.entry(subject.clone()).or_default().insert(referrer.digest());
                into.add(referrer);
            }
            into.other_tags = into.referrers.len();
        }
        contents
    }
}

fn collect<'a>(image: &'a Image, blobs: &mut BTreeMap<&'a str, &'a Blob>, children: &mut BTreeMap<String, &'a Image>) {
    blobs.extend(image.blobs.iter().map(|blob| (blob.digest.as_str(), blob)));
    for child in &image.children {
        collect(child, blobs, children);
        children.insert(child.digest(), child);
    }
}

impl ExpectedContents {
    /// Returns the size of every blob, each once however many repositories have it.
    pub fn unique_blobs(&self) -> BTreeMap<&str, u64> {
        let blobs = self.repositories.values().flat_map(|repository| &repository.blobs);
        blobs.map(|(digest, size)| (digest.as_str(), *size)).collect()
    }

    /// Returns the bytes of all blobs, each counted once.
    pub fn unique_bytes(&self) -> u64 {
        self.unique_blobs().values().sum()
    }

    /// Counts the tags.
    pub fn tags(&self) -> usize {
        self.repositories.values().map(|repository| repository.tags.len()).sum()
    }

    /// Counts the manifests, once in each repository.
    pub fn manifests(&self) -> usize {
        self.repositories.values().map(|repository| repository.manifests.len()).sum()
    }

    /// Counts the blobs, once in each repository.
    pub fn blobs(&self) -> usize {
        self.repositories.values().map(|repository| repository.blobs.len()).sum()
    }

    /// Counts the manifests that have referrers.
    pub fn lists(&self) -> usize {
        self.repositories.values().map(|repository| repository.referrers.len()).sum()
    }

    /// Checks that all of it is there.
    ///
    /// # Errors
    /// The first thing that is not, in a sentence.
    pub async fn verify(&self, pusher: &Pusher) -> Result<(), String> {
        for (name, repository) in &self.repositories {
            let tags = repository.tags.iter().map(|(tag, digest)| (tag, Some(digest)));
            let manifests = repository.manifests.iter().map(|digest| (digest, Some(digest)));
            let manifests = futures::stream::iter(tags.chain(manifests)).map(async |(reference, wanted)| match pusher
                .digest_of(name, reference)
                .await
            {
                found if found.as_ref() == wanted => Ok(()),
                found => Err(format!("{name}:{reference} is {found:?} and should be {wanted:?}")),
            });
            manifests.buffer_unordered(LOOKS_AT_ONCE).try_collect::<()>().await?;
            let blobs = futures::stream::iter(&repository.blobs).map(async |(digest, size)| {
                match pusher.blob_size(name, digest).await {
                    found if found == Some(*size) => Ok(()),
                    found => Err(format!("{name}: blob {digest} has {found:?} bytes and should have {size}")),
                }
            });
            blobs.buffer_unordered(LOOKS_AT_ONCE).try_collect::<()>().await?;
            for (subject, wanted) in &repository.referrers {
                let listed = pusher.referrers(name, subject).await;
                if *wanted != listed {
                    return Err(format!(
                        "{name}: {listed:?} are listed as referrers of {subject}, and should be {wanted:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl RepositoryContents {
    /// Takes what was pushed later over what it has: tags move, content stays.
    pub fn take(&mut self, later: &Self) {
        self.tags.extend(later.tags.clone());
        self.manifests.extend(later.manifests.clone());
        self.blobs.extend(later.blobs.clone());
    }

    fn add(&mut self, image: &Image) {
        self.manifests.insert(image.digest());
        self.blobs.extend(image.blobs.iter().map(|blob| (blob.digest.clone(), blob.bytes.len() as u64)));
        for child in &image.children {
            self.add(child);
        }
    }
}

const PUSHES_AT_ONCE: usize = 4;
const LOOKS_AT_ONCE: usize = 8;
