//! The full name of a Registry.

use litemap::LiteMap;

/// The namespace and name of a Registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The namespace, never left out.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A map by Registry, of few entries: a configuration names one source and seldom more than two destinations.
pub type ByRegistry<V> = LiteMap<NamespacedName, V>;
