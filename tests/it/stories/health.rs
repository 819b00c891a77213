//! `/healthz` of an operator whose watches stand still.

use std::time::Duration;

use super::scene::Scene;
use crate::support::eventually::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_watches_stand_still_for_a_minute_is_not_healthy() {
    let mut scene = Scene::new("health").await;
    scene.operator.will_be_cut_off();
    scene.start_operator().await;
    assert_eq!(scene.operator.ask("/healthz").await, (200, "ok\n".to_owned()));
    // Idle watches beat: none of them stands still without a fault.
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!(scene.operator.ask("/healthz").await, (200, "ok\n".to_owned()));

    scene.operator.cut_off().await;
    let answer = eventually(Duration::from_secs(120), "a watch stands still", async || {
        let (status, text) = scene.operator.ask("/healthz").await;
        if status == 503 { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(answer.starts_with("standing still: ") && answer.contains("watch of "), "{answer}");
    assert!(!answer.contains("runtime"), "{answer}");

    scene.operator.reconnect().await;
    eventually(Duration::from_secs(120), "the watches go on", async || {
        let (status, text) = scene.operator.ask("/healthz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
}
