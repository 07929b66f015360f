//! Who a sender of samples is, where a cloud wants to know in a way of its own: `sigv4`, `azuread` and `google_iam`.
//!
//! ```text
//! sigv4       keys ─ of the configuration, the environment, a profile, a token of the workload; a role assumed with them
//!                └─▶ each request is signed
//! azuread     identity of the machine, of the workload, or a secret ─▶ token ─▶ Authorization: Bearer
//! google_iam  key of an account, or identity of the machine ─────────▶ token ─▶ Authorization: Bearer
//! ```
//!
//! Keys and tokens are kept until shortly before they end. Files are read again each time.
//!
//! - [`aws`]: keys, and signatures with them
//! - [`azure`], [`google`]: tokens

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body_util::BodyExt;

use crate::{
    config::remote::RemoteWrite,
    http_client::{HttpClient, client::Client, token::Tokens},
};

pub mod aws;

pub mod azure;

pub mod google;

/// Bytes of an answer at most.
const ANSWER: usize = 1 << 20;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long before its end something is not used any more.
const MARGIN: Duration = Duration::from_mins(2);

/// How a request shows who sends it.
#[derive(Debug)]
pub enum Identity {
    /// As its client does.
    Plain,
    /// By a signature.
    Signed(aws::Signer),
    /// By a token.
    Token(Source),
}

/// Where a token comes from.
#[derive(Debug)]
pub enum Source {
    /// Somebody who grants it for a secret or a signature.
    Granted(Box<Tokens>),
    /// Azure, for a token of the workload.
    Workload(azure::Workload),
    /// The machine that this runs on.
    Machine(Machine),
}

/// A token and its end.
type Kept = tokio::sync::Mutex<Option<(String, Instant)>>;

/// Asks the machine's own server for tokens.
#[derive(Debug)]
pub struct Machine {
    client: Client,
    uri: Uri,
    header: (&'static str, &'static str),
    last: Kept,
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    /// A number, or one in a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Granted {
    fn read(bytes: &[u8]) -> Result<(String, Instant), String> {
        let granted: Self = serde_json::from_slice(bytes).map_err(|error| format!("cannot parse token: {error}"))?;
        if granted.access_token.is_empty() {
            return Err("answer without access_token".to_owned());
        }
        let text = granted.expires_in.as_str().and_then(|text| text.parse().ok());
        let seconds = granted.expires_in.as_f64().or(text).filter(|seconds| (0.0..1e9).contains(seconds));
        let seconds = seconds.ok_or("answer without a time in expires_in")?;
        Ok((granted.access_token, Instant::now() + Duration::from_secs_f64(seconds).saturating_sub(MARGIN)))
    }
}

impl Machine {
    fn new(url: &str, header: (&'static str, &'static str)) -> Result<Self, String> {
        let uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        Ok(Self { client: plain()?, uri, header, last: Kept::default() })
    }

    async fn token(&self) -> Result<String, String> {
        kept(&self.last, async {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(self.header.0),
                HeaderValue::from_static(self.header.1),
            )]);
            Granted::read(&exchange(&self.client, Method::GET, self.uri.clone(), headers, Bytes::new()).await?)
        })
        .await
    }
}

/// What is kept, while it lasts; else it is fetched.
async fn kept(last: &Kept, fetch: impl Future<Output = Result<(String, Instant), String>>) -> Result<String, String> {
    let mut last = last.lock().await;
    if let Some((token, end)) = &*last
        && Instant::now() < *end
    {
        return Ok(token.clone());
    }
    let (token, end) = fetch.await?;
    *last = Some((token.clone(), end));
    Ok(token)
}

/// A client that shows nothing of itself.
fn plain() -> Result<Client, String> {
    Client::new(&HttpClient::default())
}

/// The answer to a request; an error says what was answered instead.
async fn exchange(client: &Client, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Result<Bytes, String> {
    let asked = uri.clone();
    let answered = async {
        let answer = client.send(method, uri, headers, body).await.map_err(|failure| failure.to_string())?;
        let status = answer.status();
        let bytes = http_body_util::Limited::new(answer.into_body(), ANSWER).collect().await;
        let bytes = bytes.map_err(|error| format!("{asked}: {error}"))?.to_bytes();
        if status.is_success() {
            return Ok(bytes);
        }
        let words: String = String::from_utf8_lossy(&bytes).chars().take(500).collect();
        Err(format!("{asked}: {status}: {words}"))
    };
    tokio::time::timeout(TIMEOUT, answered).await.unwrap_or_else(|_| Err(format!("{asked} does not answer")))
}

impl Identity {
    /// As a destination is configured; an error says what of it is not there.
    pub fn new(config: &RemoteWrite) -> Result<Self, String> {
        if let Some(sigv4) = &config.sigv4 {
            return aws::Signer::new(sigv4).map(Self::Signed).map_err(|error| format!("sigv4: {error}"));
        }
        if let Some(azure) = &config.azuread {
            return azure::source(azure).map(Self::Token).map_err(|error| format!("azuread: {error}"));
        }
        if let Some(google) = &config.google_iam {
            return google::source(google).map(Self::Token).map_err(|error| format!("google_iam: {error}"));
        }
        Ok(Self::Plain)
    }

    /// Adds what shows who sends a request.
    pub async fn dress(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body: &[u8]) -> Result<(), String> {
        let header = match self {
            Self::Plain => return Ok(()),
            Self::Signed(signer) => return signer.sign(method, uri, headers, body).await,
            Self::Token(Source::Granted(tokens)) => tokens.header().await?,
            Self::Token(Source::Workload(workload)) => format!("Bearer {}", workload.token().await?),
            Self::Token(Source::Machine(machine)) => format!("Bearer {}", machine.token().await?),
        };
        let mut value = HeaderValue::try_from(header).map_err(|_| "a token that no header can carry".to_owned())?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
        Ok(())
    }
}
