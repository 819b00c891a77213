//! The names of a list that break the grammar of repositories or tags.

use std::fmt;

use serde::Serialize;

/// The number of the names in a list that are not valid, with a few of them as examples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvalidNames {
    /// The number of such names; one that is listed twice counts twice.
    pub count: usize,
    /// At most three different ones, each cut to 80 characters.
    pub examples: Vec<String>,
}

impl InvalidNames {
    /// Adds one name.
    pub fn add(&mut self, name: &str) {
        self.count += 1;
        let example: String = name.chars().take(MAX_EXAMPLE).collect();
        if self.examples.len() < MAX_EXAMPLES && !self.examples.contains(&example) {
            self.examples.push(example);
        }
    }

    /// Adds the names of another page of the same list.
    pub fn extend(&mut self, other: Self) {
        self.count += other.count;
        for example in other.examples {
            if self.examples.len() < MAX_EXAMPLES && !self.examples.contains(&example) {
                self.examples.push(example);
            }
        }
    }

    /// Returns true if all names of the list are valid.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for InvalidNames {
    /// Reads like `2 names that are not valid, such as "Team/App"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.count == 1 { "name that is" } else { "names that are" };
        write!(f, "{} {names} not valid", self.count)?;
        for (at, example) in self.examples.iter().enumerate() {
            write!(f, "{} {example:?}", if at == 0 { ", such as" } else { "," })?;
        }
        Ok(())
    }
}

const MAX_EXAMPLES: usize = 3;
const MAX_EXAMPLE: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_counted_and_shown_by_example() {
        let mut invalid = InvalidNames::default();
        assert!(invalid.is_empty());
        invalid.add("Team/App");
        assert_eq!(invalid.to_string(), r#"1 name that is not valid, such as "Team/App""#);
        ["Team/App", "a\u{202e}b", &"é".repeat(1000), "X", "Y"].into_iter().for_each(|name| invalid.add(name));
        let mut all = invalid.clone();
        all.extend(invalid);
        assert_eq!((all.count, all.examples.len()), (12, 3));
        let text = all.to_string();
        assert!(text.starts_with(r#"12 names that are not valid, such as "Team/App", "a\u{202e}b", "é"#), "{text}");
        assert!(text.chars().count() < 200, "{text}");
    }
}
