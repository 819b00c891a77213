//! Transship replicates container images between OCI registries under Kubernetes control.

pub mod api;
pub mod image;
pub mod plan;
pub mod policy;
pub mod registry;
