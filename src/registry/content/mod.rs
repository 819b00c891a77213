//! The content of repositories: manifests and blobs.

pub(crate) mod blobs;
pub(crate) mod manifests;
