//! Filters of tags by example, and the sentences for those that cannot be used.

use super::*;
use crate::terms::{TagFilterType, VersionSyntax};

fn filters(kinds: &[(TagFilterType, &str)]) -> Vec<TagFilter> {
    let filter = |(filter_type, text): &(TagFilterType, &str)| TagFilter {
        filter: (*text).to_owned(),
        filter_type: *filter_type,
        version_syntax: if *filter_type == SemverMatch { VersionSyntax::Strict } else { VersionSyntax::default() },
    };
    kinds.iter().map(filter).collect()
}

fn taken<'a>(kind: TagFilterType, text: &str, tags: &[&'a str]) -> Vec<&'a str> {
    let filters = TagFilters::parse(Some(&filters(&[(kind, text)])), &[], &mut PatternRoom::default()).unwrap();
    tags.iter().copied().filter(|tag| filters.takes(&ComparedTag::new(&tag.parse().unwrap()))).collect()
}

fn error(kind: TagFilterType, text: &str) -> String {
    TagFilters::parse(None, &filters(&[(kind, text)]), &mut PatternRoom::default()).unwrap_err().to_string()
}

use TagFilterType::{ExactMatch, GlobMatch, RegexMatch, SemverMatch};

#[test]
fn each_type_of_filter_takes_whole_tags_in_its_own_way() {
    let tags = ["v1", "v1.2", "xv1", "V1", "latest"];
    assert_eq!(taken(ExactMatch, "v1", &tags), ["v1"]);
    assert_eq!(taken(GlobMatch, "v?*", &tags), ["v1", "v1.2"]);
    assert_eq!(taken(GlobMatch, "v?", &tags), ["v1"]);
    assert_eq!(taken(RegexMatch, "v[0-9]", &tags), ["v1"], "the whole tag");
    assert_eq!(taken(RegexMatch, "v1|latest", &tags), ["v1", "latest"], "alternatives too");
    assert_eq!(taken(RegexMatch, "(?i)v1", &tags), ["v1", "V1"]);
    assert_eq!(taken(RegexMatch, r"[^v].*", &tags), ["xv1", "V1", "latest"]);
    assert_eq!(taken(RegexMatch, r"\w\d(?:\.\d+)*", &tags), ["v1", "v1.2", "V1"]);
}

#[test]
fn versions_are_compared_as_versions() {
    let tags = ["1.2.0", "v1.10.3", "v2.0.0", "1.2.0-rc.1", "1.3.0-rc.1", "1.2", "1", "latest", "01.2.0", "vv1.2.0"];
    for text in [">=1.2 <2", ">=1.2,<2", ">= 1.2, < 2", "^1.2", "1.2", " >=1.2.0  <2.0.0 "] {
        assert_eq!(taken(SemverMatch, text, &tags), ["1.2.0", "v1.10.3"], "{text}");
    }
    assert_eq!(taken(SemverMatch, "*", &tags), ["1.2.0", "v1.10.3", "v2.0.0"], "no pre-releases unless one is named");
    for text in
        ["*", "<0.0.1", ">1.2 <=1.3", ">1.2.3, <1.2.5", "=1.2.3", "~1.2", ">1.0.0-a <1.0.0-b", "<=0.0.0", ">1 <3"]
    {
        assert!(
            TagFilters::parse(Some(&filters(&[(SemverMatch, text)])), &[], &mut PatternRoom::default()).is_ok(),
            "{text} has a version"
        );
    }
    assert_eq!(taken(SemverMatch, ">=1.3.0-rc.0 <2", &tags), ["v1.10.3", "1.3.0-rc.1"], "of that version alone");
    assert_eq!(taken(SemverMatch, "~1.2 , =1.2.0", &tags), ["1.2.0"]);
}

#[test]
fn alternatives_and_hyphens_make_ranges() {
    let tags = ["1.2.0", "1.4.9", "1.5.0", "2.0.0", "3.1.0"];
    for (text, expected) in [
        ("1.2 - 1.4", &["1.2.0", "1.4.9"][..]),
        ("1.2.0 - 1.4.0", &["1.2.0"]),
        ("1.2 - 1.4 || >=3", &["1.2.0", "1.4.9", "3.1.0"]),
        ("~1.5||^2", &["1.5.0", "2.0.0"]),
        ("=1.2.0 || =2.0.0 || =3.1.0", &["1.2.0", "2.0.0", "3.1.0"]),
    ] {
        assert_eq!(taken(SemverMatch, text, &tags), expected, "{text}");
    }
}

#[test]
fn the_documented_tags_are_read_as_documented() {
    let reads = |text: &str, version_syntax, tag: &str| {
        let filter = TagFilter { filter: text.to_owned(), filter_type: SemverMatch, version_syntax };
        TagFilters::parse(Some(&[filter]), &[], &mut PatternRoom::default())
            .unwrap()
            .takes(&ComparedTag::new(&tag.parse().unwrap()))
    };
    let page = include_str!("../../../docs/reference/versions.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [tag, loose, strict, taken] = cells[..] else { panic!("four cells: {row}") };
        let tag = tag.trim_matches('`');
        for (cell, syntax) in [(loose, VersionSyntax::Loose), (strict, VersionSyntax::Strict)] {
            // A range that names the version itself takes it, a pre-release too.
            let version = cell.trim_matches('`');
            let is_read = version != "–" && reads(&format!("={version}"), syntax, tag);
            assert_eq!(is_read, version != "–", "{tag} as {syntax:?}: {cell}");
            let is_any = reads(">=0.0.0 || >=0.0.0-0", syntax, tag);
            assert!(is_any || version == "–" || version.contains('-'), "{tag} is a version");
            assert!(!is_any || version != "–", "{tag} is no version as {syntax:?}");
        }
        assert_eq!(reads(">=1.2 <2", VersionSyntax::Loose, tag), taken == "yes", "{tag} in >=1.2 <2");
        count += 1;
    }
    assert!(count >= 40, "{count} tags");
}

#[test]
fn a_tag_is_taken_by_any_filter_and_left_out_by_any_exclusion() {
    let include = filters(&[(ExactMatch, "latest"), (SemverMatch, ">=1")]);
    let exclude = filters(&[(GlobMatch, "*-debug"), (RegexMatch, r"1\.3\..*"), (RegexMatch, r"1\.4\..*")]);
    let both = TagFilters::parse(Some(&include), &exclude, &mut PatternRoom::default()).unwrap();
    let why = |tag: &str| both.cause(&ComparedTag::new(&tag.parse().unwrap())).map(|cause| both.describe(cause));
    assert_eq!((why("latest"), why("v1.2.3")), (None, None));
    assert_eq!(why("edge").unwrap(), "tagFilters has only EXACT_MATCH latest, SEMVER_MATCH >=1");
    assert_eq!(why("1.3.1").unwrap(), r"excludeTagFilters has REGEX_MATCH 1\.3\..*");
    assert_eq!(why("1.4.1").unwrap(), r"excludeTagFilters has REGEX_MATCH 1\.4\..*");
    assert_eq!(both.causes(), 4);
    let but_debug = TagFilters::parse(None, &exclude[..1], &mut PatternRoom::default()).unwrap();
    assert!(
        but_debug.takes(&ComparedTag::new(&"edge".parse().unwrap()))
            && !but_debug.takes(&ComparedTag::new(&"edge-debug".parse().unwrap()))
    );
}

#[test]
fn a_filter_that_cannot_be_used_is_refused_with_its_field() {
    let named = "excludeTagFilters[0]: ";
    for (kind, text, words) in [
        (ExactMatch, "v1*", "filter must be a whole tag"),
        (GlobMatch, "v1/*", "filter must be a pattern of tags"),
        (RegexMatch, "v[", "is no regular expression that can be used: unclosed character class"),
        (RegexMatch, "(?:[a-z0-9]{200}){200}", "takes too much memory when it is compiled"),
        (RegexMatch, "a)(b", "unopened group"),
        (SemverMatch, ">=2 <1", "no version is in"),
        (SemverMatch, ">1.2.3 <=1.2.3", "no version is in"),
        (SemverMatch, "<0.0.0", "no version is in"),
        (SemverMatch, ">18446744073709551615 <1", "no version is in"),
        (GlobMatch, "-*", "not beginning with '.' or '-'"),
        (SemverMatch, ">=1.2 & <3", "filter must be a range of versions such as '>=1.2 <2'"),
        (SemverMatch, ">=1.2 ||", "is no range of versions"),
        (SemverMatch, "1.2 -", "is no range of versions"),
        (SemverMatch, "- 1.2", "is no range of versions"),
        (SemverMatch, ">=1 || >=2 <1", "no version is in"),
        (SemverMatch, "newest", "is no range of versions"),
        (SemverMatch, " ", "is no range of versions"),
        (ExactMatch, "", "must have 1 to 256 characters"),
    ] {
        let error = error(kind, text);
        assert!(error.starts_with(named) && error.contains(words), "{error}");
    }
    let mut room = PatternRoom::default();
    TagFilters::parse(Some(&filters(&[(SemverMatch, "1 || 2 || 3 || 4 || 5"); 49])), &[], &mut room).unwrap();
    let error = TagFilters::parse(Some(&filters(&[(GlobMatch, "a*"); 3])), &[], &mut room).unwrap_err().to_string();
    assert!(
        error.starts_with("tagFilters[2]: \"a*\" is one pattern too many: all rules together may have 100"),
        "{error}"
    );
    assert!(
        TagFilters::parse(Some(&[]), &[], &mut PatternRoom::default())
            .unwrap_err()
            .to_string()
            .contains("remove it to take every tag")
    );
    let many = TagFilters::parse(None, &filters(&[(ExactMatch, "a"); 101]), &mut PatternRoom::default()).unwrap_err();
    assert!(many.to_string().contains("more than 100"));
}

#[test]
fn an_expression_takes_time_in_proportion_to_the_tag() {
    let (began, tag) = (std::time::Instant::now(), format!("{}b", "a".repeat(127)));
    assert!(taken(RegexMatch, "(a*)*c", &[&tag]).is_empty());
    assert!(taken(GlobMatch, "*a*a*a*a*a*c", &[&tag]).is_empty());
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}

#[test]
fn filters_that_match_no_tag_are_named() {
    let of = |filter_type, text: &str| TagFilter {
        filter: text.to_owned(),
        filter_type,
        version_syntax: VersionSyntax::default(),
    };
    let include = [
        of(TagFilterType::GlobMatch, "v*"),
        of(TagFilterType::RegexMatch, "v1.*"),
        of(TagFilterType::RegexMatch, "nightly-.*"),
        of(TagFilterType::ExactMatch, "latest"),
    ];
    let filters =
        TagFilters::parse(Some(&include), &[of(TagFilterType::ExactMatch, "never")], &mut PatternRoom::default())
            .unwrap();
    let mut used = Vec::new();
    for tag in ["v1.2", "v2", "edge"] {
        filters.mark_used(&ComparedTag::new(&tag.parse().unwrap()), &mut used);
    }
    let unused: Vec<String> = filters.unused(&used).collect();
    assert_eq!(unused, ["REGEX_MATCH nightly-.*", "EXACT_MATCH latest"]);
    assert_eq!(filters.unused(&[]).count(), 0, "no tag was seen");
}
