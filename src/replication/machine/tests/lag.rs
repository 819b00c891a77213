//! The lag of verified images, and the objective for those that wait.

use std::time::Duration;

use super::*;
use crate::plan::{LagQuantiles, configuration_status};

fn bench(objective: &str) -> Bench {
    let spec = SPEC.replace("interval: 10m", &format!("lagObjective: {objective}")).replace("RULE", "");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    let orders = Orders { configuration: parse_configuration("a", "c", &spec).map(Arc::new), ..orders(1, "") };
    Bench::resumed(orders, Stored::default(), 0)
}

fn lag(bench: &Bench) -> Option<LagQuantiles> {
    bench.report.destinations.values().next().unwrap().lag
}

fn missed(bench: &Bench) -> Option<String> {
    let status = configuration_status("a", &bench.report, &Default::default(), bench.now);
    let found = status.conditions.into_iter().find(|condition| condition.type_ == "LagObjectiveMissed");
    found.map(|condition| condition.message)
}

#[test]
fn lag_counts_from_the_notification_to_the_verification() {
    let mut bench = bench("60s");
    bench.compare(&[("app", &[])], true);
    let pushed_at = Some(bench.now);
    bench.passes(3);
    let observed = Observed { pushed_at, ..bench.observed("app", "v1", "1", bench.now) };
    bench.step(Event::Looked(Looked::Seen(observed)));
    bench.passes(2);
    bench.copied(Ok(()));
    let five = Duration::from_secs(5);
    assert_eq!(lag(&bench), Some(LagQuantiles { p50: five, p99: five }));
    let status = bench.statuses.values().next().unwrap();
    assert_eq!(status.summary.lag.as_deref(), Some("5.0s"));
}

#[test]
fn lag_counts_from_the_first_sight_where_no_notification_came() {
    let mut bench = bench("60s");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.passes(7);
    bench.copied(Ok(()));
    assert_eq!(lag(&bench).map(|lag| lag.p99), Some(Duration::from_secs(7)));
}

#[test]
fn an_image_that_is_read_back_again_has_no_lag() {
    let mut bench = bench("60s");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    bench.passes(25 * 3600);
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert_eq!(bench.copies.len(), 1, "the audit of a day");
    bench.passes(90);
    bench.copied(Ok(()));
    assert_eq!(lag(&bench).map(|lag| lag.p99), Some(Duration::ZERO));
}

#[test]
fn a_missed_objective_is_a_condition_while_an_image_waits() {
    let mut bench = bench("60s");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.passes(59);
    assert_eq!(missed(&bench), None);
    bench.passes(1);
    let message = missed(&bench).unwrap();
    assert!(message.contains("spec.lagObjective") && message.contains("1970-"), "{message}");
    bench.copied(Ok(()));
    assert_eq!(missed(&bench), None, "it arrived");
    bench.passes(3600);
    assert_eq!(missed(&bench), None, "nothing waits");
}

#[test]
fn the_machine_wakes_up_for_an_objective_that_is_about_to_be_missed() {
    let mut bench = bench("5s");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.passes(1);
    assert_eq!(bench.machine.wake_at(bench.now), Some(at(5)));
    bench.copied(Err(FailureCode::SourceDenied));
    bench.passes(4);
    assert!(missed(&bench).is_some(), "an image that failed waits, too");
}
