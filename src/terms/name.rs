//! Names of objects.

use super::rule::{ValidationRule, ValidationRules};

/// The rules for the name of an object that a user creates.
pub static NAME_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        format!("self.metadata.name.size() <= {MAX_NAME}"),
        "metadata.name must have at most 63 characters",
        |name| name.chars().count() <= MAX_NAME,
    )]
});

const MAX_NAME: usize = 63;
