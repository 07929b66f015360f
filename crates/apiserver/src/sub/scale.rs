//! The `scale` sub-resource: the size of a workload, whatever its kind, read and set in one form.

use std::sync::Arc;

use api::{
    apply::{
        Writer,
        element::Element,
        entries::{self, Entry},
        scale as owned,
        set::Set,
    },
    meta::{self, Gvk, Qualified},
    status::Status,
    strategy::scale::{self, Places},
    validate::FieldError,
};
use http::Response;
use serde_json::Value;
use serve::body::Body;

use crate::{
    apply,
    call::Call,
    convert,
    options::WriteOptions,
    patch::Patch,
    read,
    registry::Resource,
    server::Server,
    write::{self, Manner, Target},
};

const SCHEMA: &str = "io.k8s.api.autoscaling.v1.Scale";

fn gvk() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

fn places(resource: &Resource, version: usize) -> Result<Places, Status> {
    match &resource.definition {
        None => Ok(Places::built_in()),
        Some(definition) => {
            let version = definition.version(resource.versions[version].kind.version);
            version.and_then(|version| version.scale.clone()).ok_or_else(Status::no_such_resource)
        }
    }
}

/// GET, PUT and PATCH.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
    verb: &str,
) -> Result<Response<Body>, Status> {
    let places = places(resource, version)?;
    let served = &resource.versions[version];
    let info = &call.info;
    let target = Target { sub: "", ..Target::of(call, resource, version) };
    let show = |object: &Value| super::shown(call, 200, &gvk(), SCHEMA, &scale::of(&places, object));
    if verb == "get" {
        server.fresh().await?;
        let object = read::find(resource, version, &info.namespace, &info.name)?;
        return show(&convert::read(server, resource, served, &object).await?);
    }
    let updated = if verb == "update" {
        let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
        let wanted = super::body(call, &gvk(), SCHEMA, options.field_validation).await?;
        let retry = meta::resource_version(&wanted).is_empty();
        let owned = Owned::new(server, call, resource, version, &options);
        let change = |old: &Value| Ok(owned.written(&places, &wanted, old, set(&places, &wanted, old, &info.name)?));
        let manner = Manner { retry, tracked: true, ..Manner::default() };
        write::update(server, call, target, &change, &options, manner).await?
    } else if apply::is_apply(call) {
        let config = call.read_body().await?;
        let options = WriteOptions::parse_patch(&call.query, true)?;
        let config = apply::configuration(call, &config, options.field_validation)?;
        apply::check_type(&config, &gvk())?;
        let owned = Owned::new(server, call, resource, version, &options);
        let change = |old: &Value| owned.applied(&places, &config, old, options.force, &info.name);
        let manner = Manner { retry: true, tracked: true, ..Manner::default() };
        write::update(server, call, target, &change, &options, manner).await?
    } else {
        let patch = Patch::read(call, true).await?;
        let options = WriteOptions::parse_patch(&call.query, false)?;
        let owned = Owned::new(server, call, resource, version, &options);
        let change = |old: &Value| {
            let mut wanted = patch.apply_as(api::schema::Type::named(SCHEMA), &scale::of(&places, old))?;
            if let Some(schema) = api::schema::Type::named(SCHEMA) {
                api::structural::check(schema, &mut wanted, crate::decode::unknown(options.field_validation)).map_err(
                    |error| {
                        let error = FieldError::invalid("patch", "", error);
                        Status::invalid(Qualified { group: "autoscaling", name: "Scale" }, &info.name, &[error])
                    },
                )?;
            }
            Ok(owned.written(&places, &wanted, old, set(&places, &wanted, old, &info.name)?))
        };
        let manner = Manner { retry: true, tracked: true, ..Manner::default() };
        write::update(server, call, target, &change, &options, manner).await?
    };
    show(&convert::read(server, resource, served, &updated.object).await?)
}

/// The object with the size that a Scale asks for.
fn set(places: &Places, wanted: &Value, old: &Value, name: &str) -> Result<Value, Status> {
    let kind = Qualified { group: "autoscaling", name: "Scale" };
    let own = meta::name(wanted);
    if !own.is_empty() && own != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    super::check(kind, name, wanted)?;
    let mut new = old.clone();
    scale::apply(places, wanted, &mut new);
    // The Scale's conditions are the object's.
    meta::set_resource_version(&mut new, meta::resource_version(wanted));
    if meta::resource_version(&new).is_empty() {
        meta::set_resource_version(&mut new, meta::resource_version(old));
    }
    if !meta::uid(wanted).is_empty() {
        meta::set_uid(&mut new, meta::uid(wanted));
    }
    Ok(new)
}

/// Who owns the size of a workload after its Scale was written.
struct Owned {
    /// Where the size stands in each version of the workload.
    sizes: Vec<(String, Option<Vec<Element>>)>,
    /// The workload's version in the request.
    version: String,
    manager: String,
    now: String,
}

impl Owned {
    fn new(server: &Server, call: &Call, resource: &Resource, version: usize, options: &WriteOptions) -> Self {
        let size = |index: usize| places(resource, index).ok().map(|places| owned::place(&places.spec_replicas));
        let sizes = resource.versions.iter().enumerate();
        Self {
            sizes: sizes.map(|(index, served)| (served.kind.api_version(), size(index))).collect(),
            version: resource.versions[version].kind.api_version(),
            manager: apply::manager(call, options),
            now: meta::rfc3339(server.now()),
        }
    }

    fn writer(&self) -> Writer<'_> {
        Writer { manager: &self.manager, api_version: owned::VERSION, subresource: "scale", now: &self.now }
    }

    fn entries(old: &Value) -> Vec<Entry> {
        let stored = old.pointer("/metadata/managedFields").unwrap_or(&Value::Null);
        entries::parse(stored).unwrap_or_default()
    }

    /// The workload with the entries that `scale` comes to.
    fn with(&self, old: &Value, scale: Vec<Entry>, mut new: Value) -> Value {
        let all = owned::to_workload(&Self::entries(old), scale, &self.sizes, &self.version);
        meta::metadata_mut(&mut new).insert("managedFields".to_owned(), entries::to_value(&all));
        new
    }

    /// After an update or a patch.
    fn written(&self, places: &Places, wanted: &Value, old: &Value, new: Value) -> Value {
        let before = owned::to_scale(&Self::entries(old), &self.sizes);
        let none = Set::default();
        let versions = apply::scale_versions(&none, &|object, _| object.clone());
        let after = api::apply::update(&versions, &scale::of(places, old), wanted, before, &self.writer());
        self.with(old, after, new)
    }

    /// The workload after a configuration was applied to its Scale.
    fn applied(&self, places: &Places, config: &Value, old: &Value, force: bool, name: &str) -> Result<Value, Status> {
        let mut live = scale::of(places, old);
        let before = owned::to_scale(&Self::entries(old), &self.sizes);
        meta::metadata_mut(&mut live).insert("managedFields".to_owned(), entries::to_value(&before));
        let none = Set::default();
        let versions = apply::scale_versions(&none, &|object, _| object.clone());
        let (wanted, after) = apply::applied(&versions, &live, config, &self.writer(), force)?;
        let new = set(places, &wanted, old, name)?;
        Ok(self.with(old, after, new))
    }
}
