//! pending
use crate::{auth::User, config::Config, server::Server};
use serde_json::{Value, json};
use std::sync::Arc;
/// x
#[derive(Debug)]
pub struct Tokens;
impl Tokens {
    /// x
    pub fn open(_config: &Config) -> anyhow::Result<Self> {
        Ok(Self)
    }
    /// x
    pub async fn user(&self, _server: &Server, _token: &str) -> Option<Arc<User>> {
        None
    }
    /// x
    pub fn configuration(&self, _config: &Config) -> Value {
        json!({})
    }
    /// x
    pub fn key_set(&self) -> Value {
        json!({})
    }
}
/// x
pub fn bearer(_headers: &http::HeaderMap) -> Option<&str> {
    None
}
