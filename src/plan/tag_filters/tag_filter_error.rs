//! Errors of lists of tag filters.

use std::str::FromStr;

use crate::image::Tag;
use crate::plan::expression::ExpressionError;
use crate::terms::{MAX_FILTERS, MAX_TAG_FILTER};

/// The error of a list of tag filters. Its message begins with the name of the field.
#[derive(Debug, thiserror::Error)]
pub enum TagFilterError {
    /// The list of filters is present and empty, which would take no tag.
    #[error("tagFilters is empty: remove it to take every tag")]
    Empty,
    /// The list is too long.
    #[error("{field} has more than {MAX_FILTERS} filters")]
    TooMany {
        /// The field of the rule.
        field: &'static str,
    },
    /// One filter cannot be used.
    #[error("{field}[{index}]: {text:?} {problem}")]
    Unusable {
        /// The field of the rule.
        field: &'static str,
        /// The index in the list.
        index: usize,
        /// The text of the filter.
        text: String,
        /// The cause.
        problem: FilterProblem,
    },
}

/// The cause for which one filter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterProblem {
    /// The text is empty or too long.
    #[error("must have 1 to {MAX_TAG_FILTER} characters")]
    Length,
    /// The filter breaks a rule of the API.
    #[error("is refused: {0}")]
    Rule(&'static str),
    /// The text is no tag.
    #[error("is no tag: {0}")]
    Tag(<Tag as FromStr>::Err),
    /// The text is no pattern, or there is no room for it.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// The text is no range of versions.
    #[error("is no range of versions such as '>=1.2 <2': {0}")]
    Range(semver::Error),
}
