//! Files of the web.
//!
//! A URL that was fetched before is asked whether its version is still the same (`If-None-Match`, `If-Modified-Since`). With
//! a checksum it is not asked at all where a file of that checksum is kept.

use std::{
    fs::{self, File, FileTimes},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode, header};
use oci::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{Fetched, Fetching, KEPT, LARGEST, address, kept::Kept};

/// What a URL without a name leads to.
const UNNAMED: &str = "__unnamed__";

/// What a URL answered last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Page {
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    last_modified: Option<String>,
    digest: String,
    name: String,
}

impl Page {
    /// By what it is kept: content, name and time make the file.
    fn key(&self) -> String {
        let text = format!("{}\n{}\n{}", self.digest, self.name, self.last_modified.as_deref().unwrap_or_default());
        format!("web-{}", hash(&text))
    }
}

/// What a file looks like.
#[derive(Debug)]
pub(super) enum Looks {
    Archive,
    Text(String),
}

pub(super) async fn fetch(how: &Fetching, url: &str, checksum: Option<&str>) -> Result<Fetched> {
    let expected: Option<Digest> = match checksum {
        None => None,
        Some(text) => {
            let digest = text.parse().ok().filter(|_| text.starts_with("sha256:"));
            Some(digest.with_context(|| format!("invalid checksum {text}: it is written sha256:HASH"))?)
        }
    };
    let kept = Kept::open(&how.directory)?;
    let page = hash(url);
    let known: Option<Page> = kept.page(&page).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let (Some(expected), Some(known)) = (&expected, &known)
        && expected.as_str() == known.digest
        && let Some((directory, guard)) = kept.get(&known.key())
    {
        return Ok(fetched(directory, guard, known));
    }
    let host = url.parse::<http::Uri>().with_context(|| format!("URL {}", address::without_password(url)))?;
    let host = host.host().unwrap_or_default().to_owned();
    let secrets = [(format!("HTTP_AUTH_HEADER_{host}"), false), (format!("HTTP_AUTH_TOKEN_{host}"), true)];
    let credentials = how.credentials(&secrets).await?;
    let secret = credentials.is_some() || url.split(['?', '#']).next().unwrap_or_default().contains('@');
    let mut request = Request::get(without_user(url));
    if let Some((text, token)) = credentials.or_else(|| basic(url)) {
        let text = if token { format!("Bearer {text}") } else { text };
        let mut value = header::HeaderValue::from_str(&text).ok().context("credentials that no header can hold")?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    // What is not there any more need not be compared.
    let known = known.and_then(|known| kept.get(&known.key()).map(|found| (known, found))).filter(|_| !secret);
    if let Some((known, _)) = &known {
        let versions = [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.last_modified)];
        for (name, value) in versions {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
    }
    let (_, answer) = how.web()?.send(request.body(Bytes::new())?).await?;
    let status = answer.status();
    if let Some((known, (directory, guard))) = known
        && status == StatusCode::NOT_MODIFIED
    {
        expect(expected.as_ref(), &known.digest, url)?;
        return Ok(fetched(directory, guard, &known));
    }
    if !status.is_success() {
        bail!("invalid response status {status}");
    }
    let under_way = kept.begin()?;
    let headers = answer.headers().clone();
    let text = |name: header::HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let mut page_now = Page {
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED).filter(|text| time(text).is_some()),
        digest: String::new(),
        name: address::file_name(url)
            .or_else(|| address::disposition(&text(header::CONTENT_DISPOSITION)?))
            .unwrap_or_else(|| UNNAMED.to_owned()),
    };
    let path = under_way.tree().join(&page_now.name);
    page_now.digest = save(answer, &path, page_now.last_modified.as_deref().and_then(time)).await?;
    expect(expected.as_ref(), &page_now.digest, url)?;
    if secret {
        let (directory, guard) = under_way.alone();
        return Ok(fetched(directory, guard, &page_now));
    }
    let (directory, guard) = kept.put(&page_now.key(), under_way, KEPT)?;
    kept.note(&page, &serde_json::to_vec(&page_now)?)?;
    Ok(fetched(directory, guard, &page_now))
}

fn fetched(directory: std::path::PathBuf, guard: super::Guard, page: &Page) -> Fetched {
    Fetched { directory, file: Some(page.name.clone()), identity: page.key(), guard }
}

fn expect(expected: Option<&Digest>, found: &str, url: &str) -> Result<()> {
    match expected {
        Some(expected) if expected.as_str() != found => {
            bail!("digest mismatch for {}: {found} (expected: {expected})", address::without_password(url))
        }
        _ => Ok(()),
    }
}

/// Writes the file, mode 0600, with the time of its last change or 1970. Its digest.
async fn save(answer: Response<::image::pull::web::Body>, path: &Path, changed: Option<SystemTime>) -> Result<String> {
    let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > LARGEST) {
        bail!("the file has {} bytes; at most {LARGEST} are fetched", length.unwrap_or_default());
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let mut writer = tokio::fs::File::from_std(file.try_clone()?);
    let (mut hasher, mut bytes) = (sha2::Sha256::new(), 0_u64);
    let mut body = answer.into_body();
    while let Some(piece) = body.next().await {
        let piece = piece.context("read the file")?;
        bytes += piece.len() as u64;
        if bytes > LARGEST {
            bail!("the file is larger than {LARGEST} bytes");
        }
        hasher.update(&piece);
        tokio::io::AsyncWriteExt::write_all(&mut writer, &piece).await?;
    }
    tokio::io::AsyncWriteExt::flush(&mut writer).await?;
    if length.is_some_and(|length: u64| length != bytes) {
        bail!("the file ended after {bytes} of {} bytes", length.unwrap_or_default());
    }
    let changed = changed.unwrap_or(SystemTime::UNIX_EPOCH);
    file.set_times(FileTimes::new().set_modified(changed).set_accessed(changed))?;
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

/// The URL without user and password, which no request line shows.
fn without_user(url: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}://{host}{}", &rest[end..])
}

/// What user and password in a URL are as a header.
fn basic(url: &str) -> Option<(String, bool)> {
    use base64::Engine;
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (user, _) = rest[..end].rsplit_once('@')?;
    let user = if user.contains(':') { user.to_owned() } else { format!("{user}:") };
    Some((format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user)), false))
}

/// A date of HTTP: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn time(text: &str) -> Option<SystemTime> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = u64::try_from(time.as_second()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn hash(text: &str) -> String {
    Digest::sha256(text.as_bytes()).as_str().trim_start_matches("sha256:").to_owned()
}

/// Whether a file is an archive, by its first bytes, or a text that may be a Dockerfile.
pub(super) fn look(path: &Path) -> Result<Looks> {
    let mut head = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut head)?;
    let magic: [&[u8]; 4] = [&[0x1f, 0x8b, 8], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    if magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar") {
        return Ok(Looks::Archive);
    }
    if fs::metadata(path)?.len() > crate::dockerfile::LARGEST as u64 {
        bail!("it is no archive, and too large for a Dockerfile");
    }
    let text = fs::read_to_string(path).context("it is neither an archive nor a Dockerfile")?;
    Ok(Looks::Text(text))
}
