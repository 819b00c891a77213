//! The watched policies by namespace: a reconcile looks at those of its own destinations, not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::api::RegistryPermissionPolicy;
use crate::locked::Locked;

/// The policies that exist, as far as they can be decoded.
#[derive(Default)]
pub(crate) struct PolicyIndex(Locked<WatchedPolicies>);

type ByNamespace = HashMap<String, BTreeMap<String, Arc<RegistryPermissionPolicy>>>;

#[derive(Default)]
struct WatchedPolicies {
    known: ByNamespace,
    /// Those of a list that is not complete yet.
    listed: ByNamespace,
}

impl PolicyIndex {
    /// Takes an event of the watch.
    pub(crate) fn take(&self, event: &Event<RegistryPermissionPolicy>) {
        let mut policies = self.0.lock();
        match event {
            Event::Apply(policy) => add(&mut policies.known, policy),
            Event::Delete(policy) => remove(&mut policies.known, policy),
            Event::Init => policies.listed.clear(),
            Event::InitApply(policy) => add(&mut policies.listed, policy),
            Event::InitDone => policies.known = std::mem::take(&mut policies.listed),
        }
    }

    /// Returns the policies of `namespace`, by name.
    pub(crate) fn of(&self, namespace: &str) -> Vec<Arc<RegistryPermissionPolicy>> {
        self.0.lock().known.get(namespace).map(|policies| policies.values().cloned().collect()).unwrap_or_default()
    }
}

fn add(known: &mut ByNamespace, policy: &RegistryPermissionPolicy) {
    let of = known.entry(policy.namespace().unwrap_or_default()).or_default();
    of.insert(policy.name_any(), Arc::new(policy.clone()));
}

fn remove(known: &mut ByNamespace, policy: &RegistryPermissionPolicy) {
    let namespace = policy.namespace().unwrap_or_default();
    if let Some(of) = known.get_mut(&namespace) {
        of.remove(&policy.name_any());
        if of.is_empty() {
            known.remove(&namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(namespace: &str, name: &str, sid: &str) -> RegistryPermissionPolicy {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"registryRef": {"name": "r"}, "statements": [{"sid": sid, "effect": "Allow",
                "principals": [{"namespace": "*"}], "actions": ["ReplicateImage"], "resources": ["*"]}]},
        }))
        .unwrap()
    }

    fn sids(index: &PolicyIndex, namespace: &str) -> Vec<String> {
        index.of(namespace).iter().map(|policy| policy.spec.statements[0].sid.clone()).collect()
    }

    #[test]
    fn policies_are_found_by_namespace_and_a_list_replaces_them_at_its_end() {
        let index = PolicyIndex::default();
        index.take(&Event::Init);
        index.take(&Event::InitApply(policy("a", "one", "1")));
        assert!(index.of("a").is_empty(), "the list is not complete");
        index.take(&Event::InitApply(policy("b", "one", "2")));
        index.take(&Event::InitDone);
        index.take(&Event::Apply(policy("a", "two", "3")));
        index.take(&Event::Apply(policy("a", "one", "4")));
        assert_eq!((sids(&index, "a"), sids(&index, "b")), (vec!["4".into(), "3".into()], vec!["2".into()]));
        index.take(&Event::Delete(policy("b", "one", "2")));
        assert!(index.of("b").is_empty() && index.0.lock().known.len() == 1);
        index.take(&Event::Init);
        index.take(&Event::InitApply(policy("c", "one", "5")));
        assert_eq!(sids(&index, "a").len(), 2);
        index.take(&Event::InitDone);
        assert_eq!((sids(&index, "a").len(), sids(&index, "c")), (0, vec!["5".to_owned()]));
    }
}
