//! The alerts and the dashboard of the chart are what Prometheus and Grafana take, and each alert fires and has its
//! page.

use std::process::Command;

use serde_json::Value;

use crate::support::run_folder::{new_folder, repository};
use crate::support::tools::{debian_tool, go_tool, run};

fn alerts() -> Vec<Value> {
    let text = std::fs::read_to_string(repository().join("charts/transship/files/alerts.yaml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}

async fn promtool(arguments: &[&str]) -> crate::support::tools::Output {
    let mut promtool = Command::new(debian_tool("promtool"));
    promtool.args(arguments).current_dir(repository());
    run(promtool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_is_quiet_at_first_and_then_fires() {
    promtool(&["check", "rules", "charts/transship/files/alerts.yaml"]).await.expect_success("promtool check");
    promtool(&["test", "rules", "tests/monitoring/alerts.test.yaml"]).await.expect_success("promtool test");
    let tests = std::fs::read_to_string(repository().join("tests/monitoring/alerts.test.yaml")).unwrap();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(tests.contains(&format!("  - name: {name}\n")), "no test fires {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_of_alerts_notices_one_that_does_not_fire() {
    let folder = new_folder("alerts");
    let rules = std::fs::read_to_string(repository().join("charts/transship/files/alerts.yaml")).unwrap();
    let tests = std::fs::read_to_string(repository().join("tests/monitoring/alerts.test.yaml")).unwrap();
    for alert in alerts() {
        let expression = format!("expr: {}\n", alert["expr"].as_str().unwrap());
        assert!(rules.contains(&expression), "{expression}");
        std::fs::write(folder.join("alerts.yaml"), rules.replace(&expression, "expr: vector(1) < 0\n")).unwrap();
        let tests = tests.replace("../../charts/transship/files/", "");
        std::fs::write(folder.join("test.yaml"), tests).unwrap();
        let answer = promtool(&["test", "rules", &folder.join("test.yaml").display().to_string()]).await;
        assert!(!answer.success, "{alert}: {}", answer.stdout);
    }
}

#[test]
fn each_alert_has_a_severity_and_a_section_that_says_what_to_do() {
    let page = std::fs::read_to_string(repository().join("docs/how-to/monitor.md")).unwrap();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        let link = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert!(link.ends_with(&format!("/docs/how-to/monitor.md#{}", name.to_lowercase())), "{link}");
        assert!(page.contains(&format!("\n### {name}\n")), "{name} has no section");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_has_the_schema_of_grafana() {
    let dashboard = repository().join("charts/transship/files/dashboard.json");
    let mut check = Command::new(go_tool("dashboard"));
    check.arg(&dashboard);
    run(check).await.expect_success("the schema of Grafana");
    let wrong = new_folder("dashboard").join("dashboard.json");
    let text = std::fs::read_to_string(&dashboard).unwrap();
    std::fs::write(&wrong, text.replacen("\"gridPos\"", "\"position\"", 1)).unwrap();
    let mut check = Command::new(go_tool("dashboard"));
    check.arg(&wrong);
    let answer = run(check).await;
    assert!(!answer.success && answer.stderr.contains("position"), "{}{}", answer.stdout, answer.stderr);
}
