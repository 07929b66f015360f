//! Who is signed in: a cookie that holds the person's token, sealed, so that nothing is kept here and a restart ends no
//! session.
//!
//! ```text
//! madang console ─ token ─► links/HASH ─ link with the code ─► browser ─ code ─► taken away, and only then used
//! cookie = base64(nonce, ChaCha20-Poly1305(key, {token, until}))          key: session.key, made at the first start
//! ```
//!
//! A session ends with its token, by signing out, or after [`LIFE`]. Removing `session.key` ends all of them.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use jiff::Timestamp;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long a session lasts at most.
pub const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a link can be used.
pub const LINK_LIFE: Duration = Duration::from_secs(10 * 60);
/// The longest token that a cookie takes: browsers keep 4,096 bytes, and base64 takes a third more.
pub const TOKEN: usize = 2800;
const KEY: usize = 32;
const COOKIE: &str = "madang_session_";

/// The directory in which the key and the links lie.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// The console's directory of the instance with that data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join("console"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves a token for whoever has the code that is returned, once. The file is given to `owner`, who is the console.
    pub fn leave(&self, token: &str, owner: Option<u32>) -> Result<String> {
        self.sweep()?;
        let code = URL_SAFE_NO_PAD.encode(random::<KEY>()?);
        let path = self.link(&code);
        let named = || format!("write {}", path.display());
        let links = self.0.join("links");
        fs::create_dir_all(&links).with_context(|| format!("make {}", links.display()))?;
        chown(&links, owner, owner).with_context(|| format!("give {} away", links.display()))?;
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(named)?;
        file.write_all(token.as_bytes()).with_context(named)?;
        file.sync_all().with_context(named)?;
        chown(&path, owner, owner).with_context(named)?;
        Ok(code)
    }

    /// Takes the token that was left for `code`; `None` if there is none, or no longer.
    pub fn take(&self, code: &str) -> Result<Option<String>> {
        let (path, taken) = (self.link(code), self.0.join("links").join(URL_SAFE_NO_PAD.encode(random::<KEY>()?)));
        // Of several that come with one code, one can rename the file.
        match fs::rename(&path, &taken) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.context("take the link")?,
        }
        let read = || -> Result<_> {
            let written = fs::metadata(&taken)?.modified()?;
            let mut token = String::new();
            fs::File::open(&taken)?.take(TOKEN as u64).read_to_string(&mut token)?;
            Ok((written, token))
        };
        let answer = read().context("read the link");
        fs::remove_file(&taken).context("remove the link")?;
        let (written, token) = answer?;
        Ok((SystemTime::now().duration_since(written).is_ok_and(|age| age < LINK_LIFE)).then_some(token))
    }

    /// Removes links that nobody used in time.
    fn sweep(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.0.join("links")) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let old = written.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LINK_LIFE));
            if old && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(%error, path = %entry.path().display(), "old link of the console stays");
            }
        }
        Ok(())
    }

    /// The file's name is a digest, so that whoever sees the directory's list has no code.
    fn link(&self, code: &str) -> PathBuf {
        self.0.join("links").join(URL_SAFE_NO_PAD.encode(Sha256::digest(code.as_bytes())))
    }

    /// The key, made if there is none.
    fn key(&self) -> Result<[u8; KEY]> {
        let path = self.0.join("session.key");
        let named = || format!("make {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => {
                return bytes.try_into().ok().with_context(|| {
                    format!("{} is damaged: remove it, and everybody signs in again", path.display())
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
        let key = random::<KEY>()?;
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(named)?;
        file.write_all(&key).and_then(|()| file.sync_all()).with_context(named)?;
        fs::rename(&temporary, &path).with_context(named)?;
        Ok(key)
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().context("the system gives no randomness")?;
    Ok(bytes)
}

/// What a cookie says.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    token: String,
    /// Seconds since 1970.
    until: i64,
}

/// Makes and opens cookies.
pub struct Sessions {
    key: LessSafeKey,
    place: Place,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions with the key in `place`.
    pub fn open(place: Place) -> Result<Self> {
        place.sweep()?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &place.key()?).ok().context("use the console's session key")?;
        Ok(Self { key: LessSafeKey::new(key), place })
    }

    /// See [`Place::take`].
    pub fn take(&self, code: &str) -> Result<Option<String>> {
        self.place.take(code)
    }

    /// The value of `Set-Cookie` for a session with `token`, of the console at `host`.
    pub fn begin(&self, token: &str, host: &str, secure: bool) -> Result<String> {
        let until = Timestamp::now().as_second() + LIFE.as_secs() as i64;
        let value = self.seal(&Sealed { token: token.to_owned(), until })?;
        Ok(cookie(host, &value, LIFE.as_secs(), secure))
    }

    /// The value of `Set-Cookie` that ends a session.
    pub fn end(host: &str, secure: bool) -> String {
        cookie(host, "", 0, secure)
    }

    /// The token in the request's cookie, if it is ours and still good.
    pub fn token(&self, headers: &HeaderMap, host: &str) -> Option<String> {
        let name = name(host);
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let value = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(own, _)| *own == name)?
            .1;
        let sealed = self.unseal(value)?;
        (sealed.until > Timestamp::now().as_second()).then_some(sealed.token)
    }

    fn seal(&self, sealed: &Sealed) -> Result<String> {
        let nonce = random::<NONCE_LEN>()?;
        let mut bytes = serde_json::to_vec(sealed)?;
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
            .ok()
            .context("seal the session")?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &bytes].concat()))
    }

    fn unseal(&self, value: &str) -> Option<Sealed> {
        let mut bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        serde_json::from_slice(self.key.open_in_place(nonce, Aad::empty(), sealed).ok()?).ok()
    }
}

/// Browsers give a cookie to all ports of a host: consoles on several ports must not overwrite each other's.
fn name(host: &str) -> String {
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let port: String = port.chars().filter(char::is_ascii_digit).collect();
    COOKIE.to_owned() + if port.is_empty() { "80" } else { &port }
}

fn cookie(host: &str, value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", name(host))
}

#[cfg(test)]
mod tests;
