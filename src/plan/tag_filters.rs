//! Which tags a rule takes: its filters, parsed, and why a tag is left out.

use regex::bytes::{RegexSet, RegexSetBuilder};
use semver::{Version, VersionReq};

use crate::image::Tag;
use crate::policy::wildcard_matches;
use crate::terms::{TagFilter, TagFilterType};

/// What one rule says of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilters {
    /// `None` takes every tag; otherwise one of them has to match.
    include: Option<Filters>,
    /// None of them may match.
    exclude: Filters,
}

/// Filters of which one has to match.
#[derive(Clone, Debug, Default)]
struct Filters {
    all: Vec<Filter>,
    /// Those that are regular expressions, which share one bound of memory.
    expressions: RegexSet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Exact(Tag),
    Glob(String),
    /// The how manieth it is of the regular expressions, and as it was written.
    Regex(usize, String),
    /// The requirement, and as it was written.
    Semver(VersionReq, String),
}

impl TagFilters {
    /// Parses the filters of a rule.
    ///
    /// # Errors
    /// A sentence that begins with the name of the field.
    pub fn parse(include: Option<&[TagFilter]>, exclude: &[TagFilter]) -> Result<Self, String> {
        let include = include.map(|filters| Filters::parse("tagFilters", filters)).transpose()?;
        if include.as_ref().is_some_and(|filters| filters.all.is_empty()) {
            return Err("tagFilters is empty: remove it to take every tag".to_owned());
        }
        Ok(Self { include, exclude: Filters::parse("excludeTagFilters", exclude)? })
    }

    /// Whether every tag is taken.
    pub fn takes_all(&self) -> bool {
        self.include.is_none() && self.exclude.all.is_empty()
    }

    /// Whether `tag` is taken.
    pub fn takes(&self, tag: &Tag) -> bool {
        self.cause(tag).is_none()
    }

    /// Why `tag` is not taken, as a number under [`TagFilters::causes`]; `None` if it is.
    pub fn cause(&self, tag: &Tag) -> Option<usize> {
        if self.include.as_ref().is_some_and(|filters| filters.first(tag).is_none()) {
            return Some(0);
        }
        self.exclude.first(tag).map(|index| index + 1)
    }

    /// How many different causes there are.
    pub fn causes(&self) -> usize {
        1 + self.exclude.all.len()
    }

    /// A cause, for people: that no filter matches, or which one leaves the tag out.
    pub fn describe(&self, cause: usize) -> String {
        match cause.checked_sub(1).and_then(|index| self.exclude.all.get(index)) {
            Some(filter) => format!("excludeTagFilters has {}", filter.for_people()),
            None => {
                let filters = self.include.iter().flat_map(|filters| &filters.all);
                let mut named: Vec<String> = filters.clone().take(MOST_NAMED).map(Filter::for_people).collect();
                if filters.clone().nth(MOST_NAMED).is_some() {
                    named.push("…".to_owned());
                }
                format!("tagFilters has only {}", named.join(", "))
            }
        }
    }
}

impl Filters {
    fn parse(field: &str, filters: &[TagFilter]) -> Result<Self, String> {
        if filters.len() > MOST_FILTERS {
            return Err(format!("{field} has more than {MOST_FILTERS} filters"));
        }
        let (mut all, mut expressions) = (Vec::with_capacity(filters.len()), Vec::new());
        for (index, filter) in filters.iter().enumerate() {
            let text = &filter.filter;
            let wrong = |why: String| Err(format!("{field}[{index}]: {text:?} {why}"));
            if text.is_empty() || text.len() > MOST_BYTES {
                return wrong(format!("has to have 1 to {MOST_BYTES} characters"));
            }
            all.push(match filter.filter_type {
                TagFilterType::ExactMatch => match text.parse() {
                    Ok(tag) => Filter::Exact(tag),
                    Err(_) => return wrong("is no tag; for wildcards use filterType: GLOB_MATCH".to_owned()),
                },
                TagFilterType::GlobMatch if is_glob(text) => Filter::Glob(text.clone()),
                TagFilterType::GlobMatch => {
                    return wrong(
                        "is no pattern of tags: use letters, digits, '_', '.', '-', '*' and '?', at most 128"
                            .to_owned(),
                    );
                }
                TagFilterType::RegexMatch => match check_expression(text) {
                    Ok(()) => {
                        expressions.push(text.clone());
                        Filter::Regex(expressions.len() - 1, text.clone())
                    }
                    Err(error) => {
                        return wrong(format!("is no regular expression that can be used: {}", cause_of(&error)));
                    }
                },
                TagFilterType::SemverMatch => match requirement(text) {
                    Ok(requirement) => Filter::Semver(requirement, text.clone()),
                    Err(error) => return wrong(format!("is no range of versions such as '>=1.2 <2': {error}")),
                },
            });
        }
        let expressions = expression_set(&expressions).map_err(|_| {
            format!(
                "{field}: its regular expressions together take over {MOST_COMPILED} bytes: make them simpler or fewer"
            )
        })?;
        Ok(Self { all, expressions })
    }

    /// The first one that matches.
    fn first(&self, tag: &Tag) -> Option<usize> {
        if self.all.is_empty() {
            return None;
        }
        let text = tag.as_str();
        let expressions = (!self.expressions.is_empty()).then(|| self.expressions.matches(text.as_bytes()));
        let is_versioned = self.all.iter().any(|filter| matches!(filter, Filter::Semver(..)));
        let version = if is_versioned { version_of(text) } else { None };
        self.all.iter().position(|filter| match filter {
            Filter::Exact(wanted) => wanted == tag,
            Filter::Glob(pattern) => wildcard_matches(pattern, text),
            Filter::Regex(number, _) => expressions.as_ref().is_some_and(|found| found.matched(*number)),
            Filter::Semver(requirement, _) => version.as_ref().is_some_and(|version| requirement.matches(version)),
        })
    }
}

/// The expressions say all of what is compared.
impl PartialEq for Filters {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Filters {}

impl Filter {
    fn for_people(&self) -> String {
        match self {
            Self::Exact(tag) => format!("EXACT_MATCH {tag}"),
            Self::Glob(pattern) => format!("GLOB_MATCH {pattern}"),
            Self::Regex(_, text) => format!("REGEX_MATCH {text}"),
            Self::Semver(_, text) => format!("SEMVER_MATCH {text}"),
        }
    }
}

/// Whether `text` is an expression by itself: `a)(b` is one only between the parentheses that we add.
fn check_expression(text: &String) -> Result<(), regex::Error> {
    expressions([text])?;
    expression_set(std::slice::from_ref(text)).map(drop)
}

/// Expressions that match whole tags. Tags are ASCII, so that a class needs no table of Unicode.
fn expression_set(texts: &[String]) -> Result<RegexSet, regex::Error> {
    let whole = texts.iter().map(|text| format!(r"\A(?:{text})\z"));
    expressions(whole)
}

fn expressions(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(texts).unicode(false).size_limit(MOST_COMPILED).dfa_size_limit(MOST_COMPILED).build()
}

/// What is wrong with an expression, on one line.
fn cause_of(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!("it takes over {MOST_COMPILED} bytes when it is compiled"),
        // The last line of a syntax error says what is wrong, those before it show where.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// The requirement that `text` says: comparators with commas or spaces between them.
fn requirement(text: &str) -> Result<VersionReq, semver::Error> {
    let mut comparators: Vec<String> = Vec::new();
    let mut has_operator_only = false;
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        match comparators.last_mut().filter(|_| has_operator_only) {
            Some(last) => last.push_str(part),
            None => comparators.push(part.to_owned()),
        }
        has_operator_only = part.chars().all(|c| "<>=^~".contains(c));
    }
    comparators.join(", ").parse()
}

/// The version that a tag says, with or without `v` in front.
fn version_of(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

fn is_glob(text: &str) -> bool {
    let is_symbol = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*' | b'?');
    text.len() <= 128 && text.bytes().all(is_symbol)
}

const MOST_FILTERS: usize = 100;
const MOST_BYTES: usize = 256;
/// Of what the regular expressions of one field take when they are compiled.
const MOST_COMPILED: usize = 64 * 1024;
const MOST_NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(kinds: &[(TagFilterType, &str)]) -> Vec<TagFilter> {
        let filter = |(filter_type, text): &(TagFilterType, &str)| TagFilter {
            filter: (*text).to_owned(),
            filter_type: *filter_type,
        };
        kinds.iter().map(filter).collect()
    }

    fn taken<'a>(kind: TagFilterType, text: &str, tags: &[&'a str]) -> Vec<&'a str> {
        let filters = TagFilters::parse(Some(&filters(&[(kind, text)])), &[]).unwrap();
        tags.iter().copied().filter(|tag| filters.takes(&tag.parse().unwrap())).collect()
    }

    fn error(kind: TagFilterType, text: &str) -> String {
        TagFilters::parse(None, &filters(&[(kind, text)])).unwrap_err()
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
        let tags =
            ["1.2.0", "v1.10.3", "v2.0.0", "1.2.0-rc.1", "1.3.0-rc.1", "1.2", "1", "latest", "01.2.0", "vv1.2.0"];
        for text in [">=1.2 <2", ">=1.2,<2", ">= 1.2, < 2", "^1.2", "1.2", " >=1.2.0  <2.0.0 "] {
            assert_eq!(taken(SemverMatch, text, &tags), ["1.2.0", "v1.10.3"], "{text}");
        }
        assert_eq!(
            taken(SemverMatch, "*", &tags),
            ["1.2.0", "v1.10.3", "v2.0.0"],
            "no pre-releases unless one is named"
        );
        assert_eq!(taken(SemverMatch, ">=1.3.0-rc.0 <2", &tags), ["v1.10.3", "1.3.0-rc.1"], "of that version alone");
        assert_eq!(taken(SemverMatch, "~1.2 , =1.2.0", &tags), ["1.2.0"]);
    }

    #[test]
    fn a_tag_is_taken_by_any_filter_and_left_out_by_any_exclusion() {
        let include = filters(&[(ExactMatch, "latest"), (SemverMatch, ">=1")]);
        let exclude = filters(&[(GlobMatch, "*-debug"), (RegexMatch, r"1\.3\..*"), (RegexMatch, r"1\.4\..*")]);
        let both = TagFilters::parse(Some(&include), &exclude).unwrap();
        let why = |tag: &str| both.cause(&tag.parse().unwrap()).map(|cause| both.describe(cause));
        assert_eq!((why("latest"), why("v1.2.3")), (None, None));
        assert_eq!(why("edge").unwrap(), "tagFilters has only EXACT_MATCH latest, SEMVER_MATCH >=1");
        assert_eq!(why("1.3.1").unwrap(), r"excludeTagFilters has REGEX_MATCH 1\.3\..*");
        assert_eq!(why("1.4.1").unwrap(), r"excludeTagFilters has REGEX_MATCH 1\.4\..*");
        assert_eq!(both.causes(), 4);
        let but_debug = TagFilters::parse(None, &exclude[..1]).unwrap();
        assert!(but_debug.takes(&"edge".parse().unwrap()) && !but_debug.takes(&"edge-debug".parse().unwrap()));
        assert!(TagFilters::default().takes_all() && !but_debug.takes_all());
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_field() {
        let named = "excludeTagFilters[0]: ";
        for (kind, text, words) in [
            (ExactMatch, "v1*", "is no tag; for wildcards use filterType: GLOB_MATCH"),
            (GlobMatch, "v1/*", "is no pattern of tags"),
            (RegexMatch, "v[", "is no regular expression that can be used: unclosed character class"),
            (RegexMatch, "(?:[a-z0-9]{200}){200}", "it takes over 65536 bytes when it is compiled"),
            (RegexMatch, "a)(b", "unopened group"),
            (SemverMatch, ">=1.2 || <3", "is no range of versions such as '>=1.2 <2'"),
            (SemverMatch, "newest", "is no range of versions"),
            (SemverMatch, " ", "is no range of versions"),
            (ExactMatch, "", "has to have 1 to 256 characters"),
        ] {
            let error = error(kind, text);
            assert!(error.starts_with(named) && error.contains(words), "{error}");
        }
        let many = filters(&[(RegexMatch, "[a-z0-9]{100}"); 100]);
        let error = TagFilters::parse(Some(&many), &[]).unwrap_err();
        assert!(error.starts_with("tagFilters: its regular expressions together take over"), "{error}");
        assert!(TagFilters::parse(Some(&[]), &[]).unwrap_err().contains("remove it to take every tag"));
        assert!(TagFilters::parse(None, &filters(&[(ExactMatch, "a"); 101])).unwrap_err().contains("more than 100"));
    }

    #[test]
    fn an_expression_takes_time_in_proportion_to_the_tag() {
        let (began, tag) = (std::time::Instant::now(), format!("{}b", "a".repeat(127)));
        assert!(taken(RegexMatch, "(a*)*c", &[&tag]).is_empty());
        assert!(taken(GlobMatch, "*a*a*a*a*a*c", &[&tag]).is_empty());
        assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
    }
}
