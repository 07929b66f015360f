//! The distribution specification's own suite, where `MADANG_SUITES` names it and Go is installed.

use std::{path::PathBuf, process::Command};

use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_of_the_specification_finds_nothing() {
    let Some(suites) = std::env::var_os("MADANG_SUITES").map(PathBuf::from) else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("conformance");
    let build = Command::new("go")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(suites.join("distribution/conformance"))
        .output();
    let Ok(build) = build else { return };
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    for beside_node in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let server = match beside_node {
            true => Server::beside_node(data.path()).await,
            false => Server::start(data.path()).await,
        };
        let mut command = Command::new(&program);
        command
            .current_dir(dir.path())
            .env("OCI_REGISTRY", server.address.to_string())
            .env("OCI_TLS", "disabled")
            .envs(
                [
                    "OCI_API_BLOBS_UPLOAD_CANCEL",
                    "OCI_API_BLOBS_DIGEST_HEADER",
                    "OCI_API_MANIFESTS_DIGEST_HEADER",
                    "OCI_API_MANIFESTS_TAG_PARAM",
                ]
                .map(|name| (name, "true")),
            );
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let count = |word: &str| -> Option<u32> {
            let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{word}....")))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        assert_eq!((count("FAIL"), count("Error")), (Some(0), Some(0)), "{text}");
        assert!(count("Pass") > Some(900), "{text}");
        server.stop().await;
    }
}
