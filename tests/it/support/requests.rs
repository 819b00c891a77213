//! Counts what a copy asked of registries, from their access logs, and what it takes at the least.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fixtures::ExpectedContents;
use super::registry::AccessLine;

/// Requests of one side by their method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub get: usize,
    pub head: usize,
    pub post: usize,
    pub put: usize,
    pub patch: usize,
    pub delete: usize,
    /// Of all these, how many were answered with an error other than "not found".
    pub errors: usize,
}

/// The traffic of a run, from the access logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub source: Requests,
    /// The requests of the copy.
    pub destination: Requests,
    /// Looks at what this run had written there itself, or, once it had written a tag, at anything that is there.
    pub verification: Requests,
    /// The number of blobs that were mounted; the requests are among the POSTs.
    pub mounts: usize,
    /// Bytes of blobs that the source sent, those of requests that were broken off included.
    pub moved: u64,
    /// Bytes of blobs that destinations have taken.
    pub uploaded: u64,
}

impl Requests {
    /// Returns all of them.
    pub fn total(&self) -> usize {
        self.get + self.head + self.post + self.put + self.patch + self.delete
    }

    fn add(&mut self, access: &AccessLine) {
        match access.method.as_str() {
            "GET" => self.get += 1,
            "HEAD" => self.head += 1,
            "POST" => self.post += 1,
            "PUT" => self.put += 1,
            "PATCH" => self.patch += 1,
            _ => self.delete += 1,
        }
        self.errors += usize::from(access.status >= 400 && access.status != 404);
    }
}

impl Traffic {
    /// Counts one run: the part of the logs that it has made.
    pub fn of(source: &[AccessLine], destinations: &[Vec<AccessLine>], contents: &ExpectedContents) -> Self {
        let mut traffic = Self::default();
        for access in source {
            traffic.source.add(access);
            if access.method == "GET" && access.status < 300 && access.path.contains("/blobs/") {
                traffic.moved += access.bytes;
            }
        }
        let sizes = contents.unique_blobs();
        for destination in destinations {
            let by_run: BTreeSet<_> = destination.iter().filter_map(written).collect();
            let mut tagged = BTreeSet::new();
            for access in destination {
                let is_look = matches!(access.method.as_str(), "GET" | "HEAD") && access.status == 200;
                let content = looked_at(access).filter(|_| is_look);
                if content.is_some_and(|content| by_run.contains(&content) || tagged.contains(&content.0)) {
                    traffic.verification.add(access);
                } else {
                    traffic.destination.add(access);
                }
                tagged.extend(written(access).filter(|_| is_tag(access)).map(|(repository, _)| repository));
                match uploaded(access) {
                    Some(digest) => traffic.uploaded += sizes.get(digest.as_str()).copied().unwrap_or_default(),
                    None => traffic.mounts += usize::from(is_mount(access)),
                }
            }
        }
        traffic
    }

    /// Returns the least it takes to copy to this many empty destinations without knowledge of the digests of the tags:
    /// a page of tags, every manifest and blob, and every list of referrers once from the source; two requests for each
    /// upload, and one for each mount, manifest, and list of a registry that keeps none itself.
    pub fn least_cold(contents: &ExpectedContents, destinations: usize) -> Self {
        let (unique, blobs, manifests) = (contents.unique_blobs().len(), contents.blobs(), contents.manifests());
        // Tags of one image are written one by one, although its manifest is one.
        let tagged: BTreeSet<_> =
            contents.repositories.iter().flat_map(|(name, r)| r.tags.values().map(move |d| (name, d))).collect();
        let puts = manifests - tagged.len() + contents.tags() + contents.lists();
        let pages = pages(contents);
        Self {
            source: Requests { get: pages + puts + unique, ..Requests::default() },
            destination: Requests {
                post: destinations * blobs,
                put: destinations * (unique + puts),
                ..Requests::default()
            },
            mounts: destinations * (blobs - unique),
            moved: contents.unique_bytes(),
            uploaded: destinations as u64 * contents.unique_bytes(),
            ..Self::default()
        }
    }

    /// Returns the least it takes to find out that nothing is to be done, trusting what was verified before. A list of
    /// referrers is a tag as well where a registry keeps none itself.
    pub fn least_warm(contents: &ExpectedContents) -> Self {
        let head = contents.tags() + contents.lists();
        let source = Requests { get: pages(contents), head, ..Requests::default() };
        Self { source, ..Self::default() }
    }

    /// Returns the least it takes to copy one image that a tag was moved to, with knowledge of everything that was
    /// verified before.
    pub fn least_changed(before: &ExpectedContents, after: &ExpectedContents) -> Self {
        let manifests = after.manifests() - before.manifests();
        let blobs = after.unique_blobs().len() - before.unique_blobs().len();
        let bytes = after.unique_bytes() - before.unique_bytes();
        let mut least = Self { moved: bytes, uploaded: bytes, ..Self::least_warm(after) };
        least.source.get += manifests + blobs;
        least.destination = Requests { post: blobs, put: blobs + manifests, ..Requests::default() };
        least
    }

    /// As many looks as it may take to read everything back: one for each tag, manifest, blob and list of referrers.
    pub fn most_checks(contents: &ExpectedContents, destinations: usize) -> usize {
        destinations * (contents.tags() + contents.manifests() + contents.blobs() + contents.lists())
    }

    /// Returns the requests of the copy: all but the reading back.
    pub fn copy_requests(&self) -> usize {
        self.source.total() + self.destination.total()
    }
}

/// Returns the pages of tags: of a thousand, as is usual. A full one names a next one, which may be empty.
fn pages(contents: &ExpectedContents) -> usize {
    contents.repositories.values().map(|listed| (listed.tags.len() + listed.other_tags) / 1_000 + 1).sum()
}

/// A piece of content: its repository, and its digest or tag.
type WrittenContent = (String, String);

/// Returns the content that a request has written: a manifest, or a blob that was uploaded or mounted.
fn written(access: &AccessLine) -> Option<WrittenContent> {
    let (repository, _) = split(&access.path)?;
    if access.status != 201 {
        return None;
    }
    if is_mount(access) {
        return Some((repository, query(&access.path, "mount")?));
    }
    match uploaded(access) {
        Some(digest) => Some((repository, digest)),
        None => looked_at(access),
    }
}

/// Returns the manifest or blob that the path names.
fn looked_at(access: &AccessLine) -> Option<WrittenContent> {
    let (repository, rest) = split(&access.path)?;
    let reference = rest.strip_prefix("manifests/").or_else(|| rest.strip_prefix("blobs/"))?;
    Some((repository, reference.split('?').next()?.to_owned()))
}

/// Returns true if the path names a manifest by a tag.
fn is_tag(access: &AccessLine) -> bool {
    access.path.split_once("/manifests/").is_some_and(|(_, reference)| !reference.starts_with("sha256:"))
}

fn is_mount(access: &AccessLine) -> bool {
    access.method == "POST" && access.status == 201 && query(&access.path, "mount").is_some()
}

/// Returns the digest of the blob whose upload a request has ended.
fn uploaded(access: &AccessLine) -> Option<String> {
    let ended = matches!(access.method.as_str(), "PUT" | "POST") && access.status == 201;
    (ended && access.path.contains("/blobs/uploads/") && !is_mount(access)).then(|| query(&access.path, "digest"))?
}

/// Returns the repository and what comes after it.
fn split(path: &str) -> Option<(String, &str)> {
    let path = path.strip_prefix("/v2/")?;
    let at = ["/manifests/", "/blobs/", "/tags/", "/referrers/"].iter().filter_map(|part| path.rfind(part)).max()?;
    // Of an upload, "/blobs/" is the last of these parts, since its identifier has no slash.
    Some((path[..at].to_owned(), &path[at + 1..]))
}

fn query(path: &str, name: &str) -> Option<String> {
    let url = url::Url::parse("http://registry").ok()?.join(path).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Counts the looks at each piece of content.
pub fn looks(accesses: &[AccessLine]) -> BTreeMap<WrittenContent, usize> {
    let mut looks = BTreeMap::new();
    for content in accesses.iter().filter(|access| access.method != "PUT").filter_map(looked_at) {
        *looks.entry(content).or_default() += 1;
    }
    looks
}
