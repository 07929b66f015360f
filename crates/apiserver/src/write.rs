//! Creations, updates and patches: from a checked body to a commit.
//!
//! ```text
//! create   body ─ system fields ──┐
//!                                 ├─ mutate (admission, strategy) ─ validate (rules, admission) ─ charge ─ commit::store
//! update   ┌ current ─ change ────┘                                                                           │
//!          └───────────────────────────── someone else was faster: once more ─────────────────────────────────┘
//! ```
//!
//! An update that changes nothing commits nothing. One that takes the last finalizer from an object that is to be deleted
//! deletes it.

use std::sync::Arc;

use api::{
    meta,
    status::{Reason, Status},
    strategy, validate,
    validate::FieldError,
};
use http::Response;
use serde_json::Value;
use serve::body::Body;

use crate::{
    admission::{self, Attributes, Operation, quota},
    apply::{self, Tracked},
    call::Call,
    certificate,
    commit::{self, Extra, Next, Step, Stored},
    decode,
    object::Object,
    options::WriteOptions,
    read,
    registry::{Resource, Served},
    server::Server,
};

/// How often a name is generated before the client is told to try again.
const GENERATE: usize = 8;
/// How often an update is tried against others who are faster.
const TRIES: usize = 64;

/// Where an object is written: a resource in one version, perhaps one of its sub-resources.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The resource.
    pub resource: &'a Arc<Resource>,
    /// Index of the version.
    pub version: usize,
    /// Sub-resource, or "".
    pub sub: &'a str,
    /// Namespace, or "".
    pub namespace: &'a str,
    /// Name; "" while it is not known.
    pub name: &'a str,
}

impl<'a> Target<'a> {
    /// What the path of a call names.
    pub fn of(call: &'a Call, resource: &'a Arc<Resource>, version: usize) -> Self {
        let info = &call.info;
        let namespace = if resource.versions[version].kind.namespaced { info.namespace.as_str() } else { "" };
        Self { resource, version, sub: &info.subresource, namespace, name: &info.name }
    }

    /// The version.
    pub fn served(&self) -> &'a Served {
        &self.resource.versions[self.version]
    }

    /// The store's key.
    pub fn key(&self) -> String {
        self.resource.key(self.namespace, self.name)
    }

    /// A request as admission sees it.
    pub fn attributes<'b>(&self, call: &'b Call, operation: Operation, dry_run: bool) -> Attributes<'b>
    where
        'a: 'b,
    {
        Attributes {
            user: &call.user,
            operation,
            kind: &self.served().kind,
            sub: self.sub,
            namespace: self.namespace,
            name: self.name,
            dry_run,
            call: Some(call),
        }
    }
}

/// POST of an object.
pub async fn create(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    read::wire(call, served, version)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let value = decode::object(call, resource, served, options.field_validation).await?;
    let target = Target::of(call, resource, version);
    let object = insert(server, call, target, value, &options).await?;
    read::shown(server, call, resource, version, &object, 201).await
}

/// Creates an object that is already of the right type and complete with defaults.
pub async fn insert(
    server: &Server,
    call: &Call,
    target: Target<'_>,
    value: Value,
    options: &WriteOptions,
) -> Result<Arc<Object>, Status> {
    insert_as(server, call, target, value, options, Manner::default()).await
}

async fn insert_as(
    server: &Server,
    call: &Call,
    target: Target<'_>,
    mut value: Value,
    options: &WriteOptions,
    manner: Manner,
) -> Result<Arc<Object>, Status> {
    let kind = &target.served().kind;
    fit_namespace(target.namespace, &mut value)?;
    let metadata = meta::metadata_mut(&mut value);
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
    let sent = metadata.remove("managedFields");
    if !matches!(meta::resource_version(&value), "" | "0") {
        let text = "resourceVersion should not be set on objects to be created";
        return Err(Status::new(500, Reason::Unknown, text, None));
    }
    meta::set_resource_version(&mut value, "");
    drop_repeated_owners(call, &mut value);
    if target.resource.definition.as_ref().is_some_and(|definition| definition.terminating) {
        let text = "create not allowed while custom resource definition is terminating";
        return Err(Status::new(405, Reason::MethodNotAllowed, text, None));
    }
    let tracked = apply::created(call, target, &value, sent, options, manner, server.now());
    let generated = meta::name(&value).is_empty() && !meta::generate_name(&value).is_empty();
    let before = generated.then(|| value.clone());
    let mut tries = 0;
    loop {
        // Only a generated name is tried again, so that any other object is handed on without a copy.
        let mut value = before.clone().unwrap_or_else(|| std::mem::take(&mut value));
        if generated {
            let name = meta::generated_name(meta::generate_name(&value), || server.random());
            meta::set_name(&mut value, &name);
        }
        let name = meta::name(&value).to_owned();
        let target = Target { name: &name, ..target };
        match insert_named(server, call, target, value, &tracked, options).await {
            Err(status) if generated && status.reason() == Reason::AlreadyExists => {
                tries += 1;
                if tries == GENERATE {
                    return Err(Status::generate_name_conflict(kind.resource(), &name, 1));
                }
            }
            result => return result,
        }
    }
}

async fn insert_named(
    server: &Server,
    call: &Call,
    target: Target<'_>,
    mut value: Value,
    tracked: &Tracked,
    options: &WriteOptions,
) -> Result<Arc<Object>, Status> {
    let kind = &target.served().kind;
    let attributes = target.attributes(call, Operation::Create, options.dry_run);
    mutate(server, &attributes, target, &mut value, None).await?;
    // A lost race for what comes with the object, an address or a quota, is run again from here; the name can be lost only
    // once.
    let contends = attributes.is("", "Service") || quota::concerns(server, &attributes);
    let again = contends.then(|| value.clone());
    let _turn = quota::turn(server, &attributes).await;
    for round in 0..TRIES {
        let mut value = match &again {
            Some(value) => value.clone(),
            None => std::mem::take(&mut value),
        };
        let mut extra = server.allocate(&attributes, Some(&mut value), None)?;
        if round == 0 {
            validate(server, &attributes, target, &value, None).await?;
        }
        quota::charge(server, &attributes, &value, None, &mut extra)?;
        let (next, dry_run) = (Next::Put(value), options.dry_run);
        let step = Step { target, seen: None, next, tracked: Some(tracked), extra, dry_run };
        match commit::store(server, step).await? {
            Stored::Done(object) | Stored::Same(object) => return Ok(object),
            Stored::Lost(true) => return Err(Status::already_exists(kind.resource(), target.name)),
            Stored::Lost(false) if again.is_none() => break,
            Stored::Lost(false) => server.fresh().await?,
        }
    }
    Err(Status::server_timeout(kind.resource(), "create", 1))
}

/// The first half of a new state's road: what admission changes in it, and what belongs to the server alone.
async fn mutate(
    server: &Server,
    attributes: &Attributes<'_>,
    target: Target<'_>,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let (kind, now) = (&target.served().kind, server.now());
    admission::mutate(server, attributes, new, old).await?;
    match old {
        Some(old) => carry_over(new, old),
        None => {
            meta::set_uid(new, &server.new_uid());
            meta::set_creation_timestamp(new, now);
        }
    }
    match (&target.resource.definition, old) {
        (Some(definition), None) => definition.prepare_create(kind, new),
        (Some(definition), Some(old)) => definition.prepare_update(kind, target.sub, new, old),
        (None, None) => {
            strategy::prepare_create(kind, new);
            strategy::stamp(kind, new, None, now);
            certificate::sign_in(kind, attributes.user, new);
            if kind.is("apiextensions.k8s.io", "CustomResourceDefinition")
                && let Some(accepted) = crate::crd::accepted(&server.feed.registry(), new, &meta::rfc3339(now))
            {
                *new = accepted;
            }
        }
        (None, Some(old)) => {
            strategy::prepare_update(kind, target.sub, new, old);
            strategy::stamp(kind, new, Some(old), now);
        }
    }
    Ok(())
}

/// The second half: rules of its kind, then whoever may only refuse.
async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    target: Target<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let kind = &target.served().kind;
    let mut errors = match (&target.resource.definition, old) {
        (Some(definition), _) => definition.validate(kind, target.sub, new, old),
        (None, None) => validate::create(kind, new),
        (None, Some(old)) => validate::update(kind, target.sub, new, old),
    };
    errors.extend(certificate::errors(kind, new, old));
    if !errors.is_empty() {
        return Err(Status::invalid(kind.group_kind(), meta::name(new), &errors));
    }
    admission::validate(server, attributes, Some(new), old).await
}

/// Checks the namespace of a body against that of the path, and fills it in.
pub fn fit_namespace(namespace: &str, value: &mut Value) -> Result<(), Status> {
    let own = meta::namespace(value);
    if namespace.is_empty() {
        // Cluster-scoped objects lose what they bring.
        meta::set_namespace(value, "");
        return Ok(());
    }
    if !own.is_empty() && own != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta::set_namespace(value, namespace);
    Ok(())
}

fn drop_repeated_owners(call: &Call, value: &mut Value) {
    let owners = meta::owner_references(value);
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut repeated = Vec::new();
    for owner in owners {
        let uid = owner.get("uid").and_then(Value::as_str).unwrap_or_default();
        if kept.contains(owner) {
            repeated.push(uid.to_owned());
        } else {
            kept.push(owner.clone());
        }
    }
    if !repeated.is_empty() {
        call.warn(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject \
             such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        ));
        meta::set_owner_references(value, kept);
    }
}

/// Makes the new state of an object from the present one, in the version of the target.
pub type Change<'a> = dyn Fn(&Value) -> Result<Value, Status> + Send + Sync + 'a;

/// How an update behaves where the object is not as expected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Creates the object where there is none.
    pub upsert: bool,
    /// The change is made from the present object, so that a conflict is no reason to give up.
    pub retry: bool,
    /// The change brings the entries of `managedFields` that it comes to.
    pub tracked: bool,
    /// The change is the server's own: what admission, strategy and validation would do is done already.
    pub plain: bool,
}

/// What an update came to.
#[derive(Debug)]
pub struct Updated {
    /// The object now; the last state where it was deleted.
    pub object: Arc<Object>,
    /// Whether it was created.
    pub created: bool,
}

/// PUT of an object or a sub-resource that has its form.
pub async fn replace(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    read::wire(call, served, version)?;
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let value = decode::object(call, resource, served, options.field_validation).await?;
    let target = Target::of(call, resource, version);
    let updated = replace_with(server, call, target, value, &options).await?;
    read::shown(server, call, resource, version, &updated.object, if updated.created { 201 } else { 200 }).await
}

/// Replaces an object by one that is already of the right type.
pub async fn replace_with(
    server: &Server,
    call: &Call,
    target: Target<'_>,
    mut value: Value,
    options: &WriteOptions,
) -> Result<Updated, Status> {
    check_name(&value, target)?;
    fit_namespace(target.namespace, &mut value)?;
    drop_repeated_owners(call, &mut value);
    let unconditional = meta::resource_version(&value).is_empty();
    let upserts = target.resource.definition.is_none() && strategy::allows_create_on_update(&target.served().kind);
    let manner = Manner { upsert: target.sub.is_empty() && upserts, retry: unconditional, ..Manner::default() };
    update(server, call, target, &|_| Ok(value.clone()), options, manner).await
}

fn check_name(value: &Value, target: Target<'_>) -> Result<(), Status> {
    let (name, namespace) = (meta::name(value), meta::namespace(value));
    let wanted = target.name;
    if name.is_empty() {
        let why = "name must be provided";
        return Err(Status::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: {why}"
        )));
    }
    if name != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    }
    if !target.namespace.is_empty() && !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            target.namespace
        )));
    }
    Ok(())
}

/// Changes an object, as often as it takes to be the first to do so.
pub async fn update(
    server: &Server,
    call: &Call,
    target: Target<'_>,
    change: &Change<'_>,
    options: &WriteOptions,
    manner: Manner,
) -> Result<Updated, Status> {
    let (resource, served) = (target.resource, target.served());
    let kind = &served.kind;
    let key: Arc<str> = target.key().into();
    for _ in 0..TRIES {
        server.fresh().await?;
        let Some(current) = resource.cache.get(&key) else {
            if !manner.upsert {
                return Err(Status::not_found(kind.resource(), target.name));
            }
            let value = change(&Value::Null)?;
            check_name(&value, target)?;
            if !matches!(meta::resource_version(&value), "" | "0") || !meta::uid(&value).is_empty() {
                return Err(Status::not_found(kind.resource(), target.name));
            }
            server.may(call, "create", target).await?;
            let target = Target { name: "", ..target };
            let object = insert_as(server, call, target, value, options, manner).await?;
            return Ok(Updated { object, created: true });
        };
        let mut old = crate::convert::read(server, resource, served, &current).await?;
        let mut new = change(&old)?;
        check_name(&new, target)?;
        check_version(served, &new, &old, target.name)?;
        // An update that names no version is of whatever there is: validation sees it as one of this version.
        let metadata = meta::metadata_mut(&mut new);
        metadata.insert("resourceVersion".to_owned(), meta::resource_version(&old).into());
        let managed = (meta::metadata_mut(&mut old).remove("managedFields"), metadata.remove("managedFields"));
        let tracked = apply::updated(call, target, (&old, &new), managed, options, manner, server.now());
        let attributes = target.attributes(call, Operation::Update, options.dry_run);
        let mut extra = Extra::default();
        let _turn = if manner.plain {
            admission::validate(server, &attributes, Some(&new), Some(&old)).await?;
            None
        } else {
            mutate(server, &attributes, target, &mut new, Some(&old)).await?;
            extra = server.allocate(&attributes, Some(&mut new), Some(&old))?;
            validate(server, &attributes, target, &new, Some(&old)).await?;
            let turn = quota::turn(server, &attributes).await;
            quota::charge(server, &attributes, &new, Some(&old), &mut extra)?;
            turn
        };
        let next = if ends(kind.is("", "Namespace"), &new, &old) {
            let freed = Attributes { sub: "", ..attributes };
            extra = server.allocate(&freed, None, Some(&new))?;
            Next::Remove(Some(new))
        } else {
            Next::Put(new)
        };
        let (seen, tracked, dry_run) = (Some(&current), Some(&tracked), options.dry_run);
        let step = Step { target, seen, next, tracked, extra, dry_run };
        match commit::store(server, step).await? {
            Stored::Done(object) | Stored::Same(object) => return Ok(Updated { object, created: false }),
            Stored::Lost(true) if !manner.retry => return Err(Status::stale(kind.resource(), target.name)),
            Stored::Lost(_) => {}
        }
    }
    Err(Status::stale(kind.resource(), target.name))
}

/// What only the server sets stays as it is, whatever the client sends.
fn carry_over(new: &mut Value, old: &Value) {
    let kept = old.get("metadata").and_then(Value::as_object);
    let metadata = meta::metadata_mut(new);
    for field in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        match kept.and_then(|kept| kept.get(field)) {
            Some(value) => _ = metadata.insert(field.to_owned(), value.clone()),
            None => _ = metadata.remove(field),
        }
    }
}

fn check_version(served: &Served, new: &Value, old: &Value, name: &str) -> Result<(), Status> {
    let kind = &served.kind;
    let uid = meta::uid(new);
    if !uid.is_empty() && uid != meta::uid(old) {
        return Err(Status::update_precondition(kind.resource(), name, uid, meta::uid(old)));
    }
    match meta::resource_version(new) {
        "" | "0" if served.kind.is_custom() || !strategy::allows_unconditional_update(kind) => {
            let detail = "must be specified for an update";
            let error = FieldError::invalid("metadata.resourceVersion", 0, detail);
            Err(Status::invalid(kind.group_kind(), name, &[error]))
        }
        "" | "0" => Ok(()),
        version if version == meta::resource_version(old) => Ok(()),
        version if version.parse::<u64>().is_err() => {
            let detail = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
            Err(Status::bad_request(format!("invalid resource version {version:?}: {detail}")))
        }
        _ => Err(Status::stale(kind.resource(), name)),
    }
}

/// Whether an update takes the last finalizer from an object whose deletion waits for nothing else.
fn ends(namespace: bool, new: &Value, old: &Value) -> bool {
    let spec_finalizers = || meta::View::new(new).at("spec").list("finalizers").next().is_none();
    meta::finalizers(new).is_empty()
        && meta::deletion_timestamp(old).is_some()
        && meta::deletion_grace_period_seconds(old).unwrap_or(0) == 0
        && (!namespace || spec_finalizers())
}
