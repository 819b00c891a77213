//! Signatures that are valid, and all the others.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::terms::PEM_HEADER;

struct TestKey(EcdsaKeyPair);

impl TestKey {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn key(&self) -> PublicKey {
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.0.public_key()).unwrap();
        let pem = format!("{PEM_HEADER}\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der.as_ref()));
        PublicKey::parse(&pem).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn bundle(&self, payload: &str, payload_type: &str) -> Value {
        let signature = self.sign(&pre_authentication_encoding(payload_type, payload.as_bytes()));
        json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": "x"}},
            "dsseEnvelope": {"payload": BASE64_STANDARD.encode(payload), "payloadType": payload_type,
                "signatures": [{"sig": BASE64_STANDARD.encode(signature)}]},
        })
    }
}

fn image() -> Digest {
    Digest::sha256(b"image")
}

fn payload(digest: &Digest, kind: &str) -> String {
    json!({"critical": {"identity": {"docker-reference": "elsewhere.example/other"}, "type": kind,
        "image": {"docker-manifest-digest": digest}}, "optional": null})
    .to_string()
}

fn statement(predicate: &str, digests: &[&Digest]) -> String {
    let subject: Vec<Value> = digests.iter().map(|digest| json!({"digest": {"sha256": digest.encoded()}})).collect();
    json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "subject": subject, "predicate": {}})
        .to_string()
}

#[test]
fn a_payload_counts_if_it_is_signed_by_the_key_and_names_this_very_digest() {
    let (signer, other) = (TestKey::new(), TestKey::new());
    let kind = PAYLOAD_TYPES[0];
    let right = payload(&image(), kind);
    // The payload; the bytes that were signed; by which key; the fault
    let table = [
        (right.clone(), right.clone(), &signer, None),
        (right.clone(), right.clone(), &other, Some("another key")),
        (right.clone(), format!("{right} "), &signer, Some("was changed")),
        (payload(&Digest::sha256(b"x"), kind), payload(&Digest::sha256(b"x"), kind), &signer, Some("another image")),
        (payload(&image(), "something"), payload(&image(), "something"), &signer, Some("no container image")),
        ("{}".to_owned(), "{}".to_owned(), &signer, Some("no payload")),
        (String::new(), String::new(), &signer, Some("no payload")),
    ];
    for (payload, signed, by, fault) in table {
        let judged = judge_payload(&signer.key(), payload.as_bytes(), &by.sign(signed.as_bytes()), &image());
        match fault {
            None => assert_eq!(judged, Ok(()), "{payload}"),
            Some(words) => assert!(judged.unwrap_err().contains(words), "{payload}: {judged:?}"),
        }
    }
    for signature in [&[][..], &[0; 64], &[0x30; 4096]] {
        assert!(judge_payload(&signer.key(), right.as_bytes(), signature, &image()).is_err());
    }
}

#[test]
fn a_bundle_counts_if_it_is_a_signature_by_the_key_for_this_very_digest() {
    let (signer, other) = (TestKey::new(), TestKey::new());
    let kind = "application/vnd.in-toto+json";
    let digest = &image();
    let right = statement(SIGN_PREDICATE, &[digest]);
    let mut tampered = signer.bundle(&right, kind);
    tampered["dsseEnvelope"]["payloadType"] = json!("application/json");
    let mut unsigned = signer.bundle(&right, kind);
    unsigned["dsseEnvelope"]["signatures"] = json!([]);
    let table = [
        (signer.bundle(&right, kind), Ok(())),
        (signer.bundle(&statement(SIGN_PREDICATE, &[&Digest::sha256(b"x"), digest]), kind), Ok(())),
        (other.bundle(&right, kind), Err(Some("another key"))),
        (tampered, Err(Some("was changed"))),
        (unsigned, Err(Some("another key"))),
        (signer.bundle(&statement(SIGN_PREDICATE, &[&Digest::sha256(b"x")]), kind), Err(Some("another image"))),
        (signer.bundle(&statement(SIGN_PREDICATE, &[]), kind), Err(Some("another image"))),
        (signer.bundle(&statement("https://slsa.dev/provenance/v1", &[digest]), kind), Err(None)),
        (signer.bundle("not json", kind), Err(Some("no statement"))),
        (json!({"mediaType": BUNDLE, "messageSignature": {}}), Err(Some("no envelope"))),
        (json!([]), Err(Some("no document"))),
    ];
    for (bundle, expected) in table {
        let judged = judge_bundle(&signer.key(), bundle.to_string().as_bytes(), digest);
        match (judged, expected) {
            (Err(Some(fault)), Err(Some(words))) => assert!(fault.contains(words), "{fault}: {bundle}"),
            (judged, expected) => assert_eq!(judged, expected, "{bundle}"),
        }
    }
}
