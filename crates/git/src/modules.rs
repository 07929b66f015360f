//! `.gitmodules`: where the other repositories are that a commit names.
//!
//! Specification: <https://git-scm.com/docs/gitmodules>, <https://git-scm.com/docs/git-config#_syntax>.

use crate::{Error, ssh::address::Address};

/// Bytes of `.gitmodules`.
pub(crate) const LARGEST: u64 = 1 << 20;

/// A repository in another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Where in the checkout.
    pub path: String,
    /// Absolute, or relative to the repository that it is in.
    pub url: String,
}

/// Reads the file.
pub fn parse(text: &str) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            within = section.trim_end().trim_end_matches(']').split(['"', ' ']).next() == Some("submodule");
            if within {
                modules.push(Module::default());
            }
            continue;
        }
        let Some(module) = modules.last_mut().filter(|_| within) else { continue };
        let Some((name, value)) = line.split_once('=') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "path" => module.path = self::value(value),
            "url" => module.url = self::value(value),
            _ => {}
        }
    }
    modules.retain(|module| !module.path.is_empty() && !module.url.is_empty());
    modules
}

/// A value without quotes, escapes and comment.
fn value(text: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in text.trim().chars() {
        match c {
            c if escaped => {
                out.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    c => c,
                });
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            c => out.push(c),
        }
    }
    if quoted { out } else { out.trim_end().to_owned() }
}

/// The address of a module: `./` and `../` start from the repository's own.
pub fn address(base: &str, url: &str) -> Result<String, Error> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Ok(url.to_owned());
    }
    // `scheme://host/`, or `user@host:` with a path that begins at the user's home or at the root.
    let (before, path) = match base.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            (format!("{scheme}://{host}/"), path)
        }
        None => {
            let address = Address::parse(base)?.ok_or_else(|| Error::invalid(format!("{base}: no URL")))?;
            let (before, path) = base.split_at(base.len() - address.path.len());
            (format!("{before}{}", if path.starts_with('/') { "/" } else { "" }), path)
        }
    };
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| Error::invalid(format!("submodule {url} leads out of {base}")))?;
            }
            part => parts.push(part),
        }
    }
    Ok(format!("{before}{}", parts.join("/")))
}

/// Whether nobody else reads what is fetched from there.
pub(crate) fn is_secret(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    !matches!(scheme.as_deref(), Some("http" | "git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_name_paths_and_addresses() {
        let text = "# x\n[submodule \"a b\"]\n\tpath = lib/a\n\turl = ../a.git # c\n[core]\n path=x\n[submodule \"c\"]\nurl = \"https://h/c;1\"\npath=c\n[submodule \"d\"]\npath = d\n";
        let modules = parse(text);
        assert_eq!(modules.len(), 2, "{modules:?}");
        assert_eq!(modules[0], Module { path: "lib/a".into(), url: "../a.git".into() });
        assert_eq!(modules[1].url, "https://h/c;1");
    }

    #[test]
    fn relative_addresses_start_from_the_repository() {
        let base = "https://host/team/app.git";
        assert_eq!(address(base, "../lib.git").unwrap(), "https://host/team/lib.git");
        assert_eq!(address(base, "./lib.git").unwrap(), "https://host/team/app.git/lib.git");
        assert_eq!(address(base, "http://x/y").unwrap(), "http://x/y");
        assert!(address(base, "../../../x").is_err());
        let base = "git@host:team/app.git";
        assert_eq!(address(base, "../lib.git").unwrap(), "git@host:team/lib.git");
        assert_eq!(address(base, "../../lib.git").unwrap(), "git@host:lib.git");
        assert_eq!(address("git@[::1]:/srv/app.git/", "../lib.git").unwrap(), "git@[::1]:/srv/lib.git");
        assert_eq!(address("ssh://git@host:22/app", "../lib").unwrap(), "ssh://git@host:22/lib");
        assert!(address(base, "../../../x").is_err() && address("/srv/app.git", "../x").is_err());
    }
}
