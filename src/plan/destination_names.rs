//! Destination repositories that two repositories of a source would share, and repositories that feed themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::RepositoryAddress;
use super::namespaced_name::NamespacedName;
use super::report::Problem;
use super::selection::Selection;
use crate::image::RepositoryName;
use crate::terms::reason;

/// The pairs of a source repository and a destination repository that are not replicated, with the cause.
pub type NameRefusals = BTreeMap<(RepositoryName, RepositoryAddress), Problem>;

/// Finds, before anything is copied, which of the repositories `names` of the source at `source_host` cannot go where
/// the rules send them: two that would merge in one destination repository, and one that a rule itself writes. Of two
/// that would merge the one that is `held` there already goes on. `host_of` is the host of a Registry, if that exists.
pub fn refuse_names<'a>(
    selection: &Selection,
    names: &BTreeSet<RepositoryName>,
    source_host: &str,
    host_of: impl Fn(&NamespacedName) -> Option<&'a str>,
    held: impl Fn(&RepositoryAddress) -> Option<RepositoryName>,
) -> NameRefusals {
    let mut refusals = NameRefusals::new();
    if !selection.has_templates() {
        return refusals; // Each repository keeps its name: none meets another, and a copy onto itself is refused as such.
    }
    let mut writers: BTreeMap<RepositoryAddress, BTreeSet<&RepositoryName>> = BTreeMap::new();
    for name in names {
        for found in selection.routes(name) {
            let Some(host) = host_of(found.destination) else { continue };
            let place = RepositoryAddress { host: host.to_owned(), repository: found.target };
            writers.entry(place).or_default().insert(name);
        }
    }
    for (place, sources) in &writers {
        let holder = held(place).filter(|_| sources.len() > 1);
        for name in sources.iter().filter(|name| sources.len() > 1 && Some(**name) != holder.as_ref()) {
            refusals.insert(((*name).clone(), place.clone()), collision(sources, place, holder.as_ref()));
        }
        // A circle is refused as a whole; what a rule copies out of it is refused, too.
        for name in sources {
            let own = RepositoryAddress { host: source_host.to_owned(), repository: (*name).clone() };
            let is_written = writers.get(&own).is_some_and(|sources| sources.iter().any(|source| source != name));
            if own != *place && is_written {
                refusals.insert(((*name).clone(), place.clone()), circle(name));
            }
        }
    }
    refusals
}

/// Returns the problem of repositories that would share a destination, of which `holder` goes on.
pub(crate) fn collision(
    sources: &BTreeSet<&RepositoryName>,
    place: &RepositoryAddress,
    holder: Option<&RepositoryName>,
) -> Problem {
    let named: Vec<String> = sources.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = sources.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let goes_on = holder.map_or("none of them is copied".to_owned(), |holder| format!("only {holder} is copied"));
    let message = format!(
        "{}{more} would share the repository {} of {}; {goes_on}: give them different names in destinations[].repository, \
         or exclude all but one",
        named.join(" and "),
        place.repository,
        place.host
    );
    Problem { stalled: true, reason: reason::DESTINATION_NAME_COLLISION, message }
}

/// Returns the problem of a repository that its own configuration writes, or others with what that has copied.
pub(crate) fn circle(repository: &RepositoryName) -> Problem {
    let message = format!(
        "repository {repository} is written by this configuration itself, or by others with what it has copied, and is \
         not read by it: exclude it with excludeRepositoryFilters, or chain with a second configuration"
    );
    Problem { stalled: true, reason: reason::SELF_REPLICATION, message }
}

/// Repositories that one sentence names.
const MAX_NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse_configuration;

    /// Returns the refused pairs as `source > host/target: reason`.
    fn refused(rules: &str, names: &[&str], held: &[(&str, &str)]) -> Vec<String> {
        let yaml = format!("{{source: {{registryRef: {{name: s}}}}, rules: [{rules}]}}");
        let configuration = parse_configuration("team", "c", &serde_saphyr::from_str(&yaml).unwrap()).unwrap();
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let hosts = BTreeMap::from([("s", "h"), ("same", "h"), ("d", "d"), ("e", "d")]);
        let held = |place: &RepositoryAddress| {
            let found = held.iter().find(|(_, target)| *target == format!("{}/{}", place.host, place.repository));
            found.map(|(source, _)| source.parse().unwrap())
        };
        let host_of = |registry: &NamespacedName| hosts.get(registry.name.as_str()).copied();
        let refusals = refuse_names(&configuration.selection, &names, "h", host_of, held);
        let line = |((name, place), problem): (&(RepositoryName, RepositoryAddress), &Problem)| {
            format!("{name} > {}/{}: {}", place.host, place.repository, problem.reason)
        };
        refusals.iter().map(line).collect()
    }

    fn rule(name: &str, filter: &str, to: &[(&str, &str)]) -> String {
        let to = to
            .iter()
            .map(|(registry, repository)| format!("{{registryRef: {{name: {registry}}}, repository: '{repository}'}}"));
        let filters = match filter {
            "" => String::new(),
            filter => format!("repositoryFilters: [{{filter: '{filter}', filterType: GLOB_MATCH}}], "),
        };
        format!("{{name: {name}, {filters}destinations: [{}]}}", to.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn repositories_that_would_merge_are_found_before_a_copy() {
        let flat = rule("r", "", &[("d", "m/{basename}")]);
        assert!(refused(&flat, &["a/x", "b/y"], &[]).is_empty());
        assert_eq!(
            refused(&flat, &["a/x", "b/x", "c/z"], &[]),
            ["a/x > d/m/x: DestinationNameCollision", "b/x > d/m/x: DestinationNameCollision"]
        );
        assert_eq!(
            refused(&flat, &["a/x", "b/x"], &[("b/x", "d/m/x")]),
            ["a/x > d/m/x: DestinationNameCollision"],
            "the one that was copied before goes on"
        );
        let two = [rule("r", "a/*", &[("d", "{basename}")]), rule("q", "b/*", &[("e", "{segment:2}")])].join(", ");
        assert_eq!(refused(&two, &["a/x", "b/x"], &[]).len(), 2, "by two rules and two Registries of one host");
        let two = [rule("r", "a/*", &[("d", "{basename}")]), rule("q", "b/*", &[("same", "{basename}")])].join(", ");
        assert!(refused(&two, &["a/x", "b/x"], &[]).is_empty(), "at two hosts");
        let one = rule("r", "", &[("d", "all")]);
        assert_eq!(refused(&one, &["a", "b", "c"], &[("z", "d/all")]).len(), 3, "held by one that is not listed");
    }

    #[test]
    fn the_sentence_names_both_repositories_and_the_remedy() {
        let flat = rule("r", "", &[("d", "{basename}")]);
        let yaml = format!("{{source: {{registryRef: {{name: s}}}}, rules: [{flat}]}}");
        let configuration = parse_configuration("team", "c", &serde_saphyr::from_str(&yaml).unwrap()).unwrap();
        let names = ["a/x", "b/x"].map(|name| name.parse().unwrap()).into();
        let refusals = refuse_names(&configuration.selection, &names, "h", |_| Some("d"), |_| None);
        let message = &refusals.values().next().unwrap().message;
        assert!(
            message.starts_with("a/x and b/x would share the repository x of d; none of them is copied"),
            "{message}"
        );
    }

    #[test]
    fn a_configuration_does_not_read_what_it_writes() {
        let mirror = rule("r", "", &[("s", "mirror/{repository}")]);
        assert!(refused(&mirror, &["x"], &[]).is_empty());
        assert_eq!(
            refused(&mirror, &["x", "mirror/x", "mirror/mirror/x"], &[]),
            [
                "mirror/mirror/x > h/mirror/mirror/mirror/x: SelfReplication",
                "mirror/x > h/mirror/mirror/x: SelfReplication"
            ]
        );
        let promotion = rule("r", "dev/*", &[("same", "prod/{basename}")]);
        assert!(refused(&promotion, &["dev/x", "prod/x"], &[]).is_empty());
        let to_and_fro = [promotion, rule("q", "prod/*", &[("same", "dev/{basename}")])].join(", ");
        assert_eq!(refused(&to_and_fro, &["dev/x", "prod/x"], &[]).len(), 2, "a circle is refused as a whole");
        let onto_itself = rule("r", "", &[("s", "{segment:1}/{basename}"), ("d", "{repository}")]);
        assert!(refused(&onto_itself, &["x/y"], &[]).is_empty(), "the copy onto itself is refused where it is claimed");
    }
}
