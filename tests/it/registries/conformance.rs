//! The scripted registry is a registry: the conformance suite of the OCI distribution specification says so.

use std::process::Command;

use crate::support::run_folder::new_folder;
use crate::support::scripted::{Bearer, Login, PASSWORD, Personality, ScriptedRegistry, USER};
use crate::support::tools::{go_tool, run};

#[tokio::test]
async fn the_plain_personality_passes_the_conformance_suite() {
    for (version, login) in [("1.1", Login::Nobody), ("dev", Login::Nobody), ("1.1", Login::Bearer(Bearer::plain()))] {
        let registry = ScriptedRegistry::start(Personality { login, ..Personality::plain() });
        let results = new_folder("conformance");
        let mut command = Command::new(go_tool("conformance"));
        command.current_dir(&results).env("OCI_RESULTS_DIR", &results).env("OCI_VERSION", version);
        command.env("OCI_REGISTRY", registry.host()).env("OCI_TLS", "disabled");
        command.env("OCI_USERNAME", USER).env("OCI_PASSWORD", PASSWORD);
        let output = run(command).await;
        let report = format!("{version} {login:?}\n{}\n{}", output.stdout, output.stderr);
        assert!(output.success, "{report}");
        println!("{report}");
    }
}
