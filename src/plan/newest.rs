//! The newest tags of a repository: how tags rank, and which of them a rule takes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use semver::Version;

use super::tag_filters::version_of;
use crate::image::Tag;
use crate::terms::{Newest, NewestBy};

/// The creation date of an image, as its configuration states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreationDate {
    /// It was not read, or cannot be read.
    #[default]
    Unknown,
    /// The image states none.
    Absent,
    /// The date.
    At(Timestamp),
}

/// The rank of a tag among others: the larger, the newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TagRank {
    Name,
    Version(Option<Version>),
    Date(Option<Timestamp>),
}

/// The newest tags of one repository that a rule takes, with their ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankedTags {
    newest: Newest,
    ranks: BTreeMap<Tag, TagRank>,
}

/// The tags of a repository, divided by the `newest` of the rules that take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NarrowedTags {
    /// By rule, the tags that its `newest` takes. A rule without `newest` has no entry, and takes what its filters take.
    pub by_rule: BTreeMap<String, RankedTags>,
    /// The tags that the filters of a rule take, and no rule as one of its newest.
    pub outside: BTreeSet<Tag>,
    /// Tags whose date could not be read: no rule takes them anew, and none of them has left.
    pub unknown: BTreeSet<Tag>,
}

impl RankedTags {
    /// Returns the newest of `tags`. Those of an unknown date are left out.
    pub fn choose<'a>(newest: Newest, tags: impl Iterator<Item = (&'a Tag, CreationDate)>) -> Self {
        let mut ranked: Vec<(TagRank, &Tag)> =
            tags.filter_map(|(tag, date)| Some((TagRank::of(newest.by, tag, date)?, tag))).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        ranked.truncate(newest.count as usize);
        Self { newest, ranks: ranked.into_iter().map(|(rank, tag)| (tag.clone(), rank)).collect() }
    }

    /// Returns true if `tag` is one of the newest.
    pub fn takes(&self, tag: &Tag) -> bool {
        self.ranks.contains_key(tag)
    }

    /// Takes a tag that was pushed, if it is one of the newest now. The tag that falls out for it leaves with the next
    /// list.
    pub fn admit(&mut self, tag: &Tag, date: CreationDate) {
        let Some(rank) = TagRank::of(self.newest.by, tag, date) else { return };
        self.ranks.insert(tag.clone(), rank);
        if self.ranks.len() > self.newest.count as usize {
            let oldest = self.ranks.iter().min_by(|(a, x), (b, y)| (x, a).cmp(&(y, b))).map(|(tag, _)| tag.clone());
            oldest.inspect(|tag| drop(self.ranks.remove(tag)));
        }
    }

    /// Returns true if ranks are by the date of creation.
    pub fn is_by_date(&self) -> bool {
        self.newest.by == NewestBy::Created
    }
}

impl TagRank {
    /// Returns the rank of a tag; `None` if it is unknown.
    fn of(by: NewestBy, tag: &Tag, date: CreationDate) -> Option<Self> {
        match (by, date) {
            (NewestBy::Semver, _) => Some(Self::Version(version_of(tag.as_str()))),
            (NewestBy::Name, _) => Some(Self::Name),
            (NewestBy::Created, CreationDate::Unknown) => None,
            (NewestBy::Created, CreationDate::Absent) => Some(Self::Date(None)),
            (NewestBy::Created, CreationDate::At(at)) => Some(Self::Date(Some(at))),
        }
    }
}

/// The choice as plans name it, such as `the newest 10 by Semver`.
pub(super) fn describe_newest(newest: Newest) -> String {
    format!("the newest {} by {:?}", newest.count, newest.by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn chosen(by: NewestBy, count: u32, tags: &[(&str, CreationDate)]) -> Vec<String> {
        let tags: Vec<(Tag, CreationDate)> = tags.iter().map(|(name, date)| (tag(name), *date)).collect();
        let ranked = RankedTags::choose(Newest { count, by }, tags.iter().map(|(tag, date)| (tag, *date)));
        tags.iter().filter(|(tag, _)| ranked.takes(tag)).map(|(tag, _)| tag.to_string()).collect()
    }

    fn named(by: NewestBy, count: u32, tags: &str) -> String {
        let tags: Vec<(&str, CreationDate)> = tags.split(' ').map(|tag| (tag, CreationDate::Unknown)).collect();
        chosen(by, count, &tags).join(" ")
    }

    fn day(day: i64) -> CreationDate {
        CreationDate::At(Timestamp::from_second(day * 86_400).unwrap())
    }

    #[test]
    fn the_newest_are_chosen_by_version_or_name() {
        use NewestBy::{Name, Semver};
        for (by, count, tags, expected) in [
            (Semver, 2, "1.9.0 1.10.0 1.2.0", "1.9.0 1.10.0"),
            (Semver, 1, "v1.9 1.10.0 V1.2", "1.10.0"),
            (Semver, 2, "1.0.0 1.0.0-rc.1 1.0.0-alpha", "1.0.0 1.0.0-rc.1"),
            (Semver, 2, "latest 1.0.0 edge 0.9.0", "1.0.0 0.9.0"),
            (Semver, 3, "latest 1.0.0 edge 0.9.0", "latest 1.0.0 0.9.0"),
            (Semver, 1, "1.2 1.2.0", "1.2.0"),
            (Semver, 2, "1.2.3_build.5 1.2.3_build.6 1.2.3", "1.2.3_build.5 1.2.3_build.6"),
            (Semver, 1, "2024.01.15 2024.1.2 2023.12.31", "2024.01.15"),
            (Semver, 1, "42 v1", "v1"),
            (Semver, 5, "1.0.0 2.0.0", "1.0.0 2.0.0"),
            (Name, 2, "2024-01-15 2024-02-01 2023-12-31", "2024-01-15 2024-02-01"),
            (Name, 1, "1.9.0 1.10.0", "1.9.0"),
            (Name, 1, "a B", "a"),
        ] {
            assert_eq!(named(by, count, tags), expected, "{count} by {by:?} of {tags}");
        }
    }

    #[test]
    fn by_date_tags_without_one_sort_last_and_unknown_ones_take_no_place() {
        use CreationDate::{Absent, Unknown};
        let of = |count, tags: &[(&str, CreationDate)]| chosen(NewestBy::Created, count, tags).join(" ");
        assert_eq!(of(2, &[("a", day(3)), ("b", day(1)), ("c", day(2))]), "a c");
        assert_eq!(of(2, &[("chart", Absent), ("b", day(1)), ("old", day(-400))]), "b old");
        assert_eq!(of(3, &[("chart", Absent), ("b", day(1)), ("old", day(0))]), "chart b old");
        assert_eq!(of(1, &[("x", Unknown), ("b", day(1))]), "b");
        assert_eq!(of(1, &[("a", day(1)), ("b", day(1))]), "b", "of equals, the larger name");
        assert_eq!(of(1, &[("a", Absent), ("b", Absent)]), "b");
    }

    #[test]
    fn a_pushed_tag_is_admitted_if_it_is_one_of_the_newest() {
        let tags = ["1.0.0", "1.1.0"].map(tag);
        let newest = Newest { count: 2, by: NewestBy::Semver };
        let ranked = RankedTags::choose(newest, tags.iter().map(|tag| (tag, CreationDate::Unknown)));
        let after = |pushed: &str| {
            let mut ranked = ranked.clone();
            ranked.admit(&tag(pushed), CreationDate::Unknown);
            ranked.ranks.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(after("1.2.0"), "1.1.0 1.2.0");
        assert_eq!(after("0.9.0"), "1.0.0 1.1.0");
        assert_eq!(after("1.1.0"), "1.0.0 1.1.0");
        let newest = Newest { count: 1, by: NewestBy::Created };
        let (old, new) = (tag("old"), tag("new"));
        let mut ranked = RankedTags::choose(newest, [(&old, day(1))].into_iter());
        ranked.admit(&new, CreationDate::Unknown);
        assert!(ranked.takes(&old) && !ranked.takes(&new), "its date is not known");
        ranked.admit(&new, day(2));
        assert!(ranked.takes(&new) && !ranked.takes(&old));
        // A tag that moves to an older image may lose its place to none but those that are known.
        ranked.admit(&new, day(0));
        assert!(ranked.takes(&new));
    }
}
