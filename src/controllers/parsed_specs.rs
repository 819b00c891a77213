//! Keeps the last spec of each configuration parsed: a reconcile that finds the same one compiles no pattern.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::locked::Locked;
use crate::long_work::long_work;
use crate::plan::{Configuration, NamespacedName, SpecError, parse_configuration};
use crate::terms::ReplicationConfigurationSpec;

/// The last spec of each configuration.
#[derive(Default)]
pub(crate) struct ParsedSpecs {
    hasher: RandomState,
    kept: Locked<HashMap<NamespacedName, KeptSpec>>,
}

type Parsed = Result<Arc<Configuration>, SpecError>;

struct KeptSpec {
    /// A hash of the spec, by keys of this process alone.
    hash: u64,
    parsed: Parsed,
}

impl ParsedSpecs {
    /// Parses the spec of a configuration, unless it is the last one.
    ///
    /// # Errors
    /// Those of [`parse_configuration`].
    pub(super) fn parse(&self, configuration: &NamespacedName, spec: &ReplicationConfigurationSpec) -> Parsed {
        let hash = self.hasher.hash_one(serde_json::to_vec(spec).expect("a spec is JSON"));
        if let Some(kept) = self.kept.lock().get(configuration).filter(|kept| kept.hash == hash) {
            return kept.parsed.clone();
        }
        let NamespacedName { namespace, name } = configuration;
        let parsed = long_work(|| parse_configuration(namespace, name, spec)).map(Arc::new);
        self.kept.lock().insert(configuration.clone(), KeptSpec { hash, parsed: parsed.clone() });
        parsed
    }

    /// Forgets a configuration that does not exist any more.
    pub(super) fn forget(&self, configuration: &NamespacedName) {
        self.kept.lock().remove(configuration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_parsed_once_and_again_when_it_changes() {
        let (specs, name) = (ParsedSpecs::default(), NamespacedName { namespace: "team".into(), name: "all".into() });
        let spec = |rule: &str| {
            let yaml = format!(
                "{{source: {{registryRef: {{name: s}}}}, rules: [{{name: {rule}, destinations: [{{registryRef: {{name: \
                 d}}}}]}}]}}"
            );
            serde_saphyr::from_str::<ReplicationConfigurationSpec>(&yaml).unwrap()
        };
        let first = specs.parse(&name, &spec("a")).unwrap();
        assert!(Arc::ptr_eq(&first, &specs.parse(&name, &spec("a")).unwrap()));
        assert_eq!(specs.parse(&name, &spec("b")).unwrap().selection.rules[0].name, "b");
        assert!(!Arc::ptr_eq(&first, &specs.parse(&name, &spec("a")).unwrap()), "only the last one is kept");
        specs.forget(&name);
        assert!(specs.kept.lock().is_empty());
    }
}
