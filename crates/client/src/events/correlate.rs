//! Which events are written, and as what: repetitions are counted, similar ones combined, and floods cut off.
//!
//! ```text
//! event ─► said before: its count rises
//!       ─► ten others with the same reason within ten minutes: "(combined from similar events)"
//!       ─► its object has used up its share (25, one more every five minutes): dropped
//! ```
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>, with the limits of client-go.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// Events about one object at once.
const BURST: f64 = 25.0;
/// How long until it may have one more.
const REFILL: Duration = Duration::from_secs(300);
/// Different messages of one kind within [`SIMILAR_WITHIN`] before they are combined.
const SIMILAR: usize = 10;
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// Entries remembered of each sort; past it the memory starts anew, and repetitions become events of their own.
const MEMORY: usize = 4096;

/// What an event is about and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    /// The object's uid.
    pub uid: String,
    /// The part of the object.
    pub field: String,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// The reason.
    pub reason: String,
    /// The words.
    pub message: String,
}

/// An event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// How often it has happened.
    pub count: i32,
    /// When it happened first: names the event.
    pub first: Timestamp,
    /// The words, which may be combined ones.
    pub message: String,
}

/// What was said before.
#[derive(Debug, Default)]
pub struct Correlator {
    buckets: HashMap<String, (f64, Timestamp)>,
    groups: HashMap<Said, (HashSet<String>, Timestamp)>,
    counts: HashMap<Said, (i32, Timestamp)>,
}

impl Correlator {
    /// What is written of an event; `None` if it is dropped.
    pub fn take(&mut self, mut said: Said, now: Timestamp) -> Option<Written> {
        for full in [self.buckets.len() >= MEMORY, self.groups.len() >= MEMORY, self.counts.len() >= MEMORY] {
            if full {
                *self = Self::default();
            }
        }
        let group = Said { message: String::new(), ..said.clone() };
        let (messages, last) = self.groups.entry(group.clone()).or_insert_with(|| (HashSet::new(), now));
        if now.duration_since(*last) > SIMILAR_WITHIN {
            messages.clear();
        }
        *last = now;
        let mut message = said.message.clone();
        if messages.contains(&message) || messages.len() < SIMILAR {
            messages.insert(message.clone());
        } else {
            message = format!("(combined from similar events): {message}");
            said = group;
        }
        if !self.spend(&said.uid, now) {
            return None;
        }
        let (count, first) = self.counts.entry(said).or_insert((0, now));
        *count = count.saturating_add(1);
        Some(Written { count: *count, first: *first, message })
    }

    /// Takes one from the share of an object.
    fn spend(&mut self, uid: &str, now: Timestamp) -> bool {
        let (left, last) = self.buckets.entry(uid.to_owned()).or_insert((BURST, now));
        let passed = Duration::try_from(now.duration_since(*last)).unwrap_or_default();
        *left = (*left + passed.as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        *last = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(uid: &str, message: &str) -> Said {
        Said { uid: uid.into(), field: String::new(), kind: "Normal", reason: "R".into(), message: message.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn repetitions_are_counted() {
        let mut memory = Correlator::default();
        let first = memory.take(said("a", "x"), at(0)).unwrap();
        let second = memory.take(said("a", "x"), at(5)).unwrap();
        assert_eq!((first.count, second.count, second.first), (1, 2, at(0)));
        assert_eq!(memory.take(said("b", "x"), at(5)).unwrap().count, 1);
    }

    #[test]
    fn many_similar_ones_are_combined() {
        let mut memory = Correlator::default();
        for n in 0..SIMILAR {
            let written = memory.take(said("a", &n.to_string()), at(0)).unwrap();
            assert_eq!((written.count, written.message), (1, n.to_string()));
        }
        let eleventh = memory.take(said("a", "new"), at(0)).unwrap();
        assert_eq!(eleventh.message, "(combined from similar events): new");
        assert_eq!(memory.take(said("a", "newer"), at(0)).unwrap().count, 2);
        // What was said before is still itself, and after a while the memory of it is gone.
        assert_eq!(memory.take(said("a", "3"), at(0)).unwrap().message, "3");
        assert_eq!(memory.take(said("a", "late"), at(700)).unwrap().message, "late");
    }

    #[test]
    fn a_flood_about_one_object_is_cut_off() {
        let mut memory = Correlator::default();
        let written = (0..100).filter(|_| memory.take(said("a", "x"), at(0)).is_some()).count();
        assert_eq!(written, 25);
        assert!(memory.take(said("b", "x"), at(0)).is_some());
        assert!(memory.take(said("a", "x"), at(299)).is_none());
        assert!(memory.take(said("a", "x"), at(600)).is_some());
    }
}
