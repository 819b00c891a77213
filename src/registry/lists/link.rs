//! The link from one page of a list to the next, as registries write it.

use http::header::{HeaderMap, LINK};
use url::Url;

use crate::registry::error::{HttpError, RegistryError};
use crate::registry::http::hosts::Hosts;
use crate::registry::http::text::{clean, is_secret_name};

/// The end of a page, as its `Link` headers state it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextLink {
    /// No further page.
    None,
    /// The target of the link to the next page.
    Target(String),
    /// A header that is no link: whether there is a further page is unknown.
    Unreadable,
}

/// Returns the URL of the page after the one that came from `from`; `None` after the last page. `list` is the URL of
/// the list itself.
///
/// # Errors
/// `InvalidContent` if the page cannot be followed; names the header and the remedy.
pub(super) fn next_page(hosts: &Hosts, list: &Url, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, HttpError> {
    let followed = match next_link(headers) {
        NextLink::None => return Ok(None),
        NextLink::Target(target) => hosts.next_page(list, from, &target),
        NextLink::Unreadable => Err(HttpError::invalid("the link to the next page cannot be read")),
    };
    followed.map(Some).map_err(|error| {
        let detail = format!("{}; {}; {REMEDY}", error.detail, sent_links(headers));
        HttpError { detail, ..error }
    })
}

/// Returns a clause with the `Link` headers of a page, and the remedy for a next page that cannot be used.
pub(super) fn unusable_link(headers: &HeaderMap) -> String {
    format!("{}; {QUERY_REMEDY}", sent_links(headers))
}

/// Adds to the refusal of a page the headers that linked it, unless the refusal may pass.
pub(super) fn with_link(error: RegistryError, linked_by: Option<&HeaderMap>) -> RegistryError {
    match linked_by {
        Some(headers) if !error.kind.is_transient() => {
            RegistryError { message: format!("{}; {}", error.message, unusable_link(headers)), ..error }
        }
        _ => error,
    }
}

/// Returns a clause with the `Link` headers of a page.
fn sent_links(headers: &HeaderMap) -> String {
    let sent: Vec<String> = texts(headers).map(|text| shown(&text)).collect();
    format!("the registry sent Link: {}", sent.join(", ").chars().take(MAX_SHOWN).collect::<String>())
}

/// Cleans the text of a header. Of a query the names are kept, and the values that say where a page begins; any other
/// may be a signature.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((front, after)) = rest.split_once('?') {
        let end = after.find(|c: char| c == '>' || c == ';' || c.is_whitespace()).unwrap_or(after.len());
        let parameters = after[..end].split('&').map(shown_parameter);
        add_cleaned(&mut shown, front);
        shown.push('?');
        shown.push_str(&parameters.collect::<Vec<_>>().join("&"));
        rest = &after[end..];
    }
    add_cleaned(&mut shown, rest);
    shown
}

/// Adds cleaned text, with the space that divides it from what is there.
fn add_cleaned(shown: &mut String, text: &str) {
    if text.starts_with(char::is_whitespace) && !shown.is_empty() {
        shown.push(' ');
    }
    shown.push_str(&clean(text));
}

fn shown_parameter(parameter: &str) -> String {
    let is_plain = |value: &str| value.len() <= MAX_VALUE && value.chars().all(|c| c.is_ascii_graphic());
    match parameter.split_once('=') {
        Some((name, value)) if PLACE_NAMES.contains(&name) && is_plain(value) => format!("{name}={value}"),
        Some((name, _)) if is_secret_name(name) || clean(name) != name => "...".to_owned(),
        Some((name, _)) => format!("{name}=..."),
        None => "...".to_owned(),
    }
}

/// Returns the target of the first link with the relation `next` (RFC 8288), or else of the first link that states no
/// relation: some registries leave it out, and some the angle brackets.
pub(crate) fn next_link(headers: &HeaderMap) -> NextLink {
    let mut found = NextLink::None;
    for text in texts(headers) {
        match Links::of(&text) {
            Links { next: Some(target), .. } => return NextLink::Target(target.to_owned()),
            Links { unrelated: Some(target), .. } if !matches!(found, NextLink::Target(_)) => {
                found = NextLink::Target(target.to_owned());
            }
            Links { is_readable: false, .. } if found == NextLink::None => found = NextLink::Unreadable,
            _ => {}
        }
    }
    found
}

/// Returns the values of `Link`; bytes that are no text are replaced, so that no header is overlooked.
fn texts(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let texts = headers.get_all(LINK).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    texts.filter(|text| !text.is_empty())
}

/// The links in one value of the header.
#[derive(Default)]
struct Links<'a> {
    /// The target of the first link with the relation `next`.
    next: Option<&'a str>,
    /// The target of the first link without a relation.
    unrelated: Option<&'a str>,
    is_readable: bool,
}

impl<'a> Links<'a> {
    fn of(text: &'a str) -> Self {
        let mut links = Self { is_readable: true, ..Self::default() };
        if !text.contains('<') {
            let end = text.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(text.len());
            let is_url = ["/", "?", "http://", "https://"].iter().any(|start| text.starts_with(start));
            links.is_readable = is_url && !text[..end].contains('>');
            if links.is_readable {
                links.add(&text[..end], &text[end..]);
            }
            return links;
        }
        let mut rest = text;
        while let Some((_, after)) = rest.split_once('<') {
            let Some((target, parameters)) = after.split_once('>') else {
                links.is_readable = false;
                break;
            };
            let end = parameters.find('<').unwrap_or(parameters.len());
            links.add(target.trim(), &parameters[..end]);
            rest = &parameters[end..];
        }
        links
    }

    fn add(&mut self, target: &'a str, parameters: &str) {
        let relations = parameters.split([';', ',']).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            (name.trim().eq_ignore_ascii_case("rel") && !value.is_empty()).then_some(value)
        });
        let place = match relations {
            None => &mut self.unrelated,
            Some(relations) if relations.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next")) => {
                &mut self.next
            }
            Some(_) => return,
        };
        place.get_or_insert(target);
    }
}

const REMEDY: &str = "without all of its pages the list is not used: set the external URL of the registry, \
                      or let the proxy in front of it pass on Host and X-Forwarded-Proto";

const QUERY_REMEDY: &str = "without all of its pages the list is not used: let the proxy in front of the registry pass \
                            on the query of a URL, and keep no lists";

/// The parameters whose values are names of tags and repositories, or numbers.
const PLACE_NAMES: [&str; 3] = ["last", "n", "page"];
/// The longest value of a parameter that is shown.
const MAX_VALUE: usize = 80;
const MAX_SHOWN: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        HeaderMap::from_iter(
            values.iter().map(|value| (LINK, http::HeaderValue::from_bytes(value.as_bytes()).unwrap())),
        )
    }

    #[test]
    fn links_are_read_as_registries_write_them() {
        let target = |text: &str| NextLink::Target(text.to_owned());
        let table: [(&[&str], NextLink); 20] = [
            (&["</a?b=c>; rel=\"next\""], target("/a?b=c")),
            (&["</a>;rel=next"], target("/a")),
            (&["</a>; rel='next'"], target("/a")),
            (&["</a>; title=\"x\"; REL=\"prev Next\""], target("/a")),
            (&["</first>; rel=\"first\", </second>; rel=\"next\""], target("/second")),
            (&["</first>; rel=\"first\"", "</second>; rel=\"next\""], target("/second")),
            (&["</plain>, </second>; rel=\"next\""], target("/second")),
            (&["</a>; rel=\"prev\""], NextLink::None),
            (&["</a>"], target("/a")),
            (&["</a>; rel="], target("/a")),
            (&["/a?b=c,d; rel=\"next\""], target("/a?b=c,d")),
            (&["https://r.example/a?b=c"], target("https://r.example/a?b=c")),
            (&["?last=x rel=next"], target("?last=x")),
            (&["/a; rel=prev"], NextLink::None),
            (&["<unclosed; rel=next"], NextLink::Unreadable),
            (&["</first>; rel=first, <unclosed; rel=next"], NextLink::Unreadable),
            (&["/a>; rel=next"], NextLink::Unreadable),
            (&["next page"], NextLink::Unreadable),
            (&["next page", "</a>; rel=next"], target("/a")),
            (&[""], NextLink::None),
        ];
        for (values, expected) in table {
            assert_eq!(next_link(&headers(values)), expected, "{values:?}");
        }
        assert_eq!(next_link(&headers(&["</ä>; rel=next"])), target("/ä"));
    }

    #[test]
    fn a_page_that_cannot_be_followed_shows_the_header_and_the_remedy() {
        let hosts = Hosts::new(&"https://r.example".parse().unwrap(), &[], &[]).unwrap();
        let list = hosts.catalog();
        let follow = |text: &str| next_page(&hosts, &list, &list, &headers(&[text]));
        let own = |query: &str| Ok(Some(format!("https://r.example/v2/_catalog?{query}")));
        for text in [
            "<http://r.example/v2/_catalog?last=a>; rel=next",
            "<http://internal:5000/v2/_catalog?last=a>; rel=next",
            "https://internal/v2/_catalog?last=a",
            "?last=a",
        ] {
            let followed = follow(text).map(|url| url.map(String::from)).map_err(|error| error.detail);
            assert_eq!(followed, own("last=a"), "{text}");
        }
        for text in ["<https://evil.example/x?last=a&sig=secret>; rel=next", "<file:///v2/_catalog>; rel=next", "next"]
        {
            let refused = follow(text).unwrap_err().detail;
            assert!(refused.contains("Link: ") && refused.contains("external URL"), "{refused}");
            assert!(!refused.contains("secret") && refused.len() < 700, "{refused}");
        }
        assert!(follow("<https://evil.example/x>; rel=next").unwrap_err().detail.contains("<https://evil.example/x>"));
    }

    #[test]
    fn a_header_is_shown_as_it_is_but_for_values_that_may_be_secret() {
        let table = [
            (r#"</v2/_catalog?last=b&n=2>; rel="next""#, r#"</v2/_catalog?last=b&n=2>; rel="next""#),
            ("<https://s3.example/l?last=a&sig=canary>; rel=next", "<https://s3.example/l?last=a&sig=...>; rel=next"),
            ("/a?b=canary rel=next", "/a?b=... rel=next"),
            ("</a?token=canary&canary>, </b?n=1>", "</a?...&...>, </b?n=1>"),
            ("<https://user:canary@r.example/a?last=x>", "<https://r.example/a?last=x>"),
            ("next page", "next page"),
            ("<?last=a\u{1b}[31m>", "<?last=a>"),
            ("</a?>", "</a?...>"),
        ];
        for (sent, expected) in table {
            let text = shown(sent);
            assert!(text == expected || sent.contains('\u{1b}'), "{sent}: {text}");
            assert!(!text.contains("canary") && !text.contains('\u{1b}'), "{sent}: {text}");
        }
    }
}
