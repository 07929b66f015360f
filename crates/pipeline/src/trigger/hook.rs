//! Requests of forges about pushes and change requests: who signed them, what they are about, whether they were here before.
//!
//! A request is a hint and no more: it makes the repository be looked at, and what is started is what the repository says. So the worst that a
//! forger could do, with the secret, is to have it looked at in vain.
//!
//! Forms: [GitHub](https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries),
//! [Gitea](https://docs.gitea.com/usage/webhooks), [GitLab](https://docs.gitlab.com/user/project/integrations/webhooks/).

use std::{
    collections::{HashSet, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use http::HeaderMap;
use ring::{
    digest,
    hmac::{self, HMAC_SHA256, Key},
};
use serde_json::Value as Json;

use super::change::{self, Changed};

/// Bytes of a request.
pub const MOST_BYTES: usize = 25 << 20;
/// Bytes of a secret, at least: a shorter one can be guessed.
const SHORTEST_SECRET: usize = 8;
/// Requests that are remembered.
const REMEMBERED: usize = 1000;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no signature.
    #[error("the request is not signed: give the webhook the secret of the pipeline")]
    Unsigned,
    /// Its signature is not by the secret.
    #[error("the signature does not fit the request and the pipeline's secret")]
    Forged,
    /// It was here before.
    #[error("this request was taken before")]
    Replayed,
    /// The secret itself is none.
    #[error("the pipeline's secret is shorter than {SHORTEST_SECRET} bytes: make a longer one")]
    NoSecret,
    /// It cannot be read.
    #[error("the request is no JSON of a webhook: {0}")]
    Unreadable(String),
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks whether this works.
    Ping,
    /// Something was pushed.
    Push(Push),
    /// A change request was opened, or has other commits now.
    Change(Box<Changed>),
    /// Something else happened.
    Other(String),
}

/// A push, as a forge tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// The reference: `refs/heads/main`.
    pub reference: String,
    /// The commit that it leads to now; none where it is gone.
    pub commit: Option<String>,
    /// Who pushed.
    pub user: Option<String>,
    /// Addresses of the repository.
    pub addresses: Vec<String>,
}

/// A request whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it is about.
    pub event: Event,
    /// What tells it from others, over which no sender has power without the secret.
    pub identity: [u8; 32],
}

/// Checks a request, and reads it once it is known to be genuine.
///
/// # Errors
/// It is not, or is none.
pub fn check(headers: &HeaderMap, body: &[u8], secret: &[u8]) -> Result<Checked, Refusal> {
    if secret.len() < SHORTEST_SECRET {
        return Err(Refusal::NoSecret);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let signature = match text("x-hub-signature-256").map(|value| value.strip_prefix("sha256=")) {
        // Of another kind: SHA-1 of old is not taken.
        Some(None) => return Err(Refusal::Forged),
        Some(Some(value)) => Some(value),
        None => text("x-gitea-signature").or_else(|| text("x-gogs-signature")),
    };
    match (signature, text("x-gitlab-token")) {
        (Some(signature), _) => {
            let given = unhex(signature.trim()).ok_or(Refusal::Forged)?;
            hmac::verify(&Key::new(HMAC_SHA256, secret), body, &given).map_err(|_| Refusal::Forged)?;
        }
        (None, Some(token)) => {
            // Compared as their own signatures, which tells nothing by how long it takes.
            let key = Key::new(HMAC_SHA256, secret);
            hmac::verify(&key, token.as_bytes(), hmac::sign(&key, secret).as_ref()).map_err(|_| Refusal::Forged)?;
        }
        (None, None) => return Err(Refusal::Unsigned),
    }
    // GitLab signs nothing: what it numbers its requests with counts too.
    let mut identity = digest::Context::new(&digest::SHA256);
    identity.update(body);
    if signature.is_none() {
        identity.update(text("x-gitlab-event-uuid").unwrap_or_default().as_bytes());
    }
    let identity = identity.finish().as_ref().try_into().unwrap_or([0; 32]);
    let named = ["x-github-event", "x-gitea-event", "x-gogs-event", "x-gitlab-event"].into_iter().find_map(text);
    let kind = named.unwrap_or_default().to_ascii_lowercase();
    // A form is sent by GitHub where nobody chose: `payload=...`.
    let form;
    let body = match text("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        true => {
            form = payload(body).ok_or_else(|| Refusal::Unreadable("the form has no payload".into()))?;
            form.as_slice()
        }
        false => body,
    };
    let json: Json = serde_json::from_slice(body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let event = match kind.as_str() {
        "ping" => Event::Ping,
        "push" | "push hook" | "tag push hook" | "tag_push" => Event::Push(push(&json)?),
        kind if change::is_about(kind) => match change::read(&json) {
            Some(changed) => Event::Change(Box::new(changed)),
            None => Event::Other(format!("{kind} without new commits")),
        },
        other => Event::Other(other.chars().take(100).collect()),
    };
    Ok(Checked { event, identity })
}

fn push(json: &Json) -> Result<Push, Refusal> {
    let text = |value: &Json| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let reference = text(&json["ref"]).ok_or_else(|| Refusal::Unreadable("a push has a ref".into()))?;
    let none = |commit: &String| commit.bytes().all(|byte| byte == b'0');
    let repository = if json["repository"].is_object() { &json["repository"] } else { &json["project"] };
    let fields = ["clone_url", "ssh_url", "git_url", "html_url", "git_http_url", "git_ssh_url", "url"];
    Ok(Push {
        reference,
        commit: text(&json["after"]).filter(|commit| !none(commit)),
        user: [&json["pusher"]["name"], &json["pusher"]["login"], &json["user_username"], &json["sender"]["login"]]
            .into_iter()
            .find_map(text),
        addresses: fields.iter().filter_map(|field| text(&repository[*field])).collect(),
    })
}

/// Bytes by their digits, none where they are others.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// The field `payload` of a form.
fn payload(body: &[u8]) -> Option<Vec<u8>> {
    let field = body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"payload="))?;
    Some(unescape(field))
}

/// Bytes of a form or a query: `%41` and `+`.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = text.get(at + 1..at + 3).filter(|_| text[at] == b'%');
        let escaped = escaped.and_then(|pair| std::str::from_utf8(pair).ok()).and_then(unhex);
        match (text[at], escaped) {
            (_, Some(bytes)) => {
                out.extend(bytes);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    out
}

/// Requests that were taken.
#[derive(Debug, Default)]
pub struct Seen {
    order: VecDeque<[u8; 32]>,
    all: HashSet<[u8; 32]>,
    /// Where they are kept, one after the other; those of a memory alone are not.
    file: Option<File>,
    lines: usize,
}

impl Seen {
    /// Requests that a file knows of, which may be new. What a crash has left half of is no request.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (all, _) = bytes.as_chunks::<32>();
        let last = &all[all.len().saturating_sub(REMEMBERED)..];
        let mut seen =
            Self { order: last.iter().copied().collect(), all: last.iter().copied().collect(), ..Self::default() };
        seen.rewrite(path)?;
        Ok(seen)
    }

    /// Writes what is remembered anew, and nothing else.
    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&self.order.iter().flatten().copied().collect::<Vec<u8>>())?;
        file.sync_data()?;
        fs::rename(&beside, path)?;
        (self.file, self.lines) = (Some(file), self.order.len());
        Ok(())
    }

    /// Keeps what was taken last, before it is acknowledged.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&mut self, path: &Path) -> io::Result<()> {
        if self.lines >= 2 * REMEMBERED {
            return self.rewrite(path);
        }
        let (Some(file), Some(last)) = (&mut self.file, self.order.back()) else { return Ok(()) };
        if let Err(error) = file.write_all(last).and_then(|()| file.sync_data()) {
            // Half of it may be there: nothing is to be written behind that.
            self.lines = 2 * REMEMBERED;
            return Err(error);
        }
        self.lines += 1;
        Ok(())
    }

    /// Whether a request was here before.
    pub fn has(&self, identity: &[u8; 32]) -> bool {
        self.all.contains(identity)
    }

    /// Notes a request.
    ///
    /// # Errors
    /// It was here before.
    pub fn take(&mut self, identity: &[u8; 32]) -> Result<(), Refusal> {
        if !self.all.insert(*identity) {
            return Err(Refusal::Replayed);
        }
        self.order.push_back(*identity);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
        Ok(())
    }

    /// Forgets a request that could not be kept.
    pub fn forget(&mut self, identity: &[u8; 32]) {
        self.all.remove(identity);
        self.order.retain(|other| other != identity);
    }
}

#[cfg(test)]
mod tests;
