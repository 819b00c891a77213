//! The progress of a running image: at once in the metrics, now and then in the status.

use std::time::{Duration, Instant};

use transship::terms::ReplicationState;

use super::consent::SlowLayer;

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_running_image_are_in_metrics_at_once_in_the_status_soon() {
    let mut layer = SlowLayer::new("progress").await;
    layer.is_on_its_way().await;
    let (mut counted, mut published) = (Vec::<(Instant, u64)>::new(), Vec::<(Instant, u64)>::new());
    let note = |seen: &mut Vec<(Instant, u64)>, bytes| {
        if bytes > 0 && seen.last().is_none_or(|(_, last)| *last != bytes) {
            seen.push((Instant::now(), bytes));
        }
    };
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(90), "it is still not complete: {published:?}");
        note(&mut counted, layer.scene.operator.counter("transship_copied_bytes_total").await);
        let images = layer.scene.images().await;
        let image = images.get("eu-west-1/app:v1");
        match image.map(|image| image.status) {
            Some(ReplicationState::Complete) => break,
            Some(ReplicationState::InProgress) => {
                note(&mut published, image.and_then(|image| image.bytes).unwrap_or(0))
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed();
    println!("{took:?}: the metric changed {} times, the status {} times", counted.len(), published.len());
    assert!(counted.len() as u64 >= took.as_secs() / 3, "about once a second: {counted:?}");
    assert!(!published.is_empty() && published.len() as u64 <= 1 + took.as_secs() / 4, "once in 5 s: {published:?}");
    assert!(counted.is_sorted_by_key(|(_, bytes)| *bytes) && published.is_sorted_by_key(|(_, bytes)| *bytes));
}
