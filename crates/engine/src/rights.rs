//! What a ServiceAccount may have of registries: a token of its own for the cluster's registry, its pull secrets for others.
//!
//! ```text
//! registry of the cluster ─ TokenRequest, kept until most of its life has passed ─► the registry asks RBAC
//! others ─ imagePullSecrets of the account ─► the registry's own judgement
//! ```
//!
//! Nothing is decided here: whoever acts in the name of an account shows what the account has, and the machine's own credentials are
//! never shown. <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use build::client::{Agent, Client, Ssh};
use futures::future::BoxFuture;
use image::pull::{Credentials, Keyring};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Secret, ServiceAccount},
};
use kube::{Api, api::PostParams};
use oci::Reference;
use tokio::sync::Mutex;

/// How long a token is good for, in seconds; it is replaced after four fifths.
const LIFETIME: i64 = 3600;
/// How long pull secrets are believed to be what they were.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What the user is called whose password is a token.
const USER: &str = "token";

/// The account that something is done for.
pub struct Rights {
    /// The API server.
    pub client: kube::Client,
    /// The cluster's own registry, as images name it.
    pub registry: String,
    /// The host of the cluster's own git server; empty where there is none.
    pub git: String,
    /// Of the account.
    pub namespace: String,
    /// The account.
    pub account: String,
    /// The pod that acts, by name and UID: its end is the token's end. None for what is no pod's.
    pub pod: Option<(String, String)>,
    /// Further pull secrets, beside those of the account.
    pub secrets: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    token: Option<(String, Instant)>,
    keyring: Option<(Arc<Keyring>, Instant)>,
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rights({}/{})", self.namespace, self.account)
    }
}

impl Rights {
    /// The rights of an account; nothing is asked for yet.
    pub fn new(client: kube::Client, registry: &str, namespace: &str, account: &str) -> Self {
        Self {
            client,
            registry: registry.to_owned(),
            git: String::new(),
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            pod: None,
            secrets: Vec::new(),
            known: Mutex::default(),
        }
    }

    /// What a registry is shown.
    pub async fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        if registry == self.registry {
            let password = self.token().await?;
            return Ok(Some(Credentials::Password { username: USER.to_owned(), password }));
        }
        let Ok(any) = Reference::parse(&format!("{registry}/any/image")) else { return Ok(None) };
        Ok(self.keyring().await?.lookup(&any).into_iter().next())
    }

    async fn token(&self) -> Result<String> {
        let mut known = self.known.lock().await;
        if let Some((token, until)) = &known.token
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let bound = self.pod.as_ref().map(|(name, uid)| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.clone()),
            uid: Some(uid.clone()),
        });
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LIFETIME),
                bound_object_ref: bound,
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let answer = accounts.create_token_request(&self.account, &PostParams::default(), &request).await;
        let answer =
            answer.with_context(|| format!("ask for a token of ServiceAccount {}/{}", self.namespace, self.account))?;
        let token = answer.status.and_then(|status| status.token).context("the API server has made no token")?;
        let life = Duration::from_secs(LIFETIME.unsigned_abs() * 4 / 5);
        known.token = Some((token.clone(), Instant::now() + life));
        Ok(token)
    }

    async fn keyring(&self) -> Result<Arc<Keyring>> {
        let mut known = self.known.lock().await;
        if let Some((keyring, at)) = &known.keyring
            && at.elapsed() < REMEMBERED
        {
            return Ok(keyring.clone());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        // A pod's own list has those of its account already, by admission.
        let account = match self.pod {
            Some(_) => None,
            None => accounts
                .get_opt(&self.account)
                .await
                .with_context(|| format!("read ServiceAccount {}/{}", self.namespace, self.account))?,
        };
        let of_account = account.and_then(|account| account.image_pull_secrets).unwrap_or_default();
        let names = of_account.into_iter().map(|reference| reference.name).chain(self.secrets.iter().cloned());
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut keyring = Keyring::default();
        for name in names.filter(|name| !name.is_empty()) {
            let secret = secrets.get_opt(&name).await.with_context(|| format!("read pull secret {name}"))?;
            // As with pods, one that is not there is no error: the registry may need none.
            let Some(data) = secret.and_then(|secret| secret.data) else { continue };
            let document = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"));
            let document = document.with_context(|| format!("secret {name} holds no registry credentials"))?;
            keyring.extend(Keyring::parse(&document.0).with_context(|| format!("pull secret {name}"))?);
        }
        let keyring = Arc::new(keyring);
        known.keyring = Some((keyring.clone(), Instant::now()));
        Ok(keyring)
    }
}

/// A client whose credentials are an account's: for the cluster's registry those alone, for others where it has none of its own.
pub struct InTheNameOf {
    /// The account.
    pub rights: Arc<Rights>,
    /// Who else is asked.
    pub client: Arc<dyn Client>,
}

impl Client for InTheNameOf {
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.client.secret(id)
    }

    fn token<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            match !host.is_empty() && host == self.rights.git {
                true => Ok(Some(self.rights.token().await?)),
                false => Ok(None),
            }
        })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.client.has_agent(id)
    }

    fn agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Agent>>> {
        self.client.agent(id)
    }

    fn ssh<'a>(&'a self) -> BoxFuture<'a, Result<Ssh>> {
        self.client.ssh()
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>> {
        Box::pin(async move {
            if registry != self.rights.registry
                && let Some(own) = self.client.credentials(registry).await?
            {
                return Ok(Some(own));
            }
            self.rights.credentials(registry).await
        })
    }
}
