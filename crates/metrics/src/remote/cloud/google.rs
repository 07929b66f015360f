//! Tokens of Google: for the key of a service account, or of the machine.
//!
//! See <https://developers.google.com/identity/protocols/oauth2/service-account> and
//! <https://cloud.google.com/docs/authentication/application-default-credentials>.

use std::collections::BTreeMap;

use super::{Machine, Source};
use crate::{
    config::{remote::GoogleIam, units::Secret},
    http_client::{
        settings::{JWT_BEARER, OAuth2},
        token::Tokens,
    },
};

/// What is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/monitoring.write";
/// Where a machine has its tokens from.
const MACHINE: &str = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// Bytes of a file at most.
const LARGEST: u64 = 1 << 20;

/// A file with the key of an account.
#[derive(serde::Deserialize)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    token_uri: String,
}

/// Where tokens come from: the file that is configured or that the environment names, else the machine.
pub fn source(config: &GoogleIam) -> Result<Source, String> {
    let named = std::env::var("GOOGLE_APPLICATION_CREDENTIALS").ok().filter(|file| !file.is_empty());
    match Some(config.credentials_file.clone()).filter(|file| !file.is_empty()).or(named) {
        Some(file) => {
            let wrong = |error: &dyn std::fmt::Display| format!("credentials file {file}: {error}");
            if std::fs::metadata(&file).map_err(|error| wrong(&error))?.len() > LARGEST {
                return Err(wrong(&"too large"));
            }
            let bytes = std::fs::read(&file).map_err(|error| wrong(&error))?;
            granted(&bytes).map_err(|error| wrong(&error))
        }
        None => Machine::new(MACHINE, ("metadata-flavor", "Google")).map(Source::Machine),
    }
}

fn granted(bytes: &[u8]) -> Result<Source, String> {
    let account: Account = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if account.kind != "service_account" {
        return Err(format!("credentials of type {:?} are not there: take those of a service_account", account.kind));
    }
    if account.client_email.is_empty() || account.private_key.is_empty() {
        return Err("client_email or private_key is missing".to_owned());
    }
    let token_url = match account.token_uri.as_str() {
        "" => "https://oauth2.googleapis.com/token".to_owned(),
        given => given.to_owned(),
    };
    let settings = OAuth2 {
        client_id: account.client_email,
        client_certificate_key_id: account.private_key_id,
        client_certificate_key: Secret(account.private_key),
        grant_type: JWT_BEARER.to_owned(),
        signature_algorithm: "RS256".to_owned(),
        claims: BTreeMap::from([("scope".to_owned(), SCOPE.to_owned())]),
        token_url,
        ..OAuth2::default()
    };
    Tokens::new(&settings).map(Box::new).map(Source::Granted)
}
