//! What an address names: `/job/NAMESPACE/job/NAME/7/consoleText`.

use std::fmt;

use client::cache::Key;

use crate::trigger::hook::unescape;

/// Names in an address.
const MOST: usize = 100;

/// What an address is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// All of it.
    Root,
    /// A namespace.
    Folder(String),
    /// A pipeline.
    Job(Key),
    /// A run.
    Build(Key, Which),
}

/// Which run of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of a number.
    Number(u64),
    /// `lastBuild`, `lastSuccessfulBuild` ...
    Named(String),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it is about.
    pub place: Place,
    /// The view that it is seen in.
    pub view: Option<String>,
    /// What of it is wanted.
    pub rest: Vec<String>,
}

/// Whether a run may be called so.
fn is_name_of_build(name: &str) -> bool {
    name.strip_prefix("last").and_then(|rest| rest.strip_suffix("Build")).is_some()
}

/// Takes an address apart, without what stands before it.
///
/// # Errors
/// It cannot be one.
pub fn read(path: &str) -> Result<Route, String> {
    let mut names = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let name = String::from_utf8(unescape(&part.replace('+', "%2B").into_bytes()));
        let name = name.map_err(|_| format!("{part:?} is no text"))?;
        if name.contains('\0') {
            return Err(format!("{part:?} is no name"));
        }
        names.push(name);
        if names.len() > MOST {
            return Err(format!("an address has {MOST} names at most"));
        }
    }
    let (mut place, mut view) = (Place::Root, None);
    let mut rest = names.as_slice();
    loop {
        match (&place, rest) {
            (Place::Root | Place::Folder(_), [word, name, after @ ..]) if word == "view" => {
                view = Some(name.clone());
                rest = after;
            }
            (Place::Root, [word, name, after @ ..]) if word == "job" && is_plain(name) => {
                place = Place::Folder(name.clone());
                (view, rest) = (None, after);
            }
            (Place::Folder(folder), [word, name, after @ ..]) if word == "job" && is_plain(name) => {
                place = Place::Job(Key::new(folder, name));
                (view, rest) = (None, after);
            }
            (Place::Job(key), [word, after @ ..]) => {
                let which = match word.parse() {
                    Ok(number) => Which::Number(number),
                    Err(_) if is_name_of_build(word) => Which::Named(word.clone()),
                    Err(_) => break,
                };
                place = Place::Build(key.clone(), which);
                rest = after;
                break;
            }
            _ => break,
        }
    }
    Ok(Route { place, view, rest: rest.to_vec() })
}

/// Whether an object may have the name; others are asked for by nobody who means well.
fn is_plain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b' ');
    name.len() <= 253 && name.bytes().all(inner) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> String {
        let route = read(path).unwrap();
        let place = match route.place {
            Place::Root => "root".to_string(),
            Place::Folder(name) => format!("folder {name}"),
            Place::Job(key) => format!("job {key}"),
            Place::Build(key, which) => format!("build {key} {which}"),
        };
        format!("{place}|{}|{}", route.view.unwrap_or_default(), route.rest.join(","))
    }

    #[test]
    fn addresses_name_folders_jobs_and_builds() {
        for (path, expected) in [
            ("", "root||"),
            ("/api/json", "root||api,json"),
            ("/job/yard/api/json", "folder yard||api,json"),
            ("/job/yard/job/shop/", "job yard/shop||"),
            ("/job/yard/job/shop/config.xml", "job yard/shop||config.xml"),
            ("/job/yard/job/shop/12/logText/progressiveText", "build yard/shop 12||logText,progressiveText"),
            ("/job/yard/job/shop/lastBuild/consoleText", "build yard/shop lastBuild||consoleText"),
            ("/job/yard/job/shop/1/artifact/a%20b/c%2Bd.txt", "build yard/shop 1||artifact,a b,c+d.txt"),
            ("/view/all/job/yard/view/all/job/shop/1/", "build yard/shop 1||"),
            ("/view/yard/api/json", "root|yard|api,json"),
            ("/job/yard/job/shop/lastWeek", "job yard/shop||lastWeek"),
            ("/job/..%2F..%2Fx/api/json", "root||job,../../x,api,json"),
        ] {
            assert_eq!(told(path), expected, "{path}");
        }
        assert!(read("/a%00b").is_err());
        assert!(read("/a%ff").is_err());
        assert!(read(&"/a".repeat(200)).is_err());
    }
}
