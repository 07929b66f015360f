//! What of a repository goes into its object's status: pure functions.

use std::collections::BTreeMap;

use git::repository::{References, Update};

use super::kind::{Change, Push, Status};

/// References that are listed. More than these fit no object; pushes to the others are not told.
pub const MOST_REFERENCES: usize = 2_000;
/// Pushes that are listed.
pub const MOST_PUSHES: usize = 50;
/// Changes that one push lists.
const MOST_CHANGES: usize = 200;

/// Who has changed what, as the door saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pusher {
    /// The user's name.
    pub user: String,
    /// What `git push -o` said.
    pub options: Vec<String>,
    /// What was changed.
    pub updates: Vec<Update>,
}

/// Branches and tags, at most as many as are listed; whether there are more.
pub fn listed(references: &References) -> (BTreeMap<String, String>, bool) {
    let mut listed = BTreeMap::new();
    let mut kept =
        references.iter().filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"));
    for (name, target) in kept.by_ref().take(MOST_REFERENCES) {
        listed.insert(name.to_owned(), target.id.to_string());
    }
    (listed, kept.next().is_some())
}

/// The status after what was pushed since `before`: one push for each that the door saw, and one more for what it did not
/// see, because the server was killed in between. None where nothing is new.
pub fn pushed(before: &Status, now: &BTreeMap<String, String>, seen: &[Pusher], time: &str) -> Option<Status> {
    let mut status = before.clone();
    let mut add = |references: &mut BTreeMap<String, String>, user, options, updates: Vec<Change>| {
        for change in &updates {
            match &change.new {
                Some(new) => references.insert(change.reference.clone(), new.clone()),
                None => references.remove(&change.reference),
            };
        }
        status.sequence += 1;
        let updates = updates.into_iter().take(MOST_CHANGES).collect();
        status.pushes.push(Push { number: status.sequence, time: time.to_owned(), user, options, updates });
    };
    let mut references = before.references.clone();
    for pusher in seen {
        let changes = pusher.updates.iter().map(|update| Change {
            reference: update.name.clone(),
            old: update.old.map(|id| id.to_string()),
            new: update.new.map(|id| id.to_string()),
        });
        // What stands there already was told by a turn before this one.
        let changes: Vec<Change> =
            changes.filter(|change| references.get(&change.reference) != change.new.as_ref()).collect();
        if !changes.is_empty() {
            add(&mut references, Some(pusher.user.clone()), pusher.options.clone(), changes);
        }
    }
    let gone = references.keys().filter(|name| !now.contains_key(*name));
    let mut others: Vec<Change> =
        gone.map(|name| Change { reference: name.clone(), old: references.get(name).cloned(), new: None }).collect();
    let made = now.iter().filter(|(name, id)| references.get(*name) != Some(id));
    others.extend(made.map(|(name, id)| Change {
        reference: name.clone(),
        old: references.get(name).cloned(),
        new: Some(id.clone()),
    }));
    if !others.is_empty() {
        add(&mut references, None, Vec::new(), others);
    }
    if status.sequence == before.sequence {
        return None;
    }
    let extra = status.pushes.len().saturating_sub(MOST_PUSHES);
    status.pushes.drain(..extra);
    status.references = now.clone();
    Some(status)
}

/// Whether a reference is protected: patterns name branches, a `*` any part.
pub fn is_protected(patterns: &[String], reference: &str) -> bool {
    let Some(branch) = reference.strip_prefix("refs/heads/") else { return false };
    patterns.iter().any(|pattern| matches(pattern, branch))
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests;
