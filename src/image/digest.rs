//! Content digests as the OCI image specification defines them: an algorithm, a colon, lower-case hex.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// The digest of some content, for example `sha256:44136fa3…`; always well-formed.
///
/// Only the registered algorithms sha256 and sha512 are accepted, as the OCI image specification
/// 1.1 lists them: content with any other algorithm could not be verified. Copies of a digest share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

impl Digest {
    /// Returns the SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(content);
        hasher.finish()
    }

    /// Returns the algorithm in front of the colon.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// Returns the hexadecimal part behind the colon.
    pub fn encoded(&self) -> &str {
        &self.0[Algorithm::PREFIX_LENGTH..]
    }

    /// Returns the whole digest, such as `sha256:44136fa3…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if `content` has this digest.
    pub fn verifies(&self, content: &[u8]) -> bool {
        let mut hasher = DigestHasher::new(self.algorithm());
        hasher.update(content);
        hasher.finish() == *self
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = match text.split_once(':') {
            Some(("sha256", encoded)) => Some((encoded, 64)),
            Some(("sha512", encoded)) => Some((encoded, 128)),
            _ => None,
        };
        match length {
            Some((encoded, length))
                if encoded.len() == length && encoded.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(DigestError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.as_ref().to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A digest algorithm that this program can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, which nearly all content uses.
    Sha256,
    /// SHA-512, the only other registered algorithm.
    Sha512,
}

impl Algorithm {
    /// The length of `sha256:` and of `sha512:`.
    const PREFIX_LENGTH: usize = 7;
}

/// Computes a [`Digest`] over content that arrives in pieces.
#[derive(Clone)]
pub struct DigestHasher {
    algorithm: Algorithm,
    context: digest::Context,
}

impl DigestHasher {
    /// Returns an empty hasher for `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        let context = digest::Context::new(match algorithm {
            Algorithm::Sha256 => &digest::SHA256,
            Algorithm::Sha512 => &digest::SHA512,
        });
        Self { algorithm, context }
    }

    /// Adds the next piece of content.
    pub fn update(&mut self, piece: &[u8]) {
        self.context.update(piece);
    }

    /// Returns the digest of the content that was added.
    pub fn finish(self) -> Digest {
        let prefix = match self.algorithm {
            Algorithm::Sha256 => "sha256:",
            Algorithm::Sha512 => "sha512:",
        };
        Digest(format!("{prefix}{}", hex(self.context.finish().as_ref())).into())
    }
}

/// Returns `bytes` as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)])).collect()
}

/// Text that is not a digest of a supported algorithm.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a sha256 or sha512 digest")]
pub struct DigestError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_empty_json_object_is_the_well_known_one() {
        let digest = Digest::sha256(b"{}");
        assert_eq!(digest.as_str(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert!(digest.verifies(b"{}"));
        assert!(!digest.verifies(b"[]"));
    }

    #[test]
    fn malformed_digests_are_refused() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let short = format!("sha256:{}", "a".repeat(63));
        let crossed = format!("sha512:{}", "a".repeat(64));
        for text in ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", &upper, &short, &crossed] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
