//! The content of repositories: manifests and blobs, verified by digest and size.

pub(crate) mod blobs;
pub(crate) mod manifests;
