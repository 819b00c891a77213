//! Globs of tags, matched in one step for each of their characters, whatever they and the tag are.

use std::fmt;

use super::expression::{ExpressionError, PatternRoom};
use crate::image::Tag;

/// A glob: `*` stands for any characters, `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagGlob(Box<str>);

/// A tag as sets of places: the bit `n` stands for its character `n`, counted from 0.
pub(super) struct TagPlaces {
    /// By ASCII character, the places where the tag has it.
    of: [u128; 128],
    every: u128,
}

impl TagGlob {
    /// Takes the room of a glob among the patterns of the configuration.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn parse(text: &str, room: &mut PatternRoom) -> Result<Self, ExpressionError> {
        room.take(1, 0)?;
        Ok(Self(text.into()))
    }

    /// Returns true if the whole of a tag matches.
    pub(super) fn matches(&self, tag: &TagPlaces) -> bool {
        // The characters of the tag that what was read of the glob can end with, and whether it can be empty.
        let (mut ends, mut is_empty) = (0_u128, true);
        let mut is_star = false;
        for symbol in self.0.bytes() {
            if symbol == b'*' {
                if !is_star {
                    ends = if is_empty { tag.every } else { (ends | ends.wrapping_neg()) & tag.every };
                }
                is_star = true;
                continue;
            }
            is_star = false;
            let next = (ends << 1) | u128::from(is_empty);
            ends = next & if symbol == b'?' { tag.every } else { tag.of(symbol) };
            is_empty = false;
            if ends == 0 {
                return false;
            }
        }
        ends & tag.last() != 0
    }
}

impl fmt::Display for TagGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TagPlaces {
    /// Reads a tag, which has 1 to 128 characters of ASCII.
    pub(super) fn new(tag: &Tag) -> Self {
        let mut places = Self { of: [0; 128], every: 0 };
        for (place, symbol) in tag.as_str().bytes().enumerate() {
            places.of[usize::from(symbol & 127)] |= 1 << place;
            places.every |= 1 << place;
        }
        places
    }

    fn of(&self, symbol: u8) -> u128 {
        self.of.get(usize::from(symbol)).copied().unwrap_or_default()
    }

    fn last(&self) -> u128 {
        self.every ^ (self.every >> 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::wildcard_matches;

    fn matches(glob: &str, tag: &str) -> bool {
        let glob = TagGlob::parse(glob, &mut PatternRoom::default()).unwrap();
        glob.matches(&TagPlaces::new(&tag.parse().unwrap()))
    }

    #[test]
    fn a_glob_reaches_both_ends_of_the_longest_tag() {
        let longest = format!("a{}z", "-".repeat(126));
        for (glob, expected) in
            [("a*z", true), ("*", true), ("a*", true), ("*z", true), ("*a", false), ("z*", false), ("a*-z*", true)]
        {
            assert_eq!(matches(glob, &longest), expected, "{glob}");
        }
        assert!(matches(&"?".repeat(128), &longest) && !matches(&"?".repeat(127), &longest));
        assert!(matches(&format!("{}*", "?".repeat(128)), &longest));
        assert!(!matches("a", "aa") && !matches("aa", "a") && matches("a**", "a") && !matches("é*", "a"));
    }

    proptest! {
        #[test]
        fn a_glob_of_tags_matches_as_policies_match(glob in "[ab*?]{1,9}", tag in "[ab]{1,10}") {
            prop_assert_eq!(matches(&glob, &tag), wildcard_matches(&glob, &tag));
        }
    }
}
