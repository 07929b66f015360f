//! The `scale` sub-resource: the size of a workload, whatever its kind, read and set in one form.

use std::sync::Arc;

use api::{
    meta::{self, Gvk, Qualified},
    status::Status,
    strategy::scale::{self, Places},
    validate::FieldError,
};
use http::Response;
use serde_json::Value;
use serve::body::Body;

use crate::{
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
        let change = |old: &Value| set(&places, &wanted, old, &info.name);
        let retry = meta::resource_version(&wanted).is_empty();
        write::update(server, call, target, &change, &options, Manner { retry, ..Manner::default() }).await?
    } else {
        let patch = Patch::read(call, true).await?;
        let options = WriteOptions::parse_patch(&call.query, false)?;
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
            set(&places, &wanted, old, &info.name)
        };
        write::update(server, call, target, &change, &options, Manner { retry: true, ..Manner::default() }).await?
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
