//! From a state that was seen to the next one: the only place where objects are written.
//!
//! ```text
//! seen (or nothing) ─ next ─ stored form ─┬─ the same bytes: nothing to do
//!                                         ├─ dry run: as if
//!                                         └─ commit "nobody was faster" ─ caches have it ─ answer
//! ```
//!
//! What comes with an object, a Service's addresses or the usage of a quota, is committed together with it.

use std::sync::Arc;

use api::{json, status::Status};
use serde_json::Value;
use store::{Compare, Op, Outcome, Revision, Txn};

use crate::{
    apply::Tracked,
    object::Object,
    server::{Server, store_failed},
    write::Target,
};

/// What else a commit does.
#[derive(Debug, Default)]
pub struct Extra {
    /// Further conditions.
    pub compare: Vec<Compare>,
    /// Further writes.
    pub ops: Vec<Op>,
}

/// What becomes of an object.
#[derive(Debug)]
pub enum Next {
    /// It has this state, in the version of the target.
    Put(Value),
    /// It is gone; its last state, if that is not the one that was seen.
    Remove(Option<Value>),
}

/// One step of one object.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which object.
    pub target: Target<'a>,
    /// The state from which the step was decided; none for a creation.
    pub seen: Option<&'a Arc<Object>>,
    /// Where it leads.
    pub next: Next,
    /// Who owns its fields then; where that is not said, the state says it itself.
    pub tracked: Option<&'a Tracked>,
    /// What goes with it.
    pub extra: Extra,
    /// Whether nothing is stored.
    pub dry_run: bool,
}

/// What a step came to.
#[derive(Debug)]
pub enum Stored {
    /// It was taken; the object as it is now, or was last.
    Done(Arc<Object>),
    /// There was nothing to change.
    Same(Arc<Object>),
    /// Somebody was faster: at the object itself, or only at something that comes with it.
    Lost(bool),
}

/// Takes a step.
pub async fn store(server: &Server, step: Step<'_>) -> Result<Stored, Status> {
    let Step { target, seen, next, tracked, extra, dry_run } = step;
    let kind = &target.served().kind;
    let key: Arc<str> = target.key().into();
    let stored_form = async |value: Value| {
        let value = crate::convert::to_storage(server, target.resource, target.served(), value).await?;
        Ok::<_, Status>(match tracked {
            Some(tracked) => tracked.stored(&value, seen.map(|object| object.bytes())),
            None => json::to_canonical(&value),
        })
    };
    let (bytes, gone) = match next {
        Next::Put(value) => (Some(stored_form(value).await?), false),
        Next::Remove(None) => (None, true),
        Next::Remove(Some(last)) => (Some(stored_form(last).await?), true),
    };
    let unchanged = |object: &Arc<Object>| bytes.as_ref().is_none_or(|bytes| bytes == object.bytes());
    if let Some(object) = seen.filter(|object| !gone && unchanged(object)) {
        return Ok(Stored::Same(object.clone()));
    }
    let bytes = match (bytes, seen) {
        (Some(bytes), _) => bytes,
        (None, Some(object)) => object.bytes().clone(),
        (None, None) => return Err(Status::not_found(kind.resource(), target.name)),
    };
    let present = seen.map_or(0, |object| object.revision());
    if dry_run {
        if seen.is_none() && target.resource.cache.get(&key).is_some() {
            return Err(Status::already_exists(kind.resource(), target.name));
        }
        return Ok(Stored::Done(Object::new(key, bytes, present)));
    }
    let wanted = Revision::new(present);
    let mut compare = vec![Compare { key: key.clone(), mod_revision: wanted }];
    compare.extend(extra.compare);
    let op = if gone {
        Op::Delete { key: key.clone() }
    } else {
        Op::Put { key: key.clone(), value: server.sealed(&key, &bytes)? }
    };
    let mut ops = vec![op];
    ops.extend(extra.ops);
    match server.feed.store().commit(Txn { compare, ops }).await {
        Ok(Outcome::Committed(revision)) => {
            let object = Object::new(key, bytes, revision.get());
            server.written(&object).await;
            Ok(Stored::Done(object))
        }
        Ok(Outcome::Conflict(current)) => {
            let found =
                current.first().map(|entry| entry.as_ref().map_or(Revision::ABSENT, |entry| entry.mod_revision));
            Ok(Stored::Lost(found != Some(wanted)))
        }
        Err(error) => Err(store_failed(kind.resource(), &error)),
    }
}
