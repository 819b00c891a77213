//! The full name of a Registry.

/// The Registry that images go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// Its namespace, written out.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
