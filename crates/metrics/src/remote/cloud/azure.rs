//! Tokens of Microsoft's Entra: of the machine, of a workload, or for a secret.
//!
//! See <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};

use super::{Granted, Kept, Machine, Source, exchange, kept, plain};
use crate::{
    config::{remote::AzureAd, units::Secret},
    http_client::{
        client::Client,
        settings::OAuth2,
        tls::read_file,
        token::{Tokens, escape},
    },
};

/// Where a workload finds its token, if the environment does not say.
const TOKEN: &str = "/var/run/secrets/azure/tokens/azure-identity-token";
/// Where a machine has its tokens from.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// Where tokens are granted, and for what.
fn cloud(config: &AzureAd) -> Result<(&'static str, String), String> {
    let (host, resource) = match config.cloud.as_str() {
        "AzurePublic" => ("login.microsoftonline.com", "https://monitor.azure.com/"),
        "AzureGovernment" => ("login.microsoftonline.us", "https://monitor.azure.us/"),
        "AzureChina" => ("login.chinacloudapi.cn", "https://monitor.azure.cn/"),
        _ => return Err("must provide a cloud in the Azure AD config".to_owned()),
    };
    let scope = if config.scope.is_empty() { format!("{resource}/.default") } else { config.scope.clone() };
    Ok((host, scope))
}

/// Where tokens come from.
pub fn source(config: &AzureAd) -> Result<Source, String> {
    let (host, scope) = cloud(config)?;
    let url = |tenant: &str| format!("https://{host}/{}/oauth2/v2.0/token", escape(tenant));
    if let Some(machine) = &config.managed_identity {
        let resource = scope.strip_suffix("/.default").unwrap_or(&scope);
        let mut url = format!("{MACHINE}?api-version=2018-02-01&resource={}", escape(resource));
        if !machine.client_id.is_empty() {
            url.push_str(&format!("&client_id={}", escape(&machine.client_id)));
        }
        return Machine::new(&url, ("metadata", "true")).map(Source::Machine);
    }
    if let Some(workload) = &config.workload_identity {
        let given = [("client_id", &workload.client_id), ("tenant_id", &workload.tenant_id)];
        if let Some((name, _)) = given.iter().find(|given| given.1.is_empty()) {
            return Err(format!("must provide an Azure Workload Identity {name} in the Azure AD config"));
        }
        let file = match workload.token_file_path.as_str() {
            "" => std::env::var("AZURE_FEDERATED_TOKEN_FILE").unwrap_or_else(|_| TOKEN.to_owned()),
            given => given.to_owned(),
        };
        return Workload::new(&url(&workload.tenant_id), &workload.client_id, &scope, file).map(Source::Workload);
    }
    if let Some(oauth) = &config.oauth {
        let given = [
            ("client_id", &oauth.client_id),
            ("client_secret", &oauth.client_secret.0),
            ("tenant_id", &oauth.tenant_id),
        ];
        if let Some((name, _)) = given.iter().find(|given| given.1.is_empty()) {
            return Err(format!("must provide an Azure OAuth {name} in the Azure AD config"));
        }
        let settings = OAuth2 {
            client_id: oauth.client_id.clone(),
            client_secret: Secret(oauth.client_secret.0.clone()),
            scopes: vec![scope],
            token_url: url(&oauth.tenant_id),
            ..OAuth2::default()
        };
        return Tokens::new(&settings).map(Box::new).map(Source::Granted);
    }
    Err("certificate and sdk are not there: take oauth, workload_identity or managed_identity".to_owned())
}

/// A workload whose token Entra takes for its own.
#[derive(Debug)]
pub struct Workload {
    client: Client,
    uri: Uri,
    client_id: String,
    scope: String,
    file: String,
    last: Kept,
}

impl Workload {
    fn new(url: &str, client_id: &str, scope: &str, file: String) -> Result<Self, String> {
        let uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let (client_id, scope) = (client_id.to_owned(), scope.to_owned());
        Ok(Self { client: plain()?, uri, client_id, scope, file, last: Kept::default() })
    }

    /// A token.
    pub async fn token(&self) -> Result<String, String> {
        kept(&self.last, async {
            let own = read_file(&self.file).await?;
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", &self.client_id),
                ("scope", &self.scope),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", &own),
            ];
            let form: Vec<String> =
                form.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
            let body = Bytes::from(form.join("&"));
            Granted::read(&exchange(&self.client, Method::POST, self.uri.clone(), headers, body).await?)
        })
        .await
    }
}
