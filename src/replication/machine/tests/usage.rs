//! The usage of pairs: it is counted with copies, survives a restart, and is never written by itself.

use super::*;

fn content(parts: &[(&str, u64)]) -> ContentSketch {
    let mut content = ContentSketch::default();
    parts.iter().for_each(|(part, size)| content.add(&digest(part), *size));
    content
}

/// Ends every copy that runs, each after `moved` bytes, with this content.
fn end(bench: &mut Bench, moved: u64, result: Result<&[(&str, u64)], FailureCode>) {
    for (id, _) in std::mem::take(&mut bench.copies) {
        let permission = Decision { allowed: true, reason: reason::SAME_NAMESPACE, message: String::new() };
        let replica = |parts| Replica { bytes: 7, content: content(parts), ..Replica::default() };
        let result = result.map(replica).map_err(|code| CodedError::new(code, "no".to_owned()));
        bench.step(Event::Ended(id, Some(Outcome { permission, result, moved, is_unanswered: false }), 0.5));
    }
}

fn shown(bench: &Bench) -> (u64, u64) {
    let summary = &bench.statuses.values().next().expect("it was published").summary;
    (summary.bytes_moved, summary.bytes_stored)
}

#[test]
fn usage_counts_failed_attempts_and_shared_content_and_stays_over_a_restart() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    end(&mut bench, 60, Err(FailureCode::DestinationUnavailable));
    bench.passes(120);
    end(&mut bench, 110, Ok(&[("base", 100), ("one", 10)]));
    bench.passes(600);
    bench.compare(&[("app", &[("v1", "A"), ("v2", "B")])], true);
    end(&mut bench, 20, Ok(&[("base", 100), ("two", 20)]));
    bench.passes(60);
    assert_eq!(shown(&bench), (190, 130));
    let totals = bench.report.destinations.values().next().unwrap().counts;
    assert_eq!((totals.bytes_moved, totals.bytes_stored), (190, 130), "the configuration sums them up");

    let mut again = Bench::resumed(orders(1, ""), bench.stored(), 5_000);
    again.compare(&[("app", &[("v1", "A"), ("v2", "B")])], true);
    again.passes(60);
    assert!(again.statuses.is_empty(), "a restart has nothing to write");
    again.passes(600);
    again.compare(&[("app", &[("v1", "A"), ("v2", "B"), ("v3", "C")])], true);
    end(&mut again, 5, Ok(&[("base", 100), ("three", 5)]));
    again.passes(60);
    assert_eq!(shown(&again), (195, 135));
}

#[test]
fn an_audit_that_repairs_is_counted_and_not_written_by_itself() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    end(&mut bench, 100, Ok(&[("base", 100)]));
    bench.passes(60);
    bench.statuses.clear();
    bench.now += Duration::from_secs(26 * 3_600);
    bench.step(Event::Wake);
    bench.compare(&[("app", &[("v1", "A")])], true);
    assert_eq!(bench.copies.len(), 1, "it is audited");
    end(&mut bench, 100, Ok(&[("base", 100)]));
    bench.passes(60);
    assert!(bench.statuses.is_empty());
    let pair = bench.machine.pairs().next().unwrap();
    assert_eq!((pair.usage.moved(), pair.usage.stored()), (200, 100));
}
