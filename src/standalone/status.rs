//! `transship status`: prints the statuses of a state folder, also while `serve` runs, or of a file that kubectl has
//! printed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::ecr::image_replications;
use super::reader::{STANDARD_INPUT, read_at_most};
use super::store::read_statuses;
use super::text::{short_digest, table};
use super::{UsageError, printed};
use crate::api::ReplicationStatus;
use crate::console;
use crate::terms::{Condition, ImageStatus, ReplicationStatusStatus, condition_type};

/// Flags of `transship status`.
#[derive(Args, Clone, Debug)]
pub struct StatusFlags {
    /// The folder that `transship serve --state` or `transship sync --state` uses; it is only read.
    #[arg(long, value_name = "DIR", required_unless_present = "file", conflicts_with = "file")]
    state: Option<PathBuf>,
    /// A file that `kubectl get replicationstatus -o json` (or `-o yaml`) has printed; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The format of the statuses.
    #[arg(short, long, value_enum, default_value_t = StatusFormat::Table)]
    output: StatusFormat,
}

/// The format of printed statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// One line for each pair of repositories.
    Table,
    /// The table with more columns, and one line for each image.
    Wide,
    /// A List of ReplicationStatus objects.
    Json,
    /// The same in YAML.
    Yaml,
    /// A list with an answer of ECR's `describe-image-replication-status` for each image: `region` is the name of the
    /// destination's Registry, `registryId` its namespace; PENDING is IN_PROGRESS, and SKIPPED is FAILED.
    Ecr,
}

/// Prints the statuses of a state folder or a file.
///
/// # Errors
/// [`UsageError`] if the folder is absent or no state folder, or the file cannot be read.
pub async fn status(flags: StatusFlags) -> Result<ExitCode, UsageError> {
    let objects = match (&flags.state, &flags.file) {
        (Some(folder), _) => {
            let (objects, problems) = read_statuses(folder)?;
            for problem in problems {
                console::notify(&problem.to_string());
            }
            objects
        }
        (None, file) => listed(file.as_deref().unwrap_or(Path::new(STANDARD_INPUT)))?,
    };
    let is_table = matches!(flags.output, StatusFormat::Table | StatusFormat::Wide);
    if objects.is_empty() && is_table {
        let place = flags.state.or(flags.file).unwrap_or_default();
        console::notify(&format!("no statuses found in {}", place.display()));
        return Ok(ExitCode::SUCCESS);
    }
    printed(show(&objects, flags.output, Timestamp::now())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the statuses that kubectl has printed: a List, or one object.
fn listed(file: &Path) -> Result<Vec<ReplicationStatus>, UsageError> {
    let text = read_at_most(file, MAX_LIST).map_err(|error| UsageError::Documents(vec![error]))?;
    let invalid =
        |error: &dyn std::fmt::Display| UsageError::Statuses { file: file.to_owned(), error: error.to_string() };
    let document: Value = serde_saphyr::from_str(&text).map_err(|error| invalid(&error))?;
    let items = match document {
        Value::Object(mut list) if list.contains_key("items") => list.remove("items").unwrap_or_default(),
        object => json!([object]),
    };
    serde_json::from_value(items).map_err(|error| invalid(&error))
}

/// The most bytes of a list of statuses.
const MAX_LIST: u64 = 256 * 1024 * 1024;

fn show(objects: &[ReplicationStatus], format: StatusFormat, now: Timestamp) -> Result<String, UsageError> {
    let list = || json!({"apiVersion": "v1", "kind": "List", "items": objects});
    match format {
        StatusFormat::Table => Ok(pairs(objects, false, now)),
        StatusFormat::Wide => Ok(format!("{}\n{}{}", pairs(objects, true, now), images(objects), left_out(objects))),
        StatusFormat::Ecr => Ok(format!("{:#}\n", json!(image_replications(objects)))),
        StatusFormat::Json => Ok(format!("{:#}\n", list())),
        StatusFormat::Yaml => serde_saphyr::to_string(&list()).map_err(|error| UsageError::Yaml(error.to_string())),
    }
}

/// Returns the table of `kubectl get replicationstatus`, with its columns and words; with `is_wide`, that of `-o wide`.
fn pairs(objects: &[ReplicationStatus], is_wide: bool, now: Timestamp) -> String {
    let has_namespaces = has_several_namespaces(objects);
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| is_wide || !column.is_wide).collect();
    let names = ["NAMESPACE", "NAME"].into_iter().skip(usize::from(!has_namespaces)).map(str::to_owned);
    let mut rows = vec![names.chain(columns.iter().map(|column| column.header.to_owned())).collect::<Vec<_>>()];
    for object in objects {
        let names = [object.namespace().unwrap_or_default(), object.name_any()];
        let status = object.status.clone().unwrap_or_default();
        let cells = columns.iter().map(|column| (column.cell)(object, &status, now));
        rows.push(names.into_iter().skip(usize::from(!has_namespaces)).chain(cells).collect());
    }
    table(&rows)
}

/// A column of the table, as the CustomResourceDefinition has it.
struct Column {
    header: &'static str,
    /// True if only `-o wide` shows it.
    is_wide: bool,
    cell: fn(&ReplicationStatus, &ReplicationStatusStatus, Timestamp) -> String,
}

const fn column(
    header: &'static str,
    cell: fn(&ReplicationStatus, &ReplicationStatusStatus, Timestamp) -> String,
) -> Column {
    Column { header, is_wide: false, cell }
}

const fn wide(column: Column) -> Column {
    Column { is_wide: true, ..column }
}

const COLUMNS: [Column; 14] = [
    column("SOURCE", |_, status, _| cell(&status.source)),
    column("DESTINATION", |_, status, _| cell(&status.destination)),
    column("STATUS", |_, status, _| word(status.summary.status)),
    column("REASON", |_, status, _| ready(status).map(|ready| cell(&ready.reason)).unwrap_or_default()),
    column("IMAGES", |_, status, _| status.summary.images.to_string()),
    column("COMPLETE", |_, status, _| status.summary.complete.to_string()),
    column("FAILED", |_, status, _| status.summary.failed.to_string()),
    wide(column("SKIPPED", |_, status, _| status.summary.skipped.to_string())),
    wide(column("BYTES", |_, status, _| status.summary.bytes.to_string())),
    column("LATEST", |_, status, _| cell(status.summary.latest.as_deref().unwrap_or_default())),
    column("PENDING SINCE", |_, status, now| age(status.summary.oldest_pending_since, now).unwrap_or_default()),
    wide(column("LAG", |_, status, _| cell(status.summary.lag.as_deref().unwrap_or_default()))),
    wide(column("MESSAGE", |_, status, _| ready(status).map(|ready| cell(&ready.message)).unwrap_or_default())),
    column("AGE", |object, _, now| {
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        age(created, now).unwrap_or_else(|| "<unknown>".to_owned())
    }),
];

fn age(at: Option<Timestamp>, now: Timestamp) -> Option<String> {
    at.map(|at| human_duration(now.duration_since(at).as_secs()))
}

fn ready(status: &ReplicationStatusStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == condition_type::READY)
}

/// Formats one line for each image that the statuses show.
fn images(objects: &[ReplicationStatus]) -> String {
    let header = ["NAMESPACE", "NAME", "TAG", "DIGEST", "STATUS", "BYTES", "ATTEMPTS", "MESSAGE"];
    let mut rows = vec![header.map(str::to_owned)];
    for object in objects {
        let images = object.status.iter().flat_map(|status| &status.images);
        rows.extend(images.map(|image| {
            let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
            [
                object.namespace().unwrap_or_default(),
                object.name_any(),
                cell(&image.tag),
                short_digest(&image.digest),
                word(image.status),
                number(image.bytes),
                number(image.attempts.map(u64::from)),
                message(image),
            ]
        }));
    }
    if has_several_namespaces(objects) {
        return table(&rows);
    }
    table(&rows.into_iter().map(|[_, rest @ ..]| rest).collect::<Vec<[String; 7]>>())
}

/// Returns a line for each status that has more images than it shows.
fn left_out(objects: &[ReplicationStatus]) -> String {
    let line = |object: &ReplicationStatus| {
        let status = object.status.as_ref()?;
        let (shown, all) = (status.images.len() as u64, status.summary.images);
        let name = object.name_any();
        (shown < all).then(|| format!("{shown} of {all} images of {name} are shown, failures and the newest first\n"))
    };
    let lines: String = objects.iter().filter_map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn message(image: &ImageStatus) -> String {
    match (image.failure_code, &image.message) {
        (Some(code), Some(message)) => cell(&format!("{code:?}: {message}")),
        (Some(code), None) => format!("{code:?}"),
        (None, message) => cell(message.as_deref().unwrap_or_default()),
    }
}

fn has_several_namespaces(objects: &[ReplicationStatus]) -> bool {
    objects.iter().map(|object| &object.metadata.namespace).collect::<BTreeSet<_>>().len() > 1
}

/// Returns a word of the API as JSON has it.
fn word(value: impl serde::Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

/// Brings text into one line. Messages repeat words of registries, which must not move the cursor of a terminal.
fn cell(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns a duration in two units at most, with the rules of `HumanDuration` in k8s.io/apimachinery, by which kubectl
/// prints ages.
fn human_duration(seconds: i64) -> String {
    let pair = |large: i64, unit: &str, small: i64, sub_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{sub_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ReplicationStatusObjectSpec;
    use crate::standalone::store::tests::{image, pair};
    use crate::terms::{Conditions, FailureCode, PairSummary, ReplicationState};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::CustomResourceExt;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn object(namespace: &str, repository: &str) -> ReplicationStatus {
        let identity = pair("app", repository);
        let mut object = ReplicationStatus::new(&identity.name, ReplicationStatusObjectSpec(identity.spec));
        object.metadata.namespace = Some(namespace.to_owned());
        object.metadata.creation_timestamp = Some(Time(at(0)));
        let mut failed = image("v2", 1);
        failed.status = ReplicationState::Failed;
        failed.failure_code = Some(FailureCode::SourceUnavailable);
        failed.message = Some("no\u{1b}[2Janswer".to_owned());
        (failed.bytes, failed.attempts) = (None, Some(3));
        let summary = PairSummary {
            status: ReplicationState::Failed,
            images: 3,
            complete: 1,
            failed: 1,
            latest: Some("v1".to_owned()),
            oldest_pending_since: (repository == "one").then_some(at(3)),
            ..PairSummary::default()
        };
        let (source, destination) = (format!("us/{repository}"), format!("eu/{repository}"));
        let images = vec![failed, image("v1", 5)];
        let conditions = Conditions::of(&[], Some(1), at(0)).set("Ready", false, "SourceUnavailable", "1 of 3\u{1b}");
        let conditions = conditions.into_list();
        let status = ReplicationStatusStatus { source, destination, summary, images, conditions, ..Default::default() };
        object.status = Some(status);
        object
    }

    #[test]
    fn the_table_is_that_of_kubectl() {
        let one = object("team-a", "one");
        let name = one.name_any();
        let shown = show(std::slice::from_ref(&one), StatusFormat::Table, at(195)).unwrap();
        let expected = format!(
            "{:width$}   SOURCE   DESTINATION   STATUS   REASON              IMAGES   COMPLETE   FAILED   LATEST   PENDING SINCE   AGE\n\
             {name}   us/one   eu/one        FAILED   SourceUnavailable   3        1          1        v1       3m12s           3m15s\n",
            "NAME",
            width = name.len()
        );
        assert_eq!(shown, expected);
        let shown = show(&[one, object("team-b", "two")], StatusFormat::Table, at(195)).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("NAMESPACE   NAME ") && lines[1].starts_with("team-a      app.one."), "{shown}");
        assert!(lines[2].ends_with("v1                       3m15s"), "nothing waits: {shown}");
    }

    #[test]
    fn the_wide_table_has_every_image_with_its_failure() {
        let shown = show(&[object("team-a", "one")], StatusFormat::Wide, at(195)).unwrap();
        let words = |line: usize| shown.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let name = object("team-a", "one").name_any();
        let digest = &image("v1", 5).digest[..19];
        assert_eq!(words(3), "NAME TAG DIGEST STATUS BYTES ATTEMPTS MESSAGE");
        assert!(words(4).ends_with("FAILED 3 SourceUnavailable: no [2Janswer"), "{shown}");
        assert!(words(5).starts_with(&format!("{name} v1 {digest} COMPLETE 5 with a line feed")), "{shown}");
        assert!(
            shown.ends_with(&format!("2 of 3 images of {name} are shown, failures and the newest first\n")),
            "{shown}"
        );
    }

    #[test]
    fn the_columns_are_those_of_the_definition() {
        let definition = json!(ReplicationStatus::crd());
        let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().clone();
        let defined: Vec<(String, bool)> = columns
            .iter()
            .map(|column| (column["name"].as_str().unwrap().to_uppercase(), column["priority"] == 1))
            .collect();
        let shown: Vec<_> = COLUMNS.iter().map(|column| (column.header.to_owned(), column.is_wide)).collect();
        assert_eq!(shown, defined);
        let wide = show(&[object("team-a", "one")], StatusFormat::Wide, at(195)).unwrap();
        let first: Vec<&str> = wide.lines().next().unwrap().split_whitespace().collect();
        assert!(["SKIPPED", "BYTES", "LAG", "MESSAGE"].iter().all(|name| first.contains(name)), "{wide}");
        assert!(wide.lines().nth(1).unwrap().contains("1 of 3    3m15s"), "no character moves a cursor: {wide}");
    }

    #[test]
    fn programs_get_a_list_of_the_objects() {
        let objects = [object("team-a", "one"), object("team-b", "two")];
        let json: Value = serde_json::from_str(&show(&objects, StatusFormat::Json, at(0)).unwrap()).unwrap();
        let yaml: Value = serde_saphyr::from_str(&show(&objects, StatusFormat::Yaml, at(0)).unwrap()).unwrap();
        assert_eq!(json, yaml);
        assert_eq!((&json["apiVersion"], &json["kind"]), (&"v1".into(), &"List".into()));
        let items: Vec<ReplicationStatus> = serde_json::from_value(json["items"].clone()).unwrap();
        assert_eq!(items, objects);
    }

    #[test]
    fn the_answers_have_the_shape_of_ecr() {
        let mut other = object("team-a", "one");
        other.spec.0.destination.registry_ref.name = "far".to_owned();
        other.spec.0.destination.registry_ref.namespace = Some("team-b".to_owned());
        let images = &mut other.status.as_mut().unwrap().images;
        images.retain(|image| image.tag == "v1");
        images[0].status = ReplicationState::Pending;
        let objects = [object("team-a", "one"), other];
        let shown: Value = serde_json::from_str(&show(&objects, StatusFormat::Ecr, at(0)).unwrap()).unwrap();
        let expected = json!([
            {
                "repositoryName": "one",
                "imageId": {"imageDigest": image("v2", 1).digest, "imageTag": "v2"},
                "replicationStatuses": [
                    {"region": "eu", "registryId": "team-a", "status": "FAILED", "failureCode": "SourceUnavailable"},
                ],
            },
            {
                "repositoryName": "one",
                "imageId": {"imageDigest": image("v1", 5).digest, "imageTag": "v1"},
                "replicationStatuses": [
                    {"region": "eu", "registryId": "team-a", "status": "COMPLETE"},
                    {"region": "far", "registryId": "team-b", "status": "IN_PROGRESS"},
                ],
            },
        ]);
        let sorted = |value: &Value| {
            let mut answers = value.as_array().unwrap().clone();
            answers.sort_by_key(|answer| answer["imageId"]["imageTag"].to_string());
            answers
        };
        assert_eq!(sorted(&shown), sorted(&expected));
    }

    #[test]
    fn a_list_that_kubectl_printed_is_read_in_both_forms() {
        let objects = [object("team-a", "one"), object("team-b", "two")];
        let folder = tempfile::tempdir().unwrap();
        for format in [StatusFormat::Json, StatusFormat::Yaml] {
            let file = folder.path().join("list");
            std::fs::write(&file, show(&objects, format, at(0)).unwrap()).unwrap();
            assert_eq!(listed(&file).unwrap(), objects);
        }
        let file = folder.path().join("one");
        std::fs::write(&file, json!(objects[0]).to_string()).unwrap();
        assert_eq!(listed(&file).unwrap(), objects[..1]);
        std::fs::write(&file, "kind: Pod").unwrap();
        assert!(listed(&file).unwrap_err().to_string().contains("no list of ReplicationStatuses"));
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        const HOUR: i64 = 3600;
        const YEAR: i64 = 365 * 24 * HOUR;
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (45, "45s"),
            (119, "119s"),
            (120, "2m"),
            (192, "3m12s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (5 * HOUR + 60, "5h1m"),
            (8 * HOUR - 1, "7h59m"),
            (47 * HOUR, "47h"),
            (48 * HOUR, "2d"),
            (49 * HOUR, "2d1h"),
            (8 * 24 * HOUR + 2 * HOUR, "8d"),
            (367 * 24 * HOUR, "367d"),
            (2 * YEAR + 25 * HOUR, "2y1d"),
            (3 * YEAR, "3y"),
            (8 * YEAR + 2 * HOUR, "8y"),
        ];
        for (seconds, age) in cases {
            assert_eq!(human_duration(seconds), age, "{seconds}");
        }
    }
}
