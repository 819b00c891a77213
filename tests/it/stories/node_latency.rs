//! The time from a push until its image is COMPLETE, stage by stage: by a new pod, and by a worker that lingers.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::node::{Story, story};
use crate::support::control_plane::AuditEvent;

/// The stages of every push, in this order. A lingering worker is there already.
const STAGES: [&str; 8] =
    ["notified", "Job created", "scheduled", "started", "first byte", "tag written", "verified", "COMPLETE"];
const LINGERING: u64 = 50;

/// Pushes that need a new pod: `TRANSSHIP_COLD_PUSHES` or 10.
fn cold_pushes() -> u64 {
    std::env::var("TRANSSHIP_COLD_PUSHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// One push, and what is known of it.
struct Push {
    repository: String,
    tag: String,
    began: Timestamp,
    by_new_pod: bool,
    /// When it reached each of [`STAGES`], as far as it passes them.
    reached: [Option<Timestamp>; STAGES.len()],
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pushes_by_cold_pods_and_by_a_lingering_worker() {
    let mut story = story("pods").await;
    let position = story.scene.plane.audit_position();
    story.scene.start_operator().await;
    let (mut pushes, mut worker_lines) = (Vec::new(), Vec::new());
    for number in 0..cold_pushes() + LINGERING {
        let by_new_pod = number < cold_pushes();
        // Over ten repositories, since one status is written once in 5 s.
        let (repository, tag) = (format!("app-{}", number % 10), format!("v{number}"));
        let began = Timestamp::now();
        story.push_small(&repository, &tag, 500 + number).await;
        story.complete(&format!("{repository}:{tag}")).await;
        pushes.push(Push { repository, tag, began, by_new_pod, reached: [None; STAGES.len()] });
        if by_new_pod {
            worker_lines.extend(lines(&story.worker_log().await));
            story.end_workers().await;
        }
    }
    worker_lines.extend(lines(&story.worker_log().await));
    let records = LatencyRecords {
        operator: lines(&story.scene.operator_log().await),
        worker: worker_lines,
        audit: story.scene.plane.audit_log_since(position),
        system: story.scene.operator.chart().namespace.clone(),
        tenant: story.namespace.clone(),
    };
    for push in &mut pushes {
        records.follow(push, &story);
    }
    for (by_new_pod, name, most) in [(true, "cold pod", 6_000), (false, "lingering worker", 1_500)] {
        let chosen: Vec<&Push> = pushes.iter().filter(|push| push.by_new_pod == by_new_pod).collect();
        let middle = print_table(name, &chosen);
        assert!(middle < Duration::from_millis(most), "{name}: p50 {middle:?}");
    }
}

impl Story {
    async fn worker_log(&mut self) -> String {
        self.kubectl(&["logs", "-l", "app.kubernetes.io/component=worker", "--tail=-1"]).await
    }
}

/// Everything that has a time.
struct LatencyRecords {
    operator: Vec<Value>,
    worker: Vec<Value>,
    audit: Vec<AuditEvent>,
    system: String,
    tenant: String,
}

impl LatencyRecords {
    /// Finds when a push reached each stage; panics where it did not, or not in order.
    fn follow(&self, push: &mut Push, story: &Story) {
        let Push { repository, tag, began, by_new_pod, .. } = &*push;
        let first =
            |times: &mut dyn Iterator<Item = Timestamp>, after: Timestamp| times.filter(|at| *at >= after).min();
        let said = |lines: &[Value], message: &str, tag: Option<&str>| {
            let is_it = |line: &&Value| {
                line["fields"]["message"] == message && tag.is_none_or(|tag| line["fields"]["tag"] == tag)
            };
            let times = lines.iter().filter(is_it).map(|line| line["timestamp"].as_str().unwrap().parse().unwrap());
            first(&mut times.collect::<Vec<Timestamp>>().into_iter(), *began)
        };
        let asked = |namespace: &str, verb: &str, resource: [&str; 2], after: Timestamp| {
            let is_it = |event: &&AuditEvent| {
                let object = &event.object_ref;
                event.verb == verb
                    && event.response_status.code < 300
                    && object.namespace == namespace
                    && [object.resource.as_str(), object.subresource.as_str()] == resource
            };
            first(&mut self.audit.iter().filter(is_it).map(|event| event.stage_timestamp), after)
        };
        let verified = said(&self.worker, "ended", Some(tag));
        let blobs = format!("/v2/{repository}/blobs/sha256:");
        let is_read = |path: &str| path.starts_with(&blobs);
        let manifest = format!("/v2/{repository}/manifests/{tag}");
        let mut reads = story.source.answers("GET").into_iter().filter(|(path, _)| is_read(path)).map(|(_, at)| at);
        let mut writes =
            story.destination.answers("PUT").into_iter().filter(|(path, _)| *path == manifest).map(|(_, at)| at);
        let mut reached = [
            said(&self.operator, "notified", Some(tag)),
            asked(&self.system, "create", ["jobs", ""], *began).filter(|_| *by_new_pod),
            asked(&self.system, "create", ["pods", "binding"], *began).filter(|_| *by_new_pod),
            said(&self.worker, "working", None).filter(|_| *by_new_pod),
            first(&mut reads, *began),
            first(&mut writes, *began),
            verified,
            verified.and_then(|at| asked(&self.tenant, "patch", ["replicationstatuses", "status"], at)),
        ];
        // A comparison may have found the tag before its notification came.
        let next = reached[1..].iter().flatten().min().copied();
        let is_by_comparison = next.is_some_and(|next| reached[0].is_none_or(|notified| notified > next));
        reached[0] = reached[0].filter(|_| !is_by_comparison);
        let mut last = *began;
        for (number, (stage, at)) in STAGES.iter().zip(reached).enumerate() {
            if (number == 0 && is_by_comparison) || (!by_new_pod && (1..=3).contains(&number)) {
                continue;
            }
            let at = at.unwrap_or_else(|| panic!("{repository}:{tag} has not been {stage}"));
            assert!(at >= last, "{repository}:{tag}: {stage} at {at}, before what comes first at {last}");
            last = at;
        }
        push.reached = reached;
    }
}

/// Prints the table of some pushes, and answers with the middle time until COMPLETE.
fn print_table(name: &str, pushes: &[&Push]) -> Duration {
    println!("{name}, {} pushes, ms        step p50     p99    since the push p50     p99", pushes.len());
    let mut middle = Duration::ZERO;
    for (number, stage) in STAGES.iter().enumerate() {
        let (mut steps, mut totals) = (Vec::new(), Vec::new());
        for push in pushes {
            let Some(at) = push.reached[number] else { continue };
            let before = push.reached[..number].iter().flatten().next_back().unwrap_or(&push.began);
            steps.push(at.duration_since(*before).unsigned_abs());
            totals.push(at.duration_since(push.began).unsigned_abs());
        }
        if steps.is_empty() {
            continue;
        }
        let ms = |times: &mut Vec<Duration>, percent: usize| {
            times.sort();
            times[(times.len() * percent).div_ceil(100) - 1].as_millis()
        };
        println!(
            "  {stage:<30} {:>8} {:>7}              {:>8} {:>7}",
            ms(&mut steps, 50),
            ms(&mut steps, 99),
            ms(&mut totals, 50),
            ms(&mut totals, 99)
        );
        middle = Duration::from_millis(u64::try_from(ms(&mut totals, 50)).unwrap());
    }
    middle
}

/// Returns the lines of a log in JSON, whatever comes before each.
fn lines(log: &str) -> Vec<Value> {
    log.lines().filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok()).collect()
}
