//! Known hosts: which keys a host may show, in the format of OpenSSH's `known_hosts`.
//!
//! ```text
//! key ── revoked? ─► refused      among those of the host? ─► believed
//!         others of the host? ─► refused: another than known     none? ─► refused: not known
//! ```
//!
//! Names may be hashed (`|1|salt|hash`), have a port (`[host]:port`), wildcards and exceptions (`*.example.com,!b.example.com`).
//! Lines of certificate authorities are passed over.
//!
//! Specification: <https://man.openbsd.org/sshd.8#SSH_KNOWN_HOSTS_FILE_FORMAT>.

use base64::{Engine, engine::general_purpose::STANDARD};
use russh::keys::{Algorithm, HashAlg, PublicKey, parse_public_key_base64};
use tokio::io::AsyncReadExt;

/// The machine's file.
pub const MACHINE: &str = "/etc/ssh/ssh_known_hosts";
/// Bytes that are read.
const LARGEST: usize = 1 << 20;
/// Lines that are read.
const LINES: usize = 20_000;

/// Keys of hosts.
#[derive(Clone, Debug, Default)]
pub struct Known {
    lines: std::sync::Arc<Vec<Line>>,
    /// Where a user writes more of them: `the key "known_hosts" of Secret "x"`.
    pub place: String,
}

#[derive(Clone, Debug)]
struct Line {
    names: String,
    key: PublicKey,
    revoked: bool,
}

/// What is to be thought of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the host's.
    Known,
    /// Nothing is known of the host.
    Unknown,
    /// The host has others.
    Other,
    /// It is known not to be used any more.
    Revoked,
}

impl Known {
    /// Reads a file's text. Lines that are no such lines are passed over, as `ssh` does.
    pub fn parse(text: &str, place: impl Into<String>) -> Self {
        let text = text.get(..text.floor_char_boundary(LARGEST)).unwrap_or(text);
        let lines = text.lines().take(LINES).filter_map(line).collect();
        Self { lines: std::sync::Arc::new(lines), place: place.into() }
    }

    /// What was given, and where nothing was, the hosts that the machine's administrator knows ([`MACHINE`]). `place` is where a user
    /// gives them.
    pub async fn given_or_machines(given: Option<&str>, place: &str) -> Self {
        if let Some(text) = given.filter(|text| !text.trim().is_empty()) {
            return Self::parse(text, place);
        }
        let read = async {
            let mut text = Vec::new();
            tokio::fs::File::open(MACHINE).await?.take(LARGEST as u64).read_to_end(&mut text).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).into_owned())
        };
        // Most machines have none.
        let (text, trouble) = match read.await {
            Ok(text) => (text, String::new()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
            Err(error) => (String::new(), format!(" (which cannot be read: {error})")),
        };
        Self::parse(&text, format!("{place}, or to {MACHINE} of the machine{trouble}"))
    }

    /// Whether no host is known.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What is to be thought of a key that `place` shows: `host`, or `[host]:port`.
    pub(crate) fn judge(&self, place: &str, key: &PublicKey) -> Verdict {
        let mut verdict = Verdict::Unknown;
        for line in self.lines.iter().filter(|line| matches(&line.names, place)) {
            let same = line.key.key_data() == key.key_data();
            match (line.revoked, same) {
                (true, true) => return Verdict::Revoked,
                (false, true) => verdict = Verdict::Known,
                (false, false) if verdict == Verdict::Unknown => verdict = Verdict::Other,
                _ => {}
            }
        }
        verdict
    }

    /// The algorithms to ask a host for, those that its known keys have first: it has several keys, and shows one.
    pub(crate) fn algorithms(&self, place: &str) -> Vec<Algorithm> {
        let mut all = russh::Preferred::DEFAULT.key.to_vec();
        // Signatures with SHA-1 prove nothing any more.
        all.retain(|algorithm| *algorithm != Algorithm::Rsa { hash: None });
        let kind = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
            other => other.clone(),
        };
        let lines = self.lines.iter().filter(|line| !line.revoked && matches(&line.names, place));
        let known: Vec<Algorithm> = lines.map(|line| kind(&line.key.algorithm())).collect();
        all.sort_by_key(|algorithm| !known.contains(&kind(algorithm)));
        all
    }
}

/// `SHA256:...`, as `ssh-keygen -l` prints it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn line(text: &str) -> Option<Line> {
    let text = text.trim();
    if text.starts_with('#') {
        return None;
    }
    let mut words = text.split_ascii_whitespace();
    let mut names = words.next()?;
    let revoked = names == "@revoked";
    if names.starts_with('@') {
        if !revoked {
            return None;
        }
        names = words.next()?;
    }
    let (_kind, key) = (words.next()?, words.next()?);
    Some(Line { names: names.to_owned(), key: parse_public_key_base64(key).ok()?, revoked })
}

/// Whether a list of names means a place. One exception outweighs all that agrees.
fn matches(names: &str, place: &str) -> bool {
    let mut found = false;
    for name in names.split(',') {
        match name.strip_prefix('!') {
            Some(except) if is_like(except, place) => return false,
            Some(_) => {}
            None => found |= if name.starts_with('|') { is_hash_of(name, place) } else { is_like(name, place) },
        }
    }
    found
}

/// `|1|salt|hash`
fn is_hash_of(name: &str, place: &str) -> bool {
    let mut parts = name.split('|').skip(1);
    let (Some("1"), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    ring::hmac::verify(&key, place.as_bytes(), &hash).is_ok()
}

/// Whether a pattern with `*` and `?` means a place. Steps are bounded by the product of both lengths.
fn is_like(pattern: &str, place: &str) -> bool {
    let (pattern, place) = (pattern.as_bytes(), place.as_bytes());
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < place.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of));
                at += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&place[of]) => {
                at += 1;
                of += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (at, of) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
