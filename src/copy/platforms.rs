//! Chooses the manifests of an image when only some of its platforms are wanted.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::image::{
    Descriptor, Digest, EntryRole, IndexEntry, Manifest, ManifestKind, Platform, cut_index, is_of_blob, keep_chosen,
};
use crate::plan::CopyOptions;
use crate::terms::PlatformIndex;

/// The manifests that are copied.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Children before parents, the root last.
    pub(super) manifests: Vec<Manifest>,
    /// The indexes among them that name manifests which are left out.
    pub(super) sparse: HashSet<Digest>,
}

/// An image without a manifest to choose.
#[derive(Debug)]
pub(super) enum ChoiceError {
    /// The image is of several platforms, but of none that is wanted; a sentence that names them.
    PlatformNotFound(String),
    /// An index cannot be read.
    Invalid(serde_json::Error),
}

impl From<serde_json::Error> for ChoiceError {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(error)
    }
}

/// Returns the blobs that `manifest` names where an index names manifests: it is a cache of BuildKit.
pub(super) fn blob_entries(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let children = match &manifest.kind {
        ManifestKind::Index { children } => children.as_slice(),
        ManifestKind::Image { .. } => &[],
    };
    children.iter().filter(|child| is_of_blob(&child.media_type))
}

/// Returns the manifests that `manifest` names and that may have to be copied.
pub(super) fn wanted_children(manifest: &Manifest, platforms: &[Platform]) -> Result<Vec<Digest>, ChoiceError> {
    let ManifestKind::Index { children } = &manifest.kind else { return Ok(Vec::new()) };
    let manifests = children.iter().filter(|child| !is_of_blob(&child.media_type)).map(|child| &child.digest);
    if platforms.is_empty() {
        return Ok(manifests.cloned().collect());
    }
    let entries = IndexEntry::of(manifest)?;
    let kept = keep_chosen(&entries, platforms, &HashSet::new());
    let manifests: HashSet<&Digest> = manifests.collect();
    Ok(kept_of(&entries, &kept).filter(|digest| manifests.contains(digest)).cloned().collect())
}

/// Chooses among `manifests`, which are everything that [`wanted_children`] leads to, children before parents.
///
/// A nested index that has platforms, but none that is wanted, is left out as an image of another platform is. Where
/// the whole image is like that nothing is chosen. An image without platforms is taken as it is.
pub(super) fn choose(manifests: Vec<Manifest>, options: &CopyOptions) -> Result<Chosen, ChoiceError> {
    if options.platforms.is_empty() {
        return Ok(Chosen { manifests, sparse: HashSet::new() });
    }
    let choice = Choice::of(&manifests, &options.platforms)?;
    let reached = choice.reached(&manifests);
    let manifests: Vec<Manifest> =
        manifests.into_iter().filter(|manifest| reached.contains(&manifest.digest)).collect();
    match options.platform_index {
        PlatformIndex::Keep => {
            let lacks_some = |index: &CutIndex| index.entries.iter().any(|entry| !reached.contains(&entry.digest));
            let indexes = choice.indexes.iter().filter(|(digest, index)| reached.contains(digest) && lacks_some(index));
            let sparse = indexes.map(|(digest, _)| digest.clone()).collect();
            Ok(Chosen { manifests, sparse })
        }
        PlatformIndex::Rewrite => Ok(Chosen { manifests: choice.rewrite(manifests)?, sparse: HashSet::new() }),
    }
}

/// The entries of each index that are kept.
struct Choice {
    indexes: HashMap<Digest, CutIndex>,
}

struct CutIndex {
    entries: Vec<IndexEntry>,
    kept: Vec<bool>,
    /// True if an entry, at any depth, is of a platform.
    has_platforms: bool,
    /// True if an entry, at any depth, is of a platform that is wanted.
    has_wanted: bool,
}

impl Choice {
    fn of(manifests: &[Manifest], platforms: &[Platform]) -> Result<Self, ChoiceError> {
        let mut indexes: HashMap<Digest, CutIndex> = HashMap::new();
        let mut left_out: HashSet<Digest> = HashSet::new();
        let mut seen: BTreeSet<&Platform> = BTreeSet::new();
        for index in manifests.iter().filter(|manifest| matches!(manifest.kind, ManifestKind::Index { .. })) {
            let entries = IndexEntry::of(index)?;
            let kept = keep_chosen(&entries, platforms, &left_out);
            let is_of_platform = |entry: &IndexEntry| matches!(entry.role, EntryRole::Platform(_));
            let below = |entry: &IndexEntry| indexes.get(&entry.digest);
            let has_platforms =
                entries.iter().any(|e| is_of_platform(e) || below(e).is_some_and(|below| below.has_platforms));
            let has_wanted = entries.iter().zip(&kept).any(|(entry, kept)| {
                *kept && (is_of_platform(entry) || below(entry).is_some_and(|below| below.has_wanted))
            });
            if has_platforms && !has_wanted {
                left_out.insert(index.digest.clone());
            }
            indexes.insert(index.digest.clone(), CutIndex { entries, kept, has_platforms, has_wanted });
        }
        let roles = indexes.values().flat_map(|index| &index.entries).map(|entry| &entry.role);
        seen.extend(
            roles.filter_map(|role| if let EntryRole::Platform(platform) = role { platform.as_ref() } else { None }),
        );
        match manifests.last() {
            Some(root) if left_out.contains(&root.digest) => {
                Err(ChoiceError::PlatformNotFound(not_found(platforms, &seen)))
            }
            _ => Ok(Self { indexes }),
        }
    }

    /// Returns the manifests that the root, which is the last one, leads to.
    fn reached(&self, manifests: &[Manifest]) -> HashSet<Digest> {
        let mut reached: HashSet<Digest> = manifests.last().map(|root| root.digest.clone()).into_iter().collect();
        for manifest in manifests.iter().rev() {
            if let Some(index) = self.indexes.get(&manifest.digest)
                && reached.contains(&manifest.digest)
            {
                reached.extend(kept_of(&index.entries, &index.kept).cloned());
            }
        }
        reached
    }

    /// Cuts the indexes, the inner ones first, since their parents name them by digest.
    fn rewrite(&self, mut manifests: Vec<Manifest>) -> Result<Vec<Manifest>, ChoiceError> {
        let mut replaced: HashMap<Digest, (Digest, u64)> = HashMap::new();
        for manifest in &mut manifests {
            let Some(index) = self.indexes.get(&manifest.digest) else { continue };
            let bytes = cut_index(manifest, &index.kept, &replaced)?;
            if bytes == manifest.bytes {
                continue;
            }
            let digest = Digest::sha256(&bytes);
            replaced.insert(manifest.digest.clone(), (digest.clone(), bytes.len() as u64));
            if let ManifestKind::Index { children } = &mut manifest.kind {
                let stays: HashSet<&Digest> = kept_of(&index.entries, &index.kept).collect();
                children.retain(|child| stays.contains(&child.digest));
                for child in children {
                    if let Some((digest, size)) = replaced.get(&child.digest) {
                        (child.digest, child.size) = (digest.clone(), *size);
                    }
                }
            }
            (manifest.digest, manifest.bytes) = (digest, bytes);
        }
        Ok(manifests)
    }
}

fn kept_of<'a>(entries: &'a [IndexEntry], kept: &[bool]) -> impl Iterator<Item = &'a Digest> {
    entries.iter().zip(kept).filter(|(_, kept)| **kept).map(|(entry, _)| &entry.digest)
}

fn not_found(wanted: &[Platform], seen: &BTreeSet<&Platform>) -> String {
    let names = |platforms: &mut dyn Iterator<Item = &Platform>| {
        platforms.take(MAX_NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let more = if seen.len() > MAX_NAMED { format!(" and {} more", seen.len() - MAX_NAMED) } else { String::new() };
    format!(
        "the image has none of the platforms {}, but {}{more}",
        names(&mut wanted.iter()),
        names(&mut seen.iter().copied())
    )
}

const MAX_NAMED: usize = 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(manifest: &Manifest, platform: Option<&str>) -> String {
        let platform = platform.map(|platform| {
            let (os, architecture) = platform.split_once('/').unwrap();
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
        });
        let (digest, size) = (&manifest.digest, manifest.bytes.len());
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":{size}{}}}"#, platform.unwrap_or_default())
    }

    fn index(entries: &[String]) -> Manifest {
        Manifest::parse(None, Bytes::from(format!(r#"{{"manifests":[{}]}}"#, entries.join(", ")))).unwrap()
    }

    fn image(content: u8) -> Manifest {
        let digest = Digest::sha256(&[content]);
        let config = format!(r#"{{"config":{{"mediaType":"x","digest":"{digest}","size":1}}}}"#);
        Manifest::parse(None, Bytes::from(config)).unwrap()
    }

    fn options(platforms: &[&str], platform_index: PlatformIndex) -> CopyOptions {
        let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        CopyOptions { platforms, platform_index, ..CopyOptions::default() }
    }

    fn digests(manifests: &[Manifest]) -> Vec<Digest> {
        manifests.iter().map(|manifest| manifest.digest.clone()).collect()
    }

    /// Returns an index of amd64, a nested one of arm64 alone, and a nested one of both.
    fn nested() -> Vec<Manifest> {
        let (amd, arm) = (image(1), image(2));
        let of_arm = index(&[entry(&arm, Some("linux/arm64"))]);
        let of_both = index(&[entry(&arm, Some("linux/arm64")), entry(&amd, Some("linux/amd64"))]);
        let root = index(&[entry(&amd, Some("linux/amd64")), entry(&of_arm, None), entry(&of_both, None)]);
        vec![amd, arm, of_arm, of_both, root]
    }

    #[test]
    fn a_kept_index_is_sparse_and_a_nested_one_of_other_platforms_is_left_out() {
        let all = nested();
        let chosen = choose(all.clone(), &options(&["linux/amd64"], PlatformIndex::Keep)).unwrap();
        assert_eq!(digests(&chosen.manifests), [0, 3, 4].map(|i: usize| all[i].digest.clone()));
        assert_eq!(chosen.sparse, HashSet::from([all[3].digest.clone(), all[4].digest.clone()]));
        let chosen = choose(all.clone(), &options(&["linux/amd64", "linux/arm64"], PlatformIndex::Keep)).unwrap();
        assert_eq!(digests(&chosen.manifests), digests(&all));
        assert!(chosen.sparse.is_empty());
    }

    #[test]
    fn nested_indexes_are_rewritten_inside_out_and_to_the_same_digest() {
        let all = nested();
        let rewrite = options(&["linux/amd64"], PlatformIndex::Rewrite);
        let chosen = choose(all.clone(), &rewrite).unwrap();
        let [amd, inner, root] = &chosen.manifests[..] else { panic!("{chosen:?}") };
        assert_eq!(amd.digest, all[0].digest);
        assert_eq!(inner.bytes, index(&[entry(amd, Some("linux/amd64"))]).bytes);
        assert_eq!(root.bytes, index(&[entry(amd, Some("linux/amd64")), entry(inner, None)]).bytes);
        assert!(root.digest.verifies(&root.bytes) && inner.digest.verifies(&inner.bytes) && chosen.sparse.is_empty());
        for manifest in [inner, root] {
            let read = Manifest::parse(None, manifest.bytes.clone()).unwrap();
            assert_eq!(format!("{:?}", read.kind), format!("{:?}", manifest.kind), "what it names is what it says");
        }
        let again = choose(chosen.manifests.clone(), &rewrite).unwrap();
        assert_eq!(digests(&again.manifests), digests(&chosen.manifests));
        let both = options(&["linux/arm64", "linux/amd64"], PlatformIndex::Rewrite);
        assert_eq!(
            digests(&choose(all.clone(), &both).unwrap().manifests),
            digests(&all),
            "nothing is cut: the bytes stay"
        );
    }

    #[test]
    fn an_image_without_a_wanted_platform_names_those_that_it_has() {
        for how in [PlatformIndex::Keep, PlatformIndex::Rewrite] {
            let refused = choose(nested(), &options(&["windows/amd64"], how)).unwrap_err();
            let ChoiceError::PlatformNotFound(message) = refused else { panic!("{refused:?}") };
            assert_eq!(message, "the image has none of the platforms windows/amd64, but linux/amd64, linux/arm64");
            let single = choose(vec![image(1)], &options(&["windows/amd64"], how)).unwrap();
            assert_eq!(single.manifests.len(), 1, "an image of a single platform is taken whatever it is");
            let artifacts = vec![image(1), index(&[entry(&image(1), None)])];
            assert_eq!(choose(artifacts, &options(&["windows/amd64"], how)).unwrap().manifests.len(), 2);
        }
    }

    #[test]
    fn only_what_may_be_kept_is_asked_for() {
        let all = nested();
        let wanted = |platforms: &[&str]| {
            let platforms: Vec<Platform> = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
            wanted_children(&all[4], &platforms).unwrap().len()
        };
        assert_eq!((wanted(&[]), wanted(&["linux/amd64"]), wanted(&["linux/arm64"])), (3, 3, 2));
    }
}
