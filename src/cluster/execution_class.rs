//! Execution classes: what the administrator lets copy Jobs use, read from a file of the operator's settings.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use serde::Deserialize;

use crate::terms::DEFAULT_EXECUTION_CLASS;

/// The classes by name; `default` is always among them.
#[derive(Clone, Debug)]
pub struct ExecutionClasses(BTreeMap<String, ExecutionClass>);

/// The resources and the placement of the Jobs of one class.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecutionClass {
    /// The most images that one worker copies at once, 1 to 64.
    pub copies: u16,
    /// The age at which Kubernetes ends a Job whatever it does, 600 to 86,400 seconds.
    pub deadline_seconds: i64,
    /// The namespaces whose configurations may use the class. Absent: all.
    pub namespaces: Option<Vec<String>>,
    /// Of the worker's container.
    pub resources: ResourceRequirements,
    /// Which nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Which taints are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Further labels of Jobs and pods.
    pub labels: BTreeMap<String, String>,
    /// Further annotations of Jobs and pods.
    pub annotations: BTreeMap<String, String>,
    /// The priority of the pods.
    pub priority_class_name: Option<String>,
}

impl Default for ExecutionClass {
    fn default() -> Self {
        let quantities = |of: &[(&str, &str)]| {
            let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
            Some(of.iter().map(|(name, text)| ((*name).to_owned(), quantity(text))).collect())
        };
        Self {
            copies: 8,
            deadline_seconds: 3_600,
            namespaces: None,
            resources: ResourceRequirements {
                requests: quantities(&[("cpu", "50m"), ("memory", "64Mi")]),
                limits: quantities(&[("memory", "256Mi")]),
                ..ResourceRequirements::default()
            },
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            priority_class_name: None,
        }
    }
}

impl Default for ExecutionClasses {
    fn default() -> Self {
        Self([(DEFAULT_EXECUTION_CLASS.to_owned(), ExecutionClass::default())].into())
    }
}

impl ExecutionClasses {
    /// Reads a file of classes.
    ///
    /// # Errors
    /// A sentence that names the file and the class.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let read: BTreeMap<String, ExecutionClass> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for (name, class) in &read {
            if !(1..=64).contains(&class.copies) {
                return Err(format!("{name}.copies must be 1 to 64"));
            }
            if !(600..=86_400).contains(&class.deadline_seconds) {
                return Err(format!("{name}.deadlineSeconds must be 600 to 86400"));
            }
        }
        let mut classes = Self::default();
        classes.0.extend(read);
        Ok(classes)
    }

    /// Returns the class, if `namespace` may use it. Absent and forbidden are the same to a tenant.
    pub fn get(&self, name: &str, namespace: &str) -> Option<&ExecutionClass> {
        let class = self.0.get(name)?;
        let may = class.namespaces.as_ref().is_none_or(|namespaces| namespaces.iter().any(|may| may == namespace));
        may.then_some(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_for_the_namespaces_that_it_names_and_default_is_always_there() {
        let classes = ExecutionClasses::parse("large: {copies: 16, namespaces: [team-a]}").unwrap();
        assert_eq!(classes.get("large", "team-a").unwrap().copies, 16);
        assert!(classes.get("large", "team-b").is_none() && classes.get("none", "team-a").is_none());
        assert_eq!(classes.get("default", "team-b").unwrap().copies, 8);
    }

    #[test]
    fn a_wrong_class_is_named() {
        for (text, expected) in [
            ("large: {copies: 0}", "large.copies"),
            ("large: {deadlineSeconds: 5}", "large.deadlineSeconds"),
            ("large: {copise: 5}", "copise"),
        ] {
            assert!(ExecutionClasses::parse(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
