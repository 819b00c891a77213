//! Registries and policies of files, as the replication core asks for them.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::files::Documents;
use super::registries::FileRegistries;
use crate::locked::Locked;
use crate::plan::NamespacedName;
use crate::policy::{Decision, PermissionRequest, evaluate};
use crate::registry::Client;
use crate::replication::{Access, Unusable};
use crate::terms::{CreateRepositories, DEFAULT_SWEEP_REQUESTS, reason};

/// The files as they were last read well.
pub(super) struct FileAccess(Locked<Arc<FileContent>>);

/// The content of the files.
pub(super) struct FileContent {
    /// The documents.
    pub(super) documents: Documents,
    /// The clients of their Registries.
    pub(super) registries: FileRegistries,
}

impl FileAccess {
    /// Gives access to `content`.
    pub(super) fn new(content: FileContent) -> Self {
        Self(Locked::new(Arc::new(content)))
    }

    /// Returns the files as they were last read well.
    pub(super) fn content(&self) -> Arc<FileContent> {
        self.0.lock().clone()
    }

    /// Replaces the content.
    pub(super) fn replace(&self, content: FileContent) {
        *self.0.lock() = Arc::new(content);
    }
}

impl Access for FileAccess {
    fn client<'a>(&'a self, registry: &'a NamespacedName) -> BoxFuture<'a, Result<Client, Unusable>> {
        let known = self.content().registries.get(registry).map(|known| known.client.clone());
        let NamespacedName { namespace, name } = registry;
        let missing = || Unusable {
            reason: reason::REGISTRY_NOT_FOUND,
            message: format!("no file has Registry {namespace}/{name}"),
        };
        std::future::ready(known.ok_or_else(missing)).boxed()
    }

    fn registry(&self, registry: &NamespacedName) -> Option<(String, CreateRepositories)> {
        self.content().registries.get(registry).map(|known| (known.host.clone(), known.create))
    }

    fn sweep_rate(&self, registry: &NamespacedName) -> u32 {
        let content = self.content();
        let registry = content.documents.registries.get(registry);
        registry.map_or(DEFAULT_SWEEP_REQUESTS, |registry| registry.spec.limits.sweep_requests_per_second)
    }

    /// Logins are read with the files.
    fn suspect(&self, _registry: &NamespacedName) {}

    /// Registries of files have no conditions.
    fn served(&self, _registry: &NamespacedName) {}

    fn notification_token<'a>(&'a self, registry: &'a NamespacedName) -> BoxFuture<'a, Option<Vec<u8>>> {
        std::future::ready(self.content().documents.notification_token(registry)).boxed()
    }

    fn decide<'a>(&'a self, request: PermissionRequest<'a>) -> BoxFuture<'a, Decision> {
        let content = self.content();
        let policies = content.documents.policies.get(request.registry_namespace).map_or(&[][..], Vec::as_slice);
        std::future::ready(evaluate(&request, policies)).boxed()
    }
}
