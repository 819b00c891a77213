//! Everything that an image consists of: its manifests, children before parents, and its blobs.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;

use super::manifest_cache::ManifestCache;
use super::platforms::{ChoiceError, Chosen, blob_entries, choose, wanted_children};
use super::task::CopyError;
use crate::image::{Descriptor, Digest, Manifest, ManifestKind, Platform, RepositoryName};
use crate::plan::{ContentSketch, CopyOptions};
use crate::registry::{Client, ErrorKind, Reference, RegistryError};

/// The manifests and blobs of an image, as a registry has them.
#[derive(Debug)]
pub(super) struct Closure {
    /// Every manifest, each once, children before parents, the root last.
    pub(super) manifests: Vec<Manifest>,
    /// Every blob, each once. The largest first: the longest transfer starts first.
    pub(super) blobs: Vec<Descriptor>,
    /// The indexes that name manifests of platforms which are left out.
    pub(super) sparse: HashSet<Digest>,
    /// The indexes that name blobs, and the media type of the first one.
    pub(super) of_blobs: HashMap<Digest, String>,
}

/// A repository that a closure is read from.
#[derive(Clone, Copy)]
pub(super) struct ManifestSource<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a RepositoryName,
    /// Manifests that were read lately; `None` reads all of them from the registry.
    pub(super) cache: Option<&'a ManifestCache>,
}

/// A closure that could not be read.
#[derive(Debug)]
pub(super) enum ClosureError {
    /// A bound was exceeded; a sentence.
    Limit(String),
    /// The image has none of the platforms that are wanted; a sentence.
    PlatformNotFound(String),
    /// The registry failed.
    Registry {
        /// The failure.
        error: RegistryError,
        /// True if it is the root manifest that could not be read.
        is_root: bool,
    },
}

impl From<ClosureError> for CopyError {
    fn from(unread: ClosureError) -> Self {
        match unread {
            ClosureError::Limit(message) => Self::LimitExceeded(message),
            ClosureError::PlatformNotFound(message) => Self::PlatformNotFound(message),
            ClosureError::Registry { error, is_root: true } if error.kind == ErrorKind::NotFound => Self::SourceChanged,
            ClosureError::Registry { error, .. } => Self::Source(error),
        }
    }
}

impl From<ChoiceError> for ClosureError {
    fn from(not_chosen: ChoiceError) -> Self {
        match not_chosen {
            ChoiceError::PlatformNotFound(message) => Self::PlatformNotFound(message),
            ChoiceError::Invalid(error) => {
                let message = format!("the platforms of an index cannot be read: {error}");
                Self::Registry { error: RegistryError::new(ErrorKind::InvalidContent, message), is_root: false }
            }
        }
    }
}

impl Closure {
    /// Reads the manifests of the image `digest` that `options` choose, each verified by its own digest. Where an index
    /// is rewritten, the closure has the new one, and [`Closure::root`] another digest than `digest`.
    ///
    /// # Errors
    /// [`ClosureError`] if a manifest is not there or cannot be read, no platform is there that is wanted, or the image
    /// exceeds [`MAX_MANIFESTS`], [`MAX_BLOBS`], [`MAX_DEPTH`] or [`MAX_BYTES`]; nothing is read beyond a bound.
    pub(super) async fn read(
        source: ManifestSource<'_>,
        digest: &Digest,
        options: &CopyOptions,
    ) -> Result<Self, ClosureError> {
        let mut levels: Vec<Vec<Manifest>> = Vec::new();
        let mut seen = HashSet::from([digest.clone()]);
        let (mut wanted, mut bytes) = (vec![digest.clone()], 0);
        while !wanted.is_empty() {
            if levels.len() == MAX_DEPTH {
                return Err(ClosureError::Limit(format!("the index is nested deeper than {MAX_DEPTH}")));
            }
            let level = fetch(source, wanted, levels.is_empty(), &mut bytes).await?;
            wanted = new_children(&level, &options.platforms, &mut seen)?;
            levels.push(level);
        }
        Self::of(levels, options)
    }

    /// Returns the root manifest: the one that the tag points at.
    pub(super) fn root(&self) -> &Manifest {
        self.manifests.last().expect("a closure has its root")
    }

    /// Returns the manifests below the root, children before parents.
    pub(super) fn children(&self) -> &[Manifest] {
        &self.manifests[..self.manifests.len() - 1]
    }

    /// Returns the bytes of all manifests and blobs.
    pub(super) fn size(&self) -> u64 {
        let manifests = self.manifests.iter().map(|manifest| manifest.bytes.len() as u64);
        manifests.chain(self.blobs.iter().map(|blob| blob.size)).fold(0, u64::saturating_add)
    }

    /// Returns every manifest and blob with its size.
    pub(super) fn content(&self) -> ContentSketch {
        let mut content = ContentSketch::default();
        self.manifests.iter().for_each(|manifest| content.add(&manifest.digest, manifest.bytes.len() as u64));
        self.blobs.iter().for_each(|blob| content.add(&blob.digest, blob.size));
        content
    }

    /// Returns the number of foreign layers, which are not among the blobs.
    pub(super) fn foreign_layers(&self) -> usize {
        let counts = self.manifests.iter().map(|manifest| match &manifest.kind {
            ManifestKind::Image { foreign_layers, .. } => *foreign_layers,
            ManifestKind::Index { .. } => 0,
        });
        counts.sum()
    }

    fn of(levels: Vec<Vec<Manifest>>, options: &CopyOptions) -> Result<Self, ClosureError> {
        let mut manifests: Vec<Manifest> = levels.into_iter().flatten().collect();
        order_children_first(&mut manifests);
        check_sizes(&manifests)?;
        let Chosen { manifests, sparse } = choose(manifests, options)?;
        let mut seen = HashSet::new();
        let mut blobs: Vec<Descriptor> = Vec::new();
        let mut of_blobs = HashMap::new();
        for manifest in &manifests {
            let own = match &manifest.kind {
                ManifestKind::Image { blobs, .. } => blobs.iter().collect::<Vec<_>>(),
                ManifestKind::Index { .. } => blob_entries(manifest).collect(),
            };
            if let (Some(first), ManifestKind::Index { .. }) = (own.first(), &manifest.kind) {
                of_blobs.insert(manifest.digest.clone(), first.media_type.clone());
            }
            blobs.extend(own.into_iter().filter(|blob| seen.insert(blob.digest.clone())).cloned());
        }
        if blobs.len() > MAX_BLOBS {
            return Err(ClosureError::Limit(format!("the image has more than {MAX_BLOBS} blobs")));
        }
        blobs.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.digest.cmp(&b.digest)));
        Ok(Self { manifests, blobs, sparse, of_blobs })
    }
}

/// Makes sure that every descriptor states the size that its manifest has, and that no two state different sizes of one
/// content: clients that pull the image check that.
fn check_sizes(manifests: &[Manifest]) -> Result<(), ClosureError> {
    let mut sizes: HashMap<&Digest, u64> =
        manifests.iter().map(|manifest| (&manifest.digest, manifest.bytes.len() as u64)).collect();
    for manifest in manifests {
        let (ManifestKind::Index { children: named } | ManifestKind::Image { blobs: named, .. }) = &manifest.kind;
        for Descriptor { digest, size, .. } in named {
            let other = *sizes.entry(digest).or_insert(*size);
            if other != *size {
                let message = format!("{} says that {digest} has {size} bytes, but it has {other}", manifest.digest);
                let error = RegistryError::new(ErrorKind::InvalidContent, message);
                return Err(ClosureError::Registry { error, is_root: false });
            }
        }
    }
    Ok(())
}

async fn fetch(
    source: ManifestSource<'_>,
    digests: Vec<Digest>,
    is_root: bool,
    bytes: &mut usize,
) -> Result<Vec<Manifest>, ClosureError> {
    let fetched = futures::stream::iter(digests).map(|digest| async move {
        let ManifestSource { client, repository, cache } = source;
        let manifest = match cache {
            Some(cache) => cache.read(client, repository, &digest).await,
            None => client.manifest(repository, Reference::Digest(&digest)).await,
        };
        manifest.map_err(|error| ClosureError::Registry { error, is_root })
    });
    let mut fetched = std::pin::pin!(fetched.buffered(FETCHES_AT_ONCE));
    let mut manifests = Vec::new();
    while let Some(manifest) = fetched.next().await {
        let manifest = manifest?;
        *bytes += manifest.bytes.len();
        if *bytes > MAX_BYTES {
            return Err(ClosureError::Limit(format!("the manifests of the image have more than {MAX_BYTES} bytes")));
        }
        manifests.push(manifest);
    }
    Ok(manifests)
}

/// Returns the manifests that those of a level name, that are wanted, and that no level has had yet.
fn new_children(
    level: &[Manifest],
    platforms: &[Platform],
    seen: &mut HashSet<Digest>,
) -> Result<Vec<Digest>, ClosureError> {
    let mut wanted = Vec::new();
    for manifest in level {
        wanted.extend(wanted_children(manifest, platforms)?.into_iter().filter(|digest| seen.insert(digest.clone())));
        if seen.len() > MAX_MANIFESTS {
            return Err(ClosureError::Limit(format!("the image has more than {MAX_MANIFESTS} manifests")));
        }
    }
    Ok(wanted)
}

/// Orders manifests so that each goes after everything that it names. Levels alone do not order them: an index may name
/// a manifest that another of its children names too. The first manifest is the root.
fn order_children_first(manifests: &mut Vec<Manifest>) {
    let mut waiting: Vec<Option<Manifest>> = std::mem::take(manifests).into_iter().map(Some).collect();
    let index_of: HashMap<Digest, usize> =
        waiting.iter().flatten().enumerate().map(|(i, manifest)| (manifest.digest.clone(), i)).collect();
    // Depth first without recursion: a manifest is left once all its children were.
    let mut stack = vec![(0, false)];
    while let Some((index, children_done)) = stack.pop() {
        let Some(manifest) = &waiting[index] else { continue };
        if children_done {
            manifests.extend(waiting[index].take());
            continue;
        }
        stack.push((index, true));
        if let ManifestKind::Index { children } = &manifest.kind {
            stack.extend(children.iter().filter_map(|child| index_of.get(&child.digest)).map(|child| (*child, false)));
        }
    }
}

const MAX_DEPTH: usize = 8;
const MAX_MANIFESTS: usize = 1_000;
const MAX_BLOBS: usize = 20_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;
const FETCHES_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn manifest(document: String) -> Manifest {
        Manifest::parse(None, Bytes::from(document)).unwrap()
    }

    fn descriptor(digest: &Digest) -> String {
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#)
    }

    fn index(children: &[&Manifest]) -> Manifest {
        let child = |child: &&Manifest| descriptor(&child.digest).replace("1}", &format!("{}}}", child.bytes.len()));
        let children: Vec<_> = children.iter().map(child).collect();
        manifest(format!(r#"{{"manifests":[{}]}}"#, children.join(",")))
    }

    fn image(content: u8) -> Manifest {
        manifest(format!(r#"{{"config":{}}}"#, descriptor(&Digest::sha256(&[content]))))
    }

    proptest! {
        #[test]
        fn the_push_order_respects_every_descriptor(picks in prop::collection::vec(prop::collection::vec(0_usize..8, 1..4), 1..8)) {
            let mut all = vec![image(0), image(1)];
            for pick in picks {
                let children: Vec<_> = pick.iter().map(|i| &all[i % all.len()]).collect();
                let next = index(&children);
                all.push(next);
            }
            all.reverse(); // The root first, as they are fetched.
            let mut seen = HashSet::new();
            all.retain(|manifest| seen.insert(manifest.digest.clone()));
            let root = all[0].digest.clone();
            let closure = Closure::of(vec![all], &CopyOptions::default()).unwrap();
            let mut pushed = HashSet::new();
            for manifest in &closure.manifests {
                if let ManifestKind::Index { children } = &manifest.kind {
                    prop_assert!(children.iter().all(|child| pushed.contains(&child.digest)));
                }
                pushed.insert(manifest.digest.clone());
            }
            prop_assert_eq!(&closure.root().digest, &root);
        }
    }

    #[test]
    fn blobs_are_named_once_and_the_largest_first() {
        let blob = |content: u8, size: u64| {
            format!(r#"{{"mediaType":"x","digest":"{}","size":{size}}}"#, Digest::sha256(&[content]))
        };
        let one = manifest(format!(r#"{{"config":{},"layers":[{},{}]}}"#, blob(1, 5), blob(2, 100), blob(3, 50)));
        let two = manifest(format!(r#"{{"config":{},"layers":[{}]}}"#, blob(4, 6), blob(2, 100)));
        let root = index(&[&one, &two]);
        let closure = Closure::of(vec![vec![root], vec![one, two]], &CopyOptions::default()).unwrap();
        assert_eq!(closure.blobs.iter().map(|blob| blob.size).collect::<Vec<_>>(), [100, 50, 6, 5]);
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let of = |levels| Closure::of(levels, &CopyOptions::default());
        let blob = |size: u64| format!(r#"{{"mediaType":"x","digest":"{}","size":{size}}}"#, Digest::sha256(b"b"));
        let (one, two) = (image(1), manifest(format!(r#"{{"layers":[{}]}}"#, blob(5))));
        assert!(of(vec![vec![index(&[&one, &two])], vec![one.clone(), two.clone()]]).is_ok());
        let lying = manifest(format!(r#"{{"manifests":[{}]}}"#, descriptor(&one.digest)));
        let other = manifest(format!(r#"{{"layers":[{}]}}"#, blob(6)));
        let both = index(&[&two, &other]);
        for levels in [vec![vec![lying], vec![one]], vec![vec![both], vec![two, other]]] {
            let refused = CopyError::from(of(levels).unwrap_err());
            assert!(
                matches!(&refused, CopyError::Source(error) if error.kind == ErrorKind::InvalidContent),
                "{refused}"
            );
        }
    }

    #[test]
    fn foreign_layers_are_no_blobs_and_are_counted() {
        let layer = |content: u8, kind: &str| {
            let digest = Digest::sha256(&[content]);
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1,"urls":["https://elsewhere.example/x"]}}"#)
        };
        let foreign = layer(1, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        let kept = layer(2, "application/vnd.oci.image.layer.nondistributable.v1.tar");
        let one = manifest(format!(r#"{{"layers":[{foreign},{kept},{}]}}"#, layer(3, "x")));
        let two = manifest(format!(r#"{{"layers":[{foreign},{}]}}"#, layer(3, "x")));
        let levels = vec![vec![index(&[&one, &two])], vec![one, two]];
        let closure = Closure::of(levels, &CopyOptions::default()).unwrap();
        assert_eq!((closure.foreign_layers(), closure.blobs.len()), (3, 1));
    }

    #[test]
    fn more_manifests_than_any_image_has_are_not_even_asked_for() {
        let children: Vec<_> = (0..=1_000_u32).map(|i| descriptor(&Digest::sha256(&i.to_le_bytes()))).collect();
        let root = manifest(format!(r#"{{"manifests":[{}]}}"#, children.join(",")));
        let mut seen = HashSet::from([root.digest.clone()]);
        assert!(matches!(new_children(&[root], &[], &mut seen), Err(ClosureError::Limit(_))));
    }

    #[test]
    fn a_manifest_that_several_indexes_name_is_read_once() {
        let (one, two) = (image(1), image(2));
        let (left, right) = (index(&[&one, &two]), index(&[&two, &one]));
        let mut seen = HashSet::new();
        assert_eq!(new_children(&[left, right], &[], &mut seen).unwrap(), [one.digest, two.digest]);
    }
}
