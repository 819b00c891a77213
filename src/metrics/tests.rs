use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::*;

fn used() -> Metrics {
    let metrics = Metrics::default();
    metrics.verified("team-b", "eu-west-1", Duration::from_millis(1400));
    let oldest_pending_since = SystemTime::now().checked_sub(Duration::from_secs(90));
    let figures = ConfigurationFigures { is_ready: false, counts: [5, 4, 3, 2, 1], oldest_pending_since };
    metrics.configuration("team-a", "services", figures);
    metrics.registry("team-b", "eu-west-1", true);
    metrics.pair("team-a", "services.app.k3xq7ab2mn", pair("app", 3));
    metrics.swept("team-a", "services", Duration::from_secs(4_980));
    metrics
}

fn pair(repository: &str, images: u64) -> (PairLabels, PairFigures) {
    let labels = PairLabels {
        namespace: "team-a".to_owned(),
        name: "services".to_owned(),
        repository: repository.to_owned(),
        destination: format!("eu/{repository}"),
    };
    (labels, PairFigures { images, moved: 1_000 * images, stored: 100 * images })
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn gauges_show_the_present_state_and_forget_what_is_gone() {
    let metrics = used();
    metrics.configuration(
        "team-a",
        "other",
        ConfigurationFigures { is_ready: true, counts: [1, 0, 0, 0, 0], oldest_pending_since: None },
    );
    let text = metrics.text();
    assert_eq!(value(&text, "transship_images{state=\"complete\"}"), Some(6.0), "{text}");
    assert_eq!(value(&text, "transship_images{state=\"skipped\"}"), Some(1.0));
    assert!(value(&text, "transship_oldest_pending_seconds").unwrap() >= 90.0);
    let ready = |text: &str, name: &str| {
        value(text, &format!("transship_configuration_ready{{namespace=\"team-a\",name=\"{name}\"}}"))
    };
    assert_eq!((ready(&text, "services"), ready(&text, "other")), (Some(0.0), Some(1.0)));
    let registry = "transship_registry_ready{namespace=\"team-b\",name=\"eu-west-1\"}";
    assert_eq!(value(&text, registry), Some(1.0));
    let sweep = "transship_sweep_duration_seconds{namespace=\"team-a\",name=\"services\"}";
    assert_eq!(value(&text, sweep), Some(4_980.0));
    metrics.forget_configuration("team-a", "services");
    metrics.forget_registry("team-b", "eu-west-1");
    let text = metrics.text();
    assert_eq!((ready(&text, "services"), value(&text, registry), value(&text, sweep)), (None, None, None));
    assert_eq!(value(&text, "transship_oldest_pending_seconds"), Some(0.0));
    assert!(!text.contains("replication_lag_seconds_bucket"), "series of a Registry end with it: {text}");
}

#[test]
fn each_pair_has_its_usage_and_many_are_summed_up() {
    let metrics = used();
    let series = |kind: &str, repository: &str, destination: &str| {
        let names = "namespace=\"team-a\",name=\"services\"";
        format!("transship_pair_{kind}{{{names},repository=\"{repository}\",destination=\"{destination}\"}}")
    };
    let text = metrics.text();
    assert_eq!(value(&text, &series("images", "app", "eu/app")), Some(3.0), "{text}");
    assert_eq!(value(&text, &series("moved_bytes", "app", "eu/app")), Some(3_000.0));
    assert_eq!(value(&text, &series("stored_bytes", "app", "eu/app")), Some(300.0));
    for i in 0..usage::MAX_PAIRS + 2 {
        metrics.pair("team-a", &format!("services.many.{i:05}"), pair(&format!("many/{i}"), 1));
    }
    let text = metrics.text();
    assert_eq!(value(&text, &series("images", "", "")), Some(3.0), "two of many, and one of another name");
    for i in 0..usage::MAX_PAIRS + 2 {
        metrics.forget_pair("team-a", &format!("services.many.{i:05}"));
    }
    metrics.forget_pair("team-a", "services.app.k3xq7ab2mn");
    assert!(!metrics.text().contains("transship_pair_images{"));
}

#[test]
fn a_queue_shows_its_length_and_its_oldest_entry() {
    let metrics = Metrics::default();
    let (first, second) = (metrics.waits(Queue::Copies), metrics.waits(Queue::Copies));
    let length = || value(&metrics.text(), "transship_queue_length{queue=\"copies\"}");
    assert_eq!(length(), Some(2.0));
    assert!(value(&metrics.text(), "transship_queue_oldest_wait_seconds{queue=\"copies\"}").unwrap() > 0.0);
    drop(first);
    assert_eq!(length(), Some(1.0));
    drop(second);
    assert_eq!(length(), Some(0.0));
    assert_eq!(value(&metrics.text(), "transship_queue_oldest_wait_seconds{queue=\"copies\"}"), Some(0.0));
}

#[test]
fn closed_sets_have_a_value_before_the_first_event() {
    let text = Metrics::default().text();
    for series in [
        "transship_copies_total{outcome=\"failed\"}",
        "transship_leader",
        "transship_reconciles_total{kind=\"Registry\",result=\"error\"}",
        "transship_reconcile_duration_seconds_count{kind=\"Registry\"}",
        "transship_controller_errors_total{kind=\"ReplicationStatus\",cause=\"watch\"}",
        "transship_images{state=\"failed\"}",
        "transship_queue_length{queue=\"checks\"}",
        "transship_queue_length{queue=\"jobs\"}",
        "transship_queue_oldest_wait_seconds{queue=\"comparisons\"}",
        "transship_registry_requests_total{answer=\"429\"}",
    ] {
        // Other tests of the process send requests.
        assert!(value(&text, series).is_some_and(|value| value == 0.0 || series.contains("requests")), "{text}");
    }
    assert!(text.contains(concat!("transship_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")), "{text}");
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e6 && text.ends_with("# EOF\n"));
}

/// Writes the page if the environment says `GENERATE=1`, as `make generate` does.
#[test]
fn the_reference_has_every_metric() {
    let page = reference(&used().text());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/metrics.md");
    if std::env::var_os("GENERATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "run `make generate`");
}

/// Returns the page about the metrics of `text`.
fn reference(text: &str) -> String {
    let mut page = PAGE.to_owned();
    let mut types = BTreeMap::new();
    let mut labels: BTreeMap<&str, String> = BTreeMap::new();
    let base = |name: &'_ str| -> String {
        ["_bucket", "_total", "_info", "_sum", "_count"]
            .iter()
            .fold(name.to_owned(), |name, end| name.strip_suffix(end).map(str::to_owned).unwrap_or(name))
    };
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let Some(name) = types.keys().copied().find(|known| *known == name || **known == base(name)) else { continue };
        let Some((set, _)) = rest.split_once('}') else { continue };
        let names: Vec<String> = set
            .split("\",")
            .filter_map(|label| Some(format!("`{}`", label.split_once('=')?.0)))
            .filter(|label| label != "`le`")
            .collect();
        labels.entry(name).or_insert_with(|| names.join(", "));
    }
    for line in text.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        let ending = match types[name] {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = labels.get(name).map(String::as_str).unwrap_or_default();
        writeln!(page, "| `{name}{ending}` | {} | {labels} | {} |", types[name], help.trim_end_matches('.')).unwrap();
    }
    page
}

const PAGE: &str = "# Metrics

After this page you know every metric of the operator and of `serve`. This page is generated from
the program.

`GET /metrics` answers in the text format of OpenMetrics. Labels are closed sets, or the namespace
and name of a configuration or Registry; a series ends with its object. All series of a closed set
exist from the start. `transship_pair_…` have the names of repositories, too: 2,000 pairs of a
source repository and a destination have series of their own, and the others are summed up by
configuration under an empty `repository` and `destination`.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
";
