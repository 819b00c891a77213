//! The brake of deletions: how many images may be deleted within a day, and what waits for a person beyond that.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::namespaced_name::NamespacedName;
use super::pair_identity::PairIdentity;
use crate::image::{Digest, Tag};
use crate::terms::{FormerDeletions, RecentDeletions, RegistryReference};

/// The most deletions of a pair within 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionBrake {
    /// A share of the images of the pair, in percent.
    pub max_percent: u32,
    /// The number that is allowed in any case.
    pub min_allowed: u32,
}

/// The deletions of a pair within the last day, by the hour. Lost counts would release the brake: they are published
/// before anything is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionCounts(BTreeMap<Timestamp, u64>);

/// The deletions of a configuration that no pair knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionHistory {
    /// The counts of pairs that were dropped, by destination and repository: a pair that is made anew goes on with them.
    dropped: BTreeMap<(NamespacedName, String), DeletionCounts>,
    /// The approval of a person that was carried out last: it is part of the next hash, so that each counts once.
    pub approved: Option<String>,
}

/// One image that is to be deleted at one destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedDeletion {
    /// The destination as `namespace/registry/repository`.
    pub place: String,
    /// The tag.
    pub tag: Tag,
    /// The digest that the configuration has recorded there.
    pub digest: Digest,
}

impl DeletionBrake {
    /// Returns true if `wanted` further images of a pair that has `images` may be deleted after `recent` ones: all of
    /// them, or none.
    pub fn allows(&self, images: u64, recent: u64, wanted: u64) -> bool {
        // What was deleted lately counts as there: the share does not shrink while the plan is carried out.
        let share = (images + recent) * u64::from(self.max_percent) / 100;
        recent + wanted <= share.max(u64::from(self.min_allowed))
    }
}

impl DeletionCounts {
    /// Restores the counts that were published.
    pub fn restore(published: &[RecentDeletions]) -> Self {
        Self(published.iter().map(|recent| (recent.since, recent.count)).collect())
    }

    /// Takes the larger count of each hour: two records of the same deletions may be of different age.
    pub fn take_larger(&mut self, other: &Self) {
        for (hour, count) in &other.0 {
            let known = self.0.entry(*hour).or_default();
            *known = (*known).max(*count);
        }
    }

    /// Counts deletions that are about to be made.
    pub fn add(&mut self, count: u64, now: Timestamp) {
        self.0.retain(|hour, _| *hour + DAY + HOUR > now);
        let hour = Timestamp::from_second(now.as_second() - now.as_second().rem_euclid(3600)).unwrap_or(now);
        *self.0.entry(hour).or_default() += count;
    }

    /// Returns the number of deletions within 24 hours before `now`, or up to an hour more.
    pub fn within_a_day(&self, now: Timestamp) -> u64 {
        self.0.range(now - DAY - HOUR..).map(|(_, count)| count).sum()
    }

    /// Returns the time at which the number of [`DeletionCounts::within_a_day`] is next smaller.
    pub fn smaller_at(&self, now: Timestamp) -> Option<Timestamp> {
        let hour = self.0.range(now - DAY - HOUR..).next().map(|(hour, _)| *hour)?;
        Some(hour + DAY + HOUR + Duration::from_secs(1))
    }

    /// Returns the counts to publish.
    pub fn published(&self) -> Vec<RecentDeletions> {
        self.0.iter().map(|(since, count)| RecentDeletions { since: *since, count: *count }).collect()
    }
}

impl DeletionHistory {
    /// Keeps the counts of a pair that is dropped. Returns false if there are none.
    pub fn keep(&mut self, place: (&NamespacedName, &str), counts: &DeletionCounts, now: Timestamp) -> bool {
        self.dropped.retain(|_, counts| counts.within_a_day(now) > 0);
        let counts_any = counts.within_a_day(now) > 0;
        if counts_any {
            self.dropped.insert((place.0.clone(), place.1.to_owned()), counts.clone());
        }
        counts_any
    }

    /// Returns the counts for a pair that is made anew. They stay until its status has them: the process may end before
    /// that.
    pub fn counts(&self, place: (&NamespacedName, &str)) -> Option<&DeletionCounts> {
        self.dropped.get(&(place.0.clone(), place.1.to_owned()))
    }

    /// Forgets the counts that the status of a pair has. Returns false if there are none.
    pub fn forget(&mut self, place: (&NamespacedName, &str)) -> bool {
        !self.dropped.is_empty() && self.dropped.remove(&(place.0.clone(), place.1.to_owned())).is_some()
    }

    /// Restores the counts that a configuration of `namespace` published.
    pub fn restore(namespace: &str, published: &[FormerDeletions], approved: Option<String>) -> Self {
        let mut dropped: BTreeMap<(NamespacedName, String), DeletionCounts> = BTreeMap::new();
        for FormerDeletions { registry_ref, repository, since, count } in published {
            let namespace = registry_ref.namespace.clone().unwrap_or_else(|| namespace.to_owned());
            let place = (NamespacedName { namespace, name: registry_ref.name.clone() }, repository.clone());
            *dropped.entry(place).or_default().0.entry(*since).or_default() += count;
        }
        Self { dropped, approved }
    }

    /// Returns the counts to publish: of too many the largest.
    pub fn published(&self) -> Vec<FormerDeletions> {
        let entries = self.dropped.iter().flat_map(|((registry, repository), counts)| {
            counts.0.iter().map(move |(since, count)| FormerDeletions {
                registry_ref: RegistryReference {
                    namespace: Some(registry.namespace.clone()),
                    name: registry.name.clone(),
                },
                repository: repository.clone(),
                since: *since,
                count: *count,
            })
        });
        let mut entries: Vec<FormerDeletions> = entries.collect();
        if entries.len() > MAX_FORMER_COUNTS {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.count));
            entries.truncate(MAX_FORMER_COUNTS);
        }
        entries
    }
}

impl PlannedDeletion {
    /// Returns the deletion of `tag` of a pair.
    pub fn new(pair: &PairIdentity, tag: &Tag, digest: &Digest) -> Self {
        let destination = &pair.spec.destination;
        let namespace = destination.registry_ref.namespace.as_ref().unwrap_or(&pair.namespace);
        let place = format!("{namespace}/{}/{}", destination.registry_ref.name, destination.repository);
        Self { place, tag: tag.clone(), digest: digest.clone() }
    }
}

/// A tag that is to be deleted at a destination, as it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingTag {
    /// The digest that was last verified there.
    pub recorded: Digest,
    /// True if the source has the tag, and the rules take only newer ones.
    pub is_outside: bool,
}

/// Returns the hash by which a person approves exactly these deletions, whatever their order, after the approval that
/// was carried out last.
pub fn deletion_plan_hash(deletions: &[PlannedDeletion], approved: Option<&str>) -> String {
    let mut lines: Vec<String> =
        deletions.iter().map(|PlannedDeletion { place, tag, digest }| format!("{place}:{tag}@{digest}\n")).collect();
    lines.sort();
    lines.dedup();
    lines.extend(approved.map(str::to_owned));
    Digest::sha256(lines.concat().as_bytes()).encoded()[..16].to_owned()
}

/// Returns the sentence about deletions that the brake holds: their number, examples, and the hash that approves them.
pub fn describe_held(deletions: &[PlannedDeletion], hash: &str) -> String {
    let mut names: Vec<String> =
        deletions.iter().map(|deletion| format!("{}:{}", deletion.place, deletion.tag)).collect();
    names.sort();
    let more = names.len().saturating_sub(MAX_EXAMPLES);
    names.truncate(MAX_EXAMPLES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{} deletions are more than deleteReplication allows within 24 h, and wait; the annotation {APPROVE_DELETIONS}: \
         {hash} has them made; they are {}{more}",
        deletions.len(),
        names.join(", ")
    )
}

/// The annotation of a configuration whose value approves the deletions with that hash.
pub const APPROVE_DELETIONS: &str = "transship.dev/approve-deletions";
const MAX_EXAMPLES: usize = 10;
const MAX_FORMER_COUNTS: usize = 256;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_800 + second).unwrap()
    }

    #[test]
    fn the_larger_of_share_and_number_may_go_within_a_day() {
        let cases = [
            // percent, number, images, recent, wanted, allowed
            (10, 5, 3, 0, 3, true),
            (10, 5, 10, 0, 5, true),
            (10, 5, 10, 0, 6, false),
            (10, 5, 10, 4, 1, true),
            (10, 5, 10, 4, 2, false),
            (10, 5, 100, 0, 10, true),
            (10, 5, 100, 0, 11, false),
            (10, 5, 90, 10, 0, true),
            (10, 5, 95, 5, 5, true),
            (10, 5, 95, 5, 6, false),
            (10, 5, 59, 0, 5, true),
            (10, 5, 60, 0, 6, true),
            (0, 0, 1000, 0, 1, false),
            (0, 0, 1000, 0, 0, true),
            (0, 3, 1000, 0, 3, true),
            (0, 3, 1000, 1, 3, false),
            (100, 0, 7, 0, 7, true),
            (100, 0, 0, 7, 0, true),
            (50, 1, 3, 0, 1, true),
            (50, 1, 3, 0, 2, false),
        ];
        for (max_percent, min_allowed, images, recent, wanted, allowed) in cases {
            let brake = DeletionBrake { max_percent, min_allowed };
            assert_eq!(brake.allows(images, recent, wanted), allowed, "{brake:?} {images} {recent} {wanted}");
        }
    }

    #[test]
    fn deletions_count_for_a_day_also_after_they_were_published() {
        let mut counts = DeletionCounts::default();
        counts.add(2, at(10));
        counts.add(3, at(3599));
        counts.add(1, at(7200));
        assert_eq!(counts.published().len(), 2, "one entry an hour");
        let counts = DeletionCounts::restore(&counts.published());
        let of = |second| counts.within_a_day(at(second));
        assert_eq!([of(7200), of(24 * 3600 + 3599), of(25 * 3600 + 1), of(27 * 3600 + 1)], [6, 6, 1, 0]);
        assert_eq!(counts.smaller_at(at(7200)), Some(at(25 * 3600 + 1)));
        let mut later = counts.clone();
        later.add(1, at(48 * 3600));
        assert_eq!(later.published().len(), 1, "what has run out is dropped");
    }

    #[test]
    fn counts_of_pairs_that_left_are_published_restored_and_bounded() {
        let registry = NamespacedName { namespace: "b".to_owned(), name: "d".to_owned() };
        let counts = |count: u64| {
            let mut counts = DeletionCounts::default();
            counts.add(count, at(10));
            counts
        };
        let mut former = DeletionHistory::default();
        assert!(!former.keep((&registry, "none"), &DeletionCounts::default(), at(10)));
        for n in 0..300 {
            assert!(former.keep((&registry, &format!("app-{n}")), &counts(1 + n), at(10)));
        }
        let published = former.published();
        assert_eq!((published.len(), published.iter().map(|it| it.count).min()), (256, Some(45)), "the largest");
        let restored = DeletionHistory::restore("a", &published, None);
        assert_eq!(restored.counts((&registry, "app-299")), Some(&counts(300)));
        assert_eq!(restored.counts((&registry, "app-1")), None);
        former.keep((&registry, "later"), &counts(1), at(26 * 3600));
        assert_eq!(former.published().len(), 0, "after a day nothing counts");
    }

    #[test]
    fn a_plan_has_one_hash_and_names_ten_of_its_images() {
        let deletion = |tag: &str, content: &str| PlannedDeletion {
            place: "a/d/app".to_owned(),
            tag: tag.parse().unwrap(),
            digest: Digest::sha256(content.as_bytes()),
        };
        let (one, two) = (deletion("v1", "1"), deletion("v2", "2"));
        let hash = deletion_plan_hash(&[one.clone(), two.clone()], None);
        assert_eq!(hash, deletion_plan_hash(&[two.clone(), one.clone(), two.clone()], None));
        assert_ne!(hash, deletion_plan_hash(&[one.clone(), two.clone()], Some(&hash)), "each approval counts once");
        assert_eq!(hash.len(), 16);
        for other in [vec![one.clone()], vec![one.clone(), deletion("v2", "3")], vec![]] {
            assert_ne!(hash, deletion_plan_hash(&other, None));
        }
        let many: Vec<_> = (0..12).map(|n| deletion(&format!("v{n:02}"), "1")).collect();
        let message = describe_held(&many, "0123456789abcdef");
        assert!(message.starts_with("12 deletions are more than") && message.ends_with("a/d/app:v09 and 2 more"));
        assert!(message.contains("approve-deletions: 0123456789abcdef has"), "{message}");
    }
}
