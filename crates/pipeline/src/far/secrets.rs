//! Credentials: Secrets of the run's namespace that are labelled as such, as variables and files of steps.
//!
//! Types and keys are those of Jenkins' provider: <https://jenkinsci.github.io/kubernetes-credentials-provider-plugin/examples/>.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Map, Value as Json, json};

use super::{Failure, Far, at, failed, text};
use crate::{drive::Drive, hand::named, kind::CREDENTIALS, pod::WORKSPACE, run::world::Ask};

/// What variables come to.
#[derive(Default)]
struct Bound {
    variables: Map<String, Json>,
    secrets: Vec<String>,
    /// Paths with contents.
    files: Vec<(String, Vec<u8>)>,
}

/// `withCredentials`, `environment { NAME = credentials('id') }`
pub(super) async fn credentials(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let mut bound = Bound::default();
    let place = format!("{WORKSPACE}@tmp/secrets/{}", named(&ask.key));
    match ask.arguments.get("bindings") {
        Some(bindings) => {
            let bindings = bindings.as_array().cloned().unwrap_or_else(|| vec![bindings.clone()]);
            for binding in &bindings {
                let id = binding.get("credentialsId").and_then(Json::as_str).unwrap_or_default();
                let (kind, data) = secret(drive, id).await?;
                bind(binding, &kind, &data, &place, &mut bound)?;
            }
        }
        None => {
            let (id, variable) = (text(ask, "id"), text(ask, "variable"));
            let (kind, data) = secret(drive, id).await?;
            whole(variable, id, &kind, &data, &place, &mut bound)?;
        }
    }
    for (path, content) in &bound.files {
        drive.inner.hand.call(&at(drive, ask)?, &["write", path], Some(content)).await?;
    }
    // Known before anything can print them.
    bound.secrets.iter().for_each(|secret| drive.book.secret(secret));
    Ok(json!({"variables": bound.variables, "secrets": bound.secrets}))
}

/// The user's name and the password of credentials.
pub(super) async fn password(drive: &Drive, id: &str) -> Result<(String, String), Failure> {
    let (kind, data) = secret(drive, id).await?;
    match (field(&data, "username"), field(&data, "password").or_else(|| field(&data, "text"))) {
        (user, Some(password)) => Ok((user.unwrap_or_else(|| "token".to_owned()), password)),
        _ => Err(failed(format!("credentials '{id}' are of type {kind}, and no user name with a password"))),
    }
}

async fn secret(drive: &Drive, id: &str) -> Result<(String, BTreeMap<String, Vec<u8>>), Failure> {
    let missing = || failed(format!("Could not find credentials entry with ID '{id}'"));
    if id.is_empty() {
        return Err(failed("credentials need an id"));
    }
    let api: Api<Secret> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
    let found = api.get_opt(id).await?.ok_or_else(missing)?;
    let labels = found.metadata.labels.unwrap_or_default();
    // Others are not for pipelines, and look as if they were not there.
    let kind = labels.get(CREDENTIALS).ok_or_else(missing)?.clone();
    let data = found.data.unwrap_or_default().into_iter().map(|(name, value)| (name, value.0)).collect();
    Ok((kind, data))
}

fn field(data: &BTreeMap<String, Vec<u8>>, name: &str) -> Option<String> {
    data.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

impl Bound {
    fn set(&mut self, variable: &str, value: String, secret: bool) {
        if secret && !value.is_empty() {
            self.secrets.push(value.clone());
        }
        if !variable.is_empty() {
            self.variables.insert(variable.to_owned(), value.into());
        }
    }

    fn file(&mut self, variable: &str, place: &str, name: &str, content: Vec<u8>) {
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).collect();
        let path =
            format!("{place}/{}{}", self.files.len(), if name.is_empty() { String::new() } else { format!("-{name}") });
        self.variables.insert(variable.to_owned(), path.clone().into());
        self.files.push((path, content));
    }
}

/// A binding of `withCredentials`.
fn bind(
    binding: &Json,
    kind: &str,
    data: &BTreeMap<String, Vec<u8>>,
    place: &str,
    bound: &mut Bound,
) -> Result<(), Failure> {
    let name = |name: &str| binding.get(name).and_then(Json::as_str).unwrap_or_default();
    let id = name("credentialsId");
    let need = |field: Option<String>, what: &str| {
        field.ok_or_else(|| failed(format!("credentials '{id}' are of type {kind}, and have no {what}")))
    };
    let step =
        [name("$class"), name("kind"), name("symbol")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    match step {
        "usernamePassword" | "UsernamePasswordMultiBinding" => {
            bound.set(name("usernameVariable"), need(field(data, "username"), "user name")?, false);
            bound.set(name("passwordVariable"), need(field(data, "password"), "password")?, true);
        }
        "usernameColonPassword" | "UsernamePasswordBinding" => {
            let user = need(field(data, "username"), "user name")?;
            let password = need(field(data, "password"), "password")?;
            bound.set(name("variable"), format!("{user}:{password}"), true);
            bound.set("", password, true);
        }
        "sshUserPrivateKey" | "SSHUserPrivateKeyBinding" => {
            let key = need(field(data, "privateKey"), "private key")?;
            bound.set(name("usernameVariable"), field(data, "username").unwrap_or_default(), false);
            bound.set(name("passphraseVariable"), field(data, "passphrase").unwrap_or_default(), true);
            bound.set("", key.clone(), true);
            bound.file(name("keyFileVariable"), place, "key", key.into_bytes());
        }
        "file" | "FileBinding" => {
            let content = data.get("data").cloned();
            let content =
                content.ok_or_else(|| failed(format!("credentials '{id}' are of type {kind}, and have no file")))?;
            bound.file(name("variable"), place, &field(data, "filename").unwrap_or_default(), content);
        }
        "certificate" | "CertificateMultiBinding" => {
            let content = data.get("certificate").cloned();
            let content = content.ok_or_else(|| failed(format!("credentials '{id}' have no certificate")))?;
            bound.set(name("passwordVariable"), field(data, "password").unwrap_or_default(), true);
            bound.file(name("keystoreVariable"), place, "keystore", content);
        }
        "" | "string" | "StringBinding" => {
            bound.set(name("variable"), need(field(data, "text"), "text")?, true);
        }
        other => return Err(failed(format!("withCredentials: the binding {other} is not known"))),
    }
    Ok(())
}

/// `NAME = credentials('id')`: what it comes to is a matter of the credentials' type.
fn whole(
    variable: &str,
    id: &str,
    kind: &str,
    data: &BTreeMap<String, Vec<u8>>,
    place: &str,
    bound: &mut Bound,
) -> Result<(), Failure> {
    let binding = |symbol: &str, names: &[(&str, String)]| {
        let mut all: Map<String, Json> =
            names.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        all.insert("$class".into(), symbol.into());
        all.insert("credentialsId".into(), id.into());
        Json::Object(all)
    };
    let one = |symbol: &str| binding(symbol, &[("variable", variable.to_owned())]);
    let (user, password) = (format!("{variable}_USR"), format!("{variable}_PSW"));
    match kind {
        "secretText" => bind(&one("string"), kind, data, place, bound),
        "usernamePassword" => {
            bind(&one("usernameColonPassword"), kind, data, place, bound)?;
            let names = [("usernameVariable", user), ("passwordVariable", password)];
            bind(&binding("usernamePassword", &names), kind, data, place, bound)
        }
        "basicSSHUserPrivateKey" => {
            let names = [
                ("keyFileVariable", variable.to_owned()),
                ("usernameVariable", user),
                ("passphraseVariable", password),
            ];
            bind(&binding("sshUserPrivateKey", &names), kind, data, place, bound)
        }
        "secretFile" => bind(&one("file"), kind, data, place, bound),
        other => Err(failed(format!("credentials '{id}' are of type {other}, which no variable can hold"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(fields: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_user_and_a_password_are_three_variables() {
        let mut bound = Bound::default();
        let data = data(&[("username", "me"), ("password", "hunter2")]);
        whole("REG", "id", "usernamePassword", &data, "/t", &mut bound).unwrap();
        assert_eq!(Json::Object(bound.variables), json!({"REG": "me:hunter2", "REG_USR": "me", "REG_PSW": "hunter2"}));
        assert!(bound.secrets.contains(&"hunter2".to_owned()) && !bound.secrets.contains(&"me".to_owned()));
    }

    #[test]
    fn a_file_is_written_beside_the_workspace() {
        let mut bound = Bound::default();
        let data = data(&[("filename", "../../kube config"), ("data", "x")]);
        whole("KUBE", "id", "secretFile", &data, "/t", &mut bound).unwrap();
        assert_eq!(bound.variables["KUBE"], "/t/0-....kubeconfig");
        assert_eq!(bound.files, [("/t/0-....kubeconfig".to_owned(), b"x".to_vec())]);
    }

    #[test]
    fn bindings_take_what_they_say_and_refuse_what_is_not_there() {
        let text = data(&[("text", "s3cret")]);
        let mut bound = Bound::default();
        let binding = json!({"$class": "string", "credentialsId": "id", "variable": "TOKEN"});
        bind(&binding, "secretText", &text, "/t", &mut bound).unwrap();
        assert_eq!(bound.variables["TOKEN"], "s3cret");
        let binding = json!({"$class": "usernamePassword", "credentialsId": "id", "usernameVariable": "U", "passwordVariable": "P"});
        assert!(bind(&binding, "secretText", &text, "/t", &mut bound).is_err());
        assert!(bind(&json!({"$class": "zip"}), "secretText", &text, "/t", &mut bound).is_err());
    }
}
