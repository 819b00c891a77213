//! Prints what happened or would happen: lines and a table for people, one document for programs.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::json;

use super::flags::Format;
use super::left_out::LeftOut;
use super::planning::{Plan, PlannedAction, Route};
use super::running::Outcome;
use crate::copy::Copied;

/// Tells of images while they are copied, and sums up at the end.
pub(super) struct Printer(Format);

impl Printer {
    /// Prints in `format`.
    pub(super) fn new(format: Format) -> Self {
        Self(format)
    }

    /// Tells of one image; in JSON everything comes at the end.
    pub(super) fn tell(&self, outcome: &Outcome) {
        if self.0 == Format::Text {
            println!("{}", line(outcome));
        }
    }

    /// The summary.
    pub(super) fn summary(&self, plan: &Plan, outcomes: &[Outcome]) -> String {
        match self.0 {
            Format::Json => {
                let images: Vec<_> = outcomes.iter().map(document).collect();
                let failed = outcomes.iter().filter(|outcome| outcome.failed.is_some()).count();
                let summary = json!({"images": outcomes.len(), "complete": outcomes.len() - failed, "failed": failed});
                format!("{:#}\n", json!({"images": images, "summary": summary, "troubles": plan.troubles}))
            }
            Format::Text => {
                let mut rows = vec![
                    ["SOURCE", "DESTINATION", "IMAGES", "COMPLETE", "COPIED", "FAILED", "MOVED"].map(str::to_owned),
                ];
                let mut by_route: HashMap<&Route, Vec<&Outcome>> = HashMap::new();
                for outcome in outcomes {
                    by_route.entry(&outcome.image.route).or_default().push(outcome);
                }
                for (route, images) in plan.routes() {
                    let of_route = || by_route.get(&**route).into_iter().flatten();
                    let failed = of_route().filter(|outcome| outcome.failed.is_some()).count();
                    let copied = of_route().filter_map(|outcome| outcome.copied.as_ref());
                    let (copied, moved) = copied.fold((0, 0), |(copied, moved), one| {
                        (copied + u64::from(!one.already_there), moved + one.moved)
                    });
                    rows.push([
                        images[0].source.clone(),
                        images[0].destination.clone(),
                        images.len().to_string(),
                        (images.len() - failed).to_string(),
                        copied.to_string(),
                        failed.to_string(),
                        bytes(moved),
                    ]);
                }
                format!("\n{}{}", table(&rows), troubles(plan))
            }
        }
    }
}

/// A plan as it is shown by `transship plan`.
pub(super) fn show_plan(format: Format, plan: &Plan) -> String {
    if format == Format::Json {
        return format!("{:#}\n", json!(plan));
    }
    let mut rows = vec![["CONFIGURATION", "REPOSITORY", "MATCHED", "BECAUSE"].map(str::to_owned)];
    rows.extend(plan.repositories.iter().map(|repository| {
        let matched = if repository.matched { "yes" } else { "no" };
        [
            repository.configuration.clone(),
            repository.repository.clone(),
            matched.to_owned(),
            repository.because.clone(),
        ]
    }));
    let mut text = table(&rows);
    for left_out in &plan.tags_left_out {
        let LeftOut { repository, tags, because, .. } = left_out;
        let _ = write!(text, "\n{tags} tags of {repository} are left out, such as {because}\n");
    }
    if !plan.images.is_empty() {
        let mut rows = vec![["ACTION", "SOURCE", "DESTINATION", "DIGEST", "REASON"].map(str::to_owned)];
        rows.extend(plan.images.iter().map(|image| {
            [
                word(image.action).to_owned(),
                format!("{}:{}", image.source, image.tag),
                format!("{}:{}", image.destination, image.tag),
                short(image.digest.as_str()),
                image.reason.clone(),
            ]
        }));
        text = format!("{text}\n{}", table(&rows));
    }
    text + &troubles(plan)
}

fn line(outcome: &Outcome) -> String {
    let image = &outcome.image;
    let what = format!("{}:{} -> {}:{}", image.source, image.tag, image.destination, image.tag);
    match (&outcome.failed, &outcome.copied) {
        (Some(failed), _) => format!("FAILED    {what}  {:?}: {}", failed.code, failed.message),
        (None, Some(copied)) if !copied.already_there => {
            format!("COMPLETE  {what}  {}  {}{}", short(image.digest.as_str()), bytes(copied.size), skipped(copied))
        }
        (None, copied) => {
            let skipped = copied.as_ref().map(skipped).unwrap_or_default();
            format!("COMPLETE  {what}  {}  already there{skipped}", short(image.digest.as_str()))
        }
    }
}

/// What of an image is not copied by intent.
fn skipped(copied: &Copied) -> String {
    match copied.foreign_layers {
        0 => String::new(),
        1 => "  1 foreign layer skipped".to_owned(),
        many => format!("  {many} foreign layers skipped"),
    }
}

fn document(outcome: &Outcome) -> serde_json::Value {
    let image = &outcome.image;
    let mut document = json!({
        "source": image.source,
        "destination": image.destination,
        "tag": image.tag,
        "digest": image.digest,
        "status": if outcome.failed.is_some() { "FAILED" } else { "COMPLETE" },
    });
    if let Some(failed) = &outcome.failed {
        document["failureCode"] = json!(failed.code);
        document["message"] = json!(failed.message);
    }
    if let Some(copied) = &outcome.copied {
        document["bytes"] = json!(copied.size);
        document["moved"] = json!(copied.moved);
        if copied.foreign_layers > 0 {
            document["foreignLayersSkipped"] = json!(copied.foreign_layers);
        }
        if let Some(digest) = &copied.destination_digest {
            document["destinationDigest"] = json!(digest);
        }
    }
    document
}

fn troubles(plan: &Plan) -> String {
    plan.troubles.iter().fold(String::new(), |mut text, trouble| {
        let _ = write!(text, "\n! {trouble}\n");
        text
    })
}

/// Columns as wide as their widest cell; the last is not filled up.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

fn word(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Copy => "copy",
        PlannedAction::Denied => "denied",
        PlannedAction::Nothing => "nothing",
        PlannedAction::Overwrite => "overwrite",
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(19).collect()
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_are_not_copied_are_told() {
        let copied = |foreign_layers| Copied {
            size: 1,
            moved: 0,
            already_there: false,
            referrers: 0,
            foreign_layers,
            destination_digest: None,
        };
        assert_eq!(
            [0, 1, 2].map(|count| skipped(&copied(count))),
            ["", "  1 foreign layer skipped", "  2 foreign layers skipped"]
        );
    }
}
