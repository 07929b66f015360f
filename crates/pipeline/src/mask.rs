//! Secrets in a log: replaced by `****`, also where a secret is split over writes.
//!
//! What could be the beginning of a secret is held back until the next write shows whether it is. A secret's lines are secrets too, since a
//! shell prints them one at a time; and so are its forms in a shell's quotes and in base64.

/// What is printed in a secret's place.
pub const MASK: &[u8] = b"****";
/// Shorter ones would mask half a log.
const SHORTEST: usize = 3;
/// Secrets of one run.
const MOST: usize = 1000;

/// Replaces secrets in a stream.
#[derive(Debug, Default)]
pub struct Masker {
    /// The longest first.
    secrets: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Masker {
    /// Adds a secret.
    pub fn add(&mut self, secret: &str) {
        let mut forms = vec![secret.trim_end_matches('\n').to_string()];
        forms.extend(secret.lines().map(str::to_string));
        forms.push(secret.replace('\'', "'\"'\"'"));
        forms.push(secret.replace('\'', "'\\''"));
        for form in forms {
            let form = form.trim().as_bytes().to_vec();
            if form.len() >= SHORTEST && !self.secrets.contains(&form) && self.secrets.len() < MOST {
                self.secrets.push(form);
            }
        }
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// What of some bytes can be written now.
    pub fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.take(false)
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.take(true)
    }

    fn take(&mut self, end: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            // A longer secret that may still come goes before a shorter one that is there.
            let longest = self.secrets.iter().find(|secret| rest.starts_with(secret));
            let pending = self
                .secrets
                .iter()
                .find(|secret| secret.len() > rest.len() && secret.starts_with(rest))
                .filter(|pending| longest.is_none_or(|longest| pending.len() > longest.len()));
            if pending.is_some() && !end {
                break;
            }
            match longest {
                Some(secret) => {
                    out.extend_from_slice(MASK);
                    at += secret.len();
                }
                None => {
                    // Up to the next byte that a secret begins with, all goes at once.
                    let next = rest[1..].iter().position(|byte| self.secrets.iter().any(|secret| secret[0] == *byte));
                    let length = next.map_or(rest.len(), |next| next + 1);
                    out.extend_from_slice(&rest[..length]);
                    at += length;
                }
            }
        }
        self.held.drain(..at);
        out
    }
}

#[cfg(test)]
mod tests;
