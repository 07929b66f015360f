//! `currentBuild.changeSets`: what has been committed since the run before, as scripts written for Jenkins look at it.
//!
//! ```text
//! changeSets ─ one of kind git ─ items ─ commitId, author, msg, comment, timestamp, affectedPaths, affectedFiles ─ path, editType
//! ```
//!
//! Fields are found by name and by getter. <https://javadoc.jenkins.io/plugin/git/hudson/plugins/git/GitChangeSet.html>

use std::{any::Any, sync::Arc};

use groovy::{
    fault::Outcome,
    host::Foreign,
    interpret::Strand,
    value::{Value, map::Map},
};
use serde::{Deserialize, Serialize};

/// A commit that a run is the first to have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Commit {
    /// Its id.
    pub id: String,
    /// Who wrote it.
    pub author: String,
    /// Their address.
    pub email: String,
    /// When: seconds since 1970.
    pub time: i64,
    /// The message.
    pub message: String,
    /// Paths, each with `add`, `edit` or `delete`.
    pub paths: Vec<(String, String)>,
}

/// Something with fields and a way to be shown.
#[derive(Clone, Debug)]
struct Fields {
    class: &'static str,
    shown: String,
    fields: Map,
}

impl Foreign for Fields {
    fn class_name(&self) -> String {
        self.class.into()
    }

    fn show(&self) -> String {
        self.shown.clone()
    }

    fn get(&self, _strand: &mut Strand, name: &str) -> Outcome<Option<Value>> {
        Ok(self.fields.named(name))
    }

    fn set(&self, _strand: &mut Strand, _name: &str, _value: Value) -> Outcome<bool> {
        Ok(false)
    }

    fn call(&self, _strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        let Some(getter) = name.strip_prefix("get").filter(|_| arguments.is_empty()) else { return Ok(None) };
        let mut letters = getter.chars();
        let field: String =
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default();
        Ok(self.fields.named(&field))
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

fn fields(class: &'static str, shown: &str, all: Vec<(&str, Value)>) -> Value {
    let fields = all.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
    Value::Foreign(Arc::new(Fields { class, shown: shown.to_owned(), fields }))
}

/// The change sets of a run: none where nothing was committed.
pub(super) fn sets(commits: &[Commit]) -> Value {
    if commits.is_empty() {
        return Value::from(Vec::new());
    }
    let items: Vec<Value> = commits.iter().map(entry).collect();
    let set = fields(
        "GitChangeSetList",
        "GitChangeSetList",
        vec![
            ("kind", Value::from("git")),
            ("emptySet", Value::Bool(false)),
            ("logs", Value::from(items.clone())),
            ("items", Value::from(items)),
        ],
    );
    Value::from(vec![set])
}

fn entry(commit: &Commit) -> Value {
    let user = commit.email.split('@').next().unwrap_or_default();
    let author = fields(
        "User",
        &commit.author,
        vec![
            ("fullName", Value::from(commit.author.as_str())),
            ("displayName", Value::from(commit.author.as_str())),
            ("id", Value::from(user)),
        ],
    );
    let files = commit.paths.iter().map(|(how, path)| {
        let kind = fields("EditType", how, vec![("name", Value::from(how.as_str()))]);
        fields("Path", path, vec![("path", Value::from(path.as_str())), ("editType", kind)])
    });
    let paths = commit.paths.iter().map(|(_, path)| Value::from(path.as_str()));
    let first = commit.message.lines().next().unwrap_or_default();
    fields(
        "GitChangeSet",
        &commit.id,
        vec![
            ("commitId", Value::from(commit.id.as_str())),
            ("id", Value::from(commit.id.as_str())),
            ("revision", Value::from(commit.id.as_str())),
            ("author", author),
            ("authorName", Value::from(commit.author.as_str())),
            ("authorEmail", Value::from(commit.email.as_str())),
            ("msg", Value::from(first)),
            ("title", Value::from(first)),
            ("comment", Value::from(commit.message.as_str())),
            ("timestamp", Value::whole(commit.time.saturating_mul(1000))),
            ("affectedPaths", Value::from(paths.collect::<Vec<_>>())),
            ("paths", Value::from(files.clone().collect::<Vec<_>>())),
            ("affectedFiles", Value::from(files.collect::<Vec<_>>())),
        ],
    )
}
