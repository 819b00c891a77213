//! The full name of a Registry.

/// The namespace and name of a Registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The namespace, never left out.
    pub namespace: String,
    /// The name.
    pub name: String,
}
