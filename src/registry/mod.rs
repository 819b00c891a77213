//! Speaks the OCI distribution API to one registry: authentication, manifests, blobs, uploads, and the egress guard.

mod client;
mod egress;
mod error;

pub use client::{BlobStream, Client, ClientId, Credentials, ManifestHead, Reference, RegistryOptions, UploadOutcome};
pub use egress::{EgressPolicy, HostPort};
pub use error::{ErrorKind, RegistryError};
