//! Requests and writes of an operator at a small size: `make scale` measures the same at full size, and times besides.

use crate::scale::{ConfigurationCourse, CourseFigure, ImageCourse, configurations, images};
use crate::support::turns::turn;

fn figure(figures: &[CourseFigure], name: &str) -> f64 {
    figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("a figure {name:?}")).value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_and_a_restart_take_few_requests_and_writes() {
    let _turn = turn().await;
    let course = ImageCourse { repositories: 1, tags: 600, destinations: 2 };
    let figures = images(course).await;
    let is = |name: &str| figure(&figures, name);
    // Of a pair: two calls for a new status, and writes of it while it fills, each with one of its record.
    assert!(is("backfill: API writes an image") <= 0.1, "{figures:#?}");
    assert!(is("backfill: requests to destinations an image") <= 9.5, "{figures:#?}");
    assert!(is("warm comparison: requests to destinations") <= 4.0, "{figures:#?}");
    assert!(is("warm comparison: requests to the source") <= 600.0 + 10.0, "{figures:#?}");
    assert_eq!(is("restart: statuses that changed"), 0.0, "{figures:#?}");
    assert!(is("restart: API writes") <= 3.0, "{figures:#?}");
    assert!(is("restart: requests to destinations") <= 4.0, "{figures:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_configurations_cost_no_writes_nor_do_restarts() {
    let _turn = turn().await;
    let figures = configurations(ConfigurationCourse { configurations: 40, registries: 4 }).await;
    let is = |name: &str| figure(&figures, name);
    // Five of its pair and its reports; on a slow machine reports in between, too.
    assert!(is("configurations: API writes of one") <= 8.0, "{figures:#?}");
    assert_eq!(is("idle: API writes"), 0.0, "{figures:#?}");
    assert_eq!(is("restart: statuses that changed"), 0.0, "{figures:#?}");
    assert!(is("restart: API writes") <= 5.0, "{figures:#?}");
}
