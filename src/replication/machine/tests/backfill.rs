//! The brake of first fills: with too many failures the images that were not tried yet wait.

use super::*;
use crate::plan::configuration_status;

/// Lists `count` tags of the repository `app`, each with content of its own.
fn compare_many(bench: &mut Bench, count: usize) {
    let tags: Vec<(String, String)> = (0..count).map(|n| (format!("t{n:04}"), format!("content {n}"))).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), content.as_str())).collect();
    bench.compare(&[("app", &tags)], true);
}

/// Ends copies until none runs, in batches: `result` says what becomes of each. Returns how many copies there were.
fn run_all(bench: &mut Bench, result: impl Fn(usize) -> Result<(), FailureCode>) -> usize {
    let mut ended = 0;
    for batch in 0.. {
        if bench.copies.is_empty() {
            break;
        }
        ended += bench.copies.len();
        bench.copied(result(batch));
    }
    ended
}

fn condition(bench: &Bench) -> Option<(String, String)> {
    let status = configuration_status("a", &bench.report, &Default::default(), bench.now);
    let found = status.conditions.into_iter().find(|condition| condition.type_ == "BackfillStopped");
    found.map(|condition| (condition.reason, condition.message))
}

const FAILED: Result<(), FailureCode> = Err(FailureCode::SourceRejected);

#[test]
fn a_first_fill_stops_when_half_failed_and_goes_on_once_they_succeed() {
    let mut bench = Bench::new("");
    compare_many(&mut bench, 300);
    let tried = run_all(&mut bench, |batch| if batch % 2 == 0 { FAILED } else { Ok(()) });
    assert!((100..120).contains(&tried), "{tried}");
    let (reason, message) = condition(&bench).unwrap();
    assert_eq!(reason, "TooManyFailed");
    assert!(message.contains("a/d") && message.contains("replicate-requested-at"), "{message}");
    assert!(bench.machine.wake_at(bench.now).is_some(), "what failed is tried again");
    // A push goes on all the same.
    bench.pushed("pushed", "new");
    assert_eq!(bench.copying(), [digest("new")]);
    bench.copied(Ok(()));
    assert_eq!(bench.copies.len(), 0);
    // The cause is gone: retries succeed, and all others follow.
    bench.passes(3_600);
    run_all(&mut bench, |_| Ok(()));
    assert!(bench.is_ready(), "all are there");
    assert_eq!(condition(&bench), None);
}

#[test]
fn a_first_fill_that_is_stopped_goes_on_at_request_and_is_judged_anew() {
    let mut bench = Bench::new("");
    compare_many(&mut bench, 400);
    let tried = run_all(&mut bench, |_| FAILED);
    assert!((100..120).contains(&tried), "{tried}");
    bench.step(Event::Orders(Arc::new(Orders { request: Some("go on".to_owned()), ..orders(1, "") })));
    compare_many(&mut bench, 400);
    let tried_again = run_all(&mut bench, |_| FAILED);
    assert!(tried_again >= 200, "those that failed, and a hundred more: {tried_again}");
    assert!(condition(&bench).is_some(), "they failed, too");
}

#[test]
fn a_fill_of_less_than_a_hundred_images_is_never_stopped() {
    let mut bench = Bench::new("");
    compare_many(&mut bench, 99);
    assert_eq!(run_all(&mut bench, |_| FAILED), 99);
    assert_eq!(condition(&bench), None);
}

#[test]
fn copies_carry_the_priority_of_their_configuration() {
    let spec = SPEC.replace("interval: 10m", "priority: -7").replace("RULE", "");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    let of_priority = Orders { configuration: parse_configuration("a", "c", &spec).map(Arc::new), ..orders(1, "") };
    let mut bench = Bench::resumed(of_priority, Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert_eq!(bench.copies.values().next().unwrap().priority, -7);
}

/// Returns the least time of a hundred wakes, and of as many pushes, while the first fill of so many pairs is stopped.
fn costs_of_a_stop(pairs: usize) -> [Duration; 2] {
    let mut bench = Bench::new("");
    let names: Vec<String> = (0..pairs).map(|number| format!("app{number:05}")).collect();
    let source: Vec<(&str, &[(&str, &str)])> = names.iter().map(|name| (name.as_str(), &[("v1", "A")][..])).collect();
    bench.compare(&source, true);
    let tried = run_all(&mut bench, |_| FAILED);
    assert!((100..120).contains(&tried) && condition(&bench).is_some(), "{tried} of {pairs}");
    let mut least = [Duration::MAX; 2];
    for round in 0..5 {
        let wakes = time_of(|| (0..100).for_each(|_| bench.step(Event::Wake)));
        let pushes = time_of(|| {
            for tag in 0..100 {
                let observed = bench.observed("app00000", &format!("t{round}-{tag}"), "B", bench.now);
                bench.step(Event::Looked(Looked::Seen(observed)));
            }
        });
        least = [least[0].min(wakes), least[1].min(pushes)];
    }
    least
}

#[test]
fn a_stopped_fill_costs_an_event_as_much_for_any_number_of_pairs() {
    let (few, many) = (costs_of_a_stop(200), costs_of_a_stop(10_000));
    for (few, many) in few.into_iter().zip(many) {
        assert!(many < 8 * few + Duration::from_millis(2), "200 pairs: {few:?}; 10,000 pairs: {many:?}");
    }
}

#[test]
fn a_pair_that_goes_leaves_no_stop_behind() {
    let mut bench = Bench::new("");
    let names: Vec<String> = (0..120).map(|number| format!("app{number:05}")).collect();
    let source: Vec<(&str, &[(&str, &str)])> = names.iter().map(|name| (name.as_str(), &[("v1", "A")][..])).collect();
    bench.compare(&source, true);
    let tried = run_all(&mut bench, |_| FAILED);
    assert!(tried < 120 && condition(&bench).is_some());
    let held: Vec<PairId> = bench.machine.backfills.stopped.values().flatten().copied().collect();
    assert_eq!(held.len(), 120 - tried);
    let now = bench.now;
    held.into_iter().for_each(|id| bench.machine.drop_pair(id, now));
    bench.step(Event::Wake);
    assert_eq!(condition(&bench), None, "those that are left were tried");
}
