//! Samples of one object: labels that all of them have, written once, and what comes beside them.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use counts::page::{Number, Page, braces};
use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{
        api::resource::Quantity as Text,
        apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    },
};

use super::Allowed;

/// Statuses of a condition, as labels.
const STATUSES: [(&str, &str); 3] = [("True", "true"), ("False", "false"), ("Unknown", "unknown")];

/// Where an object's samples go.
pub(super) struct Rows<'a> {
    page: &'a mut Page,
    /// Labels of every sample, in braces.
    own: String,
}

impl<'a> Rows<'a> {
    /// Samples with these labels.
    pub(super) fn new(page: &'a mut Page, own: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        braces(&mut text, own);
        Self { page, own: text }
    }

    /// One sample with further labels.
    pub(super) fn value(&mut self, name: &'static str, more: &[(&str, &str)], value: f64) {
        self.typed(name, "gauge", more, value);
    }

    /// One sample of a counter.
    pub(super) fn count(&mut self, name: &'static str, more: &[(&str, &str)], value: f64) {
        self.typed(name, "counter", more, value);
    }

    fn typed(&mut self, name: &'static str, kind: &'static str, more: &[(&str, &str)], value: f64) {
        let mut family = self.page.family(name, kind);
        if more.is_empty() {
            return family.written("", &self.own, Number(value));
        }
        let mut labels = self.own.clone();
        labels.pop();
        let at = labels.len();
        braces(&mut labels, more);
        // The opening brace of what was added.
        labels.replace_range(at..=at, if at == 0 { "{" } else { "," });
        family.written("", &labels, Number(value));
    }

    /// One sample that tells by its labels; its value is 1.
    pub(super) fn info(&mut self, name: &'static str, more: &[(&str, &str)]) {
        self.value(name, more, 1.0);
    }

    /// Numbers.
    pub(super) fn numbers<const N: usize>(&mut self, list: [(&'static str, Option<f64>); N]) {
        for (name, value) in list {
            if let Some(value) = value {
                self.value(name, &[], value);
            }
        }
    }

    /// Seconds since 1970.
    pub(super) fn time(&mut self, name: &'static str, time: Option<&Time>) {
        self.numbers([(name, time.map(seconds))]);
    }

    /// One sample for each that is known, of which at most one is 1.
    pub(super) fn one_of(&mut self, name: &'static str, label: &str, known: &[&str], is: Option<&str>) {
        if let Some(is) = is.filter(|is| !is.is_empty()) {
            known.iter().for_each(|known| self.value(name, &[(label, known)], number(*known == is)));
        }
    }

    /// The three statuses of a condition.
    pub(super) fn condition(&mut self, name: &'static str, label: &str, more: &[(&str, &str)], status: &str) {
        for (known, text) in STATUSES {
            let mut labels = more.to_vec();
            labels.push((label, text));
            self.value(name, &labels, number(known == status));
        }
    }

    /// Amounts of resources: name and unit as labels.
    pub(super) fn amounts(
        &mut self,
        name: &'static str,
        more: &[(&str, &str)],
        amounts: &Option<BTreeMap<String, Text>>,
    ) {
        for (resource, amount) in amounts.iter().flatten() {
            let Some(unit) = unit(resource) else { continue };
            let resource = sanitized(resource);
            let mut labels = more.to_vec();
            labels.extend([("resource", resource.as_str()), ("unit", unit)]);
            self.value(name, &labels, amount_of(amount));
        }
    }

    /// Limits and requests of a container.
    pub(super) fn resources(
        &mut self,
        limits: &'static str,
        requests: &'static str,
        more: &[(&str, &str)],
        resources: &Option<ResourceRequirements>,
    ) {
        if let Some(resources) = resources {
            self.amounts(limits, more, &resources.limits);
            self.amounts(requests, more, &resources.requests);
        }
    }

    /// Owners; one without a name where there are none. `controller` says whether it is told which of them controls.
    pub(super) fn owners(&mut self, name: &'static str, owners: &Option<Vec<OwnerReference>>, controller: bool) {
        let owners = owners.as_deref().unwrap_or_default();
        let mut tell = |kind: &str, owner: &str, controls: &str| {
            let labels = [("owner_kind", kind), ("owner_name", owner), ("owner_is_controller", controls)];
            self.info(name, &labels[..if controller { 3 } else { 2 }]);
        };
        if owners.is_empty() {
            tell("", "", "");
        }
        for owner in owners {
            tell(&owner.kind, &owner.name, flag(owner.controller.unwrap_or(false)));
        }
    }

    /// When it was made, and since when it is being deleted.
    pub(super) fn life(&mut self, created: &'static str, deleted: Option<&'static str>, meta: &ObjectMeta) {
        self.time(created, meta.creation_timestamp.as_ref());
        if let Some(name) = deleted {
            self.time(name, meta.deletion_timestamp.as_ref());
        }
    }

    /// The version of its stored form, where that is a number.
    pub(super) fn version(&mut self, name: &'static str, meta: &ObjectMeta) {
        let version = meta.resource_version.as_deref().and_then(|version| version.parse().ok());
        self.numbers([(name, version)]);
    }

    /// Labels and annotations that were asked for, as labels.
    pub(super) fn allowed(
        &mut self,
        labels: &'static str,
        annotations: &'static str,
        allowed: &Allowed,
        meta: &ObjectMeta,
    ) {
        for (name, prefix, map, list) in [
            (labels, "label", &meta.labels, &allowed.labels),
            (annotations, "annotation", &meta.annotations, &allowed.annotations),
        ] {
            let Some(list) = list else { continue };
            self.mapped(
                name,
                prefix,
                map.iter().flatten().filter(|(key, _)| list.iter().any(|one| one == "*" || one == *key)),
            );
        }
    }

    /// Texts by name as labels, whose names are made fit; where two become the same, they are numbered.
    pub(super) fn mapped<'m>(
        &mut self,
        name: &'static str,
        prefix: &str,
        map: impl Iterator<Item = (&'m String, &'m String)>,
    ) {
        let mut labels: Vec<(String, &str)> = Vec::new();
        let mut seen = BTreeMap::<String, (usize, usize)>::new();
        for (key, value) in map {
            let key = format!("{prefix}_{}", snake(&sanitized(key)));
            let (count, first) = seen.entry(key.clone()).or_insert((0, labels.len()));
            *count += 1;
            match *count {
                1 => labels.push((key, value)),
                count => {
                    if count == 2 {
                        labels[*first].0 = format!("{key}_conflict1");
                    }
                    labels.push((format!("{key}_conflict{count}"), value));
                }
            }
        }
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        self.info(name, &labels);
    }
}

/// 1 or 0.
pub(super) fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// `true` or `false`.
pub(super) fn flag(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

/// Seconds since 1970.
pub(super) fn seconds(time: &Time) -> f64 {
    time.0.as_second() as f64
}

/// Texts of objects: some kinds must have them, in others they may be absent, which means empty.
pub(super) trait Texts {
    fn get(&self) -> &str;
}

impl Texts for String {
    fn get(&self) -> &str {
        self
    }
}

impl Texts for Option<String> {
    fn get(&self) -> &str {
        self.as_deref().unwrap_or_default()
    }
}

/// A text, which may be absent.
pub(super) fn text(text: &impl Texts) -> &str {
    text.get()
}

/// Whole numbers of objects, absent ones being 0.
pub(super) trait Wholes {
    fn get(self) -> f64;
}

impl Wholes for i32 {
    fn get(self) -> f64 {
        f64::from(self)
    }
}

impl Wholes for Option<i32> {
    fn get(self) -> f64 {
        self.map_or(0.0, f64::from)
    }
}

impl Wholes for Option<i64> {
    fn get(self) -> f64 {
        self.unwrap_or(0) as f64
    }
}

/// A number, which may be absent; it is told all the same.
pub(super) fn whole(number: impl Wholes) -> Option<f64> {
    Some(number.get())
}

/// An amount, exact to the thousandth as far as that has room. What is no amount is not stored.
pub(super) fn amount_of(text: &Text) -> f64 {
    let Ok(amount) = Quantity::parse(&text.0) else { return f64::NAN };
    match amount.value() {
        large if large > i64::MAX / 1000 => large as f64,
        _ => amount.milli() as f64 / 1000.0,
    }
}

/// In what a resource is measured; nothing for names that nobody asked to see.
fn unit(resource: &str) -> Option<&'static str> {
    match resource {
        "cpu" => Some("core"),
        "memory" | "storage" | "ephemeral-storage" => Some("byte"),
        "pods" => Some("integer"),
        _ if resource.starts_with("hugepages-") || resource.starts_with("attachable-volumes-") => Some("byte"),
        // Resources of vendors; those of Kubernetes itself are named above.
        _ if resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests.") => {
            Some("integer")
        }
        _ => None,
    }
}

/// Letters that label names cannot have become `_`.
pub(super) fn sanitized(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '_' }).collect()
}

/// `someName` as `some_name`.
fn snake(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = None::<char>;
    for letter in text.chars() {
        let small = before.is_some_and(|before| before.is_ascii_lowercase() || before.is_ascii_digit());
        if letter.is_ascii_uppercase() && small {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
        before = Some(letter);
    }
    out
}
