//! Reads the kinds from YAML files, as strictly as `kubectl apply` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Track;

use super::error::{DocumentError, ObjectError};
use super::objects::{Object, Skipped, flatten};
use super::reader;
use crate::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration, schema_faults};
use crate::plan::{
    APPROVE_DELETIONS, Configuration, NamespacedName, SpecError, check_policy, check_registry, parse_configuration,
};
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
    /// The hashes of deletions that are approved, by the namespace and name of the configuration.
    pub(super) approvals: BTreeMap<String, String>,
    skipped: Skipped,
    /// Every Registry of the files, also those that are wrong.
    declared: BTreeSet<NamespacedName>,
}

impl Documents {
    /// Reads and checks all files and folders.
    ///
    /// # Errors
    /// Everything that is wrong, each with the file, the object, the field and the remedy.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Vec<DocumentError>> {
        let mut documents = Self::default();
        let (files, mut errors) = reader::files(files);
        for file in files {
            match reader::read(&file) {
                Ok(text) => documents.take_file(&file.display().to_string(), &text, &mut errors),
                Err(error) => errors.push(error),
            }
        }
        // A file that is not read may have what others name.
        let is_all_read = errors.iter().all(|error| matches!(error, DocumentError::Object { .. }));
        if is_all_read {
            documents.check_references(&mut errors);
        }
        if errors.is_empty() { Ok(documents) } else { Err(errors) }
    }

    /// Returns a line for each Registry whose notifications cannot be authenticated.
    pub(super) fn faults_of_tokens(&self) -> impl Iterator<Item = String> {
        self.registries.keys().filter_map(|reference| {
            let NamespacedName { namespace, name } = reference;
            let fault = self.token_of(reference)?.err()?;
            Some(format!("Registry {namespace}/{name}: its notifications are refused: {fault}"))
        })
    }

    /// Returns the token that the sender of notifications for a Registry has to show; `None` if it takes none, or its
    /// Secret has none that can be used.
    pub(super) fn notification_token(&self, reference: &NamespacedName) -> Option<Vec<u8>> {
        self.token_of(reference)?.ok()
    }

    /// Returns the token, or what is wrong with its Secret; `None` if the Registry takes no notifications.
    fn token_of(&self, reference: &NamespacedName) -> Option<Result<Vec<u8>, String>> {
        let auth = &self.registries.get(reference)?.spec.notifications.as_ref()?.auth;
        let (namespace, name) = (&reference.namespace, &auth.secret_ref.name);
        let of = "of spec.notifications.auth.secretRef";
        let Some(secret) = self.secrets.get(&(namespace.clone(), name.clone())) else {
            return Some(Err(format!("no file has the Secret {namespace}/{name} {of}")));
        };
        let text = secret.string_data.as_ref().and_then(|data| data.get("token"));
        let text = text.map(|token| token.clone().into_bytes());
        let token = text.or_else(|| Some(secret.data.as_ref()?.get("token")?.0.clone()));
        Some(match token {
            None => Err(format!("the Secret {namespace}/{name} {of} has no key token")),
            Some(token) if token.len() < MIN_TOKEN_BYTES => Err(format!(
                "the token of the Secret {namespace}/{name} {of} has {} bytes, and {MIN_TOKEN_BYTES} are the least",
                token.len()
            )),
            Some(token) => Ok(token),
        })
    }

    /// Returns a line for everything in the files that has no effect.
    pub(super) fn warnings(&self) -> Vec<String> {
        let policies =
            self.policies.iter().flat_map(|(namespace, policies)| policies.iter().map(move |p| (namespace, p)));
        let without_registry = policies.filter_map(|(namespace, policy)| {
            let name = &policy.spec.as_ref()?.registry_ref.name;
            let registry = NamespacedName { namespace: namespace.clone(), name: name.clone() };
            let is_missing = !self.registries.contains_key(&registry);
            is_missing.then(|| {
                format!(
                    "RegistryPermissionPolicy {namespace}/{} has no effect: no file has Registry {namespace}/{name} of \
                     spec.registryRef",
                    policy.name
                )
            })
        });
        self.skipped.line().into_iter().chain(without_registry).collect()
    }

    fn take_file(&mut self, file: &str, text: &str, errors: &mut Vec<DocumentError>) {
        // A snippet of the file could show a token.
        let options = serde_saphyr::options! { with_snippet: false };
        match serde_saphyr::from_multiple_with_options::<Value>(text, options) {
            Ok(values) => {
                for value in values.into_iter().filter(|value| !value.is_null()).flat_map(flatten) {
                    if let Err(error) = self.take(value) {
                        errors.push(DocumentError::Object { file: file.to_owned(), error });
                    }
                }
            }
            Err(error) => {
                errors.push(DocumentError::NotYaml { file: file.to_owned(), error: yaml_fault(&error.to_string()) });
            }
        }
    }

    fn take(&mut self, value: Value) -> Result<(), ObjectError> {
        let object = Object::of(value)?;
        if object.is_own() {
            return self.take_own(object);
        }
        let Object { version, kind, namespace, name, value } = object;
        match (version.as_str(), kind.as_str()) {
            ("v1", "ConfigMap") => {
                let invalid = |error: DecodeError| invalid(&format!("ConfigMap {namespace}/{name}"), error.to_string());
                let map = decode(value).map_err(invalid)?;
                self.config_maps.insert((namespace, name), map);
            }
            ("v1", "Secret") => {
                // What serde says of a wrong value repeats it.
                let message = || "it is no Secret: data and stringData map names to strings".to_owned();
                let secret = decode(value)
                    .map_err(|_: DecodeError| invalid(&format!("Secret {namespace}/{name}"), message()))?;
                self.secrets.insert((namespace, name), secret);
            }
            ("v1", "Namespace") => {}
            _ => self.skipped.add(&Object { version, kind, namespace, name, value }),
        }
        Ok(())
    }

    fn take_own(&mut self, object: Object) -> Result<(), ObjectError> {
        let label = object.label();
        if object.kind == "Registry" {
            let (namespace, name) = (object.namespace.clone(), object.name.clone());
            self.declared.insert(NamespacedName { namespace, name });
        }
        let Object { version, kind, namespace, name, value } = object;
        let is_known = version == OWN_VERSION && (OWN_KINDS.contains(&kind.as_str()) || kind == "ReplicationStatus");
        if !is_known {
            return Err(ObjectError::UnknownKind { object: label, version });
        }
        if kind == "ReplicationStatus" {
            return Ok(()); // What an operator reports changes nothing.
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(ObjectError::Name { kind, max: MAX_NAME });
        }
        let (undecodable, wrong) = (
            |error: DecodeError| invalid(&label, error.to_string()),
            |error: SpecError| invalid(&label, error.message),
        );
        let faults = schema_faults(&kind, &value);
        match kind.as_str() {
            "Registry" => {
                let registry: Registry = decode(value).map_err(undecodable)?;
                check_registry(&registry.spec).map_err(wrong)?;
                let reference = NamespacedName { namespace, name };
                unique(self.registries.insert(reference, registry).is_none(), &label)?;
            }
            "ReplicationConfiguration" => {
                let decoded: ReplicationConfiguration = decode(value).map_err(undecodable)?;
                let configuration = parse_configuration(&namespace, &name, &decoded.spec).map_err(wrong)?;
                let same = |c: &Configuration| c.namespace == namespace && c.name == name;
                unique(!self.configurations.iter().any(same), &label)?;
                if let Some(hash) = decoded.annotations().get(APPROVE_DELETIONS) {
                    self.approvals.insert(format!("{namespace}/{name}"), hash.clone());
                }
                self.configurations.push(configuration);
            }
            _ => {
                let policy: RegistryPermissionPolicy = decode(value).map_err(undecodable)?;
                check_policy(&policy.spec).map_err(wrong)?;
                let policies = self.policies.entry(namespace).or_default();
                unique(!policies.iter().any(|p| p.name == policy.name_any()), &label)?;
                policies.push(Policy { name, spec: Some(policy.spec.0) });
            }
        }
        faults.into_iter().next().map_or(Ok(()), |fault| Err(invalid(&label, fault)))
    }

    fn check_references(&self, errors: &mut Vec<DocumentError>) {
        for configuration in &self.configurations {
            let Configuration { namespace, name, source, .. } = configuration;
            let source = NamespacedName { namespace: namespace.clone(), name: source.clone() };
            let named = configuration.selection.destinations().into_iter().chain([&source]);
            for reference in named.filter(|reference| !self.declared.contains(*reference)) {
                errors.push(DocumentError::MissingRegistry {
                    configuration: format!("{namespace}/{name}"),
                    registry: reference.clone(),
                });
            }
        }
    }
}

/// Returns the fault of a text that is no YAML, without words about the parser's options, and with the remedy for the
/// most frequent one: documents without a line between them.
fn yaml_fault(error: &str) -> String {
    let fault = error.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
    match fault.contains("duplicate mapping key: apiVersion") {
        true => format!("{fault}: put a line --- between two documents"),
        false => fault,
    }
}

fn invalid(object: &str, message: String) -> ObjectError {
    ObjectError::Invalid { object: object.to_owned(), message }
}

fn unique(is_new: bool, object: &str) -> Result<(), ObjectError> {
    if is_new { Ok(()) } else { Err(ObjectError::Twice(object.to_owned())) }
}

/// A value that does not fit its kind.
#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error("{field}: {error}{remedy}")]
    Value { field: String, error: serde_json::Error, remedy: &'static str },
    #[error("unknown field {0}: correct or remove it")]
    UnknownField(String),
}

fn decode<K: DeserializeOwned>(value: Value) -> Result<K, DecodeError> {
    let (mut unknown, mut track) = (Vec::new(), Track::new());
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let decoded = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    let decoded = decoded.map_err(|error: serde_json::Error| {
        // `{repository}` without quotes is a map in YAML.
        let is_map = error.to_string().contains("invalid type: map, expected a string");
        let remedy = if is_map { "; put text with braces in quotes" } else { "" };
        DecodeError::Value { field: track.path().to_string(), error, remedy }
    })?;
    match unknown.iter().find(|field| !matches!(field.as_str(), "apiVersion" | "kind")) {
        Some(field) => Err(DecodeError::UnknownField(field.replace(".?", ""))),
        None => Ok(decoded),
    }
}

const MIN_TOKEN_BYTES: usize = 16;
const MAX_NAME: usize = 63;
const OWN_VERSION: &str = "transship.dev/v1alpha1";
const OWN_KINDS: [&str; 3] = ["Registry", "ReplicationConfiguration", "RegistryPermissionPolicy"];

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
        let rule = |rule: &str| {
            format!(
                "{{apiVersion: transship.dev/v1alpha1, kind: ReplicationConfiguration, metadata: {{name: c}}, spec: \
                 {{source: {{registryRef: {{name: r}}}}, rules: [{{name: r, destinations: [{{registryRef: {{name: r}}}}], \
                 {rule}}}]}}}}"
            )
        };
        for (wrong, expected) in [
            ("newest: 2", "spec.rules[0].newest: invalid type: integer `2`"),
            (
                "repositoryFilters: [{filter: a, type: X}]",
                "spec.rules[0].repositoryFilters[0]: missing field `filterType`",
            ),
            ("referrers: Some", "spec.rules[0].referrers: unknown variant `Some`, expected"),
            (
                "repositoryFilters: [{filter: {basename}, filterType: X}]",
                "spec.rules[0].repositoryFilters[0].filter: invalid type: map, expected a string; put text with braces",
            ),
        ] {
            let found = errors(&rule(wrong));
            assert!(found[0].contains(&format!("default/c: {expected}")), "{found:?}");
        }
        let plain =
            "{apiVersion: transship.dev/v1alpha1, kind: Registry, metadata: {name: r}, spec: {url: 'http://r'}}";
        assert!(errors(plain)[0].contains("spec.allowHTTP: true"));
        let unknown = "{apiVersion: transship.dev/v1, kind: Registry, metadata: {name: r}}";
        assert!(errors(unknown)[0].contains("Registry default/r of transship.dev/v1 is no kind"));
        let named = "{apiVersion: transship.dev/v1alpha1, kind: ReplicationConfiguration, metadata: {name: c}, \
            spec: {source: {registryRef: {name: r}}, rules: [{name: r, destinations: [{registryRef: {name: r}}]}]}}";
        for registry in [misspelt, plain, unknown] {
            let found = errors(&format!("{registry}\n---\n{named}"));
            assert!(!found.iter().any(|error| error.contains("no file has")), "it is there, and wrong: {found:?}");
        }
        assert!(errors("{replicas: 3}")[0].contains("f.yaml: an object without apiVersion and kind"));
        assert!(errors("a: [")[0].contains("f.yaml is no YAML"));
        let joined = errors("apiVersion: v1\nkind: Namespace\napiVersion: v1\nkind: Namespace\n");
        assert!(joined[0].ends_with("column 1: put a line --- between two documents"), "{joined:?}");
        assert!(!joined[0].contains("Options"), "{joined:?}");
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
