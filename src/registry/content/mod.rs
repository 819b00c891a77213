//! The content of repositories: manifests and blobs, verified by digest and size.

mod blob_page;
pub(crate) mod blobs;
pub(crate) mod head_verdict;
pub(crate) mod manifests;
