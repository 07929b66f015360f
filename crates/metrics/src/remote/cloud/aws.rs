//! Requests signed for Amazon: version 4 of its signatures, and the keys for them.
//!
//! ```text
//! method, path, query, headers, hash of the body ─ sha256 ─┐
//! key ─ date ─ region ─ service ─ "aws4_request" ──────────┴ hmac ─▶ Authorization: AWS4-HMAC-SHA256 ...
//! ```
//!
//! Keys are those of the configuration, of the environment, of a profile in the shared credentials file, or those that a token
//! of the workload is exchanged for; with them a role may be assumed. Keys of the machine that this runs on are not asked for.
//!
//! See <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest, Sha256};

use super::{MARGIN, exchange, plain};
use crate::{
    config::remote::SigV4,
    http_client::{client::Client, tls::read_file, token::escape},
};

/// How long keys last that have no end: they are looked for again then.
const STATIC: Duration = Duration::from_mins(5);

/// Keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// Whose.
    pub id: String,
    /// What signs.
    pub secret: String,
    /// What belongs to keys that end.
    pub token: String,
}

/// Signs requests.
#[derive(Debug)]
pub struct Signer {
    config: SigV4,
    region: String,
    service: String,
    client: Client,
    last: tokio::sync::Mutex<Option<(Keys, Instant)>>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Signer {
    /// As configured; an error says what is missing.
    pub fn new(config: &SigV4) -> Result<Self, String> {
        let given = Some(config.region.clone()).filter(|region| !region.is_empty());
        let region = given.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.ok_or("region not configured in sigv4 or in default credentials chain")?;
        let service = if config.service_name.is_empty() { "aps".to_owned() } else { config.service_name.clone() };
        Ok(Self { config: config.clone(), region, service, client: plain()?, last: tokio::sync::Mutex::default() })
    }

    /// Adds a signature to a request.
    pub async fn sign(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body: &[u8]) -> Result<(), String> {
        let keys = self.keys().await?;
        let now = Timestamp::now();
        let request = Request { method, uri, body, service: &self.service, region: &self.region };
        request.sign(&keys, now, headers)
    }

    async fn keys(&self) -> Result<Keys, String> {
        let mut last = self.last.lock().await;
        if let Some((keys, end)) = &*last
            && Instant::now() < *end
        {
            return Ok(keys.clone());
        }
        let (mut keys, mut end) = self.own().await?;
        if !self.config.role_arn.is_empty() {
            (keys, end) = self.assumed(&keys).await?;
        }
        *last = Some((keys.clone(), end));
        Ok(keys)
    }

    async fn own(&self) -> Result<(Keys, Instant), String> {
        let lasting = |keys| Ok((keys, Instant::now() + STATIC));
        let config = &self.config;
        if !config.access_key.is_empty() {
            let (id, secret) = (config.access_key.clone(), config.secret_key.0.clone());
            return lasting(Keys { id, secret, token: String::new() });
        }
        if config.profile.is_empty() {
            if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
                return lasting(Keys { id, secret, token: variable("AWS_SESSION_TOKEN").unwrap_or_default() });
            }
            if let (Some(file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
                return self.exchanged(&file, &role).await;
            }
        }
        let home = variable("HOME").map(|home| format!("{home}/.aws/credentials"));
        let file = variable("AWS_SHARED_CREDENTIALS_FILE").or(home).unwrap_or_default();
        let given = Some(config.profile.clone()).filter(|profile| !profile.is_empty());
        let profile = given.or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned());
        let text = read_file(&file).await.map_err(|error| {
            format!("could not get SigV4 credentials: none in the configuration or the environment, and {error}")
        })?;
        let keys = profile_of(&text, &profile);
        lasting(keys.ok_or_else(|| format!("could not get SigV4 credentials: no keys of profile {profile} in {file}"))?)
    }

    fn role_server(&self) -> Result<Uri, String> {
        let prefix = if self.config.use_fips_sts_endpoint { "sts-fips" } else { "sts" };
        let suffix = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = match variable("AWS_ENDPOINT_URL_STS") {
            Some(url) => format!("{}/", url.trim_end_matches('/')),
            None => format!("https://{prefix}.{}.{suffix}/", self.region),
        };
        url.parse().map_err(|error| format!("{url}: {error}"))
    }

    /// Keys for a token of the workload.
    async fn exchanged(&self, file: &str, role: &str) -> Result<(Keys, Instant), String> {
        let token = read_file(file).await?;
        let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "madang".to_owned());
        let form = [
            ("Action", "AssumeRoleWithWebIdentity".to_owned()),
            ("Version", "2011-06-15".to_owned()),
            ("RoleArn", role.to_owned()),
            ("RoleSessionName", session),
            ("WebIdentityToken", token),
        ];
        self.asked(&form, None).await
    }

    /// Keys of a role.
    async fn assumed(&self, keys: &Keys) -> Result<(Keys, Instant), String> {
        let config = &self.config;
        let session = if config.session_name.is_empty() { "madang" } else { &config.session_name };
        let mut form = vec![
            ("Action", "AssumeRole".to_owned()),
            ("Version", "2011-06-15".to_owned()),
            ("RoleArn", config.role_arn.clone()),
            ("RoleSessionName", session.to_owned()),
        ];
        if !config.external_id.is_empty() {
            form.push(("ExternalId", config.external_id.clone()));
        }
        let tags: Vec<(String, String)> = config
            .tags
            .iter()
            .enumerate()
            .flat_map(|(nth, (name, value))| {
                let member = format!("Tags.member.{}", nth + 1);
                [(format!("{member}.Key"), name.clone()), (format!("{member}.Value"), value.clone())]
            })
            .collect();
        let tags = tags.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let form: Vec<(&str, String)> = form.into_iter().chain(tags).collect();
        self.asked(&form, Some(keys)).await
    }

    async fn asked(&self, form: &[(&str, String)], keys: Option<&Keys>) -> Result<(Keys, Instant), String> {
        let uri = self.role_server()?;
        let pairs: Vec<String> =
            form.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let body = pairs.join("&");
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        if let Some(keys) = keys {
            let (method, service) = (&Method::POST, "sts");
            let request = Request { method, uri: &uri, body: body.as_bytes(), service, region: &self.region };
            request.sign(keys, Timestamp::now(), &mut headers)?;
        }
        let answer = exchange(&self.client, Method::POST, uri, headers, Bytes::from(body)).await?;
        let text = String::from_utf8_lossy(&answer);
        let of = |name: &str| element(&text, name).ok_or_else(|| format!("an answer of STS without {name}"));
        let keys = Keys { id: of("AccessKeyId")?, secret: of("SecretAccessKey")?, token: of("SessionToken")? };
        let end: Timestamp = of("Expiration")?.parse().map_err(|error| format!("Expiration: {error}"))?;
        let left = u64::try_from(end.as_second() - Timestamp::now().as_second()).unwrap_or(0);
        Ok((keys, Instant::now() + Duration::from_secs(left).saturating_sub(MARGIN)))
    }
}

/// The text of an element without others in it.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

/// Keys of a profile in a credentials file.
fn profile_of(text: &str, profile: &str) -> Option<Keys> {
    let (mut within, mut keys) = (false, Keys::default());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            within = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| within) {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => keys.id = value,
                "aws_secret_access_key" => keys.secret = value,
                "aws_session_token" => keys.token = value,
                _ => {}
            }
        }
    }
    (!keys.id.is_empty() && !keys.secret.is_empty()).then_some(keys)
}

/// A request that is to be signed.
struct Request<'a> {
    method: &'a Method,
    uri: &'a Uri,
    body: &'a [u8],
    service: &'a str,
    region: &'a str,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As signatures write it: all but letters, digits and `-_.~` in two digits; escapes that are there stay.
fn encoded(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if kept.as_bytes().contains(&byte) => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Request<'_> {
    fn sign(&self, keys: &Keys, now: Timestamp, headers: &mut HeaderMap) -> Result<(), String> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let mut put = |name: &'static str, value: &str| {
            let value = HeaderValue::try_from(value).map_err(|_| format!("{name}: no header can carry it"))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, String>(())
        };
        put("x-amz-date", &time)?;
        if !keys.token.is_empty() {
            put("x-amz-security-token", &keys.token)?;
        }
        let host = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut signed: Vec<(String, String)> = headers
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "authorization" | "user-agent" | "uber-trace-id"))
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
            })
            .collect();
        signed.push(("host".to_owned(), host));
        signed.sort();
        let names: Vec<&str> = signed.iter().map(|header| header.0.as_str()).collect();
        let names = names.join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let mut query: Vec<String> = self.uri.query().unwrap_or_default().split('&').map(str::to_owned).collect();
        query.retain(|pair| !pair.is_empty());
        query.iter_mut().filter(|pair| !pair.contains('=')).for_each(|pair| pair.push('='));
        query.sort();
        // The path is written twice over, as all services but S3 have it.
        let path = if self.uri.path().is_empty() { "/" } else { self.uri.path() };
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{}",
            self.method,
            encoded(path, "/"),
            query.join("&"),
            hex(&Sha256::digest(self.body))
        );
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", keys.secret).into_bytes();
        for part in [date, self.region, self.service, "aws4_request"] {
            key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
        }
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            keys.id,
            hex(signature.as_ref())
        );
        let mut value = HeaderValue::try_from(value).map_err(|_| "a signature that no header can carry".to_owned())?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let (id, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        Keys { id: id.to_owned(), secret: secret.to_owned(), token: String::new() }
    }

    fn signature(method: &Method, url: &str, mut headers: HeaderMap, body: &[u8]) -> String {
        let uri: Uri = url.parse().unwrap();
        let request = Request { method, uri: &uri, body, service: "service", region: "us-east-1" };
        request.sign(&keys(), "2015-08-30T12:36:00Z".parse().unwrap(), &mut headers).unwrap();
        headers[header::AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// Cases of Amazon's published test suite.
    #[test]
    fn signatures_are_those_of_the_published_examples() {
        let of = |method, url: &str| signature(&method, url, HeaderMap::new(), b"");
        let expected = |signed: &str, signature: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={signed}, Signature={signature}"
            )
        };
        let plain = "host;x-amz-date";
        assert_eq!(
            of(Method::GET, "https://example.amazonaws.com/"),
            expected(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")
        );
        assert_eq!(
            of(Method::GET, "https://example.amazonaws.com/?Param2=value2&Param1=value1"),
            expected(plain, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")
        );
        assert_eq!(
            of(Method::POST, "https://example.amazonaws.com/"),
            expected(plain, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")
        );
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        assert_eq!(
            signature(&Method::POST, "https://example.amazonaws.com/", headers, b"Param1=value1"),
            expected(
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
            )
        );
    }

    #[test]
    fn keys_are_found_in_profiles_and_answers() {
        let text = "# own\n[default]\naws_access_key_id = a\naws_secret_access_key=b\n[other]\naws_access_key_id=c\n aws_secret_access_key = d = e\naws_session_token = f\n[half]\naws_access_key_id=x\n";
        let found = |profile: &str| profile_of(text, profile).map(|keys| [keys.id, keys.secret, keys.token].join(" "));
        assert_eq!(found("default").as_deref(), Some("a b "));
        assert_eq!(found("other").as_deref(), Some("c d = e f"));
        assert_eq!((found("half"), found("none")), (None, None));
        let xml = "<A><AccessKeyId> x&amp;y </AccessKeyId></A>";
        assert_eq!(element(xml, "AccessKeyId").as_deref(), Some("x&y"));
        assert_eq!(element(xml, "Expiration"), None);
    }
}
