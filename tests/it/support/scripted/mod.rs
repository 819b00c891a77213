//! A registry of our own, in memory: complete in its plain personality, which the conformance suite of the OCI says; in
//! others it plays the quirks of the registries that there are, and it breaks on command. It writes down every request.
//!
//! ```ignore
//! let registry = ScriptedRegistry::start(Personality::plain());
//! registry.push("team/app", "1", &Image::single(1, 2, 500));
//! registry.fault(When::asked("GET", "/blobs/").nth(2), ScriptedFault::CutAnswer(100));
//! assert_eq!(registry.count("PUT", "/blobs/uploads/"), 2);
//! ```

mod answer;
mod blobs;
mod call;
pub mod ecr;
mod faults;
mod harbor;
mod listing;
mod log;
mod logins;
mod manifests;
mod personality;
mod products;
mod server;
mod shared;
mod store;
mod tokens;
mod uploads;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[allow(unused_imports, reason = "not every program that includes this takes everything")]
pub use blobs::gzipped;
use bytes::Bytes;
pub use faults::{ScriptedFault, When};
pub use log::SeenRequest;
pub use logins::{PASSWORD, USER};
pub use personality::*;

use super::background::BackgroundServer;
use super::image::Image;
use super::pusher::Pusher;
use server::serve;
use shared::{RegistryState, Role};

/// A running registry with two origins: its own, and another one that keeps blobs or gives tokens where a personality
/// wants that.
pub struct ScriptedRegistry {
    own: BackgroundServer,
    other: BackgroundServer,
    shared: Arc<RegistryState>,
}

impl ScriptedRegistry {
    /// Starts an empty one on free ports.
    pub fn start(personality: Personality) -> Self {
        let shared = Arc::new(RegistryState::new(personality));
        let server = |role| {
            let shared = shared.clone();
            BackgroundServer::start("scripted-registry", move |listener| serve(listener, shared, role))
        };
        let (own, other) = (server(Role::Registry), server(Role::Other));
        shared.set_origins(own.address(), other.address());
        Self { own, other, shared }
    }

    /// Changes its personality from the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Personality)) {
        let mut current = self.shared.personality.lock().expect("no holder panics");
        let mut changed = Personality::clone(&current);
        change(&mut changed);
        *current = Arc::new(changed);
    }

    /// Lets requests meet a fault.
    pub fn fault(&self, when: When, fault: ScriptedFault) {
        self.shared.faults.add(when, fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Returns the name of its personality.
    pub fn name(&self) -> &'static str {
        self.shared.personality.lock().expect("no holder panics").name
    }

    pub fn address(&self) -> SocketAddr {
        self.own.address()
    }

    /// Returns its host and port, as image names begin with.
    pub fn host(&self) -> String {
        self.address().to_string()
    }

    /// Returns the host and port of its other origin.
    pub fn other_host(&self) -> String {
        call::by_name(self.other.address())
    }

    /// Returns its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Returns a client that is independent of the project's own, with the right password.
    pub fn pusher(&self) -> Pusher {
        Pusher::new(&self.url()).user(USER, PASSWORD)
    }

    /// Makes a repository, where they have to be made.
    pub fn create_repository(&self, repository: &str) {
        self.shared.store().repositories.entry(repository.to_owned()).or_default();
    }

    /// Puts an image with everything below it there, without any request, and gives its digest.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        let digest = self.push_untagged(repository, image);
        self.tag(repository, tag, &digest);
        digest
    }

    /// Pushes an image without a tag.
    pub fn push_untagged(&self, repository: &str, image: &Image) -> String {
        for child in &image.children {
            self.push_untagged(repository, child);
        }
        let mut store = self.shared.store();
        for blob in &image.blobs {
            store.put_blob(repository, &blob.digest, blob.bytes.clone());
        }
        let digest = image.digest();
        store.put_manifest(repository, &digest, &image.media_type, image.bytes.clone().into());
        digest
    }

    /// Puts a blob there under a digest that it is to have, which may be one of another algorithm.
    pub fn put_blob(&self, repository: &str, digest: &str, bytes: Bytes) {
        self.shared.store().put_blob(repository, digest, bytes);
    }

    /// Puts a manifest in the same way.
    pub fn put_manifest(&self, repository: &str, digest: &str, media_type: &str, bytes: Vec<u8>) {
        self.shared.store().put_manifest(repository, digest, media_type, bytes.into());
    }

    /// Points a tag at a manifest that is there.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        let mut store = self.shared.store();
        store.repositories.entry(repository.to_owned()).or_default().tag(tag, digest);
    }

    /// Lists a crowd of tags in front of those that there are. They are made up when they are asked for.
    pub fn crowd(&self, repository: &str, tags: usize) {
        self.shared.store().repositories.entry(repository.to_owned()).or_default().crowd = tags;
    }

    /// Removes the blobs that no manifest of their repository names, as an owner's garbage collection does at once.
    pub fn collect_garbage(&self) {
        self.shared.store().collect_garbage();
    }

    /// Removes a blob from a repository, as an owner's garbage collection may.
    pub fn lose_blob(&self, repository: &str, digest: &str) {
        if let Some(repository) = self.shared.store().repositories.get_mut(repository) {
            repository.blobs.remove(digest);
        }
    }

    /// Removes a manifest, and the tags that point at it.
    pub fn lose_manifest(&self, repository: &str, digest: &str) {
        if let Some(repository) = self.shared.store().repositories.get_mut(repository) {
            repository.manifests.remove(digest);
            repository.tags.retain(|_, target| target != digest);
        }
    }

    /// Changes one byte of a content, as a failing disk may; who asks for the digest gets the wrong bytes.
    pub fn corrupt(&self, digest: &str) {
        let mut store = self.shared.store();
        let content = store.contents.get_mut(digest).expect("the content is there");
        let mut bytes = content.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        *content = bytes.into();
    }

    /// Returns the tags of a repository and what they point at.
    pub fn tags(&self, repository: &str) -> BTreeMap<String, String> {
        self.shared.store().repositories.get(repository).map(|found| found.tags.clone()).unwrap_or_default()
    }

    /// Returns the digests that each tag of a repository ever pointed at, in order.
    pub fn moves(&self, repository: &str) -> BTreeMap<String, Vec<String>> {
        let mut moves: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let store = self.shared.store();
        for (tag, digest) in store.repositories.get(repository).map(|found| &found.moves).into_iter().flatten() {
            moves.entry(tag.clone()).or_default().push(digest.clone());
        }
        moves
    }

    /// Returns the bytes of a manifest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let store = self.shared.store();
        store.repositories.get(repository)?.find(reference).map(|(_, manifest)| manifest.bytes.to_vec())
    }

    /// Returns the media type under which a manifest was pushed.
    pub fn media_type(&self, repository: &str, reference: &str) -> Option<String> {
        let store = self.shared.store();
        store.repositories.get(repository)?.find(reference).map(|(_, manifest)| manifest.media_type.clone())
    }

    /// Returns the digests of everything in a repository: manifests and blobs.
    pub fn contents(&self, repository: &str) -> BTreeSet<String> {
        let store = self.shared.store();
        let found = store.repositories.get(repository);
        found.iter().flat_map(|found| found.manifests.keys().chain(&found.blobs)).cloned().collect()
    }

    /// Returns the settings of a repository, or project, that was created by an API of the registry.
    pub fn settings(&self, name: &str) -> Option<serde_json::Value> {
        self.shared.store().settings.get(name).cloned()
    }

    /// Returns the digests of everything below a tag or digest. Panics if something that a manifest names is missing,
    /// or its bytes are not those of its digest.
    pub fn tree(&self, repository: &str, reference: &str) -> BTreeSet<String> {
        self.shared.store().tree(repository, reference)
    }

    /// Counts the open upload sessions.
    pub fn open_uploads(&self) -> usize {
        self.shared.store().uploads.len()
    }

    /// Counts the tokens that were given.
    pub fn tokens_given(&self) -> usize {
        self.shared.tokens.given()
    }

    /// Expires every token that was given until now.
    pub fn expire_tokens(&self) {
        self.shared.tokens.expire();
    }

    /// Returns the number of requests, but for those by which clients find out that this is a registry.
    pub fn requests(&self) -> usize {
        self.shared.log.count()
    }

    /// Returns the digest that a tag points at.
    pub fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        self.shared.store().repositories.get(repository)?.tags.get(tag).cloned()
    }

    /// Returns every request so far, in the order they came in; those of a [`Pusher`] left out.
    pub fn log(&self) -> Vec<SeenRequest> {
        let is_ours = |seen: &SeenRequest| !seen.user_agent.starts_with("transship-test-pusher");
        self.shared.log.lines().into_iter().filter(is_ours).collect()
    }

    /// Counts the connections to it, the pusher's too.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Counts the requests of this method whose path contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|seen| seen.is(method, part)).count()
    }
}
