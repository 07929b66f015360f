//! DELETE of one object or of a collection.
//!
//! ```text
//! pods       grace period > 0: marked with a deletion time; the node deletes with grace 0 when the containers are gone
//! finalizers marked with a deletion time; gone with the update that takes the last finalizer
//! otherwise  gone at once
//! ```
//!
//! What becomes of dependents is for the garbage collector: the policy is left for it as a finalizer (`orphan`,
//! `foregroundDeletion`), or as nothing for background deletion.
//!
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::sync::Arc;

use api::{
    meta::{self, View},
    status::Status,
    strategy,
};
use http::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serve::body::Body;

use crate::{
    admission::{self, Operation},
    cache::Listed,
    call::Call,
    commit::{self, Extra, Next, Step, Stored},
    convert, crd, decode,
    encode::{self, List},
    object::Object,
    options::{DeleteOptions, ListOptions, Propagation},
    read,
    registry::{Resource, Served},
    selection::Selection,
    server::Server,
    write::Target,
};

const TRIES: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion came to.
#[derive(Debug)]
pub struct Deleted {
    /// The object: its last state, or the state in which it waits.
    pub object: Arc<Object>,
    /// Whether it is gone.
    pub gone: bool,
}

/// DELETE of one object.
pub async fn delete(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    read::wire(call, served, version)?;
    let options = options(call).await?;
    let target = Target::of(call, resource, version);
    let deleted = remove(server, call, target, &options).await?;
    let kind = &served.kind;
    let code = if !deleted.gone && options.orphan_dependents == Some(false) { 202 } else { 200 };
    if !deleted.gone || returns_object(served) {
        return read::shown(server, call, resource, version, &deleted.object, code).await;
    }
    let value = deleted.object.value();
    Ok(call.status(&Status::deleted(kind.resource(), meta::name(&value), meta::uid(&value))))
}

async fn options(call: &Call) -> Result<DeleteOptions, Status> {
    match decode::plain(call, "DeleteOptions").await? {
        Some(body) => DeleteOptions::from_body(&body),
        None => DeleteOptions::from_query(&call.query),
    }
}

/// Kinds of which upstream shows the object that was deleted, not just a status.
fn returns_object(served: &Served) -> bool {
    matches!(
        (served.kind.group, served.kind.plural),
        (
            "",
            "pods"
                | "services"
                | "serviceaccounts"
                | "namespaces"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        ) | (
            "storage.k8s.io",
            "csidrivers" | "csinodes" | "storageclasses" | "volumeattachments" | "volumeattributesclasses"
        ) | ("resource.k8s.io", _)
    )
}

/// What happens next to an object that is to be deleted: a pure decision.
#[derive(Debug, PartialEq)]
enum Fate {
    /// Nothing; it is on its way already.
    Wait,
    /// It gets this state.
    Mark(Value),
    /// It goes.
    Remove,
}

/// Deletes an object, or sets its deletion going.
pub async fn remove(
    server: &Server,
    call: &Call,
    target: Target<'_>,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    let (resource, served) = (target.resource, target.served());
    let kind = &served.kind;
    let key: Arc<str> = target.key().into();
    for _ in 0..TRIES {
        server.fresh().await?;
        let Some(current) = resource.cache.get(&key) else {
            return Err(Status::not_found(kind.resource(), target.name));
        };
        let old = convert::read(server, resource, served, &current).await?;
        preconditions(served, target.name, &old, options)?;
        let attributes = Target { sub: "", ..target }.attributes(call, Operation::Delete, options.dry_run);
        admission::validate(server, &attributes, None, Some(&old)).await?;
        let (next, extra, gone) = match decide(served, &old, options, server.now()) {
            Fate::Wait => return Ok(Deleted { object: current, gone: false }),
            Fate::Mark(new) => (Next::Put(new), Extra::default(), false),
            Fate::Remove => (Next::Remove(None), server.allocate(&attributes, None, Some(&old))?, true),
        };
        let (seen, dry_run) = (Some(&current), options.dry_run);
        let step = Step { target, seen, next, tracked: None, extra, dry_run };
        match commit::store(server, step).await? {
            Stored::Done(object) => return Ok(Deleted { object, gone }),
            Stored::Same(object) => return Ok(Deleted { object, gone: false }),
            Stored::Lost(_) => {}
        }
    }
    Err(Status::conflict(kind.resource(), target.name, "the object is being modified by others; please try again"))
}

fn preconditions(served: &Served, name: &str, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let kind = served.kind.group_kind();
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(old)) {
        return Err(Status::delete_uid_precondition(kind, name, uid, meta::uid(old)));
    }
    let version = meta::resource_version(old);
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return Err(Status::delete_version_precondition(kind, name, wanted, version));
    }
    Ok(())
}

fn decide(served: &Served, old: &Value, options: &DeleteOptions, now: Timestamp) -> Fate {
    let mut new = old.clone();
    let deleting = meta::deletion_timestamp(old);
    let requested = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let mut marked = false;
    if served.kind.is("", "Pod") {
        match (deleting, meta::deletion_grace_period_seconds(old).unwrap_or(0)) {
            (Some(_), 0) => {}
            (Some(when), left) => match requested {
                Some(period) if period < left => {
                    let (when, period) = shortened(when, left, period, now);
                    meta::set_deletion(&mut new, when, period);
                    marked = period > 0;
                }
                _ => return Fate::Wait,
            },
            (None, _) => {
                let period = strategy::pod::grace_period_seconds(old, requested);
                if period > 0 {
                    meta::set_deletion(&mut new, now + SignedDuration::from_secs(period), period);
                    marked = true;
                }
            }
        }
    } else if served.kind.is("apiextensions.k8s.io", "CustomResourceDefinition") && deleting.is_none() {
        // Its objects go first.
        let mut finalizers: Vec<String> = meta::finalizers(&new).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|name| name == crd::FINALIZER) {
            finalizers.push(crd::FINALIZER.to_owned());
        }
        meta::set_finalizers(&mut new, &finalizers);
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        crd::set_condition(&mut new, "Terminating", "True", "InstanceDeletionPending", message, &meta::rfc3339(now));
    } else if served.kind.is("", "Namespace") {
        // A namespace waits for its contents: the finalizer in its spec.
        let finalizers = View::new(old).at("spec").list("finalizers").next().is_some();
        if deleting.is_none() {
            meta::set_deletion(&mut new, now, 0);
            meta::metadata_mut(&mut new).remove("deletionGracePeriodSeconds");
            meta::object_at(&mut new, "status").insert("phase".to_owned(), "Terminating".into());
            dependents(served, &mut new, options);
            return Fate::Mark(new);
        }
        if finalizers {
            return Fate::Wait;
        }
    }
    if deleting.is_none() || !marked {
        dependents(served, &mut new, options);
    }
    if !meta::finalizers(&new).is_empty() && !marked {
        if deleting.is_none_or(|when| when.parse::<Timestamp>().is_ok_and(|when| when > now)) {
            meta::set_deletion(&mut new, now, 0);
        } else {
            meta::metadata_mut(&mut new).insert("deletionGracePeriodSeconds".to_owned(), 0.into());
        }
        marked = true;
    }
    if !marked {
        return Fate::Remove;
    }
    if deleting.is_none() && meta::generation(old) > 0 {
        meta::set_generation(&mut new, meta::generation(old) + 1);
    }
    Fate::Mark(new)
}

/// A deletion that was to take `left` seconds is now to take `period`, counted from its start.
fn shortened(when: &str, left: i64, period: i64, now: Timestamp) -> (Timestamp, i64) {
    let begun = when.parse::<Timestamp>().unwrap_or(now) - SignedDuration::from_secs(left);
    let due = begun + SignedDuration::from_secs(period);
    if due >= now {
        return (due, period);
    }
    // The time is over; a graceful deletion still leaves the last word to the node.
    (now, if period == 0 { 0 } else { 1 })
}

/// Puts the finalizers in place that tell the garbage collector what becomes of dependents.
fn dependents(served: &Served, new: &mut Value, options: &DeleteOptions) {
    if served.kind.kind == "Event" && matches!(served.kind.group, "" | "events.k8s.io") {
        return;
    }
    let own: Vec<String> = meta::finalizers(new).into_iter().map(str::to_owned).collect();
    let policy = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) => Some(Propagation::Orphan),
        (Some(false), _) => Some(Propagation::Background),
        (None, policy) => policy,
    };
    let policy = policy.unwrap_or_else(|| {
        if own.iter().any(|name| name == ORPHAN) {
            Propagation::Orphan
        } else if own.iter().any(|name| name == FOREGROUND) {
            Propagation::Foreground
        } else if matches!(
            (served.kind.group, served.kind.kind),
            ("", "ReplicationController") | ("batch", "Job" | "CronJob")
        ) {
            Propagation::Orphan
        } else {
            Propagation::Background
        }
    });
    let mut finalizers: Vec<String> =
        own.iter().filter(|name| !matches!(name.as_str(), ORPHAN | FOREGROUND)).cloned().collect();
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let same = own.len() == finalizers.len() && own.iter().all(|name| finalizers.contains(name));
    if !same {
        meta::set_finalizers(new, &finalizers);
    }
}

/// DELETE of a collection: what is selected is deleted one by one, and shown as it was.
pub async fn delete_collection(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    let (wire, _) = read::wire(call, served, version)?;
    let list = ListOptions::parse(&call.query, false)?;
    let options = options(call).await?;
    let selection = Selection::parse(resource, version, &call.info, &list)?;
    server.fresh().await?;
    let (listed, more) = read::collect(server, resource, served, &selection, &list).await?;
    for object in &listed.objects {
        let target =
            Target { resource, version, sub: "", namespace: resource.namespace_of(object), name: object.name() };
        match remove(server, call, target, &options).await {
            Err(status) if status.code() != 404 => return Err(status),
            _ => {}
        }
    }
    let listed = Listed { revision: server.feed.applied().get().max(listed.revision), ..listed };
    match encode::list(resource, wire, listed, more, server.now())? {
        List::Whole(bytes) => Ok(call.answer(200, wire.format.content_type(), bytes)),
        List::Pieces(pieces) => {
            let mut whole = Vec::with_capacity(pieces.len());
            pieces.for_each(|piece| whole.extend_from_slice(&piece));
            Ok(call.answer(200, wire.format.content_type(), whole.into()))
        }
    }
}

#[cfg(test)]
mod tests;
