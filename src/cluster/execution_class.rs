//! Execution classes: the resources and placement of copy Jobs, read from a file of the operator's settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use serde::Deserialize;

use crate::terms::DEFAULT_EXECUTION_CLASS;

/// The classes by name; `default` is always among them.
#[derive(Clone, Debug)]
pub(crate) struct ExecutionClasses(BTreeMap<String, ExecutionClass>);

/// The resources and placement of the Jobs of one class.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ExecutionClass {
    /// The number of images that one worker copies at once, 1 to 64.
    pub copies: u16,
    /// The lifetime after which Kubernetes ends a Job in any case, 600 to 86,400 seconds.
    pub deadline_seconds: i64,
    /// The namespaces whose configurations may use the class. Absent: all.
    pub namespaces: Option<Vec<String>>,
    /// The resources of the worker's container.
    pub resources: ResourceRequirements,
    /// The labels of the nodes that may run the pods.
    pub node_selector: BTreeMap<String, String>,
    /// The taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Further labels of Jobs and pods.
    pub labels: BTreeMap<String, String>,
    /// Further annotations of Jobs and pods.
    pub annotations: BTreeMap<String, String>,
    /// The name of the PriorityClass of the pods.
    pub priority_class_name: Option<String>,
}

/// The failure to read a file of classes.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub(crate) struct ExecutionClassesError {
    path: PathBuf,
    cause: ExecutionClassesCause,
}

#[derive(Debug, thiserror::Error)]
enum ExecutionClassesCause {
    #[error(transparent)]
    Io(std::io::Error),
    #[error("{0}")]
    Yaml(String),
    #[error("{0}.copies must be 1 to 64")]
    Copies(String),
    #[error("{0}.deadlineSeconds must be 600 to 86400")]
    Deadline(String),
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
    /// [`ExecutionClassesError`] if the file cannot be read, or a class is malformed or out of bounds.
    pub(crate) fn read(path: &Path) -> Result<Self, ExecutionClassesError> {
        let failed = |cause| ExecutionClassesError { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(|error| failed(ExecutionClassesCause::Io(error)))?;
        Self::parse(&text).map_err(failed)
    }

    fn parse(text: &str) -> Result<Self, ExecutionClassesCause> {
        let read: BTreeMap<String, ExecutionClass> =
            serde_saphyr::from_str(text).map_err(|error| ExecutionClassesCause::Yaml(error.to_string()))?;
        for (name, class) in &read {
            if !(1..=64).contains(&class.copies) {
                return Err(ExecutionClassesCause::Copies(name.clone()));
            }
            if !(600..=86_400).contains(&class.deadline_seconds) {
                return Err(ExecutionClassesCause::Deadline(name.clone()));
            }
        }
        let mut classes = Self::default();
        classes.0.extend(read);
        Ok(classes)
    }

    /// Returns the class if `namespace` may use it. Absent and forbidden read the same to a tenant.
    pub(crate) fn get(&self, name: &str, namespace: &str) -> Option<&ExecutionClass> {
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
            assert!(ExecutionClasses::parse(text).unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
