//! Which files of a workspace a step means: `archiveArtifacts`, `stash`.
//!
//! Patterns are Ant's, with its list of what is left out by default (<https://ant.apache.org/manual/dirtasks.html#defaultexcludes>).

use serde_json::Value as Json;

use crate::ant;

/// What Ant leaves out: what version control and editors leave behind.
const DEFAULT: &str = "**/*~,**/#*#,**/.#*,**/%*%,**/._*,**/CVS,**/CVS/**,**/.cvsignore,**/SCCS,**/SCCS/**,**/vssver.scc,**/.svn,\
    **/.svn/**,**/.DS_Store,**/.git,**/.git/**,**/.gitattributes,**/.gitignore,**/.gitmodules,**/.hg,**/.hg/**,**/.hgignore,**/.hgsub,\
    **/.hgsubstate,**/.hgtags,**/.bzr,**/.bzr/**,**/.bzrignore";

/// Patterns of files, and of those left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    includes: String,
    excludes: String,
    defaults: bool,
    any_case: bool,
}

impl Pick {
    /// Patterns, those left out, whether Ant's own list is left out too, whether capitals count.
    pub fn new(includes: &str, excludes: &str, defaults: bool, case: bool) -> Self {
        let plain = |patterns: &str| {
            let patterns = patterns.replace('\\', "/");
            if case { patterns } else { patterns.to_lowercase() }
        };
        Self { includes: plain(includes), excludes: plain(excludes), defaults, any_case: !case }
    }

    /// Whether a file is meant. Paths begin at the step's directory, with `/` between names.
    pub fn wants(&self, path: &str) -> bool {
        let lower;
        let given = path;
        let path = match self.any_case {
            true => {
                lower = path.to_lowercase();
                lower.as_str()
            }
            false => path,
        };
        ant::fits_any(&self.includes, path)
            && !ant::fits_any(&self.excludes, path)
            && !(self.defaults && ant::fits_any(DEFAULT, given))
    }
}

/// What `archiveArtifacts` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Which files.
    pub pick: Pick,
    /// The patterns, as they are given.
    pub patterns: String,
    /// No files are no failure.
    pub allow_empty: bool,
    /// Hashes of files are kept.
    pub fingerprint: bool,
    /// Links are kept as what they lead to.
    pub follow: bool,
    /// Nothing is kept of a run that is no success.
    pub only_successful: bool,
}

/// What `stash` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stash {
    /// Its name.
    pub name: String,
    /// Which files.
    pub pick: Pick,
    /// No files are no failure.
    pub allow_empty: bool,
}

/// A truth value, as it is or as text; what it is where nothing is said.
fn truth(arguments: &Json, name: &str, default: bool) -> bool {
    match &arguments[name] {
        Json::Bool(value) => *value,
        Json::String(text) => text == "true",
        _ => default,
    }
}

impl Archive {
    /// From a step's arguments.
    pub fn of(arguments: &Json) -> Self {
        let text = |name: &str| arguments[name].as_str().unwrap_or_default();
        let (defaults, case) = (truth(arguments, "defaultExcludes", true), truth(arguments, "caseSensitive", true));
        Self {
            pick: Pick::new(text("artifacts"), text("excludes"), defaults, case),
            patterns: text("artifacts").to_string(),
            allow_empty: truth(arguments, "allowEmptyArchive", false),
            fingerprint: truth(arguments, "fingerprint", false),
            follow: truth(arguments, "followSymlinks", true),
            only_successful: truth(arguments, "onlyIfSuccessful", false),
        }
    }

    /// What is said of no files.
    ///
    /// # Errors
    /// The step fails.
    pub fn nothing(&self) -> Result<String, String> {
        let text =
            format!("No artifacts found that match the file pattern \"{}\". Configuration error?", self.patterns);
        if self.allow_empty { Ok(text) } else { Err(text) }
    }
}

impl Stash {
    /// From a step's arguments.
    ///
    /// # Errors
    /// It has no name that can be one.
    pub fn of(arguments: &Json) -> Result<Self, String> {
        let text = |name: &str| arguments[name].as_str().unwrap_or_default();
        let includes = Some(text("includes")).filter(|includes| !includes.trim().is_empty()).unwrap_or("**");
        Ok(Self {
            name: stash_name(text("name"))?,
            pick: Pick::new(includes, text("excludes"), truth(arguments, "useDefaultExcludes", true), true),
            allow_empty: truth(arguments, "allowEmpty", false),
        })
    }

    /// What is said of no files.
    ///
    /// # Errors
    /// The step fails.
    pub fn nothing(&self) -> Result<String, String> {
        let text = format!("No files included in stash '{}'", self.name);
        if self.allow_empty { Ok(text) } else { Err(text) }
    }
}

/// A stash's name, if it is one.
///
/// # Errors
/// It is none.
pub fn stash_name(name: &str) -> Result<String, String> {
    let odd = |letter: char| letter.is_control() || "?*/\\%!@#$^&|<>[]:;".contains(letter);
    match name.trim() {
        "" => Err("a stash needs a name".into()),
        "." | ".." => Err(format!("{name:?} is no name of a stash")),
        name if name.len() > 200 || name.contains(odd) => {
            Err(format!("{name:?} is no name of a stash: letters, digits, - and _ are, 200 bytes at most"))
        }
        name => Ok(name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_include_and_leave_out() {
        let pick = Pick::new("**/*.jar, docs\\**", "**/*-sources.jar", true, true);
        for (path, expected) in [
            ("a.jar", true),
            ("target/a.jar", true),
            ("target/a-sources.jar", false),
            ("docs/x/y.html", true),
            ("docs/.git/config", false),
            ("docs/.gitignore", false),
            ("docs/a~", false),
            ("A.JAR", false),
        ] {
            assert_eq!(pick.wants(path), expected, "{path}");
        }
        assert!(Pick::new("**/*.jar", "", true, false).wants("A.JAR"));
        assert!(Pick::new("**", "", false, true).wants(".git/config"));
        assert!(!Pick::new("", "", true, true).wants("a"));
    }

    #[test]
    fn no_files_fail_unless_that_is_allowed() {
        let archive = Archive::of(&json!({ "artifacts": "*.jar" }));
        assert!(archive.nothing().unwrap_err().contains("\"*.jar\""));
        assert!(archive.follow && !archive.fingerprint && !archive.only_successful);
        assert!(Archive::of(&json!({ "artifacts": "*", "allowEmptyArchive": "true" })).nothing().is_ok());
        let stash = Stash::of(&json!({ "name": "built" })).unwrap();
        assert_eq!(stash.nothing().unwrap_err(), "No files included in stash 'built'");
        assert!(stash.pick.wants("a/b") && !stash.pick.wants(".git/x"));
        assert!(Stash::of(&json!({ "name": "a", "allowEmpty": true })).unwrap().nothing().is_ok());
    }

    #[test]
    fn stashes_have_plain_names() {
        for name in ["", " ", "..", "a/b", "a\0b", "a\nb", &"x".repeat(201)] {
            assert!(stash_name(name).is_err(), "{name:?}");
        }
        for name in ["built", "linux amd64", "빌드", "a.b-c_d"] {
            assert_eq!(stash_name(name).as_deref(), Ok(name));
        }
    }
}
