//! What runs hold against each other: locks of resources, and milestones.
//!
//! A lock is one of a namespace, held by a run's ask. Which run holds what is in the journals: a run that goes on after a restart takes
//! up its own again ([`Locks::taken_up`]) before it asks for anything. Who waits is served in the order of asking.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value as Json;
use tokio::sync::Notify;

use crate::{record::journal::Known, run::world::Answer};

/// Locks and milestones of all runs.
#[derive(Debug, Default)]
pub struct Locks {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Resource, with its namespace, to whoever holds it: run and ask.
    held: HashMap<String, Holder>,
    /// Who waits, in order.
    waiting: BTreeMap<u64, (String, Holder)>,
    last: u64,
    /// What of milestones was passed, by pipeline.
    passed: HashMap<String, Passed>,
    /// How far runs on their way have come, by UID.
    at: HashMap<String, At>,
}

/// Milestones with the highest number of a run that has passed them. One that says no more than a later one does is left out.
pub type Passed = BTreeMap<i64, u64>;

/// How far a run has come.
#[derive(Debug)]
struct At {
    pipeline: String,
    number: u64,
    ordinal: i64,
}

/// Milestones that are kept of a pipeline.
const MOST: usize = 100;

/// What says something, the latest milestones first.
fn reduced(all: Passed) -> Passed {
    let (mut kept, mut highest) = (Passed::new(), 0);
    for (ordinal, number) in all.into_iter().rev() {
        if number > highest && kept.len() < MOST {
            highest = number;
            kept.insert(ordinal, number);
        }
    }
    kept
}

/// A run's UID and an ask's key.
pub type Holder = (String, String);

impl Locks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what a run's journal says that it holds.
    pub(crate) fn taken_up(
        &self,
        uid: &str,
        (pipeline, number): (&str, u64),
        known: &HashMap<String, (String, Known)>,
    ) {
        let mut state = self.state();
        let milestones = known.values().filter_map(|(name, known)| match (&**name, known) {
            ("milestone", Known::Answered(Answer::Done(value))) => value.get("ordinal").and_then(Json::as_i64),
            _ => None,
        });
        if let Some(ordinal) = milestones.max() {
            state.at.insert(uid.to_owned(), At { pipeline: pipeline.to_owned(), number, ordinal });
        }
        let over: Vec<&str> = known
            .values()
            .filter_map(|(name, known)| match (&**name, known) {
                ("lock.end", Known::Answered(Answer::Done(value))) => value.get("id").and_then(Json::as_str),
                _ => None,
            })
            .collect();
        for (name, known) in known.values() {
            if let ("lock", Known::Answered(Answer::Done(value))) = (&**name, known) {
                let field = |name: &str| value.get(name).and_then(Json::as_str);
                let (Some(id), Some(full)) = (field("id"), field("full")) else { continue };
                if !over.contains(&id) {
                    state.held.insert(full.to_owned(), (uid.to_owned(), id.to_owned()));
                }
            }
        }
    }

    /// Waits for a resource, and takes it.
    pub async fn take(&self, resource: &str, holder: Holder) {
        let ticket = {
            let mut state = self.state();
            state.last += 1;
            let ticket = state.last;
            state.waiting.insert(ticket, (resource.to_owned(), holder.clone()));
            ticket
        };
        let waiting = Waiting { locks: self, ticket };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.try_take(resource, ticket) {
                drop(waiting);
                return;
            }
            changed.await;
        }
    }

    /// Takes a resource that is free, without waiting.
    pub fn take_if_free(&self, resource: &str, holder: Holder) -> bool {
        let mut state = self.state();
        let free = !state.held.contains_key(resource) && !state.waiting.values().any(|(wanted, _)| wanted == resource);
        if free {
            state.held.insert(resource.to_owned(), holder);
        }
        free
    }

    fn try_take(&self, resource: &str, ticket: u64) -> bool {
        let mut state = self.state();
        let Some((_, holder)) = state.waiting.get(&ticket).cloned() else { return false };
        if state.held.get(resource) == Some(&holder) {
            return true;
        }
        let first = state.waiting.iter().find(|(_, (wanted, _))| wanted == resource).map(|(ticket, _)| *ticket);
        if state.held.contains_key(resource) || first != Some(ticket) {
            return false;
        }
        state.held.insert(resource.to_owned(), holder);
        true
    }

    /// Gives a resource back.
    pub fn give(&self, resource: &str, holder: &Holder) {
        let mut state = self.state();
        if state.held.get(resource) == Some(holder) {
            state.held.remove(resource);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Gives back all that a run holds.
    pub fn released(&self, uid: &str) {
        let mut state = self.state();
        state.held.retain(|_, (run, _)| run != uid);
        state.at.remove(uid);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Passes a milestone, where `stands` is what is known of the pipeline from before: what is to be kept from now on, and the UIDs of
    /// older runs on their way that have not come so far, and never will.
    ///
    /// # Errors
    /// The number of a newer run that has passed it already.
    pub fn pass(
        &self,
        pipeline: &str,
        ordinal: i64,
        (number, uid): (u64, &str),
        stands: &Passed,
    ) -> Result<(Passed, Vec<String>), u64> {
        let mut state = self.state();
        let passed = state.passed.entry(pipeline.to_owned()).or_default();
        for (ordinal, number) in stands {
            let known = passed.entry(*ordinal).or_default();
            *known = (*number).max(*known);
        }
        if let Some(newer) = passed.range(ordinal..).map(|(_, by)| *by).max().filter(|newer| *newer > number) {
            return Err(newer);
        }
        passed.insert(ordinal, number);
        *passed = reduced(std::mem::take(passed));
        let kept = passed.clone();
        let older =
            state.at.iter().filter(|(_, at)| at.pipeline == pipeline && at.number < number && at.ordinal < ordinal);
        let older = older.map(|(uid, _)| uid.clone()).collect();
        state.at.insert(uid.to_owned(), At { pipeline: pipeline.to_owned(), number, ordinal });
        Ok((kept, older))
    }
}

struct Waiting<'a> {
    locks: &'a Locks,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.locks.state().waiting.remove(&self.ticket);
        self.locks.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn holder(run: &str) -> Holder {
        (run.to_owned(), "0".to_owned())
    }

    #[tokio::test]
    async fn a_resource_has_one_holder_and_those_who_wait_come_in_order() {
        let locks = Arc::new(Locks::default());
        locks.take("n/board", holder("a")).await;
        assert!(!locks.take_if_free("n/board", holder("x")));
        assert!(locks.take_if_free("n/other", holder("x")));
        let mut second = Box::pin(locks.take("n/board", holder("b")));
        let mut third = Box::pin(locks.take("n/board", holder("c")));
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        locks.give("n/board", &holder("nobody"));
        assert!(futures::poll!(&mut second).is_pending());
        locks.released("a");
        assert!(futures::poll!(&mut third).is_pending());
        assert!(futures::poll!(&mut second).is_ready());
        locks.give("n/board", &holder("b"));
        third.await;
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_passed_by() {
        let locks = Locks::default();
        locks.take("r", holder("a")).await;
        let mut second = Box::pin(locks.take("r", holder("b")));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        locks.give("r", &holder("a"));
        locks.take("r", holder("c")).await;
    }

    #[test]
    fn what_a_run_held_before_a_restart_it_holds_again() {
        let locks = Locks::default();
        let lock =
            |id: &str, full: &str| ("lock".to_owned(), Known::Answered(Answer::Done(json!({"id": id, "full": full}))));
        let over = ("lock.end".to_owned(), Known::Answered(Answer::Done(json!({"id": "0"}))));
        let known = [("0", lock("0", "n/a")), ("5", lock("5", "n/b")), ("1", over)];
        locks.taken_up("run", ("n/p", 1), &known.into_iter().map(|(key, known)| (key.to_owned(), known)).collect());
        assert!(locks.take_if_free("n/a", holder("x")));
        assert!(!locks.take_if_free("n/b", holder("x")));
    }

    #[test]
    fn an_older_run_does_not_pass_a_milestone_behind_a_newer_one() {
        let locks = Locks::default();
        let none = Passed::new();
        let pass = |pipeline: &str, ordinal: i64, number: u64| {
            locks.pass(pipeline, ordinal, (number, &number.to_string()), &none).map(|(_, older)| older)
        };
        assert_eq!(pass("p", 1, 5), Ok(vec![]));
        assert_eq!(pass("p", 1, 7), Ok(vec![]));
        assert_eq!(pass("p", 1, 6), Err(7));
        assert_eq!(pass("q", 1, 6), Ok(vec![]));
        // The fifth had passed the first, and is not let through to the second any more.
        assert_eq!(pass("p", 2, 7), Ok(vec!["5".to_owned()]));
        assert_eq!(pass("p", 2, 5), Err(7));
        locks.released("5");
        assert_eq!(pass("p", 3, 7), Ok(vec![]));
    }

    #[test]
    fn milestones_are_known_after_a_restart() {
        let locks = Locks::default();
        let (kept, _) = locks.pass("p", 3, (7, "a"), &Passed::new()).unwrap();
        let after = Locks::default();
        assert_eq!(after.pass("p", 3, (6, "b"), &kept), Err(7));
        let (kept, _) = after.pass("p", 1, (8, "c"), &kept).unwrap();
        assert_eq!(kept, Passed::from([(1, 8), (3, 7)]));
        // Where each run passes a milestone of its own number, one line is enough.
        let mut kept = Passed::new();
        for number in 1..500 {
            kept = after.pass("q", number as i64, (number, "x"), &kept).unwrap().0;
        }
        assert_eq!(kept, Passed::from([(499, 499)]));
        // A run that had come somewhere before the restart is ended by a newer one that goes further.
        let done = ("milestone".to_owned(), Known::Answered(Answer::Done(json!({"ordinal": 1}))));
        after.taken_up("old", ("r", 3), &HashMap::from([("4".to_owned(), done)]));
        assert_eq!(after.pass("r", 2, (4, "new"), &Passed::new()).unwrap().1, ["old"]);
    }
}
