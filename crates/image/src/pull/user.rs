//! Credentials that a user has in docker's or podman's files, or that a helper program of docker keeps.
//!
//! ```text
//! $DOCKER_CONFIG/config.json, else ~/.docker/config.json      auths, credHelpers, credsStore
//! $REGISTRY_AUTH_FILE, else $XDG_RUNTIME_DIR/containers/auth.json, without it /run/containers/UID/auth.json,
//!                      then $XDG_CONFIG_HOME/containers/auth.json, without it ~/.config/containers/auth.json
//! ```
//!
//! <https://docs.docker.com/reference/cli/docker/login/#credential-stores>,
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>. Helper programs are the user's own, and are run
//! as the user: nothing on the server's side calls this.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use oci::Reference;
use serde::Deserialize;

use super::{Credentials, Keyring};

/// Largest file, and largest answer of a helper.
const LARGEST: u64 = 1 << 20;
/// Registries of a file that helpers are asked about.
const REGISTRIES: usize = 100;
/// What Docker Hub is called in these files.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Helpers {
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

impl Helpers {
    /// The helper for a registry.
    fn of(&self, registry: &str) -> Option<&str> {
        let own = self.cred_helpers.get(registry).or_else(|| match registry {
            "docker.io" => self.cred_helpers.get("index.docker.io").or_else(|| self.cred_helpers.get(HUB)),
            _ => None,
        });
        own.map(String::as_str).or(Some(self.creds_store.as_str())).filter(|name| !name.is_empty())
    }
}

/// A file's text; none where it is not there.
fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        Ok(_) => Ok(Some(text)),
    }
}

/// All that the user has, by registry, for work whose images are not known beforehand; what could not be read is told beside it.
pub fn all(variable: impl Fn(&str) -> Option<String>) -> (BTreeMap<String, Credentials>, Vec<anyhow::Error>) {
    let (mut known, mut failed) = (BTreeMap::new(), Vec::new());
    for path in files(&variable) {
        let of_file = read(&path).and_then(|text| {
            let Some(text) = text else { return Ok(None) };
            let named = || format!("read {}", path.display());
            let helpers: Helpers = serde_json::from_slice(&text).with_context(named)?;
            Ok(Some((helpers, Keyring::parse(&text).with_context(named)?)))
        });
        let (helpers, keyring) = match of_file {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        let mut asked: Vec<(&str, String)> =
            helpers.cred_helpers.iter().map(|(registry, helper)| (helper.as_str(), familiar(registry))).collect();
        if !helpers.creds_store.is_empty() {
            match list(&helpers.creds_store) {
                Ok(registries) => {
                    let registries = registries.iter().map(|registry| familiar(registry));
                    asked.extend(registries.map(|registry| (helpers.creds_store.as_str(), registry)));
                }
                Err(error) => failed.push(error),
            }
        }
        for (helper, registry) in asked.into_iter().take(REGISTRIES) {
            match ask(helper, &registry) {
                Ok(Some(credentials)) => drop(known.entry(registry).or_insert(credentials)),
                Ok(None) => {}
                Err(error) => failed.push(error),
            }
        }
        for (registry, credentials) in keyring.registries() {
            known.entry(registry).or_insert_with(|| credentials.clone());
        }
    }
    (known, failed)
}

/// A registry as images name it, from what files and helpers call it.
fn familiar(server: &str) -> String {
    let host = server.split_once("://").map_or(server, |(_, host)| host);
    let host = host.split('/').next().unwrap_or(host);
    if host == "index.docker.io" { "docker.io".to_owned() } else { host.to_owned() }
}

/// Credentials for an image's registry; none where the user has none.
pub fn credentials(
    reference: &Reference,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Credentials>> {
    for path in files(&variable) {
        let Some(text) = read(&path)? else { continue };
        let named = || format!("read {}", path.display());
        let helpers: Helpers = serde_json::from_slice(&text).with_context(named)?;
        if let Some(helper) = helpers.of(reference.domain())
            && let Some(known) = ask(helper, reference.domain())?
        {
            return Ok(Some(known));
        }
        let keyring = Keyring::parse(&text).with_context(named)?;
        if let Some(known) = keyring.lookup(reference).into_iter().next() {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

/// Where they may be, in the order to look.
fn files(variable: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
    let mut all: Vec<PathBuf> = docker.map(|directory| directory.join("config.json")).into_iter().collect();
    if let Some(file) = set("REGISTRY_AUTH_FILE") {
        all.push(file);
        return all;
    }
    let runtime = set("XDG_RUNTIME_DIR").map(|directory| directory.join("containers"));
    let runtime =
        runtime.unwrap_or_else(|| PathBuf::from(format!("/run/containers/{}", rustix::process::getuid().as_raw())));
    let configuration = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    all.push(runtime.join("auth.json"));
    all.extend(configuration.map(|directory| directory.join("containers/auth.json")));
    all
}

/// Asks a helper program: <https://github.com/docker/docker-credential-helpers#development>.
fn ask(helper: &str, registry: &str) -> anyhow::Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let server = if registry == "docker.io" { HUB } else { registry };
    let Some(text) = run(helper, "get", server)? else { return Ok(None) };
    let program = program(helper);
    let Answer { username, secret } =
        serde_json::from_slice(&text).with_context(|| format!("read what {program} says"))?;
    Ok(match (username.as_str(), secret.is_empty()) {
        (_, true) => None,
        ("<token>" | "", false) => Some(Credentials::Identity(secret)),
        (_, false) => Some(Credentials::Password { username, password: secret }),
    })
}

/// Servers that a helper knows.
fn list(helper: &str) -> anyhow::Result<Vec<String>> {
    let Some(text) = run(helper, "list", "")? else { return Ok(Vec::new()) };
    let known: BTreeMap<String, String> =
        serde_json::from_slice(&text).with_context(|| format!("read what {} says", program(helper)))?;
    Ok(known.into_keys().collect())
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// What a helper answers; none where it fails, which is also how it says that it knows nothing.
fn run(helper: &str, action: &str, input: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let program = program(helper);
    if helper.contains('/') {
        bail!("{program} is no name of a program");
    }
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // One that lists reads nothing.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(error).with_context(|| format!("ask {program}"));
            }
            _ => {}
        }
    }
    let mut text = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(LARGEST).read_to_end(&mut text).with_context(|| format!("ask {program}"))?;
    }
    let good = child.wait().with_context(|| format!("wait for {program}"))?.success();
    Ok(good.then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_docker_come_before_those_of_podman() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let variable = |name: &str| match name {
            "DOCKER_CONFIG" => Some(at("docker").display().to_string()),
            "REGISTRY_AUTH_FILE" => Some(at("podman.json").display().to_string()),
            _ => None,
        };
        let reference = Reference::parse("r.io/a").unwrap();
        assert_eq!(credentials(&reference, variable).unwrap(), None);
        let password = |name: &str| Some(Credentials::Password { username: name.into(), password: "p".into() });
        std::fs::write(at("podman.json"), r#"{"auths":{"r.io":{"username":"podman","password":"p"}}}"#).unwrap();
        assert_eq!(credentials(&reference, variable).unwrap(), password("podman"));
        std::fs::create_dir(at("docker")).unwrap();
        std::fs::write(at("docker/config.json"), r#"{"auths":{"r.io":{"username":"docker","password":"p"}}}"#).unwrap();
        assert_eq!(credentials(&reference, variable).unwrap(), password("docker"));
        std::fs::write(at("docker/config.json"), r#"{"credHelpers":{"r.io":"no/such"}}"#).unwrap();
        assert!(credentials(&reference, variable).is_err());
        std::fs::write(at("docker/config.json"), "{").unwrap();
        assert!(credentials(&reference, variable).is_err());
    }

    #[test]
    fn all_that_is_known_is_told_and_what_cannot_be_read_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let variable = |name: &str| match name {
            "DOCKER_CONFIG" => Some(directory.path().display().to_string()),
            "REGISTRY_AUTH_FILE" => Some(at("podman.json").display().to_string()),
            _ => None,
        };
        std::fs::write(
            at("config.json"),
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"r.io":{"auth":"dTpw"}},
                "credHelpers":{"x.io":"no/such"}}"#,
        )
        .unwrap();
        std::fs::write(at("podman.json"), r#"{"auths":{"r.io":{"auth":"eDp5"},"p.io:5000":{"auth":"dTpw"}}}"#).unwrap();
        let (known, failed) = all(variable);
        let password = Credentials::Password { username: "u".into(), password: "p".into() };
        let expected = ["docker.io", "p.io:5000", "r.io"].map(|registry| (registry.to_owned(), password.clone()));
        assert_eq!(known, expected.into());
        assert_eq!(failed.len(), 1, "{failed:?}");
        std::fs::write(at("config.json"), "{").unwrap();
        let (known, failed) = all(variable);
        assert_eq!((known.len(), failed.len()), (2, 1));
    }

    #[test]
    fn podmans_files_are_where_podman_and_login_write_them() {
        let listed = |set: &[(&str, &str)]| -> Vec<String> {
            let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            files(&variable).iter().map(|path| path.display().to_string()).collect()
        };
        let uid = rustix::process::getuid().as_raw();
        let home = listed(&[("HOME", "/h")]);
        let expected =
            ["/h/.docker/config.json", &format!("/run/containers/{uid}/auth.json"), "/h/.config/containers/auth.json"];
        assert_eq!(home, expected);
        let named = listed(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/f"), ("XDG_RUNTIME_DIR", "/r")]);
        assert_eq!(named, ["/h/.docker/config.json", "/f"]);
        assert_eq!(
            listed(&[("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c")]),
            ["/r/containers/auth.json", "/c/containers/auth.json"]
        );
    }

    #[test]
    fn the_helper_of_a_registry_comes_before_the_one_for_all() {
        let helpers: Helpers = serde_json::from_str(
            r#"{"credHelpers":{"r.io":"own","https://index.docker.io/v1/":"hub"},"credsStore":"all"}"#,
        )
        .unwrap();
        assert_eq!(
            (helpers.of("r.io"), helpers.of("docker.io"), helpers.of("x.io")),
            (Some("own"), Some("hub"), Some("all"))
        );
        assert_eq!(Helpers::default().of("x.io"), None);
    }
}
