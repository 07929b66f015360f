//! Paths with `*`, `?` and `[...]`, as files of rules, targets and templates are named in configurations.
//!
//! See <https://pkg.go.dev/path/filepath#Match>.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Most paths that a pattern stands for.
const MOST: usize = 100_000;

/// The paths that match, sorted; a pattern without wildcards matches what is there under its name.
pub fn paths(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(part) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let Some(part) = part.to_str().filter(|part| part.contains(['*', '?', '['])) else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let mut next = Vec::new();
        for dir in &found {
            let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let entries = match fs::read_dir(listed) {
                Ok(entries) => entries,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in entries {
                let name = entry?.file_name();
                if name.to_str().is_some_and(|name| matches(part, name)) {
                    next.push(dir.join(name));
                }
            }
            if next.len() > MOST {
                return Err(io::Error::other(format!("{} stands for more than {MOST} paths", pattern.display())));
            }
        }
        found = next;
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found.sort();
    Ok(found)
}

/// Whether a name is as a pattern says.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
                continue;
            }
            Some(_) => {
                if let Some(length) = one(&pattern[at..], name[of]) {
                    at += length;
                    of += 1;
                    continue;
                }
            }
            None => {}
        }
        let Some((star_at, taken)) = star else { return false };
        star = Some((star_at, taken + 1));
        (at, of) = (star_at + 1, taken + 1);
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How much of the pattern stands for this character, if it does.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '\\' if pattern.len() > 1 => (pattern[1] == c).then_some(2),
        '[' => {
            let negated = pattern.get(1) == Some(&'^');
            let start = 1 + usize::from(negated);
            let end = start + 1 + pattern.get(start + 1..)?.iter().position(|c| *c == ']')?;
            let set = &pattern[start..end];
            let mut inside = false;
            let mut i = 0;
            while i < set.len() {
                if i + 2 < set.len() && set[i + 1] == '-' {
                    inside |= (set[i]..=set[i + 2]).contains(&c);
                    i += 3;
                } else {
                    inside |= set[i] == c;
                    i += 1;
                }
            }
            (inside != negated).then_some(end + 1)
        }
        own => (*own == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_go_s_do() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?[a-c]x", "1bx", true),
            ("[^a]*", "abc", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_stand_for_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/x.yml", "a/y.yml", "b/x.yml", "b/z.txt"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| {
            let paths = paths(&dir.path().join(pattern)).unwrap();
            let names = paths.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("*/x.yml"), "a/x.yml b/x.yml");
        assert_eq!(
            (found("a/y.yml"), found("a/none.yml"), found("c/*")),
            ("a/y.yml".into(), String::new(), String::new())
        );
    }
}
