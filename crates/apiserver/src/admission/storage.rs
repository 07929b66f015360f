//! Defaults of claims and ingresses, which come from the class that is marked as the default, and growth of claims.

use api::{
    meta::{self, View},
    quantity::Quantity,
    status::Status,
};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::{selection::Selection, server::Server};

/// Where claims named their class once.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Where ingresses did.
const OLD_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

/// Names the default class in a new claim or ingress that names none.
pub fn mutate(server: &Server, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    let annotated = |key: &str| meta::annotations(object).is_some_and(|all| all.contains_key(key));
    let spec = View::new(object).at("spec");
    let (field, class) = if attributes.is("", "PersistentVolumeClaim") {
        if annotated(OLD_CLASS) || spec.has("storageClassName") {
            return Ok(());
        }
        let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        ("storageClassName", default_class(server, ("storage.k8s.io", "storageclasses"), &marks)?)
    } else if attributes.is("networking.k8s.io", "Ingress") {
        if annotated(OLD_INGRESS_CLASS) || spec.has("ingressClassName") {
            return Ok(());
        }
        let marks = ["ingressclass.kubernetes.io/is-default-class"];
        ("ingressClassName", default_class(server, ("networking.k8s.io", "ingressclasses"), &marks)?)
    } else {
        return Ok(());
    };
    if let Some(class) = class {
        meta::object_at(object, "spec").insert(field.to_owned(), class.into());
    }
    Ok(())
}

/// The class that is marked as the default: of several the newest, then the first by name.
fn default_class(server: &Server, (group, plural): (&str, &str), marks: &[&str]) -> Result<Option<String>, Status> {
    let resource = server.resource(group, plural)?;
    let all = resource.cache.all(&Selection::everything(&resource.prefix));
    let mut marked: Vec<(String, String)> = all
        .iter()
        .map(|class| class.value())
        .filter(|class| marks.iter().any(|mark| meta::annotation(class, mark) == "true"))
        .map(|class| (meta::creation_timestamp(&class).unwrap_or_default().to_owned(), meta::name(&class).to_owned()))
        .collect();
    marked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Ok(marked.into_iter().next().map(|(_, name)| name))
}

/// A claim grows only where its class lets it.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let (Some(new), Some(old), true) = (object, old, attributes.is("", "PersistentVolumeClaim")) else {
        return Ok(());
    };
    let size = |claim| Quantity::of(View::new(claim).at("spec").at("resources").at("requests").at("storage").value());
    if size(new) <= size(old) {
        return Ok(());
    }
    if View::new(old).at("status").text("phase") != "Bound" {
        return Err(attributes.refuse("Only bound persistent volume claims can be expanded"));
    }
    let class = |claim| match meta::annotation(claim, OLD_CLASS) {
        "" => View::new(claim).at("spec").text("storageClassName").to_owned(),
        annotated => annotated.to_owned(),
    };
    let name = class(new);
    let grows = !name.is_empty()
        && name == class(old)
        && server
            .find("storage.k8s.io", "storageclasses", "", &name)
            .await?
            .is_some_and(|class| View::new(&class.value()).is("allowVolumeExpansion"));
    if grows {
        return Ok(());
    }
    Err(attributes.refuse(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
