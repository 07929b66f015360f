//! Tokens of the registry itself: what was granted, to whom, until when, under a seal that only this process knows.
//!
//! After a restart clients are told to fetch new ones, which they do by themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{hmac, rand::SystemRandom};
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::answer::Refusal;

pub(super) struct Tokens(hmac::Key);

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// Empty for nobody in particular.
    pub user: String,
    pub scopes: Vec<Scope>,
    /// Seconds since 1970.
    expires: u64,
}

impl Tokens {
    pub fn new() -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self(key.map_err(|_| anyhow::anyhow!("the system gives no random key for tokens"))?))
    }

    pub fn grant(&self, user: String, scopes: Vec<Scope>, lifetime: Duration) -> Result<String, Refusal> {
        let claims = Claims { user, scopes, expires: now() + lifetime.as_secs() };
        let text = serde_json::to_vec(&claims).map_err(|error| Refusal::internal("write a token", &error))?;
        let seal = hmac::sign(&self.0, &text);
        Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(seal.as_ref())))
    }

    /// What a token grants; nothing if it is none of ours, or too old.
    pub fn read(&self, token: &str) -> Option<Claims> {
        let (text, seal) = token.split_once('.')?;
        let (text, seal) = (URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(seal).ok()?);
        hmac::verify(&self.0, &text, &seal).ok()?;
        let claims: Claims = serde_json::from_slice(&text).ok()?;
        (claims.expires > now()).then_some(claims)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
