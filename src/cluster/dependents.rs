//! The configurations that depend on a Registry or on the policies of a namespace: a change of one tenant is looked up,
//! not looked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::ResourceExt;

use crate::api::ReplicationConfiguration;
use crate::plan::NamespacedName;

/// The references of all configurations, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    configurations: HashMap<Arc<NamespacedName>, References>,
    by_registry: HashMap<NamespacedName, BTreeSet<Arc<NamespacedName>>>,
    by_namespace: HashMap<String, BTreeSet<Arc<NamespacedName>>>,
    by_uid: HashMap<Arc<str>, Arc<NamespacedName>>,
}

/// The references of one configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct References {
    uid: Arc<str>,
    /// Each once, sorted, as are the namespaces: nodes of a set would have room for eleven.
    registries: Box<[NamespacedName]>,
    /// The namespaces of its destinations.
    namespaces: Box<[String]>,
}

impl Dependents {
    /// Records the references of a configuration. Returns true if another object of its name was recorded before: that
    /// one does not exist any more.
    pub(crate) fn record(&mut self, object: &ReplicationConfiguration) -> bool {
        let configuration =
            NamespacedName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        let references = References::of(object, &configuration.namespace);
        let earlier = self.configurations.get(&configuration);
        if earlier == Some(&references) {
            return false;
        }
        let is_replaced = earlier.is_some_and(|earlier| earlier.uid != references.uid);
        self.forget(&configuration);
        let configuration = Arc::new(configuration);
        for registry in &references.registries {
            self.by_registry.entry(registry.clone()).or_default().insert(configuration.clone());
        }
        for namespace in &references.namespaces {
            self.by_namespace.entry(namespace.clone()).or_default().insert(configuration.clone());
        }
        self.by_uid.insert(references.uid.clone(), configuration.clone());
        self.configurations.insert(configuration, references);
        is_replaced
    }

    /// Forgets a configuration that does not exist any more.
    pub(crate) fn forget(&mut self, configuration: &NamespacedName) {
        let Some(references) = self.configurations.remove(configuration) else { return };
        for registry in &references.registries {
            remove(&mut self.by_registry, registry, configuration);
        }
        for namespace in &references.namespaces {
            remove(&mut self.by_namespace, namespace, configuration);
        }
        self.by_uid.remove(&references.uid);
    }

    /// Returns the configurations that copy from or to a Registry.
    pub(crate) fn of_registry(&self, registry: &NamespacedName) -> impl Iterator<Item = &NamespacedName> {
        self.by_registry.get(registry).into_iter().flatten().map(AsRef::as_ref)
    }

    /// Returns the configurations with a destination in a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &NamespacedName> {
        self.by_namespace.get(namespace).into_iter().flatten().map(AsRef::as_ref)
    }

    /// Returns the configuration with this uid.
    pub(crate) fn of_uid(&self, uid: &str) -> Option<&NamespacedName> {
        self.by_uid.get(uid).map(AsRef::as_ref)
    }
}

impl References {
    fn of(object: &ReplicationConfiguration, own: &str) -> Self {
        let source = NamespacedName { namespace: own.to_owned(), name: object.spec.source.registry_ref.name.clone() };
        let destinations = object.spec.rules.iter().flat_map(|rule| &rule.destinations).map(|d| &d.registry_ref);
        let destinations = destinations.map(|d| NamespacedName {
            namespace: d.namespace.clone().unwrap_or_else(|| own.to_owned()),
            name: d.name.clone(),
        });
        let mut registries: BTreeSet<NamespacedName> = destinations.collect();
        let namespaces: BTreeSet<String> = registries.iter().map(|registry| registry.namespace.clone()).collect();
        registries.insert(source);
        let (registries, namespaces) = (registries.into_iter().collect(), namespaces.into_iter().collect());
        Self { uid: object.uid().unwrap_or_default().into(), registries, namespaces }
    }
}

fn remove<K: Clone + Eq + std::hash::Hash>(
    index: &mut HashMap<K, BTreeSet<Arc<NamespacedName>>>,
    key: &K,
    configuration: &NamespacedName,
) {
    if let Some(found) = index.get_mut(key) {
        found.remove(configuration);
        if found.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(name: &str, destination: &str) -> ReplicationConfiguration {
        let spec = serde_json::json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration",
            "metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}")},
            "spec": {"source": {"registryRef": {"name": "s"}}, "interval": "10m", "rules": [
                {"name": "all", "destinations": [{"registryRef": {"namespace": destination, "name": "d"}}]}]},
        });
        serde_json::from_value(spec).unwrap()
    }

    fn named(namespace: &str, name: &str) -> NamespacedName {
        NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_configuration_that_replaces_another_of_its_name_is_noticed() {
        let (mut dependents, mut other) = (Dependents::default(), configuration("one", "c"));
        assert!(!dependents.record(&configuration("one", "b")) && !dependents.record(&configuration("one", "b")));
        assert!(!dependents.record(&other), "its spec has changed");
        other.metadata.uid = Some("another".to_owned());
        assert!(dependents.record(&other) && !dependents.record(&other));
        assert_eq!((dependents.of_uid("uid-one"), dependents.of_uid("another")), (None, Some(&named("a", "one"))));
    }

    #[test]
    fn a_registry_finds_its_configurations_and_no_others() {
        let mut dependents = Dependents::default();
        dependents.record(&configuration("one", "b"));
        dependents.record(&configuration("two", "c"));
        let of = |dependents: &Dependents, namespace, name| {
            dependents.of_registry(&named(namespace, name)).map(|found| found.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(&dependents, "a", "s"), ["one", "two"]);
        assert_eq!(of(&dependents, "b", "d"), ["one"]);
        assert_eq!(dependents.of_namespace("c").count(), 1);
        dependents.record(&configuration("one", "c"));
        assert!(of(&dependents, "b", "d").is_empty() && dependents.of_namespace("b").count() == 0);
        assert_eq!(dependents.of_uid("uid-two"), Some(&named("a", "two")));
        for name in ["one", "two"] {
            dependents.forget(&named("a", name));
        }
        assert!(
            dependents.by_registry.is_empty() && dependents.by_namespace.is_empty() && dependents.by_uid.is_empty()
        );
    }
}
