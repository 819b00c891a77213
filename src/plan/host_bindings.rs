//! Hosts that the administrator binds to the namespaces that may use them as source or destination.

use std::str::FromStr;

use crate::policy::wildcard_matches;

/// All bindings. A host that no pattern matches is free to every namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostBindings(Vec<HostBinding>);

/// One pattern of hosts, and the namespaces that may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBinding {
    /// A host, with its port unless that is the default; `*` stands for any characters.
    pattern: String,
    namespaces: Vec<String>,
}

/// A binding that is not `PATTERN=NAMESPACE,…`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it must be PATTERN=NAMESPACE[,NAMESPACE…]: a host, in which * stands for any characters, and namespaces")]
pub struct HostBindingError;

impl HostBindings {
    /// Returns the bindings of the operator's settings.
    pub fn new(bindings: Vec<HostBinding>) -> Self {
        Self(bindings)
    }

    /// Returns true if `namespace` may use `host`, as it is canonical: of several patterns that match one suffices.
    pub fn allow(&self, host: &str, namespace: &str) -> bool {
        let mut matching = self.0.iter().filter(|binding| wildcard_matches(&binding.pattern, host)).peekable();
        matching.peek().is_none()
            || matching.any(|binding| binding.namespaces.iter().any(|allowed| allowed == namespace))
    }
}

impl FromStr for HostBinding {
    type Err = HostBindingError;

    fn from_str(text: &str) -> Result<Self, HostBindingError> {
        let (pattern, namespaces) = text.trim().split_once('=').ok_or(HostBindingError)?;
        let is_label = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"*.:-[]".contains(&byte);
        let namespaces: Vec<String> = namespaces.split(',').map(|namespace| namespace.trim().to_owned()).collect();
        let is_valid = !pattern.is_empty()
            && pattern.bytes().all(is_host)
            && namespaces.iter().all(|namespace| is_label(namespace));
        is_valid.then(|| Self { pattern: pattern.to_ascii_lowercase(), namespaces }).ok_or(HostBindingError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(texts: &[&str]) -> HostBindings {
        HostBindings::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_bound_host_is_for_its_namespaces_and_any_other_host_for_all() {
        let bindings = bindings(&["*.corp:5000=team-a,team-b", "eu.corp:5000=team-c", "Registry.example.com=team-d"]);
        for (host, namespace, expected) in [
            ("us.corp:5000", "team-a", true),
            ("us.corp:5000", "team-b", true),
            ("us.corp:5000", "team-c", false),
            ("eu.corp:5000", "team-c", true),
            ("eu.corp:5000", "team-a", true),
            ("us.corp", "team-c", true),
            ("registry.example.com", "team-d", true),
            ("registry.example.com", "team-a", false),
            ("ghcr.io", "anyone", true),
        ] {
            assert_eq!(bindings.allow(host, namespace), expected, "{host} {namespace}");
        }
    }

    #[test]
    fn a_binding_without_namespaces_or_with_other_text_is_refused() {
        for text in ["", "host", "=a", "host=", "host=a,", "host=A", "ho st=a", "host=a;b", "http://host=a"] {
            assert_eq!(text.parse::<HostBinding>(), Err(HostBindingError), "{text}");
        }
    }
}
