//! ResourceQuotas of the namespace: what an object uses is charged in the commit that stores it.
//!
//! ```text
//! turn (one at a time, a namespace) ─ charge: status.used as it will be ─ commit: object and quotas, both or none
//! ```
//!
//! So nothing is charged that is not stored, and two servers cannot give away the same remainder. What is freed is counted
//! anew by the quota controller.

use std::hash::{BuildHasher, Hasher, RandomState};

use api::{
    admit::quota::{self, Change, Counted},
    amount, json, meta,
    status::Status,
};
use serde_json::Value;
use store::{Compare, Op, Revision};
use tokio::sync::{Mutex, MutexGuard};

use super::{Attributes, Operation};
use crate::{commit::Extra, selection::Selection, server::Server};

/// Who may charge: requests of one namespace stand in line rather than disturb each other's commits.
#[derive(Debug, Default)]
pub struct Turns {
    lines: [Mutex<()>; 32],
    hasher: RandomState,
}

impl Turns {
    async fn of(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(namespace.as_bytes());
        let line = usize::try_from(hasher.finish() % 32).unwrap_or_default();
        self.lines[line].lock().await
    }
}

/// Whether quotas may count towards what is requested.
pub fn concerns(server: &Server, attributes: &Attributes<'_>) -> bool {
    !attributes.namespace.is_empty()
        && attributes.kind.namespaced
        && attributes.kind.plural != "events"
        && matches!(attributes.operation, Operation::Create | Operation::Update)
        && server
            .resource("", "resourcequotas")
            .is_ok_and(|quotas| quotas.cache.any_below(&quotas.scope(attributes.namespace)))
}

/// Waits for one's turn to charge; to be kept until the commit.
pub async fn turn<'a>(server: &'a Server, attributes: &Attributes<'_>) -> Option<MutexGuard<'a, ()>> {
    if concerns(server, attributes) { Some(server.turns.of(attributes.namespace).await) } else { None }
}

/// Charges all quotas that apply, or refuses.
pub fn charge(
    server: &Server,
    attributes: &Attributes<'_>,
    new: &Value,
    old: Option<&Value>,
    extra: &mut Extra,
) -> Result<(), Status> {
    let kind = Counted { group: attributes.kind.storage_group, plural: attributes.kind.plural };
    if !concerns(server, attributes) || !kind.measures(attributes.sub, new, old) {
        return Ok(());
    }
    let quotas = server.resource("", "resourcequotas")?;
    let change = Change { kind, new, old, enforced: attributes.sub != "status", now: server.now() };
    for object in quotas.cache.all(&Selection::everything(&quotas.scope(attributes.namespace))) {
        let mut state = object.owned();
        let Some(used) = quota::charge(&state, change).map_err(|why| attributes.refuse(why))? else { continue };
        meta::object_at(&mut state, "status").insert("used".to_owned(), amount::write(&used));
        let key = object.key().clone();
        extra.compare.push(Compare { key: key.clone(), mod_revision: Revision::new(object.revision()) });
        extra.ops.push(Op::Put { key, value: json::to_canonical(&state) });
    }
    Ok(())
}
