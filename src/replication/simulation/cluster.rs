//! The model of what people declare: configurations, Registries and consent; and the orders that a process makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use super::destination::Destination;
use super::names::{DESTINATIONS, MERGING, MIRRORED, Millis, NAMESPACE, at, destination, repository, source, target};
use crate::plan::{
    ByRegistry, Claimant, Configuration, CopyOptions, DeletionBrake, NamespacedName, Pace, PatternRoom,
    RepositoryAddress, RepositoryFilters, Rule, RuleTarget, Selection, SpecError, Standing, TagFilters, Windows,
    parse_configuration,
};
use crate::policy::Policy;
use crate::replication::machine::{Orders, RegistryIdentity};
use crate::terms::{
    Action, Execution, LocalRegistryReference, Newest, NewestBy, Principal, RegistryPermissionPolicySpec,
    RepositoryFilter, RepositoryFilterType, Statement, StatementEffect, TagFilter, TagFilterType, VersionSyntax,
    reason,
};

/// The kind of a world: where configurations are declared, and how processes follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Objects of a cluster. Processes replace each other, and a tag is written with a grant.
    Cluster,
    /// Files. One process at a time has the state folder, with records of every verified image and without grants; the
    /// order of the files decides about claims.
    Files,
}

/// A ReplicationConfiguration.
#[derive(Debug)]
pub(super) struct Declared {
    pub home: Home,
    pub exists: bool,
    /// It was deleted, and does not come back.
    pub was_deleted: bool,
    pub index: usize,
    /// Its age decides about claims.
    pub created: i64,
    pub generation: i64,
    pub shape: Shape,
    /// The shape that it has once faults stop.
    pub base: Shape,
    pub request: Option<u32>,
    /// A registry has refused its credentials.
    pub was_refused: bool,
    /// An edit has changed which tags are taken.
    pub varies_tags: bool,
    /// The smallest number of newest tags that were taken at any time.
    pub least_newest: Option<u32>,
    pub interval: Duration,
    /// The hash of the deletions that a person has approved.
    pub approved: Option<String>,
}

/// The parts of a spec that the simulation varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub is_invalid: bool,
    pub suspend: bool,
    /// Repositories named exactly; `None` takes those that the catalog lists.
    pub exact: Option<Vec<usize>>,
    pub destinations: Vec<usize>,
    pub without_tag: bool,
    pub with_platforms: bool,
    /// The brake of deletions; `None` to delete nothing.
    pub deletion: Option<DeletionBrake>,
    /// All repositories would have one name at the second destination.
    pub merges: bool,
    /// Copies start in windows only.
    pub has_windows: bool,
    /// The number of the newest tags by name that are taken; `None` for all.
    pub newest: Option<u32>,
    /// The source is compared by a schedule instead of an interval.
    pub has_schedule: bool,
}

impl Shape {
    pub(super) fn of(destinations: Vec<usize>) -> Self {
        Self {
            is_invalid: false,
            suspend: false,
            exact: None,
            destinations,
            without_tag: false,
            with_platforms: false,
            deletion: None,
            merges: false,
            has_windows: false,
            newest: None,
            has_schedule: false,
        }
    }

    fn target(&self, index: usize) -> RuleTarget {
        let target = target(index);
        if self.merges && index == 1 { RuleTarget { template: MERGING.clone(), ..target } } else { target }
    }

    fn selection(&self) -> Selection {
        let mut options = CopyOptions::default();
        if self.with_platforms {
            options.platforms = vec!["linux/amd64".parse().expect("a platform")];
        }
        Selection {
            rules: vec![Rule {
                name: "all".to_owned(),
                repositories: repositories(self.exact.clone()),
                tags: if self.without_tag { WITHOUT_TAG.clone() } else { ALL_TAGS.clone() },
                destinations: self.destinations.iter().map(|index| self.target(*index)).collect(),
                options,
                deletion: self.deletion,
                newest: self.newest.map(|count| Newest { count, by: NewestBy::Name }),
                choice_hash: format!("{:?} {}", self.newest, self.without_tag),
                immutable_tags: Vec::new(),
            }],
        }
    }
}

/// Returns the filters of repositories by number, or of all; to parse them takes long.
fn repositories(exact: Option<Vec<usize>>) -> RepositoryFilters {
    static PARSED: Mutex<BTreeMap<Option<Vec<usize>>, RepositoryFilters>> = Mutex::new(BTreeMap::new());
    let parse = || {
        let filters = match &exact {
            None => vec![repository_filter(RepositoryFilterType::PrefixMatch, "app/")],
            Some(exact) => exact
                .iter()
                .map(|index| repository_filter(RepositoryFilterType::ExactMatch, repository(*index).as_str()))
                .collect(),
        };
        RepositoryFilters::parse("spec.rules[all]", Some(&filters), &[], &mut PatternRoom::default()).expect("filters")
    };
    let mut parsed = PARSED.lock().expect("no thread panics while it has the lock");
    parsed.entry(exact.clone()).or_insert_with(parse).clone()
}

fn repository_filter(filter_type: RepositoryFilterType, filter: &str) -> RepositoryFilter {
    RepositoryFilter { filter: filter.to_owned(), filter_type }
}

static ALL_TAGS: LazyLock<Arc<TagFilters>> = LazyLock::new(Arc::default);
/// Takes every tag but the first.
static WITHOUT_TAG: LazyLock<Arc<TagFilters>> = LazyLock::new(|| {
    let filter = TagFilter {
        filter: "t0".to_owned(),
        filter_type: TagFilterType::ExactMatch,
        version_syntax: VersionSyntax::default(),
    };
    Arc::new(TagFilters::parse(None, &[filter], &mut PatternRoom::default()).expect("a filter"))
});

/// Three of five minutes.
static WINDOWS: LazyLock<Windows> =
    LazyLock::new(|| parsed("allowedWindows: [{cron: '*/5 * * * *', duration: 3m}]").windows);
/// Each second minute.
static SCHEDULE: LazyLock<Pace> = LazyLock::new(|| parsed("schedule: {cron: '*/2 * * * *'}").pace);

fn parsed(fields: &str) -> Configuration {
    let spec = format!("{{source: {{registryRef: {{name: s}}}}, {fields}}}");
    let spec = serde_saphyr::from_str(&spec).expect("a spec");
    parse_configuration(NAMESPACE, "parsed", &spec).expect("a configuration")
}

impl Declared {
    pub(super) fn name(&self) -> String {
        format!("c{}", self.index)
    }

    pub(super) fn interval_millis(&self) -> Millis {
        Millis::try_from(self.interval.as_millis()).expect("it is short")
    }

    pub(super) fn uid(&self) -> String {
        format!("uid-{}", self.index)
    }

    pub(super) fn configuration(&self) -> Result<Arc<Configuration>, SpecError> {
        if self.shape.is_invalid {
            return Err(SpecError { reason: reason::INVALID_SPEC, message: "spec.rules is wrong".to_owned() });
        }
        Ok(Arc::new(Configuration {
            namespace: NAMESPACE.to_owned(),
            name: self.name(),
            source: source().name,
            selection: self.shape.selection(),
            pace: if self.shape.has_schedule { SCHEDULE.clone() } else { Pace::Every(self.interval) },
            windows: if self.shape.has_windows { WINDOWS.clone() } else { Windows::default() },
            priority: 0,
            lag_objective: None,
            suspend: self.shape.suspend,
            execution: Execution { mode: None, class: "default".to_owned() },
        }))
    }

    /// Returns the generation of the spec; files have none.
    pub(super) fn shown_generation(&self) -> Option<i64> {
        Some(self.generation).filter(|_| self.home == Home::Cluster)
    }

    fn standings(&self, destinations: &[Destination; DESTINATIONS]) -> ByRegistry<Standing> {
        if self.home == Home::Files {
            return ByRegistry::default();
        }
        let refusing = (0..DESTINATIONS).filter(|index| destinations[*index].refused == Some(self.index));
        refusing.map(|index| (destination(index), Standing::Unproven)).collect()
    }

    /// Returns the orders as a process makes them of what is declared now.
    pub(super) fn orders(&self, destinations: &[Destination; DESTINATIONS], changes: u64) -> Orders {
        let configuration = self.configuration();
        let mut registries = ByRegistry::default();
        registries
            .insert(source(), RegistryIdentity { uid: "uid-source".to_owned(), host: "source.example".to_owned() });
        for index in &self.shape.destinations {
            if let Some(uid) = destinations[*index].uid {
                let identity = RegistryIdentity { uid: format!("uid-d{index}-{uid}"), host: host(*index) };
                registries.insert(destination(*index), identity);
            }
        }
        Orders {
            namespace: NAMESPACE.to_owned(),
            name: self.name(),
            holder: Claimant { created: at(self.created), uid: self.uid() },
            generation: self.shown_generation(),
            configuration,
            request: self.request.map(|request| request.to_string()),
            registries,
            dependencies: changes,
            stalled_registries: BTreeMap::new(),
            standings: self.standings(destinations),
            policies: Arc::new(policies(destinations)),
            class: None,
            slots: 4,
            once: None,
            is_dry: false,
            deletes: true,
            approved_deletions: self.approved.clone(),
        }
    }
}

/// Returns the place of a repository at a destination.
pub(super) fn place(destination: usize, index: usize) -> RepositoryAddress {
    let target = target(destination).template.name_of(&repository(index)).expect("a short name");
    RepositoryAddress { host: host(destination), repository: target }
}

/// Returns a policy for each destination whose owner allows replication.
fn policies(destinations: &[Destination; DESTINATIONS]) -> BTreeMap<String, Vec<Policy>> {
    let allowed = (0..DESTINATIONS).filter(|index| destinations[*index].is_allowed).map(destination);
    allowed
        .map(|NamespacedName { namespace, name }| {
            let mut actions = vec![Action::ReplicateImage];
            let may_delete = destinations[super::names::last_digit(&name)].may_delete;
            actions.extend(may_delete.then_some(Action::DeleteImage));
            let statement = |effect, configuration| Statement {
                sid: format!("{effect:?}"),
                effect,
                principals: vec![Principal { namespace: "*".to_owned(), configuration }],
                actions: actions.clone(),
                resources: vec![if super::names::last_digit(&name) == 1 { MIRRORED } else { "*" }.to_owned()],
            };
            let mut statements = vec![statement(StatementEffect::Allow, None)];
            let denied = destinations[super::names::last_digit(&name)].denied;
            statements.extend(denied.map(|index| statement(StatementEffect::Deny, Some(format!("c{index}")))));
            let spec = RegistryPermissionPolicySpec { registry_ref: LocalRegistryReference { name }, statements };
            (namespace, vec![Policy { name: "consent".to_owned(), spec: Some(spec) }])
        })
        .collect()
}

pub(super) fn host(destination: usize) -> String {
    format!("d{destination}.example")
}
