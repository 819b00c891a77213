//! The uids of Registry objects: what is known of one is found and forgotten without looking at all.

use std::collections::HashMap;

use crate::plan::{NamespacedName, Standing};

/// The Registry objects that exist, by name and by uid.
#[derive(Debug, Default)]
pub(crate) struct RegistryIndex {
    uids: HashMap<NamespacedName, String>,
    objects: HashMap<String, IndexedRegistry>,
}

#[derive(Debug)]
struct IndexedRegistry {
    name: NamespacedName,
    /// The state of the object that its configurations know.
    announced: Option<(Option<String>, Standing)>,
}

impl RegistryIndex {
    /// Records an object. Returns the uid of the one that it replaces.
    pub(crate) fn record(&mut self, name: &NamespacedName, uid: &str) -> Option<String> {
        if self.uids.get(name).is_some_and(|known| known == uid) {
            return None;
        }
        let earlier = self.remove(name);
        self.uids.insert(name.clone(), uid.to_owned());
        self.objects.insert(uid.to_owned(), IndexedRegistry { name: name.clone(), announced: None });
        earlier
    }

    /// Forgets an object that does not exist any more, and returns its uid.
    pub(crate) fn remove(&mut self, name: &NamespacedName) -> Option<String> {
        let uid = self.uids.remove(name)?;
        self.objects.remove(&uid);
        Some(uid)
    }

    /// Returns the name of the object with this uid.
    pub(crate) fn name(&self, uid: &str) -> Option<&NamespacedName> {
        self.objects.get(uid).map(|object| &object.name)
    }

    /// Records that configurations are about to learn this state of an object. Returns true if it is new to them.
    pub(crate) fn announce(&mut self, uid: &str, version: Option<String>, standing: Standing) -> bool {
        let Some(object) = self.objects.get_mut(uid) else { return true };
        let state = Some((version, standing));
        std::mem::replace(&mut object.announced, state.clone()) != state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_replaces_another_is_found_alone_and_is_announced_anew() {
        let name = NamespacedName { namespace: "a".to_owned(), name: "r".to_owned() };
        let mut index = RegistryIndex::default();
        assert_eq!(index.record(&name, "1"), None);
        assert!(index.announce("1", Some("v".to_owned()), Standing::Accepted));
        assert!(!index.announce("1", Some("v".to_owned()), Standing::Accepted), "nothing is new");
        assert!(index.announce("1", Some("v".to_owned()), Standing::Unproven));
        assert_eq!(index.record(&name, "2"), Some("1".to_owned()));
        assert_eq!((index.name("1"), index.name("2")), (None, Some(&name)));
        assert_eq!(index.remove(&name), Some("2".to_owned()));
        assert!(index.objects.is_empty());
    }
}
