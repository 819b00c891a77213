//! The name of the object that shows the status of a pair.

use crate::image::Digest;
use crate::terms::ReplicationStatusSpec;

/// The object that holds the status of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairIdentity {
    /// The namespace of the configuration.
    pub namespace: String,
    /// `<configuration ≤ 40>.<repository slug ≤ 40>.<10 base32 characters of the SHA-256 of the spec>`.
    pub name: String,
    /// Its immutable spec.
    pub spec: ReplicationStatusSpec,
}

impl PairIdentity {
    /// Returns the identity of the pair that `spec` describes, for a configuration of `namespace`.
    pub fn new(namespace: &str, spec: ReplicationStatusSpec) -> Self {
        let bytes = serde_json::to_vec(&spec).expect("a spec is JSON");
        let hash = base32(&Digest::sha256(&bytes));
        let configuration = cut(&spec.configuration_ref.name);
        let slug: String =
            spec.source.repository.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = format!("{configuration}.{}.{hash}", cut(&slug));
        Self { namespace: namespace.to_owned(), name, spec }
    }
}

fn cut(text: &str) -> &str {
    text[..text.len().min(40)].trim_end_matches(['-', '.'])
}

/// Encodes the first ten characters of the digest in the base32 alphabet of RFC 4648, in lower case.
fn base32(digest: &Digest) -> String {
    let bits = u64::from_str_radix(&digest.encoded()[..16], 16).expect("hexadecimal");
    (0..10).map(|i| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (59 - 5 * i)) as usize & 31])).collect()
}
