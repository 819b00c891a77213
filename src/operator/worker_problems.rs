//! Informs configurations of changed claims and of problems of their Jobs, those that are concerned alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::controllers::Context;
use crate::execution::Dispatcher;
use crate::heartbeats::Heartbeats;
use crate::plan::NamespacedName;

/// Informs configurations of changed claims and of problems of their Jobs; keeps the clock beating.
pub(super) async fn pass_on(
    context: Arc<Context>,
    dispatcher: Arc<Dispatcher>,
    mut claims: mpsc::UnboundedReceiver<Vec<String>>,
    heartbeats: Heartbeats,
) {
    let mut changes = dispatcher.problem_changes();
    let beat = context.configurations.beat();
    let passing = async {
        let mut passed = PassedProblems::default();
        loop {
            heartbeats.beat("queue of changed claims");
            tokio::select! {
                Some(uids) = claims.recv() => {
                    context.wake_uids(&uids);
                    continue;
                }
                Ok(()) = changes.changed() => {}
                // Configurations that have started meanwhile are informed too.
                () = tokio::time::sleep(PASS_ON_EVERY) => {}
            }
            let present = dispatcher.problems();
            for (source, problem) in passed.replace(present, |uid| context.view.registry_name(uid)) {
                context.configurations.workers(&source, problem.as_deref());
            }
        }
    };
    tokio::join!(beat, passing);
}

/// The problems that configurations were informed of, by the uid of their source.
#[derive(Debug, Default)]
struct PassedProblems(BTreeMap<String, NamespacedName>);

impl PassedProblems {
    /// Returns the sources whose configurations are to be informed, those of `present` with their problem and those that
    /// have none any more.
    fn replace(
        &mut self,
        present: BTreeMap<String, String>,
        name_of: impl Fn(&str) -> Option<NamespacedName>,
    ) -> Vec<(NamespacedName, Option<String>)> {
        let mut earlier = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for (uid, problem) in present {
            if let Some(source) = name_of(&uid).or_else(|| earlier.get(&uid).cloned()) {
                earlier.remove(&uid);
                self.0.insert(uid, source.clone());
                changes.push((source, Some(problem)));
            }
        }
        earlier.into_values().map(|source| (source, None)).chain(changes).collect()
    }
}

const PASS_ON_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_informed_of_the_problems_of_their_source_alone() {
        let source = |name: &str| NamespacedName { namespace: "team-a".to_owned(), name: name.to_owned() };
        let problems = |uids: &[&str]| uids.iter().map(|uid| ((*uid).to_owned(), format!("of {uid}"))).collect();
        let name_of = |uid: &str| (uid != "gone").then(|| source(uid));
        let mut passed = PassedProblems::default();
        assert!(passed.replace(problems(&[]), name_of).is_empty(), "without problems nothing is done");
        assert_eq!(passed.replace(problems(&["a", "gone"]), name_of), [(source("a"), Some("of a".to_owned()))]);
        let changes = passed.replace(problems(&["b"]), name_of);
        assert_eq!(changes, [(source("a"), None), (source("b"), Some("of b".to_owned()))]);
        assert_eq!(passed.replace(problems(&["b"]), |_| None), [(source("b"), Some("of b".to_owned()))]);
        assert_eq!(passed.replace(problems(&[]), name_of), [(source("b"), None)]);
        assert!(passed.replace(problems(&[]), name_of).is_empty());
    }
}
