//! Rows of a record in little memory: each is one allocation, with its SHA-256 digest as bytes.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::image::hex;

/// Rows `tag digest rest`, one for each tag, in the order of the tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PackedRows(BTreeSet<Box<[u8]>>);

impl PackedRows {
    /// Adds a row in place of that of its tag. Returns false if that is the same. A text without a space is no row.
    pub(super) fn put(&mut self, row: &str) -> bool {
        let Some((tag, rest)) = row.split_once(' ') else { return false };
        let packed = pack(tag, rest);
        if self.0.contains(packed.as_slice()) {
            return false;
        }
        self.remove(tag);
        self.0.insert(packed.into())
    }

    /// Removes the row of a tag. Returns false if there is none.
    pub(super) fn remove(&mut self, tag: &str) -> bool {
        // No tag has a character as low as the space behind it.
        let prefix = [tag.as_bytes(), b" "].concat();
        let range = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
        let found = self.0.range::<[u8], _>(range).next().filter(|row| row.starts_with(&prefix)).cloned();
        found.is_some_and(|row| self.0.remove(&row))
    }

    /// Returns every row as it was added.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|row| unpack(row))
    }
}

/// Packs a row: the tag, a space, then [`TEXT`] with the rest, or [`SHA_256`] with the bytes of the digest and what
/// follows it.
fn pack(tag: &str, rest: &str) -> Vec<u8> {
    let digest = rest.strip_prefix("sha256:").and_then(|rest| Some((bytes_of(rest.get(..64)?)?, &rest[64..])));
    match digest {
        Some((digest, rest)) => [tag.as_bytes(), b" ", &[SHA_256], &digest, rest.as_bytes()].concat(),
        None => [tag.as_bytes(), b" ", &[TEXT], rest.as_bytes()].concat(),
    }
}

fn unpack(row: &[u8]) -> String {
    let end = row.iter().position(|byte| *byte == b' ').map_or(row.len(), |space| space + 1);
    let (tag, packed) = row.split_at(end);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match packed {
        [SHA_256, rest @ ..] if rest.len() >= DIGEST => {
            let (digest, rest) = rest.split_at(DIGEST);
            format!("{}sha256:{}{}", text(tag), hex(digest), text(rest))
        }
        [_, rest @ ..] => text(tag) + &text(rest),
        [] => text(tag),
    }
}

/// Returns the bytes of lower-case hex.
fn bytes_of(hex: &str) -> Option<[u8; DIGEST]> {
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; DIGEST];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

const DIGEST: usize = 32;
const TEXT: u8 = 0;
const SHA_256: u8 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever rows are put and removed, the packed ones are those of a plain map.
        #[test]
        fn packed_rows_are_the_rows_of_a_plain_map(
            steps in proptest::collection::vec((r"[a-c][-._a-c]{0,2}", "(sha256:[0-9a-f]{64}|sha256:[0-9a-fA-F]{64}|sha256:é|sha512:0|-)( [0-9é]{0,3}){0,2}", any::<bool>()), 0..40)
        ) {
            let (mut packed, mut plain) = (PackedRows::default(), BTreeMap::new());
            for (tag, rest, is_removed) in steps {
                if is_removed {
                    prop_assert_eq!(packed.remove(&tag), plain.remove(&tag).is_some());
                } else {
                    let is_new = plain.insert(tag.clone(), rest.clone()) != Some(rest.clone());
                    prop_assert_eq!(packed.put(&format!("{tag} {rest}")), is_new);
                }
            }
            let expected: Vec<String> = plain.iter().map(|(tag, rest)| format!("{tag} {rest}")).collect();
            prop_assert_eq!(packed.texts().collect::<Vec<_>>(), expected);
        }
    }
}
