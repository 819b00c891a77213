//! The scripted registry is a registry: the conformance suite of the OCI distribution specification says so.

use std::process::Command;

use crate::support::run_folder::new_folder;
use crate::support::scripted::{Bearer, Login, PASSWORD, Personality, ScriptedRegistry, USER};
use crate::support::tools::{go_tool, run};

#[tokio::test]
async fn the_plain_personality_passes_the_conformance_suite() {
    // The version, what it does not ask for by itself, the login, and which parts may be skipped: with tokens, the
    // suite asks for none that allows it to mount.
    let bearer = Login::Bearer(Bearer::plain());
    let table = [
        ("1.1", "", Login::Anonymous, &["/post cancel/"][..]),
        ("dev", "OCI_DATA_SPARSE", Login::Anonymous, &[]),
        ("1.1", "", bearer, &["/post cancel/", "/mount/"]),
    ];
    for (version, more, login, may_be_skipped) in table {
        // Sparse images name layers that are not there.
        let wants_blobs = more.is_empty();
        let registry = ScriptedRegistry::start(Personality { login, wants_blobs, ..Personality::plain() });
        let results = new_folder("conformance");
        let mut command = Command::new(go_tool("conformance"));
        command.current_dir(&results).env("OCI_RESULTS_DIR", &results).env("OCI_VERSION", version);
        command.env("OCI_REGISTRY", registry.host()).env("OCI_TLS", "disabled");
        command.env("OCI_USERNAME", USER).env("OCI_PASSWORD", PASSWORD);
        if !more.is_empty() {
            command.env(more, "true");
        }
        let output = run(command).await;
        let report = format!("{version} {login:?}\n{}\n{}", output.stdout, output.stderr);
        assert!(output.success && report.contains("OCI Conformance Result: Pass"), "{report}");
        let ends = |line: &&str| ["Fail", "FAIL", "Error", "Skip", "Disabled"].iter().any(|end| line.ends_with(end));
        let left_out = output.stdout.lines().filter(|line| line.contains("OCI Conformance Test/")).filter(ends);
        let unwanted: Vec<_> = left_out.filter(|line| !may_be_skipped.iter().any(|part| line.contains(part))).collect();
        assert!(unwanted.is_empty(), "{unwanted:#?}\n{report}");
        let passed = output.stdout.lines().filter(|line| line.ends_with(": Pass")).count();
        assert!(passed > 500, "{passed} points passed");
    }
}
