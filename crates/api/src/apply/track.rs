//! Who owns what after a write: the rules of updates and of applying.
//!
//! ```text
//! update   live, new ── compare ──► others lose what changed or went; the writer owns what changed
//! apply    live, config ── merge ── take away what the manager applied before and no more, unless another owns it
//!                                 └ compare ──► conflicts where others own what changed, unless forced
//! ```
//!
//! Entries name fields in the version of the object in which they were written; each is compared in its own. An entry of a
//! version that is served no more is dropped.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>, `sigs.k8s.io/structured-merge-diff` v6 and
//! `k8s.io/apimachinery/pkg/util/managedfields`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::Comparison;
use super::element::Element;
use super::entries::{self, Entry, Operation};
use super::form::Form;
use super::set::Set;
use super::{check, fields, merge, reconcile};
use crate::meta;

/// How many entries of updates an object keeps; the oldest above that become one.
pub const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager of entries that became one.
const ANCIENT: &str = "ancient-changes";
/// The manager of what was there before anything was tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose client-side applying is taken over by server-side applying.
const KUBECTL: &str = "kubectl";
/// Where client-side applying keeps what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The longest annotations of an object may be, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What is known of a resource whose fields are owned.
pub struct Versions<'a> {
    /// Each served version, as `apiVersion` names it, with its type.
    pub served: Vec<(String, Form<'a>)>,
    /// An object of a served version in another one.
    pub convert: &'a (dyn Fn(&Value, &str) -> Value + Sync),
    /// Fields that the strategy of what is written resets: nobody owns them by such a write.
    pub reset: &'a Set,
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or the first word of the user agent; may be empty.
    pub manager: &'a str,
    /// `apiVersion` of what is written.
    pub api_version: &'a str,
    /// Sub-resource, or "".
    pub subresource: &'a str,
    /// Now, RFC 3339 to the second.
    pub now: &'a str,
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other's entry.
    pub owner: Entry,
    /// The field.
    pub path: Vec<Element>,
}

impl Conflict {
    /// `.spec.containers[name="a"].image`
    pub fn field(&self) -> String {
        self.path.iter().map(Element::to_string).collect()
    }
}

/// Why something cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what would change.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration, or the object that is there, is not of its type.
    #[error("{0}")]
    Type(String),
}

/// What applying comes to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The object, not yet complete with defaults, without `managedFields`.
    pub object: Value,
    /// Its entries, sorted.
    pub entries: Vec<Entry>,
}

impl Versions<'_> {
    fn form(&self, api_version: &str) -> Option<Form<'_>> {
        self.served.iter().find(|(own, _)| own == api_version).map(|(_, form)| *form)
    }

    fn in_version(&self, object: &Value, from: &str, to: &str) -> Option<(Form<'_>, Value)> {
        let form = self.form(to)?;
        Some((form, if from == to { object.clone() } else { (self.convert)(object, to) }))
    }
}

/// Entries after an update, a creation (`live` is null), or a patch that is no apply. `live` and `new` are in the writer's
/// version, `managed` are the entries that hold before it. An object that is there and is not tracked stays so.
pub fn update(
    versions: &Versions<'_>,
    live: &Value,
    new: &Value,
    managed: Vec<Entry>,
    writer: &Writer<'_>,
) -> Vec<Entry> {
    if managed.is_empty() && !meta::uid(live).is_empty() {
        return managed;
    }
    let mut managed = own_changes(versions, live, new, managed, writer);
    cap(&mut managed);
    entries::sort(&mut managed);
    managed
}

fn own_changes(
    versions: &Versions<'_>,
    live: &Value,
    new: &Value,
    managed: Vec<Entry>,
    writer: &Writer<'_>,
) -> Vec<Entry> {
    let Some(form) = versions.form(writer.api_version) else { return managed };
    let (live, new) = (bare(live), bare(new));
    let managed = reconciled(versions, managed);
    let compared = Comparisons::new(versions, form, &live, &new, writer.api_version);
    let (mut managed, changed) = compared.take_from_others(managed, None, true).unwrap_or_default();
    let own = strip(changed.changed()).recursive_difference(versions.reset);
    if own.is_empty() {
        return managed;
    }
    let entry = Entry {
        manager: if writer.manager.is_empty() { "unknown" } else { writer.manager }.to_owned(),
        operation: Operation::Update,
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.to_owned(),
        time: Some(writer.now.to_owned()),
        fields: own,
    };
    match managed.iter_mut().find(|other| other.is_of(&entry)) {
        Some(previous) => {
            previous.fields = previous.fields.union(&entry.fields);
            previous.time = entry.time;
        }
        None => managed.push(entry),
    }
    managed
}

/// Applies a configuration to an object (null where there is none). Both are in the writer's version, and without
/// `managedFields`.
pub fn apply(
    versions: &Versions<'_>,
    live: &Value,
    config: &Value,
    mut managed: Vec<Entry>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    let live = bare(live);
    if managed.is_empty() && !meta::uid(&live).is_empty() {
        let before = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        managed = own_changes(versions, &Value::Null, &live, Vec::new(), &before);
    }
    let mut applied = match apply_once(versions, &live, config, managed.clone(), writer, force) {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == KUBECTL => {
            let Some(allowed) = allowed_by_last_applied(versions, &live, writer.api_version) else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let left: Vec<Conflict> = conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect();
            if !left.is_empty() {
                return Err(ApplyError::Conflicts(left));
            }
            apply_once(versions, &live, config, managed, writer, true)?
        }
        other => other?,
    };
    if writer.manager == KUBECTL && !meta::annotation(&applied.object, LAST_APPLIED).is_empty() {
        remember_last_applied(&mut applied.object, config);
    }
    entries::sort(&mut applied.entries);
    Ok(applied)
}

fn apply_once(
    versions: &Versions<'_>,
    live: &Value,
    config: &Value,
    managed: Vec<Entry>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    let wrong = |what: &str, object: &Value, error: String| {
        let gvk = meta::Gvk::of(object).unwrap_or_default();
        let (namespace, name) = (meta::namespace(object), meta::name(object));
        ApplyError::Type(format!(
            "failed to create typed {what} object ({namespace}/{name}; {}): {error}",
            super::go_kind(&gvk)
        ))
    };
    let form = versions
        .form(writer.api_version)
        .ok_or_else(|| ApplyError::Type(format!("no type of {}", writer.api_version)))?;
    check::config(form, config).map_err(|error| wrong("patch", config, error))?;
    check::object(form, live).map_err(|error| wrong("live", live, error))?;
    let mut managed = reconciled(versions, managed);
    let mut entry = Entry {
        manager: writer.manager.to_owned(),
        operation: Operation::Apply,
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.to_owned(),
        time: None,
        fields: fields::of(form, config).recursive_difference(versions.reset),
    };
    let place = managed.iter().position(|other| other.is_of(&entry));
    let last = place.map(|at| managed.remove(at));
    entry.time = last.as_ref().and_then(|last| last.time.clone());

    let merged = merge::merge(form, live, config);
    managed.push(entry.clone());
    let object = match &last {
        Some(last) if !last.fields.is_empty() => pruned(versions, &merged, last, &managed, writer.api_version),
        _ => merged,
    };
    let compared = Comparisons::new(versions, form, live, &object, writer.api_version);
    let (mut managed, _) = compared.take_from_others(managed, Some(&entry), force)?;
    managed.retain(|other| !other.is_of(&entry));
    if !super::walk::same(live, &object) {
        entry.time = Some(writer.now.to_owned());
    }
    entry.fields = strip(entry.fields);
    if !entry.fields.is_empty() {
        managed.push(entry);
    }
    Ok(Applied { object, entries: managed })
}

/// The merged object without what was applied before and is not now, unless somebody else owns it.
fn pruned(versions: &Versions<'_>, merged: &Value, last: &Entry, managed: &[Entry], version: &str) -> Value {
    let Some((form, before)) = versions.in_version(merged, version, &last.api_version) else { return merged.clone() };
    let gone = last.fields.with_named_fields(Some(form));
    let cut = fields::without(form, &before, &gone).unwrap_or(Value::Null);
    // What is owned by anyone, in any version, comes back: first in the version that was cut, where conversion may need it.
    let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
    for entry in managed {
        let set = owned.entry(entry.api_version.as_str()).or_default();
        *set = set.union(&entry.fields);
    }
    let mut here = last.api_version.as_str();
    let (mut whole, mut cut) = (before.clone(), cut);
    let first = owned.remove(last.api_version.as_str()).map(|set| (last.api_version.as_str(), set));
    for (to, set) in first.into_iter().chain(owned) {
        let Some((form, converted)) = versions.in_version(&whole, here, to) else { continue };
        let Some((_, converted_cut)) = versions.in_version(&cut, here, to) else { continue };
        let kept = fields::of(form, &converted_cut).with_named_fields(Some(form));
        let kept = kept.union(&set.with_named_fields(Some(form)));
        let lost = fields::of(form, &converted).with_named_fields(Some(form)).difference(&kept);
        cut = fields::without(form, &converted, &lost).unwrap_or(Value::Null);
        whole = converted;
        here = to;
    }
    // What was never applied by this manager is not taken with what surrounds it.
    let Some((_, cut)) = versions.in_version(&cut, here, &last.api_version) else { return merged.clone() };
    let kept = fields::of(form, &cut).with_named_fields(Some(form));
    let lost = fields::of(form, &before).with_named_fields(Some(form)).difference(&kept).intersection(&gone);
    let result = fields::without(form, &before, &lost).unwrap_or(Value::Null);
    versions.in_version(&result, &last.api_version, version).map_or(result, |(_, result)| result)
}

/// Comparisons of one change, one a version.
struct Comparisons<'a> {
    versions: &'a Versions<'a>,
    live: &'a Value,
    new: &'a Value,
    version: &'a str,
    own: Comparison,
}

impl<'a> Comparisons<'a> {
    fn new(versions: &'a Versions<'a>, form: Form<'_>, live: &'a Value, new: &'a Value, version: &'a str) -> Self {
        let own = Comparison::of(form, live, new).without(versions.reset);
        Self { versions, live, new, version, own }
    }

    fn other(&self, version: &str) -> Option<Comparison> {
        let (form, live) = self.versions.in_version(self.live, self.version, version)?;
        let (_, new) = self.versions.in_version(self.new, self.version, version)?;
        Some(Comparison::of(form, &live, &new).without(self.versions.reset))
    }

    /// Takes from every entry but `own` what changed or went, and drops those that are left with nothing. Without `force`,
    /// fields that changed are conflicts.
    fn take_from_others(
        self,
        managed: Vec<Entry>,
        own: Option<&Entry>,
        force: bool,
    ) -> Result<(Vec<Entry>, Comparison), ApplyError> {
        if self.own.is_empty() && managed.iter().all(|entry| entry.api_version == self.version) {
            return Ok((managed, self.own));
        }
        let mut others: BTreeMap<String, Option<Comparison>> = BTreeMap::new();
        let mut kept = Vec::with_capacity(managed.len());
        let mut conflicts: Vec<Conflict> = Vec::new();
        for mut entry in managed {
            if own.is_some_and(|own| own.is_of(&entry)) {
                kept.push(entry);
                continue;
            }
            let compared = if entry.api_version == self.version {
                Some(&self.own)
            } else {
                let version = entry.api_version.clone();
                others.entry(version).or_insert_with_key(|version| self.other(version)).as_ref()
            };
            let Some(compared) = compared else { continue };
            let taken = entry.fields.intersection(&compared.changed());
            if !force {
                let paths = taken.paths().into_iter();
                conflicts.extend(paths.map(|path| Conflict { owner: entry.clone(), path }));
            }
            entry.fields = entry.fields.difference(&taken).difference(&compared.removed);
            if !entry.fields.is_empty() {
                kept.push(entry);
            }
        }
        if !conflicts.is_empty() {
            conflicts.sort_by_cached_key(|conflict| conflict.owner.identity());
            return Err(ApplyError::Conflicts(conflicts));
        }
        Ok((kept, self.own))
    }
}

/// What every conflict says, and all of them together.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.owner.shown(), only.field());
    }
    let mut lines = Vec::new();
    let mut last: Option<&Entry> = None;
    for conflict in conflicts {
        if !last.is_some_and(|last| last.is_of(&conflict.owner)) {
            lines.push(format!("conflicts with {}:", conflict.owner.shown()));
            last = Some(&conflict.owner);
        }
        lines.push(format!("- {}", conflict.field()));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Entries with what the schema's changes since they were written make of them.
fn reconciled(versions: &Versions<'_>, managed: Vec<Entry>) -> Vec<Entry> {
    let known = managed.into_iter().filter_map(|mut entry| {
        let form = versions.form(&entry.api_version)?;
        if let Some(fields) = reconcile::fields(form, &entry.fields) {
            entry.fields = fields;
        }
        Some(entry)
    });
    known.collect()
}

/// The object as fields of it are owned: without its entries.
fn bare(object: &Value) -> std::borrow::Cow<'_, Value> {
    if object.pointer("/metadata/managedFields").is_none() {
        return match object {
            Value::Null => std::borrow::Cow::Owned(Value::Object(serde_json::Map::new())),
            object => std::borrow::Cow::Borrowed(object),
        };
    }
    let mut bare = object.clone();
    meta::metadata_mut(&mut bare).remove("managedFields");
    std::borrow::Cow::Owned(bare)
}

/// Fields of an object that are nobody's.
pub(super) const NOBODYS: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

fn strip(set: Set) -> Set {
    use std::sync::LazyLock;
    static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
        let mut set = Set::of_names(&[&["apiVersion"], &["kind"], &["metadata"]]);
        for name in NOBODYS {
            set.insert(&[Element::field("metadata"), Element::field(name)]);
        }
        set
    });
    set.difference(&STRIPPED)
}

/// Merges the oldest entries of updates, version by version, until there are few enough.
fn cap(managed: &mut Vec<Entry>) {
    let mut updates: Vec<(Option<String>, String)> = managed
        .iter()
        .filter(|entry| entry.operation == Operation::Update)
        .map(|entry| (entry.time.clone(), entry.identity()))
        .collect();
    if updates.len() <= MAX_UPDATE_MANAGERS {
        return;
    }
    updates.sort();
    let mut left = updates.len();
    let mut first: BTreeMap<String, Entry> = BTreeMap::new();
    for (_, identity) in updates {
        if left <= MAX_UPDATE_MANAGERS {
            return;
        }
        let Some(at) = managed.iter().position(|entry| entry.identity() == identity) else { continue };
        let entry = managed[at].clone();
        let Some(earlier) = first.get(&entry.api_version) else {
            first.insert(entry.api_version.clone(), entry);
            continue;
        };
        let bucket = Entry {
            manager: ANCIENT.to_owned(),
            subresource: String::new(),
            time: entry.time.clone(),
            fields: Set::default(),
            ..entry.clone()
        };
        if entry.is_of(&bucket) {
            continue;
        }
        if !managed.iter().any(|other| other.is_of(&bucket)) {
            // The first of its version gives the bucket its fields, and goes.
            let fields = earlier.fields.clone();
            let earlier = earlier.clone();
            managed.retain(|other| !other.is_of(&earlier));
            managed.push(Entry { fields, ..bucket.clone() });
        }
        managed.retain(|other| !other.is_of(&entry));
        if let Some(bucket) = managed.iter_mut().find(|other| other.is_of(&bucket)) {
            bucket.fields = bucket.fields.union(&entry.fields);
            bucket.time = entry.time.clone();
        }
        left -= 1;
    }
}

/// What client-side applying owned, by its own account: what it applied last and is still so.
fn allowed_by_last_applied(versions: &Versions<'_>, live: &Value, version: &str) -> Option<Set> {
    let text = meta::annotation(live, LAST_APPLIED);
    let last: Value = serde_json::from_str(text).ok()?;
    if last.get("apiVersion")?.as_str()? != version {
        return None;
    }
    let form = versions.form(version)?;
    check::config(form, &last).ok()?;
    let compared = Comparison::of(form, &last, live);
    Some(
        fields::of(form, &last)
            .difference(&compared.modified)
            .difference(&compared.added)
            .difference(&compared.removed),
    )
}

/// Keeps client-side applying's memory in step, for as long as there is one and it fits.
fn remember_last_applied(object: &mut Value, config: &Value) {
    let mut config = config.clone();
    meta::remove_annotation(&mut config, LAST_APPLIED);
    let mut text = Vec::new();
    crate::json::write(&mut text, &config);
    text.push(b'\n');
    let text = String::from_utf8_lossy(&text).into_owned();
    let size: usize = meta::annotations(object).into_iter().flatten().fold(text.len(), |size, (key, value)| {
        let own = value.as_str().filter(|_| key != LAST_APPLIED).unwrap_or_default();
        size + key.len() + own.len()
    });
    if size <= MAX_ANNOTATIONS {
        meta::set_annotation(object, LAST_APPLIED, &text);
    } else {
        meta::remove_annotation(object, LAST_APPLIED);
    }
}
