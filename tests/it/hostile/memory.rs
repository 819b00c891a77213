//! Manifests as large as registries take, and many of them, in the memory of the program.

use super::{document, manifest};
use crate::standalone::text;
use crate::support::image::{Image, OCI_MANIFEST};
use crate::support::memory::run_measured;
use crate::tag_filters::{files, registry};

const MIB: usize = 1024 * 1024;

/// Returns an index of this many images, whose manifests have this many bytes each, nearly all of them an annotation.
fn heavy_index(seed: usize, images: usize, bytes: usize) -> Image {
    let config = Image::single(1, 1, 100);
    let heavy = (0..images).map(|number| {
        let padding = format!("{seed}-{number}-{}", "x".repeat(bytes));
        let text = manifest(&config, &format!(r#","layers":[],"annotations":{{"padding":"{padding}"}}"#));
        Image { blobs: vec![config.blobs[0].clone()], ..document(OCI_MANIFEST, text) }
    });
    Image::index(heavy.collect())
}

/// Syncs such indexes, one a tag. Answers the exit code, what was said, how many tags came, and the peak of memory in
/// MiB.
async fn synced(name: &str, tags: usize, images: usize, bytes: usize) -> (Option<i32>, String, usize, usize) {
    let (source, destination) = (registry(), registry());
    for seed in 0..tags {
        source.push("app", &format!("t{seed}"), &heavy_index(seed, images, bytes));
    }
    let (output, peak) = run_measured(files(name, &source, &[&destination]).command("sync", &[])).await;
    let peak = usize::try_from(peak).unwrap() / 1024;
    println!("{tags} tags of {images} manifests of {bytes} bytes: {peak} MiB");
    (output.status.code(), text(&output), destination.tags("app").len(), peak)
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_beyond_what_an_image_may_have_are_refused_in_bounded_memory() {
    let (_, _, came, usual) = synced("light", 1, 1, 100).await;
    assert_eq!(came, 1);
    let (code, printed, came, peak) = synced("too-heavy", 1, 100, 4 * MIB - 1_000).await;
    assert_eq!((code, came), (Some(1), 0), "{printed}");
    assert!(printed.contains("the manifests of the image have more than 67108864 bytes"), "{printed}");
    assert!(peak < usual + 160, "{peak} MiB after {usual} MiB, of 400 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_images_of_large_manifests_take_no_more_memory() {
    let (code, printed, came, few) = synced("heavy", 8, 12, MIB).await;
    assert_eq!((code, came), (Some(0), 8), "{printed}");
    let (code, printed, came, many) = synced("heavier", 24, 12, MIB).await;
    assert_eq!((code, came), (Some(0), 24), "{printed}");
    assert!(many < few + 120, "{many} MiB of 288 after {few} MiB of 96");
}
