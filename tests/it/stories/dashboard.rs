//! The dashboard and the alerts: a Prometheus that scrapes a running operator has data for every query.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use transship::terms::ReplicationState;

use super::core::{SOON, between, is_ready};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::{ChildProcess, Port};
use crate::support::run_folder::{new_folder, repository};
use crate::support::tls::client_builder;
use crate::support::tools::debian_tool;
use crate::tag_filters::registry;

/// A Prometheus that scrapes one process each second.
struct Prometheus {
    process: ChildProcess,
    port: Port,
}

impl Prometheus {
    /// Starts it as the ServiceMonitor of the chart has it scrape: the labels of the process stay.
    fn start(target: u16) -> Self {
        let (folder, port) = (new_folder("prometheus"), Port::claim());
        let targets = json!([{"targets": [format!("127.0.0.1:{target}")]}]);
        let scrape = json!({"job_name": "transship", "honor_labels": true, "static_configs": targets});
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [repository().join("charts/transship/files/alerts.yaml")],
            "scrape_configs": [scrape],
        });
        std::fs::write(folder.join("prometheus.yml"), configuration.to_string()).unwrap();
        let process = ChildProcess::start("prometheus", Self::command(&folder, &port), &folder.join("log"));
        Self { process, port }
    }

    fn command(folder: &Path, port: &Port) -> Command {
        let mut command = Command::new(debian_tool("prometheus"));
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        command
    }

    /// Returns the data of a part of its API.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port.number());
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let answer = client_builder().build().unwrap().get(url).send().await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    /// Returns true if a query has a number as its answer now.
    async fn has_number(&self, query: &str) -> Result<bool, String> {
        let data = self.ask("query", &[("query", query)]).await?;
        let mut values =
            data["result"].as_array().into_iter().flatten().filter_map(|sample| sample["value"][1].as_str());
        Ok(values.any(|value| value.parse::<f64>().is_ok_and(f64::is_finite)))
    }
}

/// Returns title and query of every target of every panel.
fn queries() -> Vec<(String, String)> {
    let file = repository().join("charts/transship/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| (panel["title"].to_string(), target["expr"].as_str().unwrap().to_owned()))
    });
    queries.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_every_alert_has_data_from_a_running_operator() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v0", &Image::single(0, 1, 1_000));
    let mut scene = between("dashboard", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    let prometheus = Prometheus::start(scene.operator.process().admin.number());
    let mut waiting = queries();
    assert!(waiting.len() > 20, "{waiting:?}");
    for pushed in 1..120 {
        let tag = format!("v{pushed}");
        let digest = source.push("app", &tag, &Image::single(pushed, 1, 1_000));
        scene.notify("source", "app", &tag, &digest).await;
        scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Complete, SOON).await;
        let mut without_data = Vec::new();
        for (title, query) in waiting {
            if !prometheus.has_number(&query.replace("$__rate_interval", "1m")).await.unwrap_or(false) {
                without_data.push((title, query));
            }
        }
        waiting = without_data;
        if waiting.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(waiting.is_empty(), "without data: {waiting:#?}\n{}", prometheus.process.log_tail());
    the_rules_are_evaluated(&prometheus).await;
}

/// Each alert names series that this operator has, and none fires while all is well.
async fn the_rules_are_evaluated(prometheus: &Prometheus) {
    eventually(SOON, "each alert was evaluated", async || {
        let data = prometheus.ask("rules", &[]).await?;
        let rules = data["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        match rules.iter().find(|rule| rule["health"] != "ok") {
            None if rules.len() >= 10 => Ok(()),
            other => Err(format!("{other:?} of {}", rules.len())),
        }
    })
    .await;
    let data = prometheus.ask("alerts", &[]).await.unwrap();
    assert_eq!(data["alerts"], json!([]));
    let known = prometheus.ask("label/__name__/values", &[]).await.unwrap();
    let known: Vec<&str> = known.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let rules = std::fs::read_to_string(repository().join("charts/transship/files/alerts.yaml")).unwrap();
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("transship_")) {
            assert!(known.contains(&name), "no series has the name {name}");
        }
    }
}
