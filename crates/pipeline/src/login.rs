//! How repositories elsewhere are asked: with which credentials, over HTTPS or SSH.
//!
//! Credentials are Secrets that are labelled as such. User name and password, or a token, go with HTTPS; a private key goes with SSH,
//! in the fields of Jenkins' `basicSSHUserPrivateKey` (`username`, `privateKey`, `passphrase`) or of Kubernetes' `kubernetes.io/ssh-auth`
//! (`ssh-privatekey`).
//!
//! Of Jenkins' four ways to look at a host's key two are here: keys that are given, in the field `known_hosts` of the same Secret, as
//! Flux and Tekton have it, and the machine's file of them. Believing the first that answers, and everybody, are not.
//!
//! Specification: <https://plugins.jenkins.io/git-client/#plugin-content-ssh-host-key-verification>,
//! <https://kubernetes.io/docs/concepts/configuration/secret/#ssh-authentication-secrets>.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use git::{
    remote::{Exchange, Ways},
    ssh::{Access, Dial, Patience, Stream, address::Address, hosts::Known, keys::Key},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::{kind::CREDENTIALS, web};

/// How a repository elsewhere is asked.
#[derive(Clone)]
pub(crate) struct Login {
    /// What is shown over HTTPS.
    pub authorization: Option<String>,
    /// How servers are reached.
    pub ways: Ways,
}

/// What credentials hold.
#[derive(Debug, Default)]
struct Held {
    authorization: Option<String>,
    user: Option<String>,
    /// A key and its passphrase.
    key: Option<(String, Option<String>)>,
    hosts: Option<String>,
}

/// How the repository at `url` is asked with the credentials of a namespace.
///
/// # Errors
/// There are no such credentials, or they are not for that address.
pub(crate) async fn of(client: &Client, namespace: &str, url: &str, credentials: Option<&str>) -> Result<Login> {
    let id = credentials.filter(|id| !id.is_empty());
    let held = match id {
        None => Held::default(),
        Some(id) => {
            let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let secret = api.get_opt(id).await?.with_context(|| format!("there are no credentials {id}"))?;
            held(&secret).with_context(|| format!("the credentials {id}"))?
        }
    };
    let over_ssh = Address::parse(url)?.is_some();
    if let Some(id) = id {
        match over_ssh {
            true if held.key.is_none() => bail!("the credentials {id} have no private key, which {url} is asked with"),
            false if held.authorization.is_none() => {
                bail!("the credentials {id} are no user name with a password, and no token, which {url} is asked with")
            }
            _ => {}
        }
    }
    let keys = match held.key {
        None => Vec::new(),
        Some((text, passphrase)) => {
            let key = Key::read(text, passphrase).await;
            vec![key.with_context(|| format!("the credentials {}", id.unwrap_or_default()))?]
        }
    };
    let place = match id {
        Some(id) => format!("the field known_hosts of the Secret {namespace}/{id}"),
        None => "the field known_hosts of a Secret that credentialsId names".to_owned(),
    };
    let access = Access {
        dial: dial(),
        user: held.user,
        keys,
        agent: None,
        hosts: Known::given_or_machines(held.hosts.as_deref(), &place).await,
        keyless: "name credentials with a private key in credentialsId".to_owned(),
        patience: Patience::default(),
    };
    let exchange: Exchange = Arc::new(|request| Box::pin(web::exchange(request)));
    Ok(Login { authorization: held.authorization, ways: Ways { web: exchange, ssh: Some(Arc::new(access)) } })
}

/// Connections to others, as requests make them.
fn dial() -> Dial {
    Arc::new(|host, port| Box::pin(async move { Ok(Box::new(web::connect(&host, port).await?) as Stream) }))
}

/// What a Secret holds.
fn held(secret: &Secret) -> Result<Held> {
    if !secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CREDENTIALS)) {
        bail!("the Secret is not labelled {CREDENTIALS}");
    }
    let field = |name: &str| {
        let bytes = secret.data.as_ref()?.get(name)?;
        String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.trim().is_empty())
    };
    let user = field("username").map(|user| user.trim().to_owned());
    let password = field("password").or_else(|| field("text"));
    let key = field("privateKey").or_else(|| field("ssh-privatekey"));
    if password.is_none() && key.is_none() {
        bail!("they are no user name with a password, no token and no private key");
    }
    let authorization = password.map(|password| {
        let text = format!("{}:{}", user.as_deref().unwrap_or("git"), password.trim_end_matches(['\n', '\r']));
        format!("Basic {}", STANDARD.encode(text))
    });
    Ok(Held { authorization, user, key: key.map(|key| (key, field("passphrase"))), hosts: field("known_hosts") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn secret(fields: &[(&str, &str)]) -> Secret {
        let labels = Some(BTreeMap::from([(CREDENTIALS.to_owned(), "x".to_owned())]));
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        Secret {
            metadata: ObjectMeta { labels, ..ObjectMeta::default() },
            data: Some(fields.iter().map(|(name, text)| ((*name).to_owned(), bytes(text))).collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn credentials_hold_a_password_a_token_or_a_key() {
        let basic = |text: &str| Some(format!("Basic {}", STANDARD.encode(text)));
        let user = held(&secret(&[("username", "me"), ("password", "pass\n")])).unwrap();
        assert_eq!((user.authorization, user.key), (basic("me:pass"), None));
        assert_eq!(held(&secret(&[("text", "token")])).unwrap().authorization, basic("git:token"));
        let jenkins = [("username", "git"), ("privateKey", "KEY"), ("passphrase", "open"), ("known_hosts", "h k")];
        let jenkins = held(&secret(&jenkins)).unwrap();
        assert_eq!(jenkins.key, Some(("KEY".to_owned(), Some("open".to_owned()))));
        let rest = (jenkins.user.as_deref(), jenkins.hosts.as_deref(), jenkins.authorization);
        assert_eq!(rest, (Some("git"), Some("h k"), None));
        let kubernetes = held(&secret(&[("ssh-privatekey", "KEY"), ("passphrase", "")])).unwrap();
        assert_eq!(kubernetes.key, Some(("KEY".to_owned(), None)));
        assert!(held(&secret(&[("username", "me")])).is_err());
        let unlabelled = Secret { metadata: ObjectMeta::default(), ..secret(&[("text", "token")]) };
        assert!(held(&unlabelled).unwrap_err().to_string().contains(CREDENTIALS));
    }
}
