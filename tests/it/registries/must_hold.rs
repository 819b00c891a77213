//! Against every registry, with bad things in it: all that is good arrives, and all that is bad is named.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use transship::terms::ReplicationState;

use crate::standalone::{Files, text};
use crate::stories::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{PASSWORD, Personality, ScriptedFault, ScriptedRegistry, USER, When};

/// The ways in which a tag may be broken, and what names each.
fn broken_ways() -> [(ScriptedFault, &'static str); 6] {
    let answer = |media_type: &str, body: &'static str| ScriptedFault::Answer {
        status: 200,
        headers: vec![("content-type", media_type.to_owned())],
        body: body.into(),
    };
    let schema_1 = r#"{"schemaVersion":1,"name":"team/app","tag":"broken","fsLayers":[],"history":[]}"#;
    [
        (ScriptedFault::error(403, "DENIED"), "403"),
        (ScriptedFault::error(412, "PROJECTPOLICYVIOLATION"), "412"),
        (ScriptedFault::error(451, "DENIED"), "451"),
        (ScriptedFault::error(500, "UNKNOWN"), "500"),
        (answer("text/html", "<html><title>Please log in</title></html>"), "Please log in"),
        (answer("application/vnd.docker.distribution.manifest.v1+prettyjws", schema_1), "schema 1"),
    ]
}

/// A source with good and bad things in it.
struct Source {
    registry: ScriptedRegistry,
    /// True if the registry lists its repositories.
    has_catalog: bool,
    /// The words that name the broken tag.
    broken: &'static str,
}

impl Source {
    fn start(personality: Personality, (fault, broken): (ScriptedFault, &'static str)) -> Self {
        let has_catalog = personality.catalog == 200;
        let registry = ScriptedRegistry::start(personality);
        for (seed, tag) in [(1, "good-1"), (2, "good-2")] {
            registry.push("team/app", tag, &Image::single(seed, 1, 500));
        }
        let digest = registry.push("team/app", "broken", &Image::single(3, 1, 500));
        for reference in ["broken", &digest] {
            registry.fault(When::asked("", format!("/team/app/manifests/{reference}")).always(), fault.clone());
        }
        registry.tag("team/app", "dangling", &format!("sha256:{}", "0".repeat(64)));
        registry.create_repository("Team/App");
        registry.push("team/linked", "v1", &Image::single(4, 1, 500));
        let foreign =
            ScriptedFault::Headers(vec![("link", "<https://evil.example/v2/x/list>; rel=\"next\"".to_owned())]);
        registry.fault(When::asked("GET", "/team/linked/tags/list").always(), foreign);
        registry.push("team/other", "v1", &Image::single(5, 1, 500));
        Self { registry, has_catalog, broken }
    }

    fn files(&self, name: &str, destination: &ScriptedRegistry) -> Files {
        let mut files = Files::new(name);
        for (name, registry) in [("source", &self.registry), ("destination", destination)] {
            let spec = json!({"url": registry.url(), "allowHTTP": true, "credentials": {"secretRef": {"name": name}},
                "trustedHosts": [registry.other_host()]});
            files.login_at(&registry.host(), USER, PASSWORD);
            files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
        }
        files.configuration("all", "team/", &[json!({"name": "destination"})]);
        if !self.has_catalog {
            let exact = |name: &str| json!({"filter": name, "filterType": "EXACT_MATCH"});
            let rule = &mut files.documents.last_mut().unwrap()["spec"]["rules"][0];
            rule["repositoryFilters"] = json!([exact("team/app"), exact("team/linked"), exact("team/other")]);
        }
        files
    }

    /// Checks that a run names all that is bad, and ends with 1. Returns what it printed.
    fn names(&self, run: &str, output: &Output) -> Value {
        let shown = format!("{run}: {}", text(output));
        assert_eq!(output.status.code(), Some(1), "{shown}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {shown}"));
        let troubles = printed["troubles"].to_string();
        for words in ["team/linked", "Link: <https://evil.example/v2/x/list>", "external URL"] {
            assert!(troubles.contains(words), "{shown}");
        }
        let of = |tag: &str| printed["images"].as_array().unwrap().iter().find(|image| image["tag"] == tag);
        assert!(of("broken").is_some() && of("dangling").is_some(), "{shown}");
        assert_eq!(printed.to_string().contains("Team/App"), self.has_catalog, "{shown}");
        printed
    }

    /// Checks what a sync printed and did.
    fn check(&self, run: &str, synced: &Output, destination: &ScriptedRegistry) {
        let (printed, shown) = (self.names(run, synced), format!("{run}: {}", text(synced)));
        for tag in ["good-1", "good-2"] {
            let image = self.registry.tree("team/app", tag);
            assert_eq!(destination.tree("team/app", tag), image, "{shown}");
        }
        assert_eq!(destination.tags("team/app").len(), 2, "{shown}");
        assert_eq!(destination.tags("team/other"), self.registry.tags("team/other"), "{shown}");
        let images = printed["images"].as_array().unwrap();
        let failed = |tag: &str| {
            let image = images.iter().find(|image| image["tag"] == tag).unwrap_or_else(|| panic!("no {tag}: {shown}"));
            assert_eq!(image["status"], "FAILED", "{shown}");
            image["message"].as_str().unwrap().to_owned()
        };
        assert!(failed("broken").contains(self.broken), "{shown}");
        assert!(failed("dangling").contains("dangling"), "{shown}");
    }
}

async fn holds(name: &str, personality: Personality, broken: (ScriptedFault, &'static str)) {
    let run = format!("{name} {}", broken.1);
    let source = Source::start(personality, broken);
    let destination = ScriptedRegistry::start(Personality::plain());
    let files = source.files(name, &destination);
    let state = files.state();
    for again in ["first", "second"] {
        let other = source.registry.other_host();
        let arguments = ["--state", &state, "--output", "json", "--egress-allow", &other, "--retry-for", "0s"];
        let planned = files.run("plan", &arguments).await;
        source.names(&format!("{run}, {again} plan"), &planned);
        let synced = files.run("sync", &arguments).await;
        source.check(&format!("{run}, {again} sync"), &synced, &destination);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_good_things_of_every_registry_arrive_and_all_bad_ones_are_named() {
    for (at, personality) in Personality::products().into_iter().enumerate() {
        let way = broken_ways().into_iter().cycle().nth(at).expect("a cycle has no end");
        holds(&format!("must-hold-{}", personality.name), personality, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_broken_in_any_way_is_named_and_ends_no_other() {
    for (at, way) in broken_ways().into_iter().enumerate() {
        holds(&format!("must-hold-way-{at}"), Personality::plain(), way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_brings_what_is_good_and_names_what_is_bad() {
    let [denied, ..] = broken_ways();
    let source = Source::start(Personality::plain(), denied);
    let destination = ScriptedRegistry::start(Personality::plain());
    let mut scene = Scene::new("must-hold").await;
    scene.open_registry("source", &source.registry).await;
    scene.open_registry("destination", &destination).await;
    let filters = json!([{"filter": "team/", "filterType": "PREFIX_MATCH"}]);
    scene.configure("all", "source", &[to("destination")], Some(filters), "24h").await;
    scene.start_operator().await;
    let soon = Duration::from_secs(30);
    for image in ["team/app:good-1", "team/app:good-2", "team/other:v1"] {
        scene.image_becomes(&format!("destination/{image}"), ReplicationState::Complete, soon).await;
    }
    for (tag, words) in [("broken", source.broken), ("dangling", "dangling")] {
        let image = scene.image_becomes(&format!("destination/team/app:{tag}"), ReplicationState::Failed, soon).await;
        assert!(image.message.as_deref().unwrap_or_default().contains(words), "{image:?}");
    }
    eventually(soon, "the foreign link and the invalid name are named", async || {
        let configuration = scene.configurations().get("all").await.unwrap();
        let status = serde_json::to_string(&configuration.status).unwrap();
        let words = ["team/linked", "Link: <https://evil.example/v2/x/list>", "external URL", "Team/App"];
        if words.iter().all(|words| status.contains(words)) { Ok(()) } else { Err(status) }
    })
    .await;
}
