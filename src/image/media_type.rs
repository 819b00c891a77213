//! Media types of manifests, spelled as the OCI image specification and Docker spell them.

/// An OCI image manifest (also of artifacts).
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The OCI artifact manifest of release candidate days, still found in registries.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// The `Accept` header of every manifest request: all kinds that are understood, and any other.
pub const MANIFEST_ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.artifact.manifest.v1+json, */*";

/// Returns true for the media types of layers and configurations. Caches of BuildKit are indexes that name such content
/// where others name manifests.
pub fn is_of_blob(media_type: &str) -> bool {
    let families = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    let others = [
        "application/vnd.buildkit.cacheconfig.v0",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    ];
    families.iter().any(|family| media_type.starts_with(family)) || others.contains(&media_type)
}
