//! Names of objects.

use super::pattern::Pattern;
use super::rule::{ValidationRule, ValidationRules};

/// The rules for the name of an object that a user creates.
pub static NAME_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        format!("self.metadata.name.size() <= {MAX_NAME}"),
        "metadata.name must have at most 63 characters",
        |name| name.chars().count() <= MAX_NAME,
    )]
});

/// The pattern of the name of an object: a DNS subdomain of RFC 1123. Anything else would be another path of the API
/// server once it stands in a URL.
pub static OBJECT_NAME: Pattern = Pattern::new(OBJECT_NAME_TEXT);

/// The text of [`OBJECT_NAME`], for schemas.
pub(super) const OBJECT_NAME_TEXT: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The pattern of the name of a namespace: a DNS label of RFC 1123.
pub(super) const NAMESPACE_NAME_TEXT: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

const MAX_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_of_the_api_server() {
        for name in ["a", "regcred", "team-a.pull-secret", "0", "a.b.c-1"] {
            assert!(OBJECT_NAME.matches(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a/../../other/secrets/x",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "a.",
            "a%2fb",
            "a?b",
            "a\n",
        ] {
            assert!(!OBJECT_NAME.matches(name), "{name}");
        }
    }
}
