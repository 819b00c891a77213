//! Reads the kinds from YAML files, as strictly as `kubectl apply` does.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{DocumentError, ObjectError};
use crate::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration};
use crate::plan::{Configuration, NamespacedName, check_policy, check_registry, parse_configuration};
use crate::policy::Policy;

/// The objects of all files, checked.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// By namespace and name.
    pub(super) registries: BTreeMap<NamespacedName, Registry>,
    /// In the order of the files: where two want one destination repository, the first has it.
    pub(super) configurations: Vec<Configuration>,
    /// By the namespace of the Registries that they speak of.
    pub(super) policies: BTreeMap<String, Vec<Policy>>,
    /// For the certificates of Registries, by namespace and name.
    pub(super) config_maps: BTreeMap<(String, String), ConfigMap>,
    /// For the tokens of notifications, by namespace and name; never for logins.
    pub(super) secrets: BTreeMap<(String, String), Secret>,
}

impl Documents {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// Everything that is wrong, each with the file, the object, the field and the remedy.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Vec<DocumentError>> {
        let (mut documents, mut errors) = (Self::default(), Vec::new());
        for file in files {
            match read_file(file) {
                Ok(text) => documents.take_file(&file.display().to_string(), &text, &mut errors),
                Err(error) => errors.push(error),
            }
        }
        documents.check_references(&mut errors);
        if errors.is_empty() { Ok(documents) } else { Err(errors) }
    }

    /// Returns the Registries whose notifications cannot be authenticated.
    pub(super) fn registries_without_token(&self) -> impl Iterator<Item = &NamespacedName> {
        let wanting = self.registries.iter().filter(|(_, registry)| registry.spec.notifications.is_some());
        wanting.map(|(reference, _)| reference).filter(|reference| self.notification_token(reference).is_none())
    }

    /// Returns the token that the sender of notifications for a Registry has to show; `None` if it takes none, or its
    /// Secret is not in the files.
    pub(super) fn notification_token(&self, reference: &NamespacedName) -> Option<Vec<u8>> {
        let auth = &self.registries.get(reference)?.spec.notifications.as_ref()?.auth;
        let secret = self.secrets.get(&(reference.namespace.clone(), auth.secret_ref.name.clone()))?;
        let text =
            secret.string_data.as_ref().and_then(|data| data.get("token")).map(|token| token.clone().into_bytes());
        let token = text.or_else(|| Some(secret.data.as_ref()?.get("token")?.0.clone()))?;
        (token.len() >= MIN_TOKEN_BYTES).then_some(token)
    }

    fn take_file(&mut self, file: &str, text: &str, errors: &mut Vec<DocumentError>) {
        // A snippet of the file could show a token.
        let options = serde_saphyr::options! { with_snippet: false };
        match serde_saphyr::from_multiple_with_options::<Value>(text, options) {
            Ok(values) => {
                for value in values.into_iter().filter(|value| !value.is_null()) {
                    if let Err(error) = self.take(value) {
                        errors.push(DocumentError::Object { file: file.to_owned(), error });
                    }
                }
            }
            Err(error) => {
                errors.push(DocumentError::NotYaml { file: file.to_owned(), error: error.to_string() });
            }
        }
    }

    fn take(&mut self, value: Value) -> Result<(), ObjectError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let namespace = match text("/metadata/namespace") {
            namespace if namespace.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        let object = format!("{kind} {namespace}/{name}");
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(ObjectError::Name { kind, max: MAX_NAME });
        }
        let invalid = |message: String| ObjectError::Invalid { object: object.clone(), message };
        let undecodable = |error: DecodeError| invalid(error.to_string());
        match (version.as_str(), kind.as_str()) {
            ("transship.dev/v1alpha1", "Registry") => {
                let registry: Registry = decode(value).map_err(undecodable)?;
                check_registry(&registry.spec).map_err(|error| invalid(error.message))?;
                let reference = NamespacedName { namespace, name };
                unique(self.registries.insert(reference, registry).is_none(), &object)
            }
            ("transship.dev/v1alpha1", "ReplicationConfiguration") => {
                let decoded: ReplicationConfiguration = decode(value).map_err(undecodable)?;
                let parsed = parse_configuration(&namespace, &name, &decoded.spec);
                let configuration = parsed.map_err(|error| invalid(error.message))?;
                let same = |c: &Configuration| c.namespace == namespace && c.name == name;
                unique(!self.configurations.iter().any(same), &object)?;
                self.configurations.push(configuration);
                Ok(())
            }
            ("transship.dev/v1alpha1", "RegistryPermissionPolicy") => {
                let policy: RegistryPermissionPolicy = decode(value).map_err(undecodable)?;
                check_policy(&policy.spec).map_err(|error| invalid(error.message))?;
                let policies = self.policies.entry(namespace).or_default();
                unique(!policies.iter().any(|p| p.name == policy.name_any()), &object)?;
                policies.push(Policy { name, spec: Some(policy.spec.0) });
                Ok(())
            }
            ("v1", "ConfigMap") => {
                self.config_maps.insert((namespace, name), decode(value).map_err(undecodable)?);
                Ok(())
            }
            ("v1", "Secret") => {
                // What serde says of a wrong value repeats it.
                let secret = decode(value).map_err(|_: DecodeError| {
                    invalid("it is no Secret: data and stringData map names to strings".to_owned())
                });
                self.secrets.insert((namespace, name), secret?);
                Ok(())
            }
            ("v1", "Namespace") => Ok(()),
            _ => Err(ObjectError::UnknownKind { object, version }),
        }
    }

    fn check_references(&self, errors: &mut Vec<DocumentError>) {
        for configuration in &self.configurations {
            let Configuration { namespace, name, source, .. } = configuration;
            let source = NamespacedName { namespace: namespace.clone(), name: source.clone() };
            let named = configuration.selection.destinations().into_iter().chain([&source]);
            for reference in named.filter(|reference| !self.registries.contains_key(*reference)) {
                errors.push(DocumentError::MissingRegistry {
                    configuration: format!("{namespace}/{name}"),
                    registry: reference.clone(),
                });
            }
        }
    }
}

fn unique(is_new: bool, object: &str) -> Result<(), ObjectError> {
    if is_new { Ok(()) } else { Err(ObjectError::Twice(object.to_owned())) }
}

/// A value that does not fit its kind.
#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error(transparent)]
    Value(#[from] serde_json::Error),
    #[error("unknown field {0}: correct or remove it")]
    UnknownField(String),
}

fn decode<K: DeserializeOwned>(value: Value) -> Result<K, DecodeError> {
    let mut unknown = Vec::new();
    let decoded = serde_ignored::deserialize(value, |path| unknown.push(path.to_string()))?;
    match unknown.iter().find(|field| !matches!(field.as_str(), "apiVersion" | "kind")) {
        Some(field) => Err(DecodeError::UnknownField(field.replace(".?", ""))),
        None => Ok(decoded),
    }
}

fn read_file(file: &Path) -> Result<String, DocumentError> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    match read {
        Ok(bytes) if bytes as u64 > MAX_BYTES => Err(DocumentError::TooLarge(file.to_owned())),
        Ok(_) => Ok(text),
        Err(error) => Err(DocumentError::Unreadable { file: file.to_owned(), error }),
    }
}

const MIN_TOKEN_BYTES: usize = 16;
const MAX_NAME: usize = 63;
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let (mut documents, mut errors) = (Documents::default(), Vec::new());
        documents.take_file("f.yaml", text, &mut errors);
        documents.check_references(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    const REGISTRY: &str = "{apiVersion: transship.dev/v1alpha1, kind: Registry, metadata: {name: NAME}, spec: {url: 'https://r.example.com'}}\n";

    #[test]
    fn every_error_names_file_object_field_and_remedy() {
        let misspelt = "{apiVersion: transship.dev/v1alpha1, kind: Registry, metadata: {name: r}, spec: {url: 'https://r', allowHtpp: true}}";
        let found = errors(misspelt);
        assert!(found[0].contains("f.yaml: Registry default/r: unknown field spec.allowHtpp"), "{found:?}");
        let plain =
            "{apiVersion: transship.dev/v1alpha1, kind: Registry, metadata: {name: r}, spec: {url: 'http://r'}}";
        assert!(errors(plain)[0].contains("spec.allowHttp: true"));
        assert!(errors("{apiVersion: v1, kind: Pod, metadata: {name: p}}")[0].contains("Pod default/p of v1"));
        assert!(errors("a: [")[0].contains("f.yaml is no YAML"));
    }

    #[test]
    fn no_error_repeats_what_a_secret_holds() {
        let secret = |data: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {data}\n");
        for wrong in [
            "{token: 1234567890123456}",
            "{token: canary-token-1234567890123456",
            "\n  token: 'canary-token-1234567890123456",
        ] {
            let found = errors(&secret(wrong)).join(" ");
            assert!(!found.is_empty() && !found.contains("1234567890123456"), "{found}");
        }
    }

    #[test]
    fn a_registry_that_is_nowhere_is_named() {
        let configuration = "{apiVersion: transship.dev/v1alpha1, kind: ReplicationConfiguration, metadata: {name: c}, \
            spec: {source: {registryRef: {name: s}}, rules: [{name: r, destinations: [{registryRef: {name: d}}]}]}}";
        let text = format!("{}---\n{configuration}", REGISTRY.replace("NAME", "s"));
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("Registry default/d, which no file has"), "{found:?}");
        let twice = format!("{}---\n{}", REGISTRY.replace("NAME", "s"), REGISTRY.replace("NAME", "s"));
        assert!(errors(&twice)[0].contains("twice"));
    }
}
