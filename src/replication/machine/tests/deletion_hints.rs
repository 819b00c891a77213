//! Notifications of deletions: when a repository is listed for them.

use super::deletions::{Play, RULE};
use super::*;

fn hint(play: &mut Play, repository: &str) {
    let deleted_in = [repository.parse().unwrap()].into();
    play.bench.step(Event::Hints(Hints { deleted_in, ..Hints::default() }));
}

fn listed(play: &mut Play) -> Vec<String> {
    std::mem::take(&mut play.bench.lists).iter().map(ToString::to_string).collect()
}

#[test]
fn a_deletion_has_its_repository_listed_at_once_and_then_every_ten_seconds() {
    let mut play = Play::new(RULE, "abcd");
    play.pass(5);
    hint(&mut play, "app");
    assert_eq!(listed(&mut play), ["app"]);
    for _ in 0..100 {
        hint(&mut play, "app");
    }
    play.bench.passes(9);
    assert_eq!(listed(&mut play), [""; 0]);
    play.bench.passes(1);
    assert_eq!(listed(&mut play), [""; 0], "the first list is not answered yet");
    play.bench.step(Event::TagsListed("app".parse().unwrap(), None));
    assert_eq!(listed(&mut play), ["app"], "a hundred are one");
    play.bench.step(Event::TagsListed("app".parse().unwrap(), None));
    play.bench.passes(60);
    assert_eq!(listed(&mut play), [""; 0]);
}

#[test]
fn nothing_is_listed_for_deletions_that_no_rule_repeats() {
    let mut play = Play::new("", "abcd");
    hint(&mut play, "app");
    play.pass(20);
    assert_eq!(listed(&mut play), [""; 0]);
    let mut play = Play::new(RULE, "abcd");
    hint(&mut play, "other");
    play.pass(20);
    assert_eq!(listed(&mut play), [""; 0]);
}

#[test]
fn a_tag_that_a_look_does_not_find_has_its_repository_listed() {
    let mut play = Play::new(RULE, "abcd");
    for tag in ["d", "unknown"] {
        let absent = Looked::Absent("app".parse().unwrap(), tag.parse().unwrap());
        play.bench.step(Event::Looked(absent));
        assert_eq!(listed(&mut play).len(), usize::from(tag == "d"), "{tag}");
    }
}
