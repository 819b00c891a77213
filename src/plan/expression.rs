//! Patterns that tenants write, as automata that take one step for each character of a name.

use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// A regular expression, or a glob of repositories, that matches whole names. Equal texts of one kind are equal.
#[derive(Clone)]
pub(super) struct Expression {
    /// The text of the filter.
    text: String,
    automaton: Arc<dense::DFA<Vec<u32>>>,
    start: StateID,
}

/// The cause for which a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExpressionError {
    /// The text is no regular expression.
    #[error("is no regular expression that can be used: {0}")]
    Syntax(String),
    /// The automaton is too large.
    #[error(
        "takes too much memory when it is compiled: use smaller counts, or name the characters that are counted, as \
         [0-9a-f]{{40}} does"
    )]
    TooLarge,
    /// The configuration has too many patterns.
    #[error(
        "is one pattern too many: all rules together may have {MAX_PATTERNS} for repositories and as many for tags, where \
         immutableTags count, too, and a range of versions once for each four comparators; split the configuration"
    )]
    TooMany,
    /// The patterns of the configuration take too much memory.
    #[error(
        "takes too much memory with the other patterns: those of all rules together may take {MAX_BYTES} bytes when they \
         are compiled; make them simpler, or split the configuration"
    )]
    TooLargeTogether,
}

/// The room that the patterns of one configuration have left, so that a name is compared in a bounded time.
#[derive(Debug)]
pub struct PatternRoom {
    patterns: usize,
    bytes: usize,
}

impl Default for PatternRoom {
    fn default() -> Self {
        Self { patterns: MAX_PATTERNS, bytes: MAX_BYTES }
    }
}

impl PatternRoom {
    /// Takes the room of `patterns` that take `bytes` of memory.
    ///
    /// # Errors
    /// There is not that much left.
    pub(super) fn take(&mut self, patterns: usize, bytes: usize) -> Result<(), ExpressionError> {
        self.patterns = self.patterns.checked_sub(patterns).ok_or(ExpressionError::TooMany)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(ExpressionError::TooLargeTogether)?;
        Ok(())
    }
}

impl Expression {
    /// Compiles a regular expression. Names and tags are ASCII, so that a class needs no table of Unicode.
    ///
    /// # Errors
    /// The text is no regular expression, or it has no room.
    pub(super) fn regex(text: &str, room: &mut PatternRoom) -> Result<Self, ExpressionError> {
        Self::compile(text, text, room)
    }

    /// Compiles an expression that stands for the filter `text`.
    pub(super) fn compile(text: &str, expression: &str, room: &mut PatternRoom) -> Result<Self, ExpressionError> {
        room.take(1, 0)?;
        let parsed = syntax::parse_with(expression, &syntax::Config::new().unicode(false).utf8(false));
        let parsed = parsed.map_err(|error| ExpressionError::Syntax(last_line(&error.to_string())))?;
        let bounds = thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_STATES));
        let mut compiler = thompson::Compiler::new();
        compiler.configure(bounds.which_captures(WhichCaptures::None));
        let states = compiler.build_from_hir(&parsed).map_err(|error| match error.size_limit() {
            Some(_) => ExpressionError::TooLarge,
            None => ExpressionError::Syntax(error.to_string()),
        })?;
        let bounds = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_AUTOMATON))
            .determinize_size_limit(Some(4 * MAX_AUTOMATON));
        let automaton = dense::Builder::new().configure(bounds).build_from_nfa(&states);
        let automaton = automaton.map_err(|error| match error.is_size_limit_exceeded() {
            true => ExpressionError::TooLarge,
            false => ExpressionError::Syntax(error.to_string()),
        })?;
        let start = automaton.start_state(&start::Config::new().anchored(Anchored::Yes));
        let start = start.map_err(|error| ExpressionError::Syntax(error.to_string()))?;
        room.take(0, automaton.memory_usage())?;
        Ok(Self { text: text.to_owned(), automaton: Arc::new(automaton), start })
    }

    /// Returns true if the whole of `name` matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        let mut state = self.start;
        for byte in name.bytes() {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_dead_state(state) {
                return false;
            }
        }
        self.automaton.is_match_state(self.automaton.next_eoi_state(state))
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

/// The text of the filter.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text alone: the automaton follows from it.
impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Returns the line of a syntax error that names it; those before show its place.
fn last_line(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The patterns of repositories, and those of tags, that the rules of a configuration may have.
pub(super) const MAX_PATTERNS: usize = 100;
/// The names that are compared with filters in at most 50 ms, and mostly in some milliseconds: more of them are long
/// work.
pub const MANY_NAMES: usize = 1_000;
/// The memory that the states of one pattern may take, in bytes: each is followed from many states of its automaton.
const MAX_STATES: usize = 16 * 1024;
/// The memory that the automaton of one pattern may take, in bytes.
const MAX_AUTOMATON: usize = 64 * 1024;
/// The memory that the compiled patterns of repositories, or those of tags, of a configuration may take, in bytes.
const MAX_BYTES: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_bounded_automaton_or_an_error() {
        let error = |text: &str| Expression::regex(text, &mut PatternRoom::default()).unwrap_err().to_string();
        for text in [".*a.{60}b.*c.{30}", "[a-z]*a[a-z]{19}b", "(?:a{1,100}){1,100}", "(a{200}){200}"] {
            assert!(error(text).contains("takes too much memory when it is compiled"), "{text}");
        }
        assert!(error("v[").ends_with("unclosed character class"));
        assert!(error(r"(?u)\bv1").contains("is no regular expression that can be used"));
    }

    #[test]
    fn patterns_have_room_for_a_hundred_and_for_half_a_mebibyte() {
        let mut room = PatternRoom::default();
        let fits = |room: &mut PatternRoom, text: &str| Expression::regex(text, room).is_ok();
        assert!((0..MAX_PATTERNS).all(|_| fits(&mut room, ".*-[0-9]{8}-.*")));
        assert!(!fits(&mut room, "a"), "one too many");
        let mut room = PatternRoom::default();
        let large = (0..MAX_PATTERNS).take_while(|_| fits(&mut room, ".*a.{8}")).count();
        assert_eq!(large, MAX_BYTES / 39_072);
        assert!(fits(&mut room, "a"), "a small one fits beside");
    }
}
