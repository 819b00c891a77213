//! Read-only views over manifests: what a manifest refers to, never a second form of its bytes.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::digest::Digest;
use super::fields::{Bounded, Clear, FieldError, Fields, MAX_DESCRIPTORS};
use super::media_type;

/// The most bytes of a manifest that are read. The distribution specification asks registries to take at least 4 MiB.
pub const MAX_MANIFEST_BYTES: usize = 8 * 1024 * 1024;

/// A manifest: its very bytes, and a view of what they refer to.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The media type under which it was served and is to be pushed.
    pub media_type: String,
    /// The digest of `bytes`: by [`Manifest::parse`] the SHA-256 one; a caller that asked for the manifest by another
    /// digest, and verified it, puts that here.
    pub digest: Digest,
    /// The bytes as they were pulled; pushed unchanged.
    pub bytes: Bytes,
    /// The blobs or manifests that it refers to.
    pub kind: ManifestKind,
    /// The digest of the manifest that this one is about, if it is a referrer.
    pub subject: Option<Descriptor>,
}

/// The two shapes of manifests.
#[derive(Clone, Debug)]
pub enum ManifestKind {
    /// An image or artifact: blobs, the configuration first.
    Image {
        /// Every blob to copy, without repeats. Foreign layers are left out.
        blobs: Vec<Descriptor>,
        /// The number of foreign layers: kept elsewhere by intent, never fetched.
        foreign_layers: usize,
    },
    /// An index: other manifests, which may be indexes again.
    Index {
        /// Every child, without repeats.
        children: Vec<Descriptor>,
    },
}

impl Descriptor {
    /// Returns true if it describes an index.
    pub fn is_index(&self) -> bool {
        is_index_type(&self.media_type)
    }
}

impl Manifest {
    /// Reads `bytes` that a registry served under `content_type`.
    ///
    /// The media type inside the document is believed where the answer's own is missing or generic; where both are
    /// there they must agree. Documents that are image and index at once are refused (CVE-2021-41190), as are those
    /// with a field of a manifest or descriptor twice or in another case, which others read differently, Docker schema
    /// 1 manifests, and anything that is not a manifest at all.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(content_type: Option<&str>, bytes: Bytes) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let Clear(view): Clear<ManifestView> =
            serde_json::from_slice(&bytes).map_err(|error| ManifestError::of(&error, content_type))?;
        let media_type = view.media_type(content_type)?;
        if media_type.len() > MAX_MEDIA_TYPE_BYTES {
            return Err(ManifestError::Unknown(shown(&media_type)));
        }
        let kind = view.kind(&media_type)?;
        let digest = Digest::sha256(&bytes);
        Ok(Self { media_type, digest, bytes, kind, subject: view.subject })
    }

    /// Returns true if `digest` is one of these bytes, by either algorithm: a registry may name by SHA-256 a manifest
    /// that was pushed by another.
    pub fn has_digest(&self, digest: &Digest) -> bool {
        *digest == self.digest || (digest.algorithm() != self.digest.algorithm() && digest.verifies(&self.bytes))
    }
}

/// A reference to content: what kind, which digest, how many bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Clear<DescriptorView>")]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
}

/// A document that is not a manifest which can be replicated.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Neither an image manifest nor an index.
    #[error("the document of media type {0:?} is neither an image manifest nor an index")]
    Unknown(String),
    /// Both shapes at once.
    #[error("the document has both manifests and layers: it is ambiguous and refused")]
    Ambiguous,
    /// The answer's media type and the document's differ.
    #[error("served as {served:?} but the document says {stated:?}")]
    MediaTypeMismatch {
        /// From the `Content-Type` header.
        served: String,
        /// From the document.
        stated: String,
    },
    /// Not a JSON document of the expected shape.
    #[error("not a manifest (content type {content_type:?}, line {line}, column {column})")]
    NotJson {
        /// From the `Content-Type` header.
        content_type: String,
        /// The line at which parsing stopped.
        line: usize,
        /// The column at which parsing stopped.
        column: usize,
    },
    /// Docker schema 1.
    #[error("Docker schema 1 manifests are not replicated; push the image again with a current client")]
    Schema1,
    /// Over [`MAX_MANIFEST_BYTES`].
    #[error("the manifest is over {} bytes", MAX_MANIFEST_BYTES)]
    TooLarge,
    /// Over [`MAX_DESCRIPTORS`].
    #[error("the manifest names over {} descriptors", MAX_DESCRIPTORS)]
    TooManyDescriptors,
    /// One content under two sizes.
    #[error("the manifest names one digest with {} bytes and with {} bytes", .0[0], .0[1])]
    TwoSizes([u64; 2]),
    /// A field that some programs read and others do not.
    #[error("{0}: programs read such a document differently, so it is refused")]
    Unclear(String),
}

impl ManifestError {
    fn of(error: &serde_json::Error, content_type: Option<&str>) -> Self {
        match FieldError::of(error) {
            Some(FieldError::TooLong) => Self::TooManyDescriptors,
            Some(FieldError::Unclear(clause)) => Self::Unclear(clause),
            None => Self::NotJson {
                content_type: shown(content_type.unwrap_or("none")),
                line: error.line(),
                column: error.column(),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestView {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Bounded<Descriptor>>,
    blobs: Option<Bounded<Descriptor>>,
    /// `Some(None)` if it is null.
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Bounded<Descriptor>>>,
    subject: Option<Descriptor>,
}

/// Reads a field that is null as present.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Bounded<Descriptor>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Fields for ManifestView {
    const KNOWN: &'static [&'static str] = &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "blobs",
        "manifests",
        "subject",
        "annotations",
    ];
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorView {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
}

impl Fields for DescriptorView {
    const KNOWN: &'static [&'static str] =
        &["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];
}

impl From<Clear<DescriptorView>> for Descriptor {
    fn from(Clear(DescriptorView { media_type, digest, size }): Clear<DescriptorView>) -> Self {
        Self { media_type, digest, size }
    }
}

impl ManifestView {
    fn media_type(&self, content_type: Option<&str>) -> Result<String, ManifestError> {
        let served = content_type.map(|value| value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase());
        let served = served.filter(|value| !is_generic(value));
        let stated = self.media_type.as_deref().filter(|value| !value.is_empty());
        if self.schema_version == Some(1) || served.as_deref().is_some_and(|t| t.contains("manifest.v1+prettyjws")) {
            return Err(ManifestError::Schema1);
        }
        match (served, stated) {
            (Some(served), Some(stated)) if served != stated.to_ascii_lowercase() => {
                Err(ManifestError::MediaTypeMismatch { served: shown(&served), stated: shown(stated) })
            }
            (_, Some(stated)) => Ok(stated.to_owned()),
            (Some(served), None) => Ok(served),
            (None, None) if matches!(self.manifests, Some(Some(_))) => Ok(media_type::OCI_INDEX.to_owned()),
            (None, None) => Ok(media_type::OCI_MANIFEST.to_owned()),
        }
    }

    fn kind(&self, media_type: &str) -> Result<ManifestKind, ManifestError> {
        let is_image = self.config.is_some() || self.layers.is_some() || self.blobs.is_some();
        match (&self.manifests, is_image) {
            (Some(Some(_)), true) => Err(ManifestError::Ambiguous),
            (Some(Some(children)), false) if !is_image_type(media_type) => {
                Ok(ManifestKind::Index { children: unique(children.0.iter())? })
            }
            // An empty list, as some encoders write it.
            (Some(None), false) if is_index_type(media_type) => Ok(ManifestKind::Index { children: Vec::new() }),
            (Some(None) | None, true) if !is_index_type(media_type) => {
                let layers = self.layers.iter().chain(&self.blobs).flat_map(|list| &list.0);
                let (foreign, own): (Vec<_>, Vec<_>) = layers.partition(|layer| is_foreign(&layer.media_type));
                let blobs = unique(self.config.iter().chain(own))?;
                Ok(ManifestKind::Image { blobs, foreign_layers: foreign.len() })
            }
            _ => Err(ManifestError::Unknown(shown(media_type))),
        }
    }
}

/// Returns true if a media type says nothing about a manifest: servers of plain files give such ones.
fn is_generic(media_type: &str) -> bool {
    let (class, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
    matches!(class, "" | "text" | "binary")
        || (class == "application"
            && matches!(subtype, "json" | "octet-stream" | "x-octet-stream" | "x-json" | "unknown"))
}

/// Returns as much of a media type as a message repeats.
fn shown(media_type: &str) -> String {
    media_type.chars().take(120).collect()
}

fn is_image_type(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST | media_type::OCI_ARTIFACT)
}

fn is_index_type(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

fn unique<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Result<Vec<Descriptor>, ManifestError> {
    let mut sizes = HashMap::new();
    let mut found = Vec::new();
    for descriptor in descriptors {
        match sizes.insert(&descriptor.digest, descriptor.size) {
            None if found.len() == MAX_DESCRIPTORS => return Err(ManifestError::TooManyDescriptors),
            None => found.push(descriptor.clone()),
            Some(size) if size == descriptor.size => {}
            Some(size) => return Err(ManifestError::TwoSizes([size, descriptor.size])),
        }
    }
    Ok(found)
}

/// A type and a subtype of at most 127 characters each (RFC 6838, 4.2).
const MAX_MEDIA_TYPE_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(letter: char) -> String {
        format!(r#"{{"mediaType":"x/y","digest":"sha256:{}","size":1}}"#, letter.to_string().repeat(64))
    }

    fn parse(content_type: Option<&str>, document: String) -> Result<Manifest, ManifestError> {
        Manifest::parse(content_type, Bytes::from(document))
    }

    #[test]
    fn an_image_names_its_configuration_first_and_each_blob_once() {
        let document = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{},{}]}}"#,
            descriptor('a'),
            descriptor('b'),
            descriptor('b'),
            descriptor('c')
        );
        let manifest = parse(Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), document).unwrap();
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
        let ManifestKind::Image { blobs, foreign_layers } = manifest.kind else { panic!("an image") };
        assert_eq!(foreign_layers, 0);
        assert_eq!(blobs.iter().map(|b| &b.digest.encoded()[..1]).collect::<String>(), "abc");
    }

    #[test]
    fn foreign_layers_are_counted_and_never_named_for_copying() {
        let foreign = descriptor('d').replace("x/y", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        let document = format!(r#"{{"config":{},"layers":[{foreign}]}}"#, descriptor('a'));
        let ManifestKind::Image { blobs, foreign_layers } = parse(None, document).unwrap().kind else { panic!() };
        assert_eq!((blobs.len(), foreign_layers), (1, 1));
    }

    #[test]
    fn an_index_without_a_media_type_is_an_index() {
        let manifest = parse(Some("application/json"), format!(r#"{{"manifests":[{}]}}"#, descriptor('a'))).unwrap();
        assert_eq!(manifest.media_type, media_type::OCI_INDEX);
    }

    #[test]
    fn a_document_that_is_image_and_index_at_once_is_refused() {
        let document = format!(r#"{{"manifests":[{}],"layers":[]}}"#, descriptor('a'));
        assert!(matches!(parse(None, document), Err(ManifestError::Ambiguous)));
    }

    #[test]
    fn a_media_type_that_differs_from_the_header_is_refused() {
        let document = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
        let refused = parse(Some(media_type::OCI_MANIFEST), document);
        assert!(matches!(refused, Err(ManifestError::MediaTypeMismatch { .. })));
    }

    #[test]
    fn an_index_shape_under_an_image_type_is_refused() {
        assert!(parse(Some(media_type::OCI_MANIFEST), r#"{"manifests":[]}"#.into()).is_err());
        assert!(parse(Some(media_type::OCI_INDEX), r#"{"layers":[]}"#.into()).is_err());
    }

    #[test]
    fn schema_1_and_pages_of_html_are_refused_with_a_reason() {
        assert!(matches!(parse(None, r#"{"schemaVersion":1}"#.into()), Err(ManifestError::Schema1)));
        let refused = parse(Some("text/html"), "<html>".into()).unwrap_err();
        assert!(refused.to_string().contains("text/html"), "{refused}");
    }

    #[test]
    fn a_field_that_programs_read_differently_is_refused_and_named() {
        let image = |more: &str| format!(r#"{{"config":{},"layers":[{}]{more}}}"#, descriptor('a'), descriptor('b'));
        assert!(parse(None, image(r#","annotations":{"Layers":"x","layers":"y"},"Created":1,"created":2"#)).is_ok());
        for (more, field) in [
            (r#","Manifests":[]"#, "manifests"),
            (r#","MediaType":"x/y""#, "mediaType"),
            (r#","ſubject":null"#, "subject"),
            (r#","layers":[]"#, "layers"),
            (r#","annotations":{},"annotations":{}"#, "annotations"),
        ] {
            let refused = parse(None, image(more)).unwrap_err();
            assert!(matches!(&refused, ManifestError::Unclear(_)), "{more}: {refused}");
            assert!(refused.to_string().contains(&format!("{field:?}")), "{more}: {refused}");
        }
        let two_sizes =
            image("").replace(r#","layers":["#, &format!(r#","layers":[{},"#, descriptor('a').replace("1}", "2}")));
        assert!(matches!(parse(None, two_sizes), Err(ManifestError::TwoSizes([1, 2]))));
        for (right, wrong) in [
            (r#""size":1"#, r#""size":1,"Digest":"x""#),
            (r#""size":1"#, r#""size":1,"size":1"#),
            (r#""size":1"#, r#""Size":1"#),
            (r#""size":1"#, r#""size":1,"URLs":[]"#),
            (r#""mediaType""#, r#""mediatype""#),
        ] {
            let refused = parse(None, image("").replace(right, wrong)).unwrap_err();
            assert!(matches!(&refused, ManifestError::Unclear(_)), "{wrong}: {refused}");
        }
    }

    #[test]
    fn more_descriptors_than_any_image_has_are_refused_also_where_they_repeat() {
        let layers = vec![descriptor('b'); MAX_DESCRIPTORS + 1].join(",");
        let refused = parse(None, format!(r#"{{"layers":[{layers}]}}"#));
        assert!(matches!(refused, Err(ManifestError::TooManyDescriptors)));
    }

    #[test]
    fn null_lists_are_read_as_absent_ones() {
        let document = format!(r#"{{"config":{},"layers":null}}"#, descriptor('a'));
        assert!(parse(None, document).is_ok());
        let document = format!(r#"{{"config":{},"layers":[],"manifests":null}}"#, descriptor('a'));
        assert!(matches!(parse(None, document).unwrap().kind, ManifestKind::Image { .. }));
    }

    #[test]
    fn an_index_whose_list_is_null_is_empty() {
        for content_type in [media_type::OCI_INDEX, media_type::DOCKER_LIST] {
            let index = parse(Some(content_type), r#"{"manifests":null}"#.into()).unwrap();
            assert!(matches!(index.kind, ManifestKind::Index { children } if children.is_empty()), "{content_type}");
        }
        for content_type in [None, Some(media_type::OCI_MANIFEST)] {
            assert!(parse(content_type, r#"{"manifests":null}"#.into()).is_err(), "{content_type:?}");
        }
        assert!(parse(Some(media_type::OCI_INDEX), "{}".into()).is_err());
    }

    #[test]
    fn a_media_type_of_a_server_of_files_says_nothing() {
        for content_type in ["binary/octet-stream", "application/octet-stream; x=y", "text/html", "text/json", ""] {
            let document = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
            assert_eq!(parse(Some(content_type), document).unwrap().media_type, media_type::OCI_INDEX);
            let document = format!(r#"{{"config":{},"layers":[]}}"#, descriptor('a'));
            assert_eq!(parse(Some(content_type), document).unwrap().media_type, media_type::OCI_MANIFEST);
        }
    }
}
