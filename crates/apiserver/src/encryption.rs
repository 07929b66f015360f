//! Secrets at rest: values are sealed before they reach the store and opened when they enter the cache.
//!
//! ```text
//! madang:enc:v1:<key id>:<12 byte nonce><ciphertext><16 byte tag>      AES-256-GCM, the store key as associated data
//! ```
//!
//! The store key is bound, so that one Secret's bytes cannot be put in the place of another's. The key file has one key a
//! line, `ID BASE64`: the first seals, all open, so that a new first line rotates keys without rewriting anything at once.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

const MARK: &[u8] = b"madang:enc:v1:";

/// The keys of the key file.
pub struct Keyring {
    keys: Vec<(String, LessSafeKey)>,
    random: SystemRandom,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Keyring {
    /// Reads the key file; makes one with a fresh key (mode 0600) where there is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(error).with_context(|| format!("read key file {}", path.display())),
        };
        Self::parse(&text).with_context(|| format!("key file {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (id, key) = line.split_once(' ').context("a line is not of the form ID KEY")?;
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                bail!("a key id is not made of letters and digits");
            }
            let bytes = BASE64_STANDARD.decode(key.trim()).context("a key is not base64")?;
            let Ok(key) = UnboundKey::new(&AES_256_GCM, &bytes) else { bail!("key {id} does not have 32 bytes") };
            keys.push((id.to_owned(), LessSafeKey::new(key)));
        }
        if keys.is_empty() {
            bail!("holds no key");
        }
        Ok(Self { keys, random: SystemRandom::new() })
    }

    /// Seals `plain` for the store key `name`.
    pub fn seal(&self, name: &str, plain: &[u8]) -> anyhow::Result<Bytes> {
        let (id, key) = self.keys.first().context("no key to seal with")?;
        let mut nonce = [0u8; NONCE_LEN];
        if self.random.fill(&mut nonce).is_err() {
            bail!("no random numbers for a nonce");
        }
        let mut out = Vec::with_capacity(MARK.len() + id.len() + 1 + NONCE_LEN + plain.len() + 16);
        out.extend_from_slice(MARK);
        out.extend_from_slice(id.as_bytes());
        out.push(b':');
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let Ok(tag) = key.seal_in_place_separate_tag(nonce, Aad::from(name.as_bytes()), &mut out[start..]) else {
            bail!("seal {name}");
        };
        out.extend_from_slice(tag.as_ref());
        Ok(out.into())
    }

    /// Opens what was sealed for the store key `name`. Bytes without the mark are returned as they are.
    pub fn unseal(&self, name: &str, sealed: &Bytes) -> anyhow::Result<Bytes> {
        let Some(rest) = sealed.strip_prefix(MARK) else { return Ok(sealed.clone()) };
        let end = rest.iter().take(64).position(|byte| *byte == b':').context("sealed value names no key")?;
        let id = &rest[..end];
        let (_, key) = self.keys.iter().find(|(own, _)| own.as_bytes() == id).with_context(|| {
            format!("{name} is sealed with key {}, which the key file lacks", String::from_utf8_lossy(id))
        })?;
        let body = &rest[end + 1..];
        if body.len() < NONCE_LEN {
            bail!("sealed value of {name} is cut");
        }
        let (nonce, body) = body.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok().context("nonce")?;
        let mut body = body.to_vec();
        let Ok(plain) = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body) else {
            bail!("{name} cannot be opened with key {}: altered, or moved", String::from_utf8_lossy(id));
        };
        let len = plain.len();
        body.truncate(len);
        Ok(body.into())
    }

    /// Whether values under that storage prefix are sealed.
    pub fn covers(prefix: &str) -> bool {
        prefix.starts_with("/registry/core/secrets/")
    }
}

fn create(path: &Path) -> anyhow::Result<String> {
    let (mut id, mut key) = ([0u8; 4], [0u8; 32]);
    let random = SystemRandom::new();
    if random.fill(&mut id).is_err() || random.fill(&mut key).is_err() {
        bail!("no random numbers for a key");
    }
    let text = format!("{:08x} {}\n", u32::from_be_bytes(id), BASE64_STANDARD.encode(key));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create key file {}", path.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).context("write key file")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Keyring {
        Keyring::parse(text).unwrap()
    }

    fn line(id: &str, byte: u8) -> String {
        format!("{id} {}\n", BASE64_STANDARD.encode([byte; 32]))
    }

    #[test]
    fn what_is_sealed_opens_under_its_own_name_only() {
        let ring = ring(&line("a", 1));
        let sealed = ring.seal("/registry/core/secrets/web/x", b"password").unwrap();
        assert!(memchr::memmem::find(&sealed, b"password").is_none());
        assert_eq!(&ring.unseal("/registry/core/secrets/web/x", &sealed).unwrap()[..], b"password");
        assert!(ring.unseal("/registry/core/secrets/web/y", &sealed).is_err());
        let mut bent = sealed.to_vec();
        *bent.last_mut().unwrap() ^= 1;
        assert!(ring.unseal("/registry/core/secrets/web/x", &bent.into()).is_err());
    }

    #[test]
    fn keys_rotate_by_a_new_first_line() {
        let old = ring(&line("a", 1)).seal("k", b"p").unwrap();
        let both = ring(&(line("b", 2) + &line("a", 1)));
        assert_eq!(&both.unseal("k", &old).unwrap()[..], b"p");
        assert!(both.seal("k", b"p").unwrap().starts_with(b"madang:enc:v1:b:"));
        let error = ring(&line("b", 2)).unseal("k", &old).unwrap_err().to_string();
        assert!(error.contains("key a, which the key file lacks"), "{error}");
    }

    #[test]
    fn cut_values_and_bad_key_files_are_refused() {
        let ring = ring(&line("a", 1));
        let sealed = ring.seal("k", b"plain").unwrap();
        for end in MARK.len()..sealed.len() {
            assert!(ring.unseal("k", &sealed.slice(..end)).is_err(), "{end}");
        }
        for text in ["", "a", "a b", "a! AAAA", "# only a comment"] {
            assert!(Keyring::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let sealed = Keyring::open(&path).unwrap().seal("k", b"p").unwrap();
        assert_eq!(&Keyring::open(&path).unwrap().unseal("k", &sealed).unwrap()[..], b"p");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
