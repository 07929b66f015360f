//! Tokens of OAuth 2, kept until shortly before they expire.
//!
//! See <https://www.rfc-editor.org/rfc/rfc6749#section-4.4> and <https://www.rfc-editor.org/rfc/rfc7523#section-2.1>.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use ring::{rand::SystemRandom, signature};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

use super::{
    client::Wire,
    connect::Connect,
    settings::{JWT_BEARER, OAuth2},
    tls::{Trust, read_file},
};

/// Bytes of an answer at most.
const ANSWER: usize = 1 << 20;
/// How long a token may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(10);

/// Fetches tokens.
#[derive(Debug)]
pub struct Tokens {
    settings: OAuth2,
    wire: Wire,
    /// The secret that the token was got with, the token, and its end.
    last: tokio::sync::Mutex<Option<(String, String, Option<Instant>)>>,
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<serde_json::Number>,
}

impl Tokens {
    /// Nothing is asked before a token is needed.
    pub fn new(settings: &OAuth2) -> Result<Self, String> {
        let trust = Trust::new(settings.tls_config.clone(), false);
        let wire = Wire::new(Connect::new(&settings.proxy, trust, None)?);
        Ok(Self { settings: settings.clone(), wire, last: tokio::sync::Mutex::default() })
    }

    /// The `Authorization` header.
    pub async fn header(&self) -> Result<String, String> {
        let settings = &self.settings;
        let signed = settings.grant_type == JWT_BEARER;
        let (text, file) = if signed {
            (&settings.client_certificate_key, &settings.client_certificate_key_file)
        } else {
            (&settings.client_secret, &settings.client_secret_file)
        };
        let secret = if file.is_empty() {
            text.0.clone()
        } else {
            read_file(file).await.map_err(|error| format!("unable to read oauth2 client secret: {error}"))?
        };
        let mut last = self.last.lock().await;
        if let Some((with, header, end)) = &*last
            && *with == secret
            && end.is_none_or(|end| Instant::now() < end)
        {
            return Ok(header.clone());
        }
        let fetched = tokio::time::timeout(TIMEOUT, self.fetch(&secret, signed)).await;
        let granted = fetched.map_err(|_| format!("oauth2: {} does not answer", settings.token_url))??;
        let seconds = granted.expires_in.as_ref().and_then(serde_json::Number::as_f64).filter(|s| *s > 0.0 && *s < 1e9);
        let end = seconds.map(|s| Instant::now() + Duration::from_secs_f64(s).saturating_sub(MARGIN));
        let kind = match granted.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer".to_owned(),
            "mac" => "MAC".to_owned(),
            "basic" => "Basic".to_owned(),
            _ => granted.token_type,
        };
        let header = format!("{kind} {}", granted.access_token);
        *last = Some((secret, header.clone(), end));
        Ok(header)
    }

    async fn fetch(&self, secret: &str, signed: bool) -> Result<Granted, String> {
        let settings = &self.settings;
        let mut form: Vec<(&str, String)> = Vec::new();
        if signed {
            form.push(("grant_type", JWT_BEARER.to_owned()));
            form.push(("assertion", self.assertion(secret)?));
        } else {
            form.push(("grant_type", "client_credentials".to_owned()));
        }
        if !settings.scopes.is_empty() {
            form.push(("scope", settings.scopes.join(" ")));
        }
        form.extend(settings.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.clone())));
        if signed {
            return self.ask(&form, None).await;
        }
        let pair = format!("{}:{}", escape(&settings.client_id), escape(secret));
        match self.ask(&form, Some(format!("Basic {}", STANDARD.encode(pair)))).await {
            Ok(granted) => Ok(granted),
            // Some want both in the body.
            Err(first) => {
                form.push(("client_id", settings.client_id.clone()));
                form.push(("client_secret", secret.to_owned()));
                self.ask(&form, None).await.map_err(|_| first)
            }
        }
    }

    async fn ask(&self, form: &[(&str, String)], authorization: Option<String>) -> Result<Granted, String> {
        let url = &self.settings.token_url;
        let fail = |reason: String| format!("oauth2: cannot fetch token: {reason}");
        let uri = url.parse().map_err(|error| fail(format!("{url}: {error}")))?;
        let body: Vec<String> =
            form.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            let value = HeaderValue::try_from(authorization).map_err(|error| fail(error.to_string()))?;
            headers.insert(header::AUTHORIZATION, value);
        }
        let answer = self.wire.send(Method::POST, uri, headers, Bytes::from(body.join("&"))).await.map_err(fail)?;
        let status = answer.status();
        let bytes = http_body_util::Limited::new(answer.into_body(), ANSWER)
            .collect()
            .await
            .map_err(|error| fail(error.to_string()))?
            .to_bytes();
        if !status.is_success() {
            return Err(fail(format!("{status}\nResponse: {}", String::from_utf8_lossy(&bytes))));
        }
        let granted: Granted =
            serde_json::from_slice(&bytes).map_err(|error| fail(format!("cannot parse json: {error}")))?;
        if granted.access_token.is_empty() {
            return Err(fail("server response missing access_token".to_owned()));
        }
        Ok(granted)
    }

    /// A token of our own, signed with our key.
    fn assertion(&self, key: &str) -> Result<String, String> {
        let settings = &self.settings;
        let fail = |reason: String| format!("oauth2: client_certificate_key: {reason}");
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| fail(error.to_string()))?;
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => signature::RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(fail("not an RSA key".to_owned())),
        };
        let pair = pair.map_err(|error| fail(error.to_string()))?;
        let (name, algorithm): (&str, &'static dyn signature::RsaEncoding) = match settings.signature_algorithm.as_str()
        {
            "RS384" => ("RS384", &signature::RSA_PKCS1_SHA384),
            "RS512" => ("RS512", &signature::RSA_PKCS1_SHA512),
            _ => ("RS256", &signature::RSA_PKCS1_SHA256),
        };
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut head = serde_json::json!({ "alg": name, "typ": "JWT" });
        if !settings.client_certificate_key_id.is_empty() {
            head["kid"] = settings.client_certificate_key_id.clone().into();
        }
        let mut claims = serde_json::json!({
            "iss": or(&settings.iss, &settings.client_id),
            "sub": settings.client_id,
            "aud": or(&settings.audience, &settings.token_url),
            "iat": now,
            "exp": now + 3600,
            "jti": format!("{:032x}", u128::from_ne_bytes(random()?)),
        });
        for (name, value) in &settings.claims {
            claims[name] = value.clone().into();
        }
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut mark = vec![0; pair.public().modulus_len()];
        pair.sign(algorithm, &SystemRandom::new(), signed.as_bytes(), &mut mark)
            .map_err(|error| fail(error.to_string()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mark)))
    }
}

fn random() -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes)
        .map_err(|error| format!("random numbers: {error}"))?;
    Ok(bytes)
}

/// As forms write it: blanks are `+`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
