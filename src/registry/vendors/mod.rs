//! APIs that registries of some vendors have in addition to the distribution API.

pub(crate) mod batches;
pub(crate) mod digest_apis;
pub(crate) mod ecr;
pub(crate) mod harbor;
pub(crate) mod sigv4;
pub(crate) mod tag_digests;
