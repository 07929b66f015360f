//! Private keys as users give them: OpenSSH's own form, and PEM (PKCS#1, PKCS#8, SEC 1), with a passphrase or without.
//!
//! A passphrase is made a key by many rounds of work, whose number the file says: whoever gives a file could have this process
//! work for years, so that their number is bounded.
//!
//! Specification: <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key>, <https://www.rfc-editor.org/rfc/rfc7468>.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use pkcs8::EncryptedPrivateKeyInfoRef;
use russh::keys::{PrivateKey, decode_secret_key, ssh_key};

use crate::Error;

/// Bytes of a file.
const LARGEST: usize = 16 << 10;
/// Bits of an RSA key, as in OpenSSH.
const RSA: u32 = 16_384;
/// Rounds of bcrypt; `ssh-keygen` has 24 where nothing is said.
const ROUNDS: u32 = 1_000;
/// Rounds of PBKDF2; `openssl` has 2,048, and 600,000 is recommended.
const ITERATIONS: u32 = 10_000_000;
/// Bytes of memory of scrypt, and how often it fills them.
const SCRYPT: u64 = 1 << 28;

/// A private key that can be used.
#[derive(Clone)]
pub struct Key(pub(crate) Arc<PrivateKey>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

impl Key {
    /// Reads a key. Opening one with a passphrase takes up to some seconds.
    ///
    /// # Errors
    /// It is none, or the passphrase is another. What it holds is in no error.
    pub async fn read(text: String, passphrase: Option<String>) -> Result<Self, Error> {
        let work = tokio::task::spawn_blocking(move || Self::parse(&text, passphrase.as_deref()));
        work.await.map_err(|error| Error::Io(std::io::Error::other(error)))?
    }

    /// The same, at once: blocks.
    ///
    /// # Errors
    /// The same.
    pub fn parse(text: &str, passphrase: Option<&str>) -> Result<Self, Error> {
        if text.len() > LARGEST {
            return Err(Error::TooLarge { what: "a private key", limit: LARGEST as u64 });
        }
        // As it is pasted: with blanks around it, and the line ends of another system.
        let text = text.trim().replace('\r', "");
        let label = label(&text).ok_or_else(|| {
            Error::invalid("no private key: one begins with -----BEGIN OPENSSH PRIVATE KEY----- or in a like way")
        })?;
        let passphrase = passphrase.filter(|passphrase| !passphrase.is_empty());
        let locked = match label {
            "OPENSSH PRIVATE KEY" => is_locked(&text)?,
            "ENCRYPTED PRIVATE KEY" => {
                bound(&text)?;
                true
            }
            _ => text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED")),
        };
        // A passphrase for a key that needs none does no harm.
        let passphrase = match (locked, passphrase) {
            (true, None) => return Err(Error::invalid("the private key has a passphrase, which is not given")),
            (true, some) => some,
            (false, _) => None,
        };
        let key = decode_secret_key(&text, passphrase).map_err(|_| match locked {
            true => Error::invalid("the passphrase does not open the private key"),
            false => damaged(),
        })?;
        if !key.algorithm().is_rsa() && !key.algorithm().is_ecdsa() && !key.algorithm().is_ed25519() {
            return Err(damaged());
        }
        if key.public_key().key_data().rsa().is_some_and(|rsa| rsa.key_size() > RSA) {
            return Err(Error::TooLarge { what: "an RSA key, in bits,", limit: RSA.into() });
        }
        Ok(Self(Arc::new(key)))
    }

    /// The public key's, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        super::hosts::fingerprint(self.0.public_key())
    }
}

/// What stands between `-----BEGIN ` and `-----`.
fn label(text: &str) -> Option<&str> {
    let label = text.lines().find_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))?;
    label.ends_with("PRIVATE KEY").then_some(label)
}

/// The bytes of a file.
fn bytes(text: &str) -> Result<Vec<u8>, Error> {
    let lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN ")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('-')).map(str::trim);
    STANDARD.decode(lines.collect::<String>()).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::invalid("the private key is damaged, or of a kind that is not known here: ed25519, ECDSA and RSA are")
}

/// Whether a key in OpenSSH's form has a passphrase; an error where that takes too long to open.
fn is_locked(text: &str) -> Result<bool, Error> {
    let key = PrivateKey::from_bytes(&bytes(text)?).map_err(|_| damaged())?;
    match key.kdf() {
        ssh_key::Kdf::Bcrypt { rounds, .. } if *rounds > ROUNDS => {
            Err(Error::TooLarge { what: "the number of rounds of a private key's passphrase", limit: ROUNDS.into() })
        }
        _ => Ok(key.is_encrypted()),
    }
}

/// Refuses a key of PKCS#8 that takes too long to open.
fn bound(text: &str) -> Result<(), Error> {
    let bytes = bytes(text)?;
    let info = EncryptedPrivateKeyInfoRef::try_from(&bytes[..]).map_err(|_| damaged())?;
    let kdf = &info.encryption_algorithm.pbes2().ok_or_else(damaged)?.kdf;
    if kdf.pbkdf2().is_some_and(|kdf| kdf.iteration_count > ITERATIONS) {
        return Err(Error::TooLarge {
            what: "the number of rounds of a private key's passphrase",
            limit: ITERATIONS.into(),
        });
    }
    if let Some(kdf) = kdf.scrypt() {
        let work = [u64::from(kdf.block_size), u64::from(kdf.parallelization), 128];
        let work = work.into_iter().try_fold(kdf.cost_parameter, u64::checked_mul);
        if work.is_none_or(|work| work > SCRYPT) {
            return Err(Error::TooLarge { what: "the work for a private key's passphrase", limit: SCRYPT });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
