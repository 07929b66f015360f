//! `PrometheusRule` objects as groups of rules, as the Prometheus operator makes files of them.
//!
//! See <https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRule>.

use serde_json::Value;

use super::file::{self, File, Reading};

/// What the file of an object is called.
pub fn name(object: &Value) -> String {
    let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    format!("{}-{}-{}.yaml", of("namespace"), of("name"), of("uid"))
}

/// The groups of an object. What only Thanos knows is left out.
pub fn groups(object: &Value, reading: &Reading) -> Result<File, Vec<String>> {
    let mut spec = object["spec"].clone();
    if let Some(groups) = spec["groups"].as_array_mut() {
        for group in groups.iter_mut().filter_map(Value::as_object_mut) {
            group.remove("partial_response_strategy");
        }
    }
    if spec.is_null() {
        return Ok(File::default());
    }
    // JSON is YAML, and an expression that is a number is read as a text.
    file::parse(&spec.to_string(), reading)
}
