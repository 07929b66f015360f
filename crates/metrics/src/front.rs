//! `--web.config.file`: TLS, users with passwords, headers and a rate limit for whoever asks, as Prometheus and its exporters
//! read them.
//!
//! ```text
//! connection ─ tls: certificate (read again when it has changed), client's certificate ─ request ─ rate ─ user ─▶ API
//!                                                                                          └ headers of each answer
//! ```
//!
//! The file is read again when it has changed: users and headers hold from the next request on. Whether there is TLS,
//! and which rate, is as it was at the start.
//!
//! - [`settings`]: what can be configured
//! - [`tls`]: what a connection presents, and whose certificates are taken
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/https/>.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use rustls::ServerConfig;
use serve::Body;
use sha2::{Digest, Sha256};

use crate::web::plain;

pub mod settings;

pub mod tls;

use settings::Settings;

/// Passwords that are remembered.
const REMEMBERED: usize = 100;
/// Stands for the password of users who are not there, so that they take as long as others.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
/// Bytes of an `Authorization` header that is looked at.
const LONGEST: usize = 4096;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By what a file's change is seen.
fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// How often requests are let in.
#[derive(Debug)]
struct Rate {
    interval: Duration,
    burst: f64,
    /// How many may come at once, and when that was so.
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    fn allow(&self, now: Instant) -> bool {
        let mut left = lock(&self.left);
        let more = now.saturating_duration_since(left.1).as_secs_f64() / self.interval.as_secs_f64();
        *left = ((left.0 + more).min(self.burst), now);
        let allowed = left.0 >= 1.0;
        if allowed {
            left.0 -= 1.0;
        }
        allowed
    }
}

/// What is known of the file, and when that was so.
type Known = (Option<(SystemTime, u64)>, Result<Arc<Settings>, String>);

/// Stands before the API as the file says.
#[derive(Debug)]
pub struct Front {
    file: PathBuf,
    last: Mutex<Known>,
    /// By a hash of user, stored hash and password: whether it is right.
    passwords: Mutex<HashMap<[u8; 32], bool>>,
    /// One password at a time is compared: that takes a processor a while.
    turn: tokio::sync::Mutex<()>,
    rate: Option<Rate>,
    tls: Option<Arc<ServerConfig>>,
}

impl Front {
    /// Reads the file; an error says what is wrong with it.
    pub fn load(file: &Path) -> Result<Self, String> {
        let settings = Arc::new(Settings::load(file)?);
        let tls = tls::config(&settings)?;
        let limit = &settings.rate_limit;
        let rate = (!limit.interval.0.is_zero()).then(|| Rate {
            interval: limit.interval.0,
            burst: limit.burst as f64,
            left: Mutex::new((limit.burst as f64, Instant::now())),
        });
        Ok(Self {
            file: file.to_owned(),
            last: Mutex::new((stamp(file), Ok(settings))),
            passwords: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            rate,
            tls,
        })
    }

    /// TLS, where it is configured.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Whether users must say who they are.
    pub fn has_users(&self) -> bool {
        self.settings().is_ok_and(|settings| !settings.users.is_empty())
    }

    fn settings(&self) -> Result<Arc<Settings>, String> {
        let now = stamp(&self.file);
        let mut last = lock(&self.last);
        if last.0 != now {
            *last = (now, Settings::load(&self.file).map(Arc::new));
        }
        last.1.clone()
    }

    /// Whether a request may come in, and the headers of its answer; else what is answered.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<HeaderMap, Response<Body>> {
        let refused =
            |status: StatusCode| plain(status, format!("{}\n", status.canonical_reason().unwrap_or_default()));
        let settings = self.settings().map_err(|error| {
            tracing::error!("{}: {error}", self.file.display());
            refused(StatusCode::INTERNAL_SERVER_ERROR)
        })?;
        if self.rate.as_ref().is_some_and(|rate| !rate.allow(Instant::now())) {
            return Err(refused(StatusCode::TOO_MANY_REQUESTS));
        }
        let mut added = HeaderMap::new();
        for (name, value) in &settings.http_server_config.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                added.insert(name, value);
            }
        }
        if settings.users.is_empty() || self.is_user(&settings, headers).await {
            return Ok(added);
        }
        let mut response = refused(StatusCode::UNAUTHORIZED);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        response.headers_mut().extend(added);
        Err(response)
    }

    async fn is_user(&self, settings: &Settings, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let found = settings.users.get(&user);
        let hash = found.map_or(NOBODY, |hash| &hash.0).to_owned();
        let mut key = Sha256::new();
        for part in [user.as_bytes(), hash.as_bytes(), password.as_bytes()] {
            key.update((part.len() as u64).to_le_bytes());
            key.update(part);
        }
        let key: [u8; 32] = key.finalize().into();
        if let Some(right) = lock(&self.passwords).get(&key) {
            return *right;
        }
        let _turn = self.turn.lock().await;
        let compared = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let right = found.is_some() && compared.await.unwrap_or(false);
        let mut passwords = lock(&self.passwords);
        if passwords.len() >= REMEMBERED {
            passwords.clear();
        }
        passwords.insert(key, right);
        right
    }
}

/// User and password of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok().filter(|value| value.len() <= LONGEST)?;
    let (kind, rest) = value.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests;
