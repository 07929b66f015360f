//! The resources that are served now, and where their objects lie in the store.
//!
//! ```text
//! route    apps/v1/deployments ──┐
//! route    apps/v1beta1/... ─────┴─> Resource ── prefix /registry/apps/deployments/ ── cache
//! ```
//!
//! Built-in resources come from the kinds table at start; custom ones come and go with their definitions. A [`Registry`] never
//! changes: a new one replaces it whole, and shares the caches of what stays.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use api::{
    kinds::{self, Kind},
    print::Printer,
    schema::Type,
};

use crate::{
    cache::{Applied, Cache},
    custom::Definition,
    object::{self, Object},
};

/// The root of all keys.
pub const ROOT: &str = "/registry/";

/// One set of stored objects, in all versions in which it is served.
#[derive(Debug)]
pub struct Resource {
    /// Where the keys begin, `/registry/apps/deployments/`.
    pub prefix: Arc<str>,
    /// Versions in which it is served, as rows of their own; more than one group for events.
    pub versions: Vec<Served>,
    /// The objects.
    pub cache: Arc<Cache>,
    /// The definition of a custom resource.
    pub definition: Option<Arc<Definition>>,
}

/// One version of a resource, as clients see it.
#[derive(Debug)]
pub struct Served {
    /// Names, verbs, sub-resources.
    pub kind: Kind,
    /// How each of its objects begins.
    pub head: Box<[u8]>,
    /// Its type in the schema table; none for custom resources.
    pub schema: Option<Type>,
    /// Its columns, once somebody asks for a table.
    printer: OnceLock<Printer>,
}

/// What a path leads to.
#[derive(Debug, Clone)]
pub enum Route {
    /// Stored objects, in the version of that index.
    Stored(Arc<Resource>, usize),
    /// A kind that is only answered: reviews, bindings.
    Virtual(&'static Kind),
}

impl Route {
    /// The row that the path names.
    pub fn kind(&self) -> &Kind {
        match self {
            Route::Stored(resource, version) => &resource.versions[*version].kind,
            Route::Virtual(kind) => kind,
        }
    }
}

impl Resource {
    /// Whether its objects stand in namespaces.
    fn is_namespaced(&self) -> bool {
        self.versions.first().is_some_and(|version| version.kind.namespaced)
    }

    /// The key of an object. Paths of Namespaces name one as their namespace too, which is not part of the key.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() || !self.is_namespaced() {
            format!("{}{name}", self.prefix)
        } else {
            format!("{}{namespace}/{name}", self.prefix)
        }
    }

    /// Where the keys of a namespace begin; those of the resource for no namespace.
    pub fn scope(&self, namespace: &str) -> String {
        if namespace.is_empty() || !self.is_namespaced() {
            self.prefix.to_string()
        } else {
            format!("{}{namespace}/", self.prefix)
        }
    }

    /// The namespace of an object, empty for cluster-scoped ones.
    pub fn namespace_of<'a>(&self, object: &'a Object) -> &'a str {
        object
            .key()
            .get(self.prefix.len()..)
            .and_then(|rest| rest.split_once('/'))
            .map_or("", |(namespace, _)| namespace)
    }

    /// The version in which objects are stored, if it is served; else the first that is.
    pub fn storage(&self) -> usize {
        let stored = |served: &Served| {
            served.kind.group == served.kind.storage_group && served.kind.version == served.kind.storage_version
        };
        self.versions.iter().position(stored).unwrap_or(0)
    }

    /// Whether it is that built-in resource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.versions.first().is_some_and(|served| {
            served.kind.storage_group == group && served.kind.plural == plural && self.definition.is_none()
        })
    }
}

impl Served {
    fn new(kind: Kind) -> Self {
        let schema = if kind.schema.is_empty() { None } else { Type::named(kind.schema) };
        Self { head: object::head(kind.kind, &kind.api_version()), kind, schema, printer: OnceLock::new() }
    }
}

impl Resource {
    /// The columns of a version's table.
    pub fn printer(&self, version: usize) -> &Printer {
        let served = &self.versions[version];
        served.printer.get_or_init(|| match &self.definition {
            None => Printer::built_in(&served.kind),
            Some(definition) => Printer::custom(&served.kind, definition.columns(served.kind.version)),
        })
    }
}

/// Where the objects of a resource lie.
pub fn prefix(group: &str, plural: &str) -> Arc<str> {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/").into()
}

/// Every resource that is served.
#[derive(Debug, Default)]
pub struct Registry {
    routes: HashMap<String, Route>,
    stores: HashMap<Arc<str>, Arc<Resource>>,
    /// Custom resources, in the order of their names.
    pub customs: Vec<Arc<Resource>>,
    /// Grows with every change, for what is worked out from the registry.
    pub generation: u64,
}

impl Registry {
    /// The built-in resources, without objects.
    pub fn built_in(applied: &Arc<Applied>) -> Self {
        let mut registry = Self::default();
        let mut rows: HashMap<Arc<str>, Vec<Kind>> = HashMap::new();
        for kind in kinds::all() {
            if kind.is_stored() {
                rows.entry(prefix(kind.storage_group, kind.plural)).or_default().push(*kind);
            } else {
                registry.routes.insert(route_key(kind.group, kind.version, kind.plural), Route::Virtual(kind));
            }
        }
        for (prefix, rows) in rows {
            let pods = rows.first().is_some_and(|kind| kind.is("", "Pod"));
            let cache = if pods {
                Cache::of_pods(applied.clone(), applied.get())
            } else {
                Cache::new(applied.clone(), applied.get(), [])
            };
            let cache = Arc::new(cache);
            registry.insert(Arc::new(Resource {
                prefix,
                versions: rows.into_iter().map(Served::new).collect(),
                cache,
                definition: None,
            }));
        }
        let (group, plural) = crate::service_ip::PORTS;
        registry.insert(Arc::new(Resource {
            prefix: prefix(group, plural),
            versions: Vec::new(),
            cache: Arc::new(Cache::new(applied.clone(), applied.get(), [])),
            definition: None,
        }));
        registry
    }

    fn insert(&mut self, resource: Arc<Resource>) {
        for (version, served) in resource.versions.iter().enumerate() {
            let kind = &served.kind;
            let route = Route::Stored(resource.clone(), version);
            self.routes.insert(route_key(kind.group, kind.version, kind.plural), route);
        }
        self.stores.insert(resource.prefix.clone(), resource);
    }

    /// The same built-in resources with these custom ones. `caches` gives each its objects.
    pub fn with_customs(&self, definitions: Vec<(Arc<Definition>, Arc<Cache>)>) -> Self {
        let mut next = Self { generation: self.generation + 1, ..Self::default() };
        for resource in self.stores.values().filter(|resource| resource.definition.is_none()) {
            next.insert(resource.clone());
        }
        for (key, route) in &self.routes {
            if matches!(route, Route::Virtual(_)) {
                next.routes.insert(key.clone(), route.clone());
            }
        }
        for (definition, cache) in definitions {
            let resource = Arc::new(Resource {
                prefix: definition.prefix.clone(),
                versions: definition.kinds().into_iter().map(Served::new).collect(),
                cache,
                definition: Some(definition),
            });
            next.customs.push(resource.clone());
            // A definition without a served version keeps its objects, and has no route.
            next.insert(resource);
        }
        next
    }

    /// What a path names.
    pub fn route(&self, group: &str, version: &str, plural: &str) -> Option<&Route> {
        self.routes.get(&route_key(group, version, plural))
    }

    /// Whether anything is served there.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.routes.values().any(|route| route.kind().group == group && route.kind().version == version)
    }

    /// A resource by its storage group and plural; of built-in ones, those of the kinds table are always there.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.stores.get(&prefix(group, plural))
    }

    /// The resource whose objects lie at `key`.
    pub fn owner(&self, key: &str) -> Option<&Arc<Resource>> {
        self.stores.get(prefix_of(key)?)
    }

    /// Every stored resource.
    pub fn stored(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.stores.values()
    }
}

/// The storage prefix that a key begins with: its first three segments.
pub fn prefix_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(ROOT)?;
    let group = rest.find('/')?;
    let plural = rest[group + 1..].find('/')?;
    key.get(..ROOT.len() + group + 1 + plural + 1)
}

fn route_key(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_to_their_resource() {
        let registry = Registry::built_in(&Arc::new(Applied::new(1)));
        let pods = registry.resource("", "pods").unwrap();
        assert_eq!(pods.key("web", "a"), "/registry/core/pods/web/a");
        assert!(Arc::ptr_eq(registry.owner("/registry/core/pods/web/a").unwrap(), pods));
        assert_eq!(registry.resource("apps", "deployments").unwrap().scope("web"), "/registry/apps/deployments/web/");
        assert!(registry.owner("/registry/core/pods").is_none());
        assert!(registry.owner("/other/core/pods/a").is_none());
    }

    #[test]
    fn one_store_serves_several_versions() {
        let registry = Registry::built_in(&Arc::new(Applied::new(1)));
        let (core, events) = (registry.route("", "v1", "events"), registry.route("events.k8s.io", "v1", "events"));
        let (Some(Route::Stored(core, _)), Some(Route::Stored(events, _))) = (core, events) else { panic!("events") };
        assert!(Arc::ptr_eq(core, events));
        assert!(matches!(
            registry.route("authorization.k8s.io", "v1", "subjectaccessreviews"),
            Some(Route::Virtual(_))
        ));
    }
}
