//! How repositories behind SSH are written: `ssh://[user@]host[:port]/path`, or `[user@]host:path`.
//!
//! Host, user and path come from scripts and from `.gitmodules` of strangers. They go to no command line of this machine, but the
//! path goes to a shell of the other, so that it is quoted as `git` quotes it; what could be taken for an option is refused,
//! as `git` refuses it.
//!
//! Specification: <https://git-scm.com/docs/git-clone#_git_urls>.

use crate::Error;

/// Bytes of an address.
const LONGEST: usize = 4096;
/// Bytes of a host's name.
const LONGEST_HOST: usize = 253;
/// Bytes of a user's name.
const LONGEST_USER: usize = 255;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who asks, where it is said.
    pub user: Option<String>,
    /// A name or an IP address, without brackets, in lower case.
    pub host: String,
    /// 22 where it is not said.
    pub port: u16,
    /// As the other side's program gets it.
    pub path: String,
    /// The whole, as it was written.
    pub text: String,
}

impl Address {
    /// Reads an address; none where it is no address of SSH.
    ///
    /// # Errors
    /// It is one, and wrong, or made to be taken for something else.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        let wrong = |why: &str| Error::invalid(format!("{text:?}: {why}"));
        if let Some((scheme, rest)) = text.split_once("://") {
            if !matches!(scheme.to_ascii_lowercase().as_str(), "ssh" | "git+ssh" | "ssh+git") {
                return Ok(None);
            }
            bounded(text)?;
            let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("an address without a path"))?;
            let path = format!("/{}", decoded(path).ok_or_else(|| wrong("a path that is no UTF-8"))?);
            // `ssh://host/~user/path` begins at that user's home.
            let path = if path.starts_with("/~") { path[1..].to_owned() } else { path };
            let (user, place) = split_user(authority);
            let user = user.map(|user| decoded(user).ok_or_else(|| wrong("a user that is no UTF-8"))).transpose()?;
            let (host, port) = split_port(place).ok_or_else(|| wrong("no host and port"))?;
            return Self { user, host, port, path, text: text.to_owned() }.checked().map(Some);
        }
        // `host:path`, where no slash comes before; a path of this machine that has a colon begins with `/` or `./`.
        let opened = text.find('[').filter(|at| text[..*at].is_empty() || text[..*at].ends_with('@'));
        let from = opened.and_then(|at| text[at..].find(']').map(|end| at + end)).unwrap_or(0);
        let Some(colon) = text[from..].find(':').map(|at| from + at) else { return Ok(None) };
        if text[..colon].contains('/') || colon == 0 {
            return Ok(None);
        }
        bounded(text)?;
        let (user, place) = split_user(&text[..colon]);
        let path = &text[colon + 1..];
        if path.starts_with(':') {
            return Err(wrong("helpers for other protocols are not known here"));
        }
        // `[host:port]:path`, and `[::1]:path`.
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.strip_suffix(']')) {
            Some(within) if within.matches(':').count() == 1 => split_port(within),
            Some(_) => split_port(place),
            None => Some((place.to_owned(), 22)),
        }
        .ok_or_else(|| wrong("no host and port"))?;
        let address = Self { user: user.map(str::to_owned), host, port, path: path.to_owned(), text: text.to_owned() };
        address.checked().map(Some)
    }

    fn checked(mut self) -> Result<Self, Error> {
        let wrong = |why: &str| Error::invalid(format!("{:?}: {why}", self.text));
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if self.host.starts_with('-') {
            return Err(wrong("a host that looks like an option"));
        }
        if self.host.is_empty() || self.host.len() > LONGEST_HOST || !self.host.chars().all(named) {
            return Err(wrong("no name of a host"));
        }
        if self.port == 0 {
            return Err(wrong("no port"));
        }
        if let Some(user) = &self.user {
            if user.contains(':') {
                return Err(wrong("a password in the address is not used over SSH: give a key"));
            }
            let bad = |c: char| c.is_control() || c.is_whitespace();
            if user.is_empty() || user.len() > LONGEST_USER || user.starts_with('-') || user.contains(bad) {
                return Err(wrong("no name of a user"));
            }
        }
        if self.path.trim_matches('/').is_empty() || self.path.contains(char::is_control) {
            return Err(wrong("no path of a repository"));
        }
        if self.path.starts_with('-') {
            return Err(wrong("a path that looks like an option"));
        }
        self.host.make_ascii_lowercase();
        Ok(self)
    }

    /// What the other side's shell is to run.
    pub fn command(&self) -> String {
        format!("git-upload-pack {}", quoted(&self.path))
    }

    /// `host`, or `[host]:port` where that is not 22: as it stands in files of known hosts.
    pub fn place(&self) -> String {
        match self.port {
            22 => self.host.clone(),
            port => format!("[{}]:{port}", self.host),
        }
    }
}

fn bounded(text: &str) -> Result<(), Error> {
    match text.len() {
        ..=LONGEST => Ok(()),
        _ => Err(Error::TooLarge { what: "the address of a repository", limit: LONGEST as u64 }),
    }
}

fn split_user(text: &str) -> (Option<&str>, &str) {
    match text.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    }
}

/// `host`, `host:port`, `[address]`, `[address]:port`.
fn split_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => 22,
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?,
    };
    Some((host.to_owned(), port))
}

/// In single quotes for a shell; `!` as well, since some shells look for it there.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '!' => out.extend(["'\\", c.encode_utf8(&mut [0; 4]), "'"]),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    String::from_utf8(crate::remote::decode(text)).ok()
}

#[cfg(test)]
mod tests;
