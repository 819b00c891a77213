//! Validation rules that the API server and this program both evaluate.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::transform::Transform;
use serde_json::{Value, json};

/// The rules for one kind of value, built when they are first used.
pub type ValidationRules<T> = LazyLock<Vec<ValidationRule<T>>>;

/// A rule for a value, in CEL for the API server and as a function for this program.
#[derive(Debug)]
pub struct ValidationRule<T: ?Sized> {
    /// The expression, in which `self` is the value.
    pub cel: String,
    /// The sentence that a user reads whose value breaks the rule.
    pub message: &'static str,
    /// The field inside of `self` that the rule is about, such as `.url`; `None` for `self`.
    field_path: Option<&'static str>,
    holds: fn(&T) -> bool,
}

impl<T: ?Sized> ValidationRule<T> {
    pub(super) fn new(cel: impl Into<String>, message: &'static str, holds: fn(&T) -> bool) -> Self {
        Self { cel: cel.into(), message, field_path: None, holds }
    }

    /// Returns a rule about a field of the value, which the API server names in its answer.
    pub(super) fn at(
        field_path: &'static str,
        cel: impl Into<String>,
        message: &'static str,
        holds: fn(&T) -> bool,
    ) -> Self {
        Self { field_path: Some(field_path), ..Self::new(cel, message, holds) }
    }

    /// Returns true if `value` keeps the rule.
    pub fn holds(&self, value: &T) -> bool {
        (self.holds)(value)
    }
}

/// Returns the message of the first rule that `value` breaks.
pub fn broken<T: ?Sized>(rules: &[ValidationRule<T>], value: &T) -> Option<&'static str> {
    rules.iter().find(|rule| !rule.holds(value)).map(|rule| rule.message)
}

/// Adds `rules` to the schema of a value.
pub(super) fn checked_by<T: ?Sized>(rules: &'static ValidationRules<T>) -> impl Transform {
    |schema: &mut Schema| rules.iter().for_each(|rule| add(schema, &rule.cel, rule.message, rule.field_path))
}

/// Forbids every change of a value; only the API server sees changes, so there is no function.
pub(super) fn immutable(message: &'static str) -> impl Transform {
    move |schema: &mut Schema| add(schema, "self == oldSelf", message, None)
}

fn add(schema: &mut Schema, cel: &str, message: &str, field_path: Option<&str>) {
    let rules = schema.ensure_object().entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Value::Array(rules) = rules {
        let mut rule = json!({ "rule": cel, "message": message });
        if let Some(path) = field_path {
            rule["fieldPath"] = path.into();
        }
        rules.push(rule);
    }
}
