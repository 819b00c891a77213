//! Signatures as cosign makes them, with keys of the tests' own.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::image::{Blob, Image, sha256};
use super::scripted::ScriptedRegistry;

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A key pair of ECDSA P-256, as `cosign generate-key-pair` makes it.
pub struct CosignSigner(EcdsaKeyPair);

impl CosignSigner {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key pair"))
    }

    /// Returns the content of `cosign.pub`.
    pub fn public_key(&self) -> String {
        let der =
            AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.0.public_key()).expect("a public key");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
    }

    fn sign(&self, message: &[u8]) -> String {
        BASE64_STANDARD.encode(self.0.sign(&SystemRandom::new(), message).expect("a signature"))
    }

    /// Returns what `cosign sign` puts under the tag `sha256-….sig`, for images of these digests.
    pub fn simple_signatures(&self, digests: &[&str]) -> Image {
        let signed = digests.iter().map(|digest| {
            let payload = json!({"critical": {"identity": {"docker-reference": "elsewhere.example/app"},
                "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}, "optional": null});
            let payload = Blob::new(SIMPLE_SIGNING, payload.to_string().into_bytes());
            let mut layer = payload.descriptor();
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": self.sign(&payload.bytes)});
            (payload, layer)
        });
        let (payloads, layers): (Vec<Blob>, Vec<Value>) = signed.unzip();
        let config = Blob::new("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(), "layers": layers});
        Image::of_manifest(&manifest, std::iter::once(config).chain(payloads).collect())
    }

    /// Returns a list of one signature again and again, as any pusher can make it.
    pub fn repeated_signature(&self, digest: &str, count: usize) -> Image {
        let signed = self.simple_signatures(&[digest]);
        let mut manifest: Value = serde_json::from_slice(&signed.bytes).unwrap();
        manifest["layers"] = vec![manifest["layers"][0].clone(); count].into();
        Image::of_manifest(&manifest, signed.blobs)
    }

    /// Returns the bundle that `cosign sign` attaches to `subject`, which says that it signs `digest`.
    pub fn bundle(&self, subject: &Image, digest: &str) -> Image {
        let statement = json!({"_type": "https://in-toto.io/Statement/v1",
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
            "subject": [{"digest": {"sha256": digest.trim_start_matches("sha256:")}}]})
        .to_string();
        let signed = format!("DSSEv1 {} {IN_TOTO} {} {statement}", IN_TOTO.len(), statement.len());
        let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {"payload": BASE64_STANDARD.encode(&statement), "payloadType": IN_TOTO,
                "signatures": [{"sig": self.sign(signed.as_bytes())}]}});
        let (empty, layer) = (
            Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec()),
            Blob::new(BUNDLE, bundle.to_string().into_bytes()),
        );
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": BUNDLE, "config": empty.descriptor(), "layers": [layer.descriptor()],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest(), "size": subject.bytes.len()}});
        Image::of_manifest(&manifest, vec![empty, layer])
    }
}

/// Returns the tag under which cosign keeps the signatures of an image.
pub fn signature_tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// Fills the repository `app` with two images that the real cosign has signed, `legacy` by simple signing and `bundle` by
/// a bundle, and returns the public key. `made_by_cosign.json` has the commands that made them.
pub fn push_made_by_cosign(registry: &ScriptedRegistry) -> String {
    let made: Value = serde_json::from_str(include_str!("made_by_cosign.json")).expect("JSON");
    let decode = |text: &Value| BASE64_STANDARD.decode(text.as_str().expect("text")).expect("base64");
    for bytes in made["blobs"].as_array().expect("a list").iter().map(decode) {
        registry.put_blob("app", &sha256(&bytes), bytes.clone().into());
    }
    for manifest in made["manifests"].as_array().expect("a list") {
        let bytes = decode(&manifest["bytes"]);
        let media_type = manifest["mediaType"].as_str().expect("a media type");
        registry.put_manifest("app", &sha256(&bytes), media_type, bytes);
    }
    for (tag, digest) in made["tags"].as_object().expect("an object") {
        registry.tag("app", tag, digest.as_str().expect("a digest"));
    }
    made["publicKey"].as_str().expect("a key").to_owned()
}
