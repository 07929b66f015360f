//! Requests of forges that wait: which are written down before they are acknowledged, and what is started of them: pure decisions.
//!
//! ```text
//! request ─ take ─► in the pipeline's status ─► acknowledged
//!                      └─ due ─► run, or a look at the repository ─► remembered as taken ─► out of the status
//! ```
//!
//! Of a change only the newest request waits, and one look serves all pushes before it. Whatever leaves the status is remembered as taken before,
//! so that a sender who heard no answer and tries again starts nothing a second time, and nothing older than what was started.

use std::collections::{HashMap, HashSet};

use super::{change, hook::Event};
use crate::kind::{Pipeline, Waiting};

/// Requests of one pipeline that wait; its definition says so too.
const MOST: usize = 100;
/// Bytes of all of them: an object has room for other things.
const MOST_BYTES: usize = 256 << 10;

/// What is done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing more than to say this: it starts nothing, or waits already.
    Told(String),
    /// It is written down first.
    Kept {
        /// What is said then.
        told: String,
        /// What is written.
        waiting: Waiting,
        /// Those that need not wait any more, since this one is newer.
        replaced: Vec<String>,
    },
}

/// There is no room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait: send it again later")]
pub struct Full;

/// Decides about a request that is genuine and new; `delivery` tells it from others.
///
/// # Errors
/// There is no room for it.
pub fn take(pipeline: &Pipeline, delivery: &str, event: &Event) -> Result<Taken, Full> {
    let (name, mut waiting, told) = match event {
        Event::Ping => return Ok(Taken::Told("it works".to_owned())),
        Event::Other(kind) => return Ok(Taken::Told(format!("{kind:?} starts nothing"))),
        Event::Push(push) => (&push.reference, Waiting::default(), format!("{} is looked at", push.reference)),
        Event::Change(changed) => {
            let waiting = Waiting {
                number: 0,
                reference: Some(changed.reference.clone()),
                commit: Some(changed.commit.clone()),
                change: Some(changed.change.clone()),
            };
            (&changed.reference, waiting, format!("a run of {} starts", changed.reference))
        }
    };
    let none = std::collections::BTreeMap::new();
    let there = pipeline.status.as_ref().map_or(&none, |status| &status.waiting);
    if there.contains_key(delivery) {
        return Ok(Taken::Told(told));
    }
    let why = if pipeline.spec.suspend {
        Some("the pipeline is suspended")
    } else if pipeline.spec.git.is_none() {
        Some("the pipeline names no repository elsewhere")
    } else if !is_wanted(pipeline, &waiting) {
        Some("no pattern of spec.branches is about it")
    } else {
        None
    };
    if let Some(why) = why {
        return Ok(Taken::Told(format!("{name} starts nothing: {why}")));
    }
    waiting.number = there.values().map(|one| one.number).max().unwrap_or_default().saturating_add(1);
    let (replaced, others): (Vec<_>, Vec<_>) = there.iter().partition(|(_, one)| one.reference == waiting.reference);
    let all = others.iter().map(|(key, one)| (key.as_str(), *one)).chain([(delivery, &waiting)]);
    if others.len() >= MOST || all.map(size).sum::<usize>() > MOST_BYTES {
        return Err(Full);
    }
    let replaced = replaced.into_iter().map(|(delivery, _)| delivery.clone()).collect();
    Ok(Taken::Kept { told, waiting, replaced })
}

/// What is to be done about those that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due<'a> {
    /// Those whose runs are to start, in their order.
    pub start: Vec<(&'a str, &'a Waiting)>,
    /// Those for which the repository is to be looked at.
    pub look: Vec<&'a str>,
    /// Those that start nothing: newer ones came, or the pipeline has changed.
    pub drop: Vec<&'a str>,
}

/// What is to be done, without those that `done` says were acted upon. A pipeline that is suspended keeps them.
pub fn due<'a>(pipeline: &'a Pipeline, done: &HashSet<String>) -> Due<'a> {
    let mut due = Due::default();
    let Some(status) = pipeline.status.as_ref().filter(|_| !pipeline.spec.suspend) else { return due };
    let mut all: Vec<(&str, &Waiting)> =
        status.waiting.iter().map(|(key, one)| (key.as_str(), one)).filter(|(key, _)| !done.contains(*key)).collect();
    all.sort_by_key(|(key, one)| (one.number, *key));
    // The last of each change.
    let newest: HashMap<Option<&str>, &str> = all.iter().map(|(key, one)| (one.reference.as_deref(), *key)).collect();
    for (key, one) in all {
        match one.reference.as_deref() {
            _ if pipeline.spec.git.is_none() || !is_wanted(pipeline, one) => due.drop.push(key),
            None => due.look.push(key),
            reference if newest.get(&reference) != Some(&key) => due.drop.push(key),
            Some(_) => due.start.push((key, one)),
        }
    }
    due
}

/// Whether it is about what the pipeline's patterns name; a look finds that out itself.
fn is_wanted(pipeline: &Pipeline, one: &Waiting) -> bool {
    one.reference.as_deref().is_none_or(|reference| change::fits(&pipeline.spec.branches, reference))
}

/// Bytes of one that waits.
fn size((delivery, one): (&str, &Waiting)) -> usize {
    // What cannot be written has no room anywhere.
    serde_json::to_vec(one).map_or(usize::MAX / MOST / 2, |bytes| bytes.len() + delivery.len() + 4)
}

#[cfg(test)]
mod tests;
