//! The template of a destination repository: the name that a source repository has there.

use std::fmt;

use super::spec_error::{SpecError, check_field};
use crate::image::RepositoryName;
use crate::terms::{DESTINATION_TEMPLATE_RULES, MAX_TEMPLATE, SAME_REPOSITORY};

/// A parsed template. Its literal text stays in each name where it stands in the template: a source decides about
/// nothing but the placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Literal(String),
    Repository,
    Basename,
    Dirname,
    /// Counted from 1.
    Segment(usize),
}

/// The error of a source repository that a template gives no valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl Default for DestinationTemplate {
    /// Returns the template that keeps names.
    fn default() -> Self {
        Self { text: SAME_REPOSITORY.to_owned(), parts: vec![Part::Repository] }
    }
}

impl DestinationTemplate {
    /// Parses the template at `field`.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the remedy.
    pub fn parse(field: &str, text: &str) -> Result<Self, SpecError> {
        if text.chars().count() > MAX_TEMPLATE {
            return Err(SpecError::invalid(format!("{field} has more than {MAX_TEMPLATE} characters")));
        }
        check_field(&DESTINATION_TEMPLATE_RULES, text, field)?;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let (placeholder, tail) = tail.split_once('}').unwrap_or((tail, ""));
            parts.push(Part::of(placeholder));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Returns true if every repository keeps its name.
    pub fn keeps_names(&self) -> bool {
        self.parts == [Part::Repository]
    }

    /// Returns the name of `repository` at the destination.
    ///
    /// # Errors
    /// [`TemplateError`] if there is none, or it is not a valid name.
    pub fn name_of(&self, repository: &RepositoryName) -> Result<RepositoryName, TemplateError> {
        if self.keeps_names() {
            return Ok(repository.clone());
        }
        let mut name = String::new();
        for part in &self.parts {
            name.push_str(part.of_repository(repository.as_str()).map_err(|lacks| {
                TemplateError(format!("repository {self} gives {repository} no name: {repository} {lacks}"))
            })?);
        }
        if name.len() > RepositoryName::MAX_LENGTH {
            let (max, length) = (RepositoryName::MAX_LENGTH, name.len());
            return Err(TemplateError(format!(
                "repository {self} gives {repository} a name of {length} characters: at most {max} are allowed"
            )));
        }
        name.parse().map_err(|_| {
            TemplateError(format!("repository {self} gives {repository} the name {name:?}, which is not valid"))
        })
    }
}

impl Part {
    fn of(placeholder: &str) -> Self {
        match placeholder {
            "basename" => Self::Basename,
            "dirname" => Self::Dirname,
            "repository" => Self::Repository,
            segment => Self::Segment(segment.rsplit(':').next().and_then(|number| number.parse().ok()).unwrap_or(1)),
        }
    }

    /// Returns the text for `repository`, or the cause why there is none.
    fn of_repository<'a>(&'a self, repository: &'a str) -> Result<&'a str, String> {
        let parent = repository.rsplit_once('/');
        match self {
            Self::Literal(text) => Ok(text),
            Self::Repository => Ok(repository),
            Self::Basename => Ok(parent.map_or(repository, |(_, basename)| basename)),
            Self::Dirname => parent.map(|(dirname, _)| dirname).ok_or_else(|| "has no {dirname}".to_owned()),
            Self::Segment(number) => {
                let segment = repository.split('/').nth(number - 1);
                segment.ok_or_else(|| format!("has no {{segment:{number}}}"))
            }
        }
    }
}

impl fmt::Display for DestinationTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(template: &str, repository: &str) -> Result<String, String> {
        let template = DestinationTemplate::parse("f", template).map_err(|error| error.message)?;
        template.name_of(&repository.parse().unwrap()).map(|name| name.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_name_repositories() {
        for (template, repository, expected) in [
            ("{repository}", "team/app/api", "team/app/api"),
            ("mirror/{repository}", "team/app", "mirror/team/app"),
            ("dockerhub/{basename}", "library/redis", "dockerhub/redis"),
            ("dockerhub/{basename}", "redis", "dockerhub/redis"),
            ("{dirname}/prod-{basename}", "team/app/api", "team/app/prod-api"),
            ("{segment:2}/{segment:1}", "dev/app", "app/dev"),
            ("{segment:3}", "a/b/c", "c"),
            ("x-{segment:1}.y", "dev/app", "x-dev.y"),
            ("all-in-one", "dev/app", "all-in-one"),
            ("{basename}{basename}", "dev/app", "appapp"),
        ] {
            assert_eq!(name(template, repository).as_deref(), Ok(expected), "{template} {repository}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_or_too_long_says_so() {
        let long = format!("a/{}", "b".repeat(252));
        for (template, repository, expected) in [
            ("{dirname}/x", "redis", "repository {dirname}/x gives redis no name: redis has no {dirname}"),
            ("{segment:3}", "a/b", "a/b has no {segment:3}"),
            ("mirror/{repository}", long.as_str(), "a name of 261 characters: at most 255"),
        ] {
            let message = name(template, repository).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn templates_that_give_no_valid_name_are_refused() {
        for template in [
            "",
            "/",
            "/{repository}",
            "{repository}/",
            "a//{basename}",
            "../{repository}",
            "a/../{basename}",
            "./{basename}",
            "Mirror/{repository}",
            "{repository}:latest",
            "host:5000/{repository}",
            "{name}",
            "{segment}",
            "{segment:0}",
            "{segment:100}",
            "{repository",
            "repository}",
            "{{repository}}",
            "-{repository}",
            "{repository}-",
            "a..{basename}",
            "{basename}_._x",
            "a b",
            "{Repository}",
            "{segment:01}",
            "ä/{basename}",
        ] {
            let message = name(template, "a/b").unwrap_err();
            assert!(message.starts_with("f: must be a repository name"), "{template}: {message}");
        }
        assert!(name(&"a".repeat(256), "a/b").unwrap_err().contains("more than 255 characters"));
    }

    proptest::proptest! {
        #[test]
        fn a_name_keeps_the_literal_text_of_its_template(
            prefix in "[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}",
            placeholder in "\\{(repository|basename|dirname|segment:[1-3])\\}",
            repository in "[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?){0,3}",
        ) {
            let template = DestinationTemplate::parse("f", &format!("{prefix}/{placeholder}")).unwrap();
            if let Ok(name) = template.name_of(&repository.parse().unwrap()) {
                let rest = name.as_str().strip_prefix(&format!("{prefix}/"));
                proptest::prop_assert!(rest.is_some_and(|rest| !rest.split('/').any(|segment| segment.starts_with('.'))));
            }
        }
    }
}
