//! Windows of the spec: copies begin while one is open.

use super::*;
use crate::plan::configuration_status;

#[test]
fn outside_of_its_windows_a_configuration_compares_and_copies_nothing() {
    // 1,000,000 s after the epoch it is 13:46:40.
    let spec =
        SPEC.replace("interval: 10m", "allowedWindows: [{cron: '0 14 * * *', duration: 1h}]").replace("RULE", "");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    let windowed = || Orders { configuration: parse_configuration("a", "c", &spec).map(Arc::new), ..orders(1, "") };
    let mut bench = Bench::resumed(windowed(), Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert!(bench.copies.is_empty());
    let opens = at(800);
    let ready = |bench: &Bench| {
        let status = configuration_status("a", &bench.report, &Default::default(), bench.now);
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        (ready.reason.clone(), ready.message.clone())
    };
    let (why, message) = ready(&bench);
    assert_eq!((why.as_str(), message.contains("spec.allowedWindows")), (reason::WINDOW_CLOSED, true), "{message}");
    bench.now = at(600);
    bench.step(Event::Wake);
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.step(Event::Wake);
    assert!(bench.copies.is_empty());
    assert_eq!(bench.machine.wake_at(bench.now), Some(opens), "nothing is due before");
    bench.now = opens;
    bench.step(Event::Wake);
    assert_eq!(bench.copies.len(), 1, "the window is open");
    assert_eq!(ready(&bench).0, reason::PROGRESSING);
    // A window that is edited away takes effect at once.
    let mut bench = Bench::resumed(windowed(), Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.step(Event::Orders(Arc::new(orders(2, ""))));
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert_eq!(bench.copies.len(), 1);
    // A person who runs it once need not wait.
    let once = Orders { once: Some(Duration::ZERO), ..windowed() };
    let mut bench = Bench::resumed(once, Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert_eq!(bench.copies.len(), 1);
}
