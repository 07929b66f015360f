//! `madang login`: a token for the cluster's registry, in the files where docker, podman, buildah and skopeo look.
//!
//! ```text
//! administrator's certificate ─► TokenRequest for madang-system/registry-login ─► auths of
//!     ~/.docker/config.json                                  docker
//!     $XDG_RUNTIME_DIR/containers/auth.json                  podman, buildah, skopeo; /run/containers/UID without
//! ```
//!
//! Whoever may read the administrator's key may do this, and gets a token that pushes to and pulls from every repository.
//! Formats: <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use client::connection::Credentials;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{
    app::{LOGIN, NAMESPACE},
    config::{Config, Place, REGISTRY},
    pki,
};

/// How long an account that is not there is waited for.
const ACCOUNT: Duration = Duration::from_secs(20);
/// Largest credential file that is read, in bytes.
const FILE: u64 = 16 << 20;

/// Log docker and podman in to the cluster's registry.
#[derive(Args, Debug)]
pub struct Login {
    #[command(flatten)]
    place: Place,
    /// Print the token alone and write nothing; the user's name is anything
    #[arg(long)]
    print: bool,
    /// How long the login is good for, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 720, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
    /// Credential file to write instead of docker's and podman's (repeatable)
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

impl Login {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let Some(config) = Config::of_instance(&self.place.data_dir)? else {
            bail!("no server has run with --data-dir {}", self.place.data_dir.display());
        };
        if !config.with("registry") {
            bail!("the server runs without its registry");
        }
        let token = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(token(
            &config,
            (NAMESPACE, LOGIN),
            i64::from(self.hours) * 3600,
        ))?;
        if self.print {
            println!("{token}");
            return Ok(());
        }
        let port = config.port("registry");
        let names = [
            format!("127.0.0.1:{port}"),
            format!("localhost:{port}"),
            format!("{}:{port}", config.node_ip),
            REGISTRY.to_owned(),
        ];
        let files = if self.file.is_empty() { usual_files()? } else { self.file };
        for file in &files {
            let old = read(file)?;
            let text = serde_json::to_vec_pretty(&with_logins(old, &names, &token)?)?;
            if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            }
            pki::write(file, &text, None, 0o600)?;
            println!("login for {} written to {}", names[0], file.display());
        }
        Ok(())
    }
}

/// A token of an account, which is a namespace and a name, good for so many seconds.
pub async fn token(config: &Config, (namespace, account): (&str, &str), seconds: i64) -> Result<String> {
    let files = pki::Files::of(config);
    let credentials = Credentials::Certificate { chain: files.read("admin.crt")?, key: files.read("admin.key")? };
    let client = client::connection::https(&config.api_url(), &files.read("ca.crt")?, &credentials)?;
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let began = Instant::now();
    let answer = loop {
        match accounts.create_token_request(account, &PostParams::default(), &request).await {
            // A server that has just started makes its accounts.
            Err(kube::Error::Api(status)) if status.code == 404 && began.elapsed() < ACCOUNT => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(kube::Error::Api(status)) => bail!("a token of account {namespace}/{account}: {}", status.message),
            answer => {
                break answer
                    .with_context(|| format!("ask {} for a token: is the server running?", config.api_url()))?;
            }
        }
    };
    answer.status.and_then(|status| status.token).context("the API server gave no token")
}

/// Docker's file and podman's.
fn usual_files() -> Result<Vec<PathBuf>> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME").context("there is no HOME: name a file with --file")?;
    let docker = variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
    let podman = variable("REGISTRY_AUTH_FILE").unwrap_or_else(|| {
        let run = variable("XDG_RUNTIME_DIR");
        let user = rustix::process::geteuid().as_raw();
        run.unwrap_or_else(|| PathBuf::from(format!("/run/containers/{user}"))).join(
            match variable("XDG_RUNTIME_DIR") {
                Some(_) => "containers/auth.json",
                None => "auth.json",
            },
        )
    });
    Ok(vec![docker, podman])
}

fn read(file: &Path) -> Result<Value> {
    let named = || format!("read {}", file.display());
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(json!({})),
        Err(error) => return Err(error).with_context(named),
        Ok(metadata) if metadata.len() > FILE => bail!("{} is too large", file.display()),
        Ok(_) => {}
    }
    let text = std::fs::read(file).with_context(named)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    serde_json::from_slice(&text).with_context(named)
}

/// The document with logins for `names`; everything else stays.
fn with_logins(mut document: Value, names: &[String], token: &str) -> Result<Value> {
    let Some(fields) = document.as_object_mut() else { bail!("the credential file is no JSON object") };
    let auths = fields.entry("auths").or_insert_with(|| json!({}));
    let Some(auths) = auths.as_object_mut() else { bail!("auths of the credential file is no JSON object") };
    for name in names {
        auths.insert(name.clone(), json!({"auth": STANDARD.encode(format!("madang:{token}"))}));
    }
    // A helper or store for all registries would be asked instead.
    if let Some(helpers) = fields.get_mut("credHelpers").and_then(Value::as_object_mut) {
        for name in names {
            helpers.remove(name);
        }
    }
    if fields.get("credsStore").is_some_and(|store| store.as_str().is_some_and(|store| !store.is_empty())) {
        let helpers = fields.entry("credHelpers").or_insert_with(|| json!({}));
        if let Some(helpers) = helpers.as_object_mut() {
            for name in names {
                helpers.insert(name.clone(), json!(""));
            }
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_logins_and_settings_stay() {
        let old = json!({"auths": {"quay.io": {"auth": "x"}, "a": {"auth": "old"}}, "detachKeys": "ctrl-x"});
        let new = with_logins(old, &["a".to_owned(), "b".to_owned()], "t").unwrap();
        let auth = json!({"auth": STANDARD.encode("madang:t")});
        assert_eq!(new["auths"], json!({"quay.io": {"auth": "x"}, "a": auth, "b": auth}));
        assert_eq!(new["detachKeys"], "ctrl-x");
        assert!(with_logins(json!([]), &[], "t").is_err() && with_logins(json!({"auths": 1}), &[], "t").is_err());
        let stored = with_logins(json!({"credsStore": "desktop"}), &["a".to_owned()], "t").unwrap();
        assert_eq!(stored["credHelpers"], json!({"a": ""}));
    }
}
