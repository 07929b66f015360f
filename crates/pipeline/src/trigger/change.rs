//! Requests of forges about change requests: pull requests of GitHub, Gitea and Gogs, merge requests of GitLab.
//!
//! What they say is shown to scripts, and no more: the commits of a run are what the reference of the change leads to when it starts.
//!
//! Forms: [GitHub](https://docs.github.com/webhooks/webhook-events-and-payloads#pull_request),
//! [Gitea](https://docs.gitea.com/usage/webhooks), [GitLab](https://docs.gitlab.com/user/project/integrations/webhook_events/#merge-request-events).

use serde_json::Value as Json;

use crate::{ant, kind::Change};

/// Characters of what a forge says of a change.
const LONGEST: usize = 1024;

/// A change that was opened, or that has other commits now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The reference that its commits have in the repository: `refs/pull/7/head`.
    pub reference: String,
    /// The last of its commits, as the forge says.
    pub commit: String,
    /// What the forge knows of it.
    pub change: Change,
}

/// Whether an event is about change requests.
pub(super) fn is_about(kind: &str) -> bool {
    matches!(kind, "pull_request" | "pull_request_sync" | "merge request hook")
}

/// Reads a request; none where nothing was opened and no commit came: a change that is closed, labelled, approved.
pub(super) fn read(json: &Json) -> Option<Changed> {
    if json["object_attributes"].is_object() { of_gitlab(json) } else { of_github(json) }
}

/// Whether runs of a change are wanted: only where a pattern names such references. Branches, however generously named, are no changes: those
/// may come from anybody.
pub fn fits(patterns: &[String], reference: &str) -> bool {
    let about = |pattern: &&String| pattern.starts_with("refs/") && !pattern.starts_with("refs/tags/");
    patterns.iter().filter(about).any(|pattern| ant::fits(pattern, reference))
}

fn text(value: &Json) -> Option<String> {
    let text = value.as_str().filter(|text| !text.trim().is_empty())?;
    Some(text.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

/// A commit's id, as it is used in names.
fn commit(value: &Json) -> Option<String> {
    text(value).filter(|id| id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn address(value: &Json) -> Option<String> {
    text(value).filter(|address| address.contains('@'))
}

fn of_github(json: &Json) -> Option<Changed> {
    let request = &json["pull_request"];
    if !matches!(json["action"].as_str()?, "opened" | "reopened" | "synchronize" | "synchronized") {
        return None;
    }
    let id = json["number"].as_u64().or_else(|| request["number"].as_u64())?;
    let (head, base, user) = (&request["head"], &request["base"], &request["user"]);
    Some(Changed {
        reference: format!("refs/pull/{id}/head"),
        commit: commit(&head["sha"])?,
        change: Change {
            id: id.to_string(),
            branch: text(&head["ref"]),
            target: text(&base["ref"]),
            fork: fork(text(&head["repo"]["full_name"]), text(&base["repo"]["full_name"])),
            url: text(&request["html_url"]).or_else(|| text(&request["url"])),
            title: text(&request["title"]),
            author: text(&user["login"]),
            author_display_name: text(&user["full_name"]).or_else(|| text(&user["name"])),
            author_email: address(&user["email"]),
        },
    })
}

fn of_gitlab(json: &Json) -> Option<Changed> {
    let request = &json["object_attributes"];
    match request["action"].as_str()? {
        "open" | "reopen" => {}
        // Of updates those that brought commits name the one before.
        "update" if request["oldrev"].is_string() => {}
        _ => return None,
    }
    let id = request["iid"].as_u64()?;
    // Who did it now is not always who wrote it.
    let none = Json::Null;
    let user = if json["user"]["id"] == request["author_id"] { &json["user"] } else { &none };
    Some(Changed {
        reference: format!("refs/merge-requests/{id}/head"),
        commit: commit(&request["last_commit"]["id"])?,
        change: Change {
            id: id.to_string(),
            branch: text(&request["source_branch"]),
            target: text(&request["target_branch"]),
            fork: fork(
                text(&request["source"]["path_with_namespace"]),
                text(&request["target"]["path_with_namespace"]),
            ),
            url: text(&request["url"]),
            title: text(&request["title"]),
            author: text(&user["username"]),
            author_display_name: text(&user["name"]),
            author_email: address(&user["email"]),
        },
    })
}

/// The repository that a change comes from where that is another: its owner, and its name where that is another too.
fn fork(from: Option<String>, to: Option<String>) -> Option<String> {
    let (from, to) = (from?, to?);
    let (owner, name) = from.rsplit_once('/')?;
    match from == to {
        true => None,
        false if to.rsplit_once('/').is_some_and(|(_, other)| other == name) => Some(owner.to_owned()),
        false => Some(from.clone()),
    }
}

#[cfg(test)]
mod tests;
