//! The objects of a document: a single one, or those of a List as `kubectl get -o yaml` prints it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::ObjectError;

/// One object, with the fields by which it is known.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The whole object, without its status: that is the operator's, whatever version it has.
    pub(super) value: Value,
}

impl Object {
    /// Returns the object of `value`.
    ///
    /// # Errors
    /// [`ObjectError::NoKind`] if it is none.
    pub(super) fn of(mut value: Value) -> Result<Self, ObjectError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let namespace = match text("/metadata/namespace") {
            namespace if namespace.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        if version.is_empty() || kind.is_empty() {
            return Err(ObjectError::NoKind);
        }
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        Ok(Self { version, kind, namespace, name, value })
    }

    /// Returns true if the object is of a kind of this program, in whatever version.
    pub(super) fn is_own(&self) -> bool {
        self.version.split('/').next() == Some(OWN_GROUP)
    }

    /// Names the object as `Kind namespace/name`.
    pub(super) fn label(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Returns the objects of a document: the items of a `List` and of lists of one kind (`RegistryList`), also inside
/// others.
pub(super) fn flatten(document: Value) -> Vec<Value> {
    let mut objects = Vec::new();
    add(document, MAX_DEPTH, &mut objects);
    objects
}

fn add(mut value: Value, depth: usize, objects: &mut Vec<Value>) {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let of = kind.strip_suffix("List").filter(|_| depth > 0);
    let (Some(of), true) = (of, value["items"].is_array() || value["items"].is_null()) else {
        objects.push(value);
        return;
    };
    let Value::Array(items) = value["items"].take() else { return };
    for mut item in items {
        // The items of a list of one kind may leave out what the list says.
        if let Some(fields) = item.as_object_mut().filter(|_| !of.is_empty()) {
            fields.entry("kind").or_insert_with(|| of.into());
            fields.entry("apiVersion").or_insert_with(|| value["apiVersion"].clone());
        }
        add(item, depth - 1, objects);
    }
}

/// Objects of other programs, counted by their kinds.
#[derive(Debug, Default)]
pub(super) struct Skipped(BTreeMap<String, usize>);

impl Skipped {
    /// Counts an object.
    pub(super) fn add(&mut self, object: &Object) {
        *self.0.entry(format!("{} ({})", shown(&object.kind), shown(&object.version))).or_default() += 1;
    }

    /// Names all of them in one line; `None` if there are none.
    pub(super) fn line(&self) -> Option<String> {
        let mut kinds: Vec<String> =
            self.0.iter().take(MAX_NAMED).map(|(kind, count)| format!("{count} {kind}")).collect();
        if self.0.len() > MAX_NAMED {
            kinds.push(format!("{} further kinds", self.0.len() - MAX_NAMED));
        }
        (!kinds.is_empty()).then(|| format!("skipped, as they are of other programs: {}", kinds.join(", ")))
    }
}

/// Cuts a word of a file, and keeps the cursor of a terminal where it is.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_WORD).collect()
}

const OWN_GROUP: &str = "transship.dev";
const MAX_DEPTH: usize = 4;
const MAX_NAMED: usize = 10;
const MAX_WORD: usize = 80;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_give_their_items_whatever_they_leave_out() {
        let item = |name: &str| json!({"metadata": {"name": name}});
        let whole = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        let typed = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "RegistryList", "items": [item("r")]});
        let list =
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [whole, typed, {"kind": "PodList"}]});
        let objects: Vec<_> = flatten(list).into_iter().map(|value| Object::of(value).unwrap()).collect();
        let labels: Vec<_> = objects.iter().map(|object| (object.label(), object.is_own())).collect();
        assert_eq!(labels, [("Pod default/p".to_owned(), false), ("Registry default/r".to_owned(), true)]);
        assert!(flatten(json!({"kind": "List", "items": []})).is_empty());
        let nameless = flatten(json!({"kind": "WaitList", "items": 5}));
        assert_eq!(nameless.len(), 1, "a kind that only sounds like a list");
        assert!(Object::of(json!({"replicas": 3})).is_err());
    }

    #[test]
    fn other_kinds_are_counted_in_one_line() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.line(), None);
        for (version, kind) in [("apps/v1", "Deployment"), ("v1", "Pod"), ("apps/v1", "Deployment")] {
            skipped.add(&Object::of(json!({"apiVersion": version, "kind": kind})).unwrap());
        }
        let line = skipped.line().unwrap();
        assert_eq!(line, "skipped, as they are of other programs: 2 Deployment (apps/v1), 1 Pod (v1)");
    }
}
