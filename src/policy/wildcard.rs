//! Wildcards of policy resources: `*` for any characters, `/` included, and `?` for one, as in ECR.

/// Returns true if `text` matches `pattern` as a whole. Takes at most the product of their lengths.
pub(crate) fn wildcard_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(symbol) if *symbol == b'?' || *symbol == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match last_star {
                Some((star, taken)) => {
                    last_star = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|symbol| *symbol == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_crosses_slashes_and_a_question_mark_is_one_character() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "team/app", true),
            ("prod-*", "prod-a/b", true),
            ("prod-*", "prod", false),
            ("prod-*", "preprod-a", false),
            ("*-prod", "a/b-prod", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", true),
            ("a?c", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("mservice", "mservice", true),
            ("mservice", "mservice2", false),
        ] {
            assert_eq!(wildcard_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        assert!(!wildcard_matches(&"*a".repeat(120), &"a".repeat(119)));
        assert!(!wildcard_matches(&"a*".repeat(100), &"b".repeat(255)));
    }
}
