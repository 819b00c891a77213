//! What is generated or shown is what the program does: `crds/`, and every YAML block of the README.

use crate::support::control_plane::ControlPlane;
use crate::support::run_folder::{new_folder, repository};

#[test]
fn the_definitions_in_crds_are_those_of_the_code() {
    for (file, yaml) in transship::api::custom_resource_definition_files() {
        let kept = std::fs::read_to_string(repository().join("crds").join(&file)).unwrap_or_default();
        assert_eq!(kept, yaml, "crds/{file} differs from src/api: run `make generate`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_yaml_block_of_the_readme_applies() {
    let plane = ControlPlane::shared().await;
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks: Vec<_> = readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    let folder = new_folder("readme");
    for (number, block) in blocks.iter().enumerate() {
        let file = folder.join(format!("{number}.yaml"));
        std::fs::write(&file, block).unwrap();
        plane.kubectl(&["apply", "-f", &file.display().to_string()]).await.expect_success("kubectl apply");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_applies() {
    let plane = ControlPlane::shared().await;
    let examples: Vec<_> =
        std::fs::read_dir(repository().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        let file = example.display().to_string();
        plane.kubectl(&["apply", "-f", &file]).await.expect_success(&file);
    }
}
