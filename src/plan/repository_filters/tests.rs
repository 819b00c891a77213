use super::*;
use crate::terms::RepositoryFilterType::{self, ExactMatch, GlobMatch, PrefixMatch, RegexMatch};

fn filter(filter_type: RepositoryFilterType, filter: &str) -> RepositoryFilter {
    RepositoryFilter { filter: filter.to_owned(), filter_type }
}

fn parse(include: &[RepositoryFilter], exclude: &[RepositoryFilter]) -> Result<RepositoryFilters, SpecError> {
    RepositoryFilters::parse("spec.rules[r]", Some(include), exclude, &mut PatternRoom::default())
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

#[track_caller]
fn check(filter_type: RepositoryFilterType, text: &str, taken: &[&str], left: &[&str]) {
    let filters = parse(&[filter(filter_type, text)], &[]).unwrap();
    taken.iter().for_each(|taken| assert!(filters.takes(&name(taken)), "{text} takes {taken}"));
    left.iter().for_each(|left| assert!(!filters.takes(&name(left)), "{text} leaves {left}"));
}

#[test]
fn a_prefix_is_compared_character_by_character_as_in_ecr() {
    check(PrefixMatch, "prod", &["prod", "prod-a", "production/x", "prod/y"], &["pro", "team/prod", "preprod"]);
}

#[test]
fn a_glob_knows_segments() {
    check(GlobMatch, "*", &["app", "a-b"], &["team/app"]);
    check(GlobMatch, "**", &["app", "team/app", "a/b/c"], &[]);
    check(GlobMatch, "team/*", &["team/app"], &["team", "team/a/b", "teams/app"]);
    check(GlobMatch, "team/**", &["team/app", "team/a/b"], &["team", "teams/app"]);
    check(GlobMatch, "team**", &["team", "teams/app", "team/a/b"], &["a/team"]);
    check(GlobMatch, "**/app", &["app", "team/app", "a/b/app"], &["team/myapp", "app/x"]);
    check(GlobMatch, "a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["az", "a/bz", "b/a/z"]);
    check(GlobMatch, "v?", &["v1", "va"], &["v", "v12", "v/1"]);
    check(
        GlobMatch,
        "{prod,staging}/*-api",
        &["prod/x-api", "staging/y-api"],
        &["dev/x-api", "prod/x", "prod/a/x-api"],
    );
    check(GlobMatch, "app{,-canary}", &["app", "app-canary"], &["app-x"]);
    check(GlobMatch, "a.b", &["a.b"], &["axb", "a-b"]);
}

#[test]
fn a_regular_expression_matches_the_whole_name() {
    check(RegexMatch, "team-[a-c]/.+", &["team-a/x", "team-c/y/z"], &["team-d/x", "my/team-a/x", "team-a"]);
    check(RegexMatch, "a|b", &["a", "b"], &["ab", "xa"]);
}

#[test]
fn an_excluded_repository_is_not_taken_and_the_reason_says_so() {
    let filters =
        parse(&[filter(PrefixMatch, "prod"), filter(ExactMatch, "dev/x")], &[filter(GlobMatch, "**/tmp-*")]).unwrap();
    assert!(filters.takes(&name("prod/app")) && !filters.takes(&name("prod/tmp-1")));
    assert_eq!(filters.why_not(&name("prod/tmp-1")), "excludeRepositoryFilters has GLOB_MATCH **/tmp-*");
    assert_eq!(filters.why_not(&name("other")), "PREFIX_MATCH prod or EXACT_MATCH dev/x");
    assert_eq!(filters.because(&name("prod/tmp-1")), None);
    let every =
        RepositoryFilters::parse("f", None, &[filter(ExactMatch, "dev/x")], &mut PatternRoom::default()).unwrap();
    assert!(every.takes(&name("a")) && !every.takes(&name("dev/x")) && every.needs_listing());
    let exact = parse(&[filter(ExactMatch, "aa"), filter(ExactMatch, "bb")], &[filter(ExactMatch, "bb")]).unwrap();
    assert_eq!(exact.exact().map(RepositoryName::as_str).collect::<Vec<_>>(), ["aa"]);
    assert!(!exact.needs_listing());
}

#[test]
fn a_prefix_that_ends_within_a_word_is_noted() {
    let filters = parse(&[filter(PrefixMatch, "prod")], &[]).unwrap();
    let noted = "PREFIX_MATCH prod, which also takes names that go on after it";
    for (repository, because) in [
        ("prod", "PREFIX_MATCH prod"),
        ("prod/x", "PREFIX_MATCH prod"),
        ("prod-a", "PREFIX_MATCH prod"),
        ("prod1", "PREFIX_MATCH prod"),
        ("production/x", noted),
    ] {
        assert_eq!(filters.because(&name(repository)).as_deref(), Some(because), "{repository}");
    }
    let listed: BTreeSet<_> =
        ["prod", "prod-a", "prod/x", "prod1", "proda", "prodz", "apps/prodx", "prof"].map(name).into();
    let beyond = |filters: &RepositoryFilters| {
        filters.beyond(&listed).into_iter().map(|(prefix, name)| format!("{prefix}: {name}")).collect::<Vec<_>>()
    };
    assert_eq!(beyond(&filters), ["PREFIX_MATCH prod: proda"]);
    let without = parse(&[filter(PrefixMatch, "apps/"), filter(PrefixMatch, "prod")], &[filter(ExactMatch, "proda")]);
    assert_eq!(beyond(&without.unwrap()), ["PREFIX_MATCH prod: prodz"]);
    let words = parse(&[filter(PrefixMatch, "team-")], &[]).unwrap();
    assert_eq!(words.because(&name("team-a")).as_deref(), Some("PREFIX_MATCH team-"));
}

#[test]
fn unusable_filters_are_refused_by_field() {
    for (filter_type, text, expected) in [
        (PrefixMatch, "a", "at least 2 characters"),
        (ExactMatch, "a", "at least 2 characters"),
        (PrefixMatch, "prod*", "wildcards"),
        (ExactMatch, "Team/App", "lower-case"),
        (GlobMatch, "Team/*", "lower-case"),
        (GlobMatch, "{a", "no closing one"),
        (GlobMatch, "a}", "no opening one"),
        (GlobMatch, "a,b", "stands in braces"),
        (GlobMatch, "{a,{b,c}}", "braces cannot stand in braces"),
        (GlobMatch, "[ab]", "lower-case"),
        (RegexMatch, "a(", "is no regular expression"),
        (RegexMatch, "a)(b", "is no regular expression"),
        (RegexMatch, "(a{200}){200}", "takes too much memory when it is compiled"),
    ] {
        let error = parse(&[filter(filter_type, text)], &[]).unwrap_err();
        assert!(error.message.starts_with("spec.rules[r].repositoryFilters[0]: "), "{error:?}");
        assert!(error.message.contains(expected), "{text}: {error:?}");
    }
    let error = parse(&[filter(PrefixMatch, "aa")], &[filter(RegexMatch, "[")]).unwrap_err();
    assert!(error.message.starts_with("spec.rules[r].excludeRepositoryFilters[0]: "), "{error:?}");
}

#[test]
fn a_hundred_usual_globs_fit_the_bound() {
    let globs: Vec<_> = (0..MAX_FILTERS).map(|n| filter(GlobMatch, &format!("team-{n}/**/{{api,worker}}-*"))).collect();
    let filters = parse(&globs, &[]).unwrap();
    assert!(filters.takes(&name("team-42/x/api-1")) && !filters.takes(&name("team-42/x/web-1")));
    assert!(parse(&[], &[]).unwrap_err().message.contains("repositoryFilters is empty: remove it"));
    let error = parse(&globs, &[filter(RegexMatch, "one-more")]).unwrap_err().message;
    assert!(error.contains("is one pattern too many: all rules together may have 100"), "{error}");
    let many = vec![filter(ExactMatch, "aa"); MAX_FILTERS + 1];
    assert!(parse(&many, &[]).unwrap_err().message.contains("more than 100"));
}

#[test]
fn patterns_that_match_no_repository_are_named() {
    let of = |filter_type, text: &str| RepositoryFilter { filter: text.to_owned(), filter_type };
    let include = [
        of(RepositoryFilterType::PrefixMatch, "team/"),
        of(RepositoryFilterType::PrefixMatch, "teams/"),
        of(RepositoryFilterType::GlobMatch, "*/web"),
        of(RepositoryFilterType::RegexMatch, "team/(app|web)"),
        of(RepositoryFilterType::ExactMatch, "absent"),
    ];
    let filters = RepositoryFilters::parse("f", Some(&include), &[], &mut PatternRoom::default()).unwrap();
    let listed = ["team/app", "other"].iter().map(|name| name.parse().unwrap()).collect();
    assert_eq!(filters.unused(&listed), ["PREFIX_MATCH teams/", "GLOB_MATCH */web"]);
}
