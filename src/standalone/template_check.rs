//! Registries of the files whose `repositoryTemplates` have settings that the registry does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;

use super::access::FileContent;
use crate::locked::Locked;
use crate::plan::NamespacedName;
use crate::registry::Client;
use crate::replication::machine::Machine;

/// The Registries that a person has to correct, each with a sentence.
#[derive(Debug, Default)]
pub(super) struct TemplateCheck(Locked<BTreeMap<NamespacedName, String>>);

impl TemplateCheck {
    /// Asks each Registry with templates what it is, by one request. Returns true if all have answered, and true if other
    /// ones are refused than before.
    pub(super) async fn ask(&self, content: &FileContent) -> (bool, bool) {
        let with_templates =
            content.documents.registries.iter().filter(|(_, registry)| !registry.spec.repository_templates.is_empty());
        let clients =
            with_templates.filter_map(|(name, _)| Some((name.clone(), content.registries.get(name)?.client.clone())));
        let clients: Vec<(NamespacedName, Client)> = clients.collect();
        let answers = futures::stream::iter(clients).map(asked);
        let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
        let has_all = answers.iter().all(|(_, has_answered, _)| *has_answered);
        let refused = answers.into_iter().filter_map(|(name, _, refused)| Some((name, refused?))).collect();
        let earlier = std::mem::replace(&mut *self.0.lock(), refused);
        (has_all, earlier != *self.0.lock())
    }

    /// Returns those that are refused among `named`.
    pub(super) fn refused(&self, named: &[NamespacedName]) -> BTreeMap<NamespacedName, String> {
        let refused = self.0.lock();
        let of = |name: &NamespacedName| Some((name.clone(), refused.get(name)?.clone()));
        named.iter().filter_map(of).collect()
    }
}

/// Returns true if a registry has answered, and the sentence about a template that it does not support.
async fn asked((name, client): (NamespacedName, Client)) -> (NamespacedName, bool, Option<String>) {
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.ping()).await;
    // A refusal is an answer of a registry, too: its challenge says what it is.
    let has_answered = matches!(&answer, Ok(Ok(()))) || matches!(&answer, Ok(Err(e)) if !e.kind.is_transient());
    (name, has_answered, client.unsupported_template().filter(|_| has_answered))
}

/// Returns a line for each Registry of these runs that a person has to correct.
pub(super) fn refused_registries(machines: &[Machine]) -> Vec<String> {
    let refused = machines.iter().flat_map(|machine| &machine.orders().stalled_registries);
    let lines = refused.map(|(NamespacedName { namespace, name }, why)| format!("Registry {namespace}/{name}: {why}"));
    lines.collect::<BTreeSet<_>>().into_iter().collect()
}

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Registries that are asked at the same time.
const AT_ONCE: usize = 8;
