//! `serve` is stopped in the middle of a copy, and another process takes its place meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use transship::terms::ReplicationState;

use super::{SOON, Serve, compare_every, images};
use crate::standalone::text;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::Signal;
use crate::support::scripted::{ScriptedFault, When};
use crate::tag_filters::{files, registry};

/// Longer than a consent lasts, and than a process waits before it takes a stopped one's place.
const STOPPED: Duration = Duration::from_secs(8);

/// The side at which the copy waits when it is stopped.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// The source sends the layer late.
    Layer,
    /// The destination answers late that it has the layer.
    Upload,
}

/// Stops a copy of A, has another process write B, and lets the first one go on.
async fn never_writes_a_over_b(slow: Slow) {
    let (source, destination) = (registry(), Arc::new(registry()));
    let (a, b) = (Image::single(1, 1, 100_000), Image::single(2, 1, 100_000));
    let stale = source.push("app", "latest", &a);
    let mut files = files(&format!("stopped-{slow:?}"), &source, &[&destination]);
    compare_every(&mut files, "24h");
    let layer = a.blobs.last().unwrap().digest.clone();
    let (registry, when) = match slow {
        Slow::Layer => (&source, When::asked("GET", format!("/blobs/{layer}"))),
        Slow::Upload => (&*destination, When::asked("PUT", layer.clone().replace(':', "%3A"))),
    };
    registry.fault(when, ScriptedFault::Delay(Duration::from_secs(2)));
    let serve = Serve::start(&files).await;
    eventually(SOON, "the copy waits", async || {
        let log = registry.log();
        log.iter()
            .any(|seen| seen.path.replace("%3A", ":").contains(&layer) && seen.method != "HEAD" && seen.status == 0)
    })
    .await;
    serve.process.signal(Signal::STOP);
    let stopped = Instant::now();
    assert!(destination.tags("app").is_empty(), "{slow:?}: stopped too late");

    let moved = source.push("app", "latest", &b);
    let elsewhere = files.folder.join("other-state").display().to_string();
    let synced = files.run("sync", &["--state", &elsewhere]).await;
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));
    assert_eq!(destination.tags("app")["latest"], moved);
    let writes = destination.count("PUT", "/manifests/latest");
    tokio::time::sleep(STOPPED.saturating_sub(stopped.elapsed())).await;

    let looked = destination.clone();
    let expected = moved.clone();
    let watch = tokio::spawn(async move {
        let (began, mut looks) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(4) {
            assert_eq!(looked.tags("app")["latest"], expected, "{slow:?}: after {:?}", began.elapsed());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        looks
    });
    serve.process.signal(Signal::CONT);
    let complete = eventually(SOON, "the status has B", async || {
        let image = images(&files).await.remove("app: d0/app:latest");
        match image {
            Some(image) if image.status == ReplicationState::Complete => Ok(image),
            other => Err(format!("{other:?}: {}", serve.log())),
        }
    })
    .await;
    println!("{slow:?}: COMPLETE with B; {} looks saw nothing else", watch.await.unwrap());
    assert_eq!(complete.digest, moved, "not {stale}");
    assert_eq!(destination.count("PUT", "/manifests/latest"), writes, "B is there already, and A is void");
    assert_eq!(destination.tree("app", "latest"), b.tree_digests());
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serve_that_was_stopped_in_a_copy_writes_nothing_stale() {
    tokio::join!(never_writes_a_over_b(Slow::Layer), never_writes_a_over_b(Slow::Upload));
}
