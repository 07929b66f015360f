//! Jobs: pods are found by the job's uid unless the user selects them.

use serde_json::Value;

use crate::meta::{self, View};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// Puts labels on the template and a selector on the job.
pub fn prepare_create(object: &mut Value) {
    if View::new(object).at("spec").is("manualSelector") {
        return;
    }
    let (name, uid) = (meta::name(object).to_owned(), meta::uid(object).to_owned());
    let spec = meta::object_at(object, "spec");
    let template = meta::entry_object(spec, "template");
    let labels = meta::entry_object(meta::entry_object(template, "metadata"), "labels");
    for (label, value) in
        [("job-name", &name), ("batch.kubernetes.io/job-name", &name), ("controller-uid", &uid), (CONTROLLER_UID, &uid)]
    {
        labels.entry(label).or_insert_with(|| value.as_str().into());
    }
    let selector = meta::entry_object(meta::entry_object(spec, "selector"), "matchLabels");
    selector.entry(CONTROLLER_UID).or_insert_with(|| uid.into());
}
