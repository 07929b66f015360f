//! Which runs pushes start: a pure decision over what a repository's status tells and up to which push a pipeline has acted.
//!
//! Each push of a matching branch is one run. What was acted on is a number in the pipeline's status, written after the runs were made; their
//! names are made from the push, so that one that is made again after a kill is there already.

use jiff::{SignedDuration, Timestamp};

use crate::{
    ant,
    repositories::kind::{Push, Status},
};

/// Runs that one look starts; the rest is seen at the next.
const MOST: usize = 100;
/// What `git push -o` says to start nothing, as forges have it.
const SKIP: [&str; 2] = ["ci.skip", "ci-skip"];

/// What a pipeline wants to know of pushes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Patterns of branches, and of tags as `refs/tags/...`; none is the default branch alone.
    pub patterns: &'a [String],
    /// The repository's default branch.
    pub default: &'a str,
    /// The last push that was acted on.
    pub acted: Option<u64>,
    /// When the pipeline was made: pushes before do not count.
    pub made: Timestamp,
    /// How long to wait for more pushes.
    pub quiet: SignedDuration,
}

/// A run to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The branch, or the tag as `refs/tags/NAME`.
    pub branch: String,
    /// The commit.
    pub commit: String,
    /// Who pushed it.
    pub user: Option<String>,
    /// The push's number.
    pub push: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Runs to start, in the order of their pushes.
    pub start: Vec<Wanted>,
    /// Up to which push this acts.
    pub push: u64,
    /// When to look again, if nothing else happens.
    pub next: Option<Timestamp>,
}

/// A reference as runs name it: a branch by its name, a tag with `refs/tags/`.
pub fn branch_of(reference: &str) -> Option<&str> {
    match reference.strip_prefix("refs/heads/") {
        Some(branch) => Some(branch),
        None => Some(reference).filter(|reference| reference.starts_with("refs/tags/")),
    }
}

/// Whether runs are wanted of a branch.
pub fn fits(patterns: &[String], default: &str, branch: &str) -> bool {
    match patterns {
        [] => branch == default,
        // `*` and `**` are about branches; tags are named.
        patterns => patterns.iter().any(|pattern| {
            branch.starts_with("refs/tags/") == pattern.starts_with("refs/tags/") && ant::fits(pattern, branch)
        }),
    }
}

/// What pushes start.
pub fn decide(asked: Asked<'_>, repository: &Status, now: Timestamp) -> Decision {
    // A repository of the same name that was made anew counts from the beginning.
    let acted = asked.acted.filter(|acted| *acted <= repository.sequence);
    let mut decision = Decision { start: Vec::new(), push: acted.unwrap_or(0), next: None };
    for push in repository.pushes.iter().filter(|push| acted.is_none_or(|acted| push.number > acted)) {
        let time: Option<Timestamp> = push.time.parse().ok();
        if asked.acted.is_none() && time.is_some_and(|time| time < asked.made) {
            decision.push = push.number;
            continue;
        }
        let due = time.and_then(|time| time.checked_add(asked.quiet).ok());
        if let Some(due) = due.filter(|due| *due > now && !asked.quiet.is_zero()) {
            decision.next = Some(due);
            break;
        }
        if decision.start.len() >= MOST {
            decision.next = Some(now);
            break;
        }
        decision.push = push.number;
        let found = started(asked, push);
        if !asked.quiet.is_zero() {
            // Only the last of a branch counts of those that came together.
            decision.start.retain(|other| !found.iter().any(|new| new.branch == other.branch));
        }
        decision.start.extend(found);
    }
    if decision.next.is_none() && repository.pushes.is_empty() {
        decision.push = repository.sequence;
    }
    decision
}

fn started(asked: Asked<'_>, push: &Push) -> Vec<Wanted> {
    if push.options.iter().any(|option| SKIP.contains(&option.as_str())) {
        return Vec::new();
    }
    let changes = push.updates.iter().filter_map(|change| {
        let (branch, commit) = (branch_of(&change.reference)?, change.new.clone()?);
        fits(asked.patterns, asked.default, branch).then(|| Wanted {
            branch: branch.to_string(),
            commit,
            user: push.user.clone(),
            push: push.number,
        })
    });
    changes.collect()
}

#[cfg(test)]
mod tests;
