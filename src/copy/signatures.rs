//! Verifies the signatures of cosign for an image at its source: in both forms, by one public key, for this very digest.
//!
//! Nothing that is signed is believed beyond the digest: the reference that a payload names is that of the place where
//! it was signed, and is not compared, as with cosign. A source that cannot be read counts as unsigned nowhere: the copy
//! fails and is tried again.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::public_key::PublicKey;
use super::small_blob::read_whole;
use super::task::CopyError;
use crate::image::{Descriptor, Digest, Manifest, ManifestKind, RepositoryName, cosign_tags};
use crate::registry::{Client, ErrorKind, FallbackTag, Reference};

/// An image at its source.
#[derive(Clone, Copy)]
struct SourceImage<'a> {
    source: &'a Client,
    repository: &'a RepositoryName,
    digest: &'a Digest,
}

/// Checks that the image `digest` of a repository of `source` has a valid signature by the key `pem`.
///
/// # Errors
/// [`CopyError::SignatureMissing`] without any signature; [`CopyError::SignatureInvalid`] if there are some and none is
/// valid; [`CopyError::Source`] if they cannot be read.
pub(crate) async fn check_signatures(
    source: &Client,
    repository: &RepositoryName,
    digest: &Digest,
    pem: &str,
) -> Result<(), CopyError> {
    let key = PublicKey::parse(pem).map_err(|error| CopyError::SignatureInvalid(error.to_string()))?;
    let image = SourceImage { source, repository, digest };
    let mut faults = Vec::new();
    if simple_signing(image, &key, &mut faults).await? || bundles(image, &key, &mut faults).await? {
        return Ok(());
    }
    let Some(first) = faults.first() else {
        return Err(CopyError::SignatureMissing(format!(
            "the source has no signature of cosign for {digest}: sign it, or remove verification from the rule"
        )));
    };
    let more = if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
    Err(CopyError::SignatureInvalid(format!("no signature for {digest} is valid: {first}{more}")))
}

/// Looks for a valid signature under the tag `sha256-….sig`. Notes what is wrong with the others.
async fn simple_signing(image: SourceImage<'_>, key: &PublicKey, faults: &mut Vec<String>) -> Result<bool, CopyError> {
    let [tag, ..] = cosign_tags(image.digest);
    let Some(manifest) = read_manifest(image, Reference::Tag(&tag)).await? else { return Ok(false) };
    let Some(SignatureManifest { layers }) = parse::<SignatureManifest>(&manifest.bytes) else {
        faults.push(format!("the tag {tag} is no list of signatures"));
        return Ok(false);
    };
    if layers.len() > MAX_SIGNATURES {
        faults.push(format!("the tag {tag} has {} signatures, and {MAX_SIGNATURES} are looked at", layers.len()));
    }
    for layer in layers.into_iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(MAX_SIGNATURES) {
        let Some(signature) = layer.annotations.get(SIGNATURE).and_then(|text| BASE64_STANDARD.decode(text).ok())
        else {
            faults.push(format!("a signature lacks the annotation {SIGNATURE}"));
            continue;
        };
        let Some(payload) = read_blob(image, &manifest, &layer.digest).await? else {
            faults.push("the payload of a signature is missing or too large".to_owned());
            continue;
        };
        match judge_payload(key, &payload, &signature, image.digest) {
            Ok(()) => return Ok(true),
            Err(fault) => faults.push(fault.to_owned()),
        }
    }
    Ok(false)
}

/// Looks for a valid signature among the bundles that refer to the image. Notes what is wrong with the others.
async fn bundles(image: SourceImage<'_>, key: &PublicKey, faults: &mut Vec<String>) -> Result<bool, CopyError> {
    let types = [BUNDLE.to_owned()];
    let listed = image.source.referrers_of_types(image.repository, image.digest, FallbackTag::Unknown, &types).await;
    for referrer in listed.map_err(CopyError::Source)?.into_iter().take(MAX_SIGNATURES) {
        let Some(manifest) = read_manifest(image, Reference::Digest(&referrer.digest)).await? else { continue };
        let is_bundle = |layer: &SignatureLayer| layer.media_type == BUNDLE;
        let layers = parse::<SignatureManifest>(&manifest.bytes).map(|found| found.layers).unwrap_or_default();
        let Some(layer) = layers.into_iter().find(is_bundle) else { continue };
        let Some(bundle) = read_blob(image, &manifest, &layer.digest).await? else {
            faults.push("a bundle is missing or too large".to_owned());
            continue;
        };
        match judge_bundle(key, &bundle, image.digest) {
            Ok(()) => return Ok(true),
            // An attestation is no signature, and no fault either.
            Err(None) => {}
            Err(Some(fault)) => faults.push(fault.to_owned()),
        }
    }
    Ok(false)
}

/// Judges the payload of simple signing.
fn judge_payload(key: &PublicKey, payload: &[u8], signature: &[u8], digest: &Digest) -> Result<(), &'static str> {
    if !key.verifies(payload, signature) {
        return Err("it was made with another key, or what it signs was changed");
    }
    let Some(SimplePayload { critical }) = parse::<SimplePayload>(payload) else {
        return Err("what it signs is no payload of cosign");
    };
    if !PAYLOAD_TYPES.contains(&critical.kind.as_str()) {
        return Err("what it signs is no container image");
    }
    if critical.image.digest != digest.as_str() {
        return Err("it is that of another image");
    }
    Ok(())
}

/// Judges a bundle; `None` is the error for one that is no signature.
fn judge_bundle(key: &PublicKey, bundle: &[u8], digest: &Digest) -> Result<(), Option<&'static str>> {
    let bundle: SigstoreBundle = parse(bundle).ok_or(Some("a bundle is no document of Sigstore"))?;
    let envelope = bundle.dsse_envelope.ok_or(Some("a bundle has no envelope"))?;
    let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
    let payload = decode(&envelope.payload).ok_or(Some("the payload of a bundle is not base64"))?;
    let statement: Option<InTotoStatement> = parse(&payload);
    if statement.as_ref().is_some_and(|statement| statement.predicate_type != SIGN_PREDICATE) {
        return Err(None);
    }
    let signed = pre_authentication_encoding(&envelope.payload_type, &payload);
    let mut signatures = envelope.signatures.iter().take(MAX_SIGNATURES).filter_map(|signature| decode(&signature.sig));
    if !signatures.any(|signature| key.verifies(&signed, &signature)) {
        return Err(Some("a bundle was made with another key, or what it signs was changed"));
    }
    let statement = statement.ok_or(Some("what a bundle signs is no statement of in-toto"))?;
    let algorithm = digest.as_str().split(':').next().unwrap_or_default();
    let is_this =
        |subject: &SignedSubject| subject.digest.get(algorithm).is_some_and(|encoded| encoded == digest.encoded());
    if statement.subject.iter().any(is_this) { Ok(()) } else { Err(Some("a bundle is that of another image")) }
}

/// Encodes what an envelope signs (DSSE, version 1).
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

async fn read_manifest(image: SourceImage<'_>, reference: Reference<'_>) -> Result<Option<Manifest>, CopyError> {
    match image.source.manifest(image.repository, reference).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CopyError::Source(error)),
    }
}

/// Reads a blob that `manifest` names; `None` if it is absent or over [`MAX_PAYLOAD`].
async fn read_blob(image: SourceImage<'_>, manifest: &Manifest, digest: &str) -> Result<Option<Bytes>, CopyError> {
    let ManifestKind::Image { blobs, .. } = &manifest.kind else { return Ok(None) };
    let named = |blob: &&Descriptor| blob.digest.as_str() == digest && blob.size <= MAX_PAYLOAD;
    let Some(blob) = blobs.iter().find(named) else { return Ok(None) };
    match read_whole(image.source, image.repository, blob).await {
        Ok(whole) => Ok(Some(whole)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CopyError::Source(error)),
    }
}

fn parse<T: DeserializeOwned>(document: &[u8]) -> Option<T> {
    serde_json::from_slice(document).ok()
}

#[derive(Deserialize)]
struct SignatureManifest {
    layers: Vec<SignatureLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureLayer {
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// The payload that simple signing signs.
#[derive(Deserialize)]
struct SimplePayload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// A bundle of Sigstore.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigstoreBundle {
    dsse_envelope: Option<DsseEnvelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// A statement of in-toto.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InTotoStatement {
    predicate_type: String,
    subject: Vec<SignedSubject>,
}

#[derive(Deserialize)]
struct SignedSubject {
    digest: HashMap<String, String>,
}

/// The media type of a payload of simple signing.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of a layer with the signature of its payload.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PAYLOAD_TYPES: [&str; 2] = ["cosign container image signature", SIGN_PREDICATE];
/// The media type of a bundle, and the artifact type of its manifest.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The type of the predicate of a signature, unlike that of an attestation.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// The signatures of an image that are looked at.
const MAX_SIGNATURES: usize = 50;
/// The most bytes of a payload or a bundle.
const MAX_PAYLOAD: u64 = 256 << 10;

#[cfg(test)]
#[path = "signatures/tests.rs"]
mod tests;
