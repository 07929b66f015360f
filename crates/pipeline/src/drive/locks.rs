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
    /// The highest number of a run that has passed a milestone, by pipeline and milestone.
    passed: HashMap<(String, i64), u64>,
}

/// A run's UID and an ask's key.
pub type Holder = (String, String);

impl Locks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what a run's journal says that it holds.
    pub(crate) fn taken_up(&self, uid: &str, known: &HashMap<String, (String, Known)>) {
        let mut state = self.state();
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
        self.state().held.retain(|_, (run, _)| run != uid);
        self.changed.notify_waiters();
    }

    /// Passes a milestone: the run that passed it already and is newer, if there is one.
    pub fn pass(&self, pipeline: &str, ordinal: i64, number: u64) -> Result<(), u64> {
        let mut state = self.state();
        let later =
            state.passed.iter().filter(|((of, at), _)| of == pipeline && *at >= ordinal).map(|(_, by)| *by).max();
        if let Some(newer) = later.filter(|newer| *newer > number) {
            return Err(newer);
        }
        let passed = state.passed.entry((pipeline.to_owned(), ordinal)).or_default();
        *passed = number.max(*passed);
        Ok(())
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
        locks.taken_up("run", &known.into_iter().map(|(key, known)| (key.to_owned(), known)).collect());
        assert!(locks.take_if_free("n/a", holder("x")));
        assert!(!locks.take_if_free("n/b", holder("x")));
    }

    #[test]
    fn an_older_run_does_not_pass_a_milestone_behind_a_newer_one() {
        let locks = Locks::default();
        assert_eq!(locks.pass("p", 1, 5), Ok(()));
        assert_eq!(locks.pass("p", 1, 7), Ok(()));
        assert_eq!(locks.pass("p", 1, 6), Err(7));
        assert_eq!(locks.pass("q", 1, 6), Ok(()));
        assert_eq!(locks.pass("p", 2, 6), Ok(()));
    }
}
