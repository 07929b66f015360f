//! Admission webhooks: others that are asked before something is stored, and may change it or refuse it.
//!
//! ```text
//! request ─ rules ─ namespaceSelector ─ objectSelector ─> AdmissionReview ─> webhook ─┬─ allowed (with a patch)
//!              └ matchPolicy Equivalent: in another version                           ├─ denied: refused in its words
//!                                                                                     └─ no answer: failurePolicy
//! ```
//!
//! Mutating webhooks are asked one after the other, in the order of their configurations' names, and those that wish it once
//! more after later ones changed the object; validating ones all at once. Configurations of admission itself are exempt, so
//! that nobody locks the cluster out.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

mod configuration;
mod review;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use api::{
    defaults,
    meta::{self, Qualified, View},
    patch,
    patch::PatchError,
    status::Status,
    structural,
    structural::UnknownFields,
};
use configuration::Hook;
use review::Verdict;
use serde_json::Value;

use crate::{
    admission::{Attributes, Operation},
    convert,
    registry::{Resource, Served},
    server::Server,
};

/// The webhooks as they are configured now, read when somebody needs them after a change.
#[derive(Debug, Default)]
pub struct Hooks {
    mutating: Mutex<(u64, Arc<Vec<Hook>>)>,
    validating: Mutex<(u64, Arc<Vec<Hook>>)>,
}

/// Which of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Mutating,
    Validating,
}

impl Phase {
    fn plural(self) -> &'static str {
        match self {
            Phase::Mutating => "mutatingwebhookconfigurations",
            Phase::Validating => "validatingwebhookconfigurations",
        }
    }
}

const GROUP: &str = "admissionregistration.k8s.io";

impl Hooks {
    fn of(&self, server: &Server, phase: Phase) -> Result<Arc<Vec<Hook>>, Status> {
        let resource = server.resource(GROUP, phase.plural())?;
        let kept = match phase {
            Phase::Mutating => &self.mutating,
            Phase::Validating => &self.validating,
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = resource.cache.generation();
        if kept.0 != generation {
            *kept = (generation, Arc::new(configuration::read(&resource)));
        }
        Ok(kept.1.clone())
    }
}

/// What a request shows to webhooks: an object in the version of the request, and perhaps in another one that a rule names.
#[derive(Debug)]
struct Subject<'a> {
    attributes: &'a Attributes<'a>,
    /// The resource; none where the object is no stored one (bindings, options of connections).
    resource: Option<Arc<Resource>>,
    /// Group, version, kind of the object as the request has it.
    kind: meta::Gvk,
    object: Option<Value>,
    old: Option<Value>,
}

/// A webhook that a request is to be shown to, and in which version.
#[derive(Debug)]
struct Invocation {
    hook: usize,
    /// Group and version of the resource, as the rule names them.
    group: String,
    version: String,
    kind: meta::Gvk,
}

/// Asks the mutating webhooks. `object` may be changed by them.
///
/// `again` names those that are to be asked once more; none the first time. The answer says which are to be asked once more
/// after the server's own rules have looked at what they made of the object; none if nothing was changed.
pub async fn mutate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&mut Value>,
    old: Option<&Value>,
    again: Option<&BTreeSet<String>>,
) -> Result<Option<BTreeSet<String>>, Status> {
    if is_exempt(attributes) {
        return Ok(None);
    }
    let hooks = server.hooks.of(server, Phase::Mutating)?;
    if hooks.is_empty() {
        return Ok(None);
    }
    let mut subject = Subject::new(server, attributes, object.as_deref().cloned(), old.cloned());
    let (mut asked, mut once_more, mut changed) = (BTreeSet::new(), BTreeSet::new(), false);
    for (position, hook) in hooks.iter().enumerate() {
        let Some(invocation) = subject.invocation(server, hook, position).await? else { continue };
        if again.is_some_and(|again| !again.contains(&hook.uid)) {
            continue;
        }
        let mut new = None;
        let verdict = ask(server, &subject, hook, &invocation, Phase::Mutating, &mut new).await;
        if let Some(new) = new {
            changed = true;
            once_more.append(&mut asked);
            subject.object = Some(new);
        }
        if hook.reinvoked {
            asked.insert(hook.uid.clone());
        }
        verdict?;
    }
    if let (true, Some(place), Some(new)) = (changed, object, subject.object) {
        *place = new;
        once_more.append(&mut asked);
        return Ok(Some(once_more));
    }
    Ok(None)
}

/// Asks the validating webhooks, all at once; the first refusal counts.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    if is_exempt(attributes) {
        return Ok(());
    }
    let hooks = server.hooks.of(server, Phase::Validating)?;
    if hooks.is_empty() {
        return Ok(());
    }
    let subject = Subject::new(server, attributes, object.cloned(), old.cloned());
    let mut invocations = Vec::new();
    for (position, hook) in hooks.iter().enumerate() {
        invocations.extend(subject.invocation(server, hook, position).await?);
    }
    let asked = invocations.iter().map(async |invocation| {
        ask(server, &subject, &hooks[invocation.hook], invocation, Phase::Validating, &mut None).await
    });
    futures::future::join_all(asked).await.into_iter().collect()
}

/// Asks both kinds about an action: a sub-resource that is posted or connected to, whose body is what they look at.
pub async fn act(server: &Server, attributes: &Attributes<'_>, body: &mut Value) -> Result<(), Status> {
    mutate(server, attributes, Some(body), None, None).await?;
    validate(server, attributes, Some(body), None).await
}

/// Configurations of admission are nobody's to refuse; and a binding was shown when it was posted, before the pod changed.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    if attributes.sub == "binding" && attributes.operation == Operation::Update {
        return true;
    }
    attributes.kind.group == GROUP
        && (attributes.kind.kind.ends_with("WebhookConfiguration") || attributes.kind.kind.contains("AdmissionPolicy"))
}

impl<'a> Subject<'a> {
    fn new(server: &Server, attributes: &'a Attributes<'a>, object: Option<Value>, old: Option<Value>) -> Self {
        let own = attributes.kind;
        let sub = own.subresource(attributes.sub);
        let kind = match sub {
            // Sub-resources that are views of the object have its kind in the table too.
            Some(sub) => meta::Gvk::new(sub.group, sub.version, sub.kind),
            None => own.gvk(),
        };
        let resource = server.feed.registry().resource(own.storage_group, own.plural).cloned();
        let whole = kind == own.gvk();
        Self { attributes, resource: resource.filter(|_| whole), kind, object, old }
    }

    /// Whether a webhook is to be asked, and in which version.
    async fn invocation(&self, server: &Server, hook: &Hook, position: usize) -> Result<Option<Invocation>, Status> {
        let (attributes, kind) = (self.attributes, self.attributes.kind);
        let matches = |group: &str, version: &str| {
            let namespaced = kind.namespaced && !kind.is("", "Namespace");
            hook.rules
                .iter()
                .any(|rule| rule.matches(attributes.operation, namespaced, group, version, kind.plural, attributes.sub))
        };
        let invocation = |group: &str, version: &str, kind: meta::Gvk| Invocation {
            hook: position,
            group: group.to_owned(),
            version: version.to_owned(),
            kind,
        };
        let mut found =
            matches(kind.group, kind.version).then(|| invocation(kind.group, kind.version, self.kind.clone()));
        if found.is_none() && hook.equivalent {
            let others = self.resource.iter().flat_map(|resource| &resource.versions).map(|served| &served.kind);
            let other = others
                .filter(|other| (other.group, other.version) != (kind.group, kind.version))
                .find(|other| matches(other.group, other.version));
            found = other.map(|other| invocation(other.group, other.version, other.gvk()));
        }
        let Some(found) = found else { return Ok(None) };
        if !self.in_namespace(server, hook).await? {
            return Ok(None);
        }
        let selected =
            |object: &Option<Value>| object.as_ref().is_some_and(|object| hook.objects.matches_object(object));
        if !(hook.objects.is_everything() || selected(&self.object) || selected(&self.old)) {
            return Ok(None);
        }
        if let Some(name) = &hook.condition {
            let why = format!(
                "webhook {:?} has match condition {name:?}, and this server does not evaluate match conditions yet",
                hook.name
            );
            return if hook.fails { Err(attributes.refuse(why)) } else { Ok(None) };
        }
        Ok(Some(found))
    }

    async fn in_namespace(&self, server: &Server, hook: &Hook) -> Result<bool, Status> {
        let attributes = self.attributes;
        let itself = attributes.kind.is("", "Namespace");
        if hook.namespaces.is_everything() || !itself && attributes.namespace.is_empty() {
            return Ok(true);
        }
        if itself
            && attributes.sub.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update)
            && let Some(object) = &self.object
        {
            return Ok(hook.namespaces.matches_object(object));
        }
        let name = if itself { attributes.name } else { attributes.namespace };
        match server.find("", "namespaces", "", name).await? {
            Some(namespace) => Ok(hook.namespaces.matches_with(|label| namespace.label(label))),
            None => Err(Status::not_found(Qualified { group: "", name: "namespaces" }, name)),
        }
    }

    /// An object of the request in the version that a webhook wants.
    async fn shown(&self, server: &Server, kind: &meta::Gvk, object: &Value) -> Result<Value, Status> {
        match self.versions(kind) {
            Some((resource, own, wanted)) => convert::between(server, resource, own, wanted, object.clone()).await,
            None => Ok(object.clone()),
        }
    }

    /// The version of the request and another one, if `kind` is of another.
    fn versions(&self, kind: &meta::Gvk) -> Option<(&Arc<Resource>, &Served, &Served)> {
        let resource = self.resource.as_ref().filter(|_| *kind != self.kind)?;
        let version = |gvk: &meta::Gvk| resource.versions.iter().find(|served| served.kind.gvk() == *gvk);
        Some((resource, version(&self.kind)?, version(kind)?))
    }
}

/// Asks one webhook; `new` is set to what it makes of the object.
async fn ask(
    server: &Server,
    subject: &Subject<'_>,
    hook: &Hook,
    invocation: &Invocation,
    phase: Phase,
    new: &mut Option<Value>,
) -> Result<(), Status> {
    let attributes = subject.attributes;
    if attributes.dry_run && !hook.without_side_effects {
        return Err(Status::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)));
    }
    let failed = |why: String| {
        let text = format!("failed calling webhook {:?}: {why}", hook.name);
        if hook.fails {
            return Err(Status::internal(text));
        }
        tracing::warn!(webhook = hook.name, why, "webhook failed, and is ignored");
        Ok(())
    };
    let mut shown = [None, None];
    for (place, object) in shown.iter_mut().zip([&subject.object, &subject.old]) {
        if let Some(object) = object {
            *place = Some(subject.shown(server, &invocation.kind, object).await?);
        }
    }
    let [object, old] = shown;
    let uid = server.new_uid();
    let Some(document) = review::request(&uid, subject, invocation, hook, object.as_ref(), old.as_ref()) else {
        return failed("webhook does not accept known AdmissionReview versions (v1, v1beta1)".to_owned());
    };
    let answer = match hook.remote.post(server, &document, hook.timeout, true).await {
        Ok(answer) => answer,
        Err(why) => return failed(format!("failed to call webhook: {why}")),
    };
    let verdict = match review::verdict(&uid, hook.review, phase == Phase::Mutating, &answer) {
        Ok(verdict) => verdict,
        Err(why) => return failed(format!("received invalid webhook response: {why}")),
    };
    let Verdict { allowed, refusal, warnings, patch } = verdict;
    if let Some(call) = attributes.call {
        warnings.into_iter().for_each(|warning| call.warn(warning));
    }
    if !allowed {
        return Err(review::refused(&hook.name, refusal.as_ref()));
    }
    let Some(patch) = patch.filter(|patch| patch.as_array().is_none_or(|list| !list.is_empty())) else {
        return Ok(());
    };
    let Some(before) = object else {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    };
    let mut after = before.clone();
    match patch::json(&mut after, &patch) {
        Ok(()) => {}
        Err(PatchError::BadRequest(why)) => {
            return failed(format!("received undecodable patch in webhook response: {why}"));
        }
        Err(error) => return Err(Status::internal(format!("{error:?}"))),
    }
    complete(subject, invocation, &mut after)?;
    if View::new(&after).same(View::new(&before)) {
        return Ok(());
    }
    *new = Some(match subject.versions(&invocation.kind) {
        Some((resource, own, wanted)) => convert::between(server, resource, wanted, own, after).await?,
        None => after,
    });
    Ok(())
}

/// What a webhook made is checked against the schema and completed with defaults, as a body would be.
fn complete(subject: &Subject<'_>, invocation: &Invocation, object: &mut Value) -> Result<(), Status> {
    let wrong = |why: String| Status::internal(why);
    let kind = &invocation.kind;
    let Some(resource) = &subject.resource else {
        let schema = subject.attributes.kind.subresource(subject.attributes.sub).map_or("", |sub| sub.schema);
        if let Some(schema) = api::schema::Type::named(schema) {
            structural::check(schema, object, UnknownFields::Ignore).map_err(wrong)?;
            defaults::apply_type(&kind.group, &kind.version, &kind.kind, object);
        }
        return Ok(());
    };
    let served = resource.versions.iter().find(|served| served.kind.gvk() == *kind);
    match (&resource.definition, served) {
        (Some(definition), _) => {
            definition.decode(&kind.version, object, &[], UnknownFields::Ignore).map_err(wrong)?;
        }
        (None, Some(Served { schema: Some(schema), kind, .. })) => {
            structural::check(*schema, object, UnknownFields::Ignore).map_err(wrong)?;
            defaults::apply(kind, object);
        }
        _ => {}
    }
    Ok(())
}
