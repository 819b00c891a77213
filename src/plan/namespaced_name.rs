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

/// Returns the value of a Registry, a default one if it has none. The first one takes the room of one, not that of the four
/// that a vector begins with.
pub(crate) fn of_registry<V: Default>(map: &mut ByRegistry<V>, registry: NamespacedName) -> &mut V {
    if map.is_empty() {
        *map = ByRegistry::with_capacity(1);
    }
    map.entry(registry).or_default()
}
