//! The bounds of the CustomResourceDefinitions for objects that no API server has checked.

use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::terms::{RegistryPermissionPolicySpec, RegistrySpec, ReplicationConfigurationSpec};

/// Returns everything in the spec of an object that breaks the schema of its kind: lengths, numbers, patterns, words and
/// repeated keys. Types and unknown fields are found when the object is decoded, and rules in CEL have their functions.
pub fn schema_faults(kind: &str, object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some((_, schema)) = SCHEMAS.iter().find(|(of, _)| *of == kind) {
        check(schema, &object["spec"], "spec", &mut faults);
    }
    faults
}

/// The schemas of the specs of those kinds that people write, by kind.
static SCHEMAS: LazyLock<[(&str, Value); 3]> = LazyLock::new(|| {
    [
        ("Registry", bounds_of::<RegistrySpec>()),
        ("RegistryPermissionPolicy", bounds_of::<RegistryPermissionPolicySpec>()),
        ("ReplicationConfiguration", bounds_of::<ReplicationConfigurationSpec>()),
    ]
});

/// Returns the schema of a spec without what makes it a structural one: each run of `sync` waits for this, and that takes
/// ten times as long.
fn bounds_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn check(schema: &Value, value: &Value, field: &str, faults: &mut Vec<String>) {
    match value {
        Value::String(text) => check_text(schema, text, field, faults),
        Value::Number(number) => {
            let (number, bound) = (number.as_f64().unwrap_or_default(), |name: &str| schema[name].as_f64());
            if bound("minimum").is_some_and(|min| number < min) || bound("maximum").is_some_and(|max| number > max) {
                faults.push(format!("{field}: must be {}", range(&schema["minimum"], &schema["maximum"])));
            }
        }
        Value::Array(items) => check_items(schema, items, field, faults),
        Value::Object(fields) => {
            for (name, value) in fields {
                check(&schema["properties"][name], value, &format!("{field}.{name}"), faults);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_text(schema: &Value, text: &str, field: &str, faults: &mut Vec<String>) {
    let length = text.chars().count() as u64;
    if is_outside(length, &schema["minLength"], &schema["maxLength"]) {
        faults.push(format!("{field}: must have {} characters", range(&schema["minLength"], &schema["maxLength"])));
    }
    // RE2 reads `[[]` and `[]]` as one bracket each.
    let translated = |pattern: &str| Regex::new(&pattern.replace("[[]", r"\[").replace("[]]", r"\]"));
    let pattern = schema["pattern"].as_str().and_then(|pattern| translated(pattern).ok());
    if let Some(pattern) = pattern.filter(|pattern| !pattern.is_match(text)) {
        faults.push(format!("{field}: {text:?} must match {pattern}"));
    }
}

fn check_items(schema: &Value, items: &[Value], field: &str, faults: &mut Vec<String>) {
    if is_outside(items.len() as u64, &schema["minItems"], &schema["maxItems"]) {
        faults.push(format!("{field}: must have {} entries", range(&schema["minItems"], &schema["maxItems"])));
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_set = schema["x-kubernetes-list-type"] == "set";
    for (index, item) in items.iter().enumerate() {
        if is_set && items[..index].contains(item) {
            faults.push(format!("{field}[{index}]: another entry is the same: remove one"));
        }
        check(&schema["items"], item, &format!("{field}[{index}]"), faults);
        let is_same = |other: &Value| keys.iter().all(|key| other[*key] == item[*key]);
        if !keys.is_empty() && items[..index].iter().any(is_same) {
            faults.push(format!("{field}[{index}]: another entry has the same {}", keys.join(" and ")));
        }
    }
}

fn is_outside(count: u64, min: &Value, max: &Value) -> bool {
    min.as_u64().is_some_and(|min| count < min) || max.as_u64().is_some_and(|max| count > max)
}

fn range(min: &Value, max: &Value) -> String {
    match (min, max) {
        (Value::Null, max) => format!("at most {}", whole(max)),
        (min, Value::Null) => format!("at least {}", whole(min)),
        (min, max) => format!("{} to {}", whole(min), whole(max)),
    }
}

/// Returns a number without the `.0` that bounds in a definition have.
fn whole(number: &Value) -> String {
    number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::CustomResourceExt;
    use serde_json::json;

    use super::*;
    use crate::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration};

    /// Adds every bound in a schema, with its field.
    fn bounds(schema: &Value, field: &str, found: &mut BTreeSet<String>) {
        for name in ["minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"] {
            found.extend(schema[name].as_f64().map(|bound| format!("{field} {name} {bound}")));
        }
        for name in ["pattern", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"] {
            found.extend(schema.get(name).map(|bound| format!("{field} {name} {bound}")));
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            bounds(schema, &format!("{field}.{name}"), found);
        }
        if schema["items"].is_object() {
            bounds(&schema["items"], &format!("{field}[]"), found);
        }
    }

    #[test]
    fn the_bounds_are_those_of_the_definitions() {
        for definition in [Registry::crd(), RegistryPermissionPolicy::crd(), ReplicationConfiguration::crd()] {
            let schema = definition.spec.versions[0].schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref());
            let spec = serde_json::to_value(&schema.unwrap().properties.as_ref().unwrap()["spec"]).unwrap();
            let (mut defined, mut checked) = (BTreeSet::new(), BTreeSet::new());
            bounds(&spec, "spec", &mut defined);
            let (_, schema) = SCHEMAS.iter().find(|(kind, _)| *kind == definition.spec.names.kind).unwrap();
            bounds(schema, "spec", &mut checked);
            assert!(defined.len() > 3, "{defined:?}");
            assert_eq!(checked, defined);
        }
    }

    #[test]
    fn bounds_of_the_schema_hold_for_files_too() {
        let faults = |spec: Value| schema_faults("Registry", &json!({ "spec": spec }));
        assert!(faults(json!({"url": "https://r.example.com", "limits": {"concurrency": 64}})).is_empty());
        let found = faults(json!({"url": "https://r.example.com", "limits": {"concurrency": 65}}));
        assert_eq!(found, ["spec.limits.concurrency: must be 1 to 64"]);
        let found = faults(json!({"url": "https://r", "trustedHosts": ["https://cdn.example.com"]}));
        assert!(found[0].starts_with("spec.trustedHosts[0]: \"https://cdn.example.com\" must match ^"), "{found:?}");

        let rule = |name: &str| json!({"name": name, "destinations": [{"registryRef": {"name": "d"}}]});
        let faults = |rules: Value| {
            schema_faults("ReplicationConfiguration", &json!({"spec": {"interval": "10m", "rules": rules}}))
        };
        assert!(faults(json!([rule("a"), rule("b")])).is_empty());
        assert_eq!(faults(json!([rule("a"), rule("a")])), ["spec.rules[1]: another entry has the same name"]);
        assert!(faults(json!([rule("A")]))[0].starts_with("spec.rules[0].name: "));
        let none = json!({"name": "a", "destinations": []});
        assert_eq!(faults(json!([none])), ["spec.rules[0].destinations: must have 1 to 25 entries"]);
    }
}
