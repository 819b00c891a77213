//! The newest tags: what falls out of them leaves the status, and is deleted only where a rule says so and no edit did it.

use super::deletions::Play;
use super::*;

fn rule(count: u32, is_deleting: bool) -> String {
    let deletion = if is_deleting { "deleteReplication: {enabled: true}," } else { "" };
    format!("newest: {{count: {count}, by: Name}}, {deletion}")
}

fn there(play: &Play) -> String {
    let pair = play.bench.machine.pairs().next().unwrap();
    pair.ledger.rows().map(|(tag, _)| tag.as_str()).collect()
}

/// Changes the rule; `is_later` if only the next process reads it.
fn respecify(play: &mut Play, rule: &str, is_later: bool) {
    let configuration = orders(1, rule).configuration;
    if is_later {
        play.orders.configuration = configuration;
        play.orders.generation = play.orders.generation.map(|generation| generation + 1);
    } else {
        play.order(|orders| orders.configuration = configuration);
    }
}

/// Histories of a rule that takes the newest three of a, b, c and d: the tags that are deleted, and those of the status.
/// Besides the steps of the histories of deletions, `n2` takes the newest two from now on, and `l2` from the next process
/// on; `f` is a filter that leaves d out, and `a` takes all.
const HISTORIES: &[(&str, &str, &str)] = &[
    ("", "", "bcd"),
    (". L:abcd . L:abcd", "", "bcd"),
    // newer tags
    (". L:abcde", "", "bcde"),
    (". L:abcde . L:abcde", "b", "cde"),
    (". L:abcde +599 L:abcde", "", "bcde"),
    (". L:abcdef . L:abcdef", "bc", "def"),
    (". L:abcde . L:abcdef . L:abcdef", "bc", "def"),
    (". >e", "", "bcde"),
    (". >e . L:abcde . L:abcde", "b", "cde"),
    (". >a", "", "bcd"),
    (". >a2 . L:a2bcd", "", "bcd"),
    // the newest is deleted at the source
    (". L:abc", "", "abcd"),
    (". L:abc . L:abc", "d", "abc"),
    (". L:abcde . L:abcd . L:abcd", "e", "bcd"),
    (". L:abcde . L:abcd", "", "bcde"),
    // lists that prove nothing
    (". L:abcde . P . P", "", "bcde"),
    (". L:abcde . E", "", "bcde"),
    (". L:abcde . E . E", "", "cde"),
    // an edit deletes nothing by itself
    (". n2 L:abcd . L:abcd . L:abcd", "", "cd"),
    (". n2 L:abcde . L:abcde . L:abcde", "", "de"),
    (". n2 L:abcd . L:abcde . L:abcde", "c", "de"),
    (". L:abcde n2 L:abcde . L:abcde", "b", "de"),
    (". n2 n3 L:abcd . L:abcd", "", "bcd"),
    (". n9 L:abcd n3 L:abcd . L:abcd", "", "bcd"),
    (". f L:abcd . L:abcd . L:abcd", "", "abc"),
    (". f L:abcd . L:abcde . L:abcde", "a", "bce"),
    (". n2 E . L:abcd . L:abcd", "", "cd"),
    (". a n3 >a L:abcd . L:abcd", "", "bcd"),
    (". a >a n3 L:abcd . L:abcd . L:abcd", "", "bcd"),
    // restarts
    (". L:abcde F . L:abcde", "b", "cde"),
    (". L:abcde R L:abcde . L:abcde", "b", "cde"),
    (". F L:abcde . L:abcde", "b", "cde"),
    (". l2 F L:abcd . L:abcd . L:abcd", "", "cd"),
    (". l2 R L:abcd . L:abcd . L:abcd", "", "cd"),
    (". l2 F L:abcd . L:abcde . L:abcde", "c", "de"),
];

fn play(script: &str, is_deleting: bool) -> Play {
    let mut play = Play::new(&rule(3, is_deleting), "abcd");
    for word in script.split_whitespace() {
        match word.split_at(1) {
            ("n", count) => respecify(&mut play, &rule(count.parse().unwrap(), is_deleting), false),
            ("l", count) => respecify(&mut play, &rule(count.parse().unwrap(), is_deleting), true),
            ("a", "") => {
                let deletion = "deleteReplication: {enabled: true},";
                respecify(&mut play, if is_deleting { deletion } else { "" }, false);
            }
            ("f", _) => {
                let filter = "excludeTagFilters: [{filter: d, filterType: EXACT_MATCH}],";
                respecify(&mut play, &format!("{} {filter}", rule(3, is_deleting)), false);
            }
            _ => play.play(word),
        }
    }
    play
}

#[test]
fn tags_that_newer_ones_push_out_are_deleted_and_an_edit_deletes_none() {
    for (script, deleted, left) in HISTORIES {
        let deleting = play(script, true);
        assert_eq!((deleting.deleted().as_str(), there(&deleting).as_str()), (*deleted, *left), "{script}");
    }
}

#[test]
fn without_delete_replication_the_tags_leave_the_status_alone() {
    for (script, left) in [
        (". L:abcde", "bcde"),
        (". L:abcde . L:abcde", "cde"),
        (". L:abcde L:abcde", "cde"),
        (". n2 L:abcd", "cd"),
        (". >e . L:abcde", "bcde"),
    ] {
        let played = play(script, false);
        assert_eq!((played.deleted().as_str(), there(&played).as_str()), ("", left), "{script}");
    }
}

#[test]
fn the_last_look_at_the_source_is_not_for_tags_that_are_outside() {
    for (script, is_outside) in [("L:abcde . L:abcde", true), ("L:abc . L:abc", false)] {
        let mut play = Play::new(&rule(3, true), "abcd");
        play.pass(600);
        for word in script.split_whitespace() {
            match word {
                "." => play.bench.passes(600),
                _ => {
                    if !play.bench.machine.is_comparing() {
                        play.bench.passes(600);
                    }
                    let tags: Vec<String> = word[2..].chars().map(String::from).collect();
                    let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.as_str(), tag.as_str())).collect();
                    play.bench.compare(&[("app", &tags)], true);
                }
            }
        }
        for _ in 0..60 {
            play.bench.copied(Ok(()));
            if play.bench.deletions.is_empty() {
                play.bench.passes(1);
            }
        }
        let deletion = play.bench.deletions.values().next().expect("a deletion is under way");
        assert_eq!(deletion.is_outside(), is_outside, "{script}");
    }
}

#[test]
fn by_date_a_push_counts_by_its_date_and_an_unknown_one_is_compared() {
    let mut bench = Bench::new("newest: {count: 2, by: Created},");
    let day = |day: i64| CreationDate::At(Timestamp::from_second(day * 86_400).unwrap());
    let dates = [("a", day(5)), ("b", day(1)), ("c", day(3)), ("d", CreationDate::Absent)];
    bench.dates = dates.into_iter().map(|(tag, date)| (tag.parse().unwrap(), date)).collect();
    bench.compare(&[("app", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")])], true);
    bench.copied(Ok(()));
    let rows = |bench: &Bench| {
        let pair = bench.machine.pairs().next().unwrap();
        pair.ledger.rows().map(|(tag, _)| tag.to_string()).collect::<String>()
    };
    assert_eq!(rows(&bench), "ac");
    bench.dates.insert("e".parse().unwrap(), day(2));
    bench.pushed("e", "5");
    assert!(bench.copying().is_empty(), "it is older than both");
    bench.dates.insert("f".parse().unwrap(), day(4));
    bench.pushed("f", "6");
    assert_eq!(bench.copying(), [digest("6")]);
    bench.copied(Ok(()));
    assert!(!bench.machine.is_comparing());
    bench.pushed("g", "7");
    assert!(bench.copying().is_empty());
    bench.passes(3);
    assert!(bench.machine.is_comparing(), "its date could not be read");
    // What was verified stays while its date is unknown.
    bench.dates.remove(&"a".parse::<Tag>().unwrap());
    bench.dates.insert("g".parse().unwrap(), CreationDate::Absent);
    for _ in 0..3 {
        let tags = ["a", "b", "c", "d", "e", "f", "g"].map(|tag| (tag, tag));
        bench.compare(&[("app", &tags)], true);
        bench.copied(Ok(()));
        bench.passes(601);
    }
    assert_eq!(rows(&bench), "acf");
}

#[test]
fn a_wider_rule_keeps_what_only_the_former_one_would_have_deleted() {
    let rule = |newest: &str, allowed: u32| {
        format!("{newest} deleteReplication: {{enabled: true, maxPercent: 0, minAllowed: {allowed}}},")
    };
    let mut play = Play::new(&rule("newest: {count: 3, by: Name},", 0), "abc");
    for _ in 0..3 {
        play.pass(700);
        play.list("abcd");
    }
    assert!(play.bench.report.held_deletions.is_some(), "the brake holds it");
    let wider = orders(1, &rule("", 5)).configuration;
    play.order(|orders| orders.configuration = wider);
    play.pass(30);
    play.list("abcd");
    play.pass(700);
    assert_eq!(play.deleted(), "");
}
