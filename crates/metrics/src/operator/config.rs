//! ScrapeConfig to a job.

use serde_json::{Map, Value, json};

use super::{
    Context,
    parts::{Job, copy, limits, rules},
};
use crate::kinds::{Object, ScrapeConfig};

/// Mechanisms that find nothing here.
fn unsupported(spec: &Value) -> Option<&str> {
    let known =
        ["staticConfigs", "fileSDConfigs", "httpSDConfigs", "kubernetesSDConfigs", "dnsSDConfigs", "dockerSDConfigs"];
    let found = spec.as_object().into_iter().flatten();
    let mut names = found.map(|(name, _)| name.as_str());
    names.find(|name| name.ends_with("SDConfigs") && !known.contains(name))
}

/// The job of a ScrapeConfig.
pub fn config(object: &Object<ScrapeConfig>, context: &mut Context<'_>) -> Result<Vec<Value>, String> {
    let (namespace, name) = object.names();
    let spec = &object.spec;
    if spec["fileSDConfigs"].as_array().is_some_and(|files| !files.is_empty()) {
        return Err("fileSDConfigs: objects may not name files".to_owned());
    }
    if let Some(mechanism) = unsupported(spec) {
        return Err(format!(
            "{mechanism} is not supported: staticConfigs, httpSDConfigs, kubernetesSDConfigs, dnsSDConfigs and dockerSDConfigs are"
        ));
    }
    let mut job = Job::new();
    job.insert("job_name".to_owned(), format!("scrapeConfig/{namespace}/{name}").into());
    for (name, field) in [
        ("honor_labels", "honorLabels"),
        ("honor_timestamps", "honorTimestamps"),
        ("track_timestamps_staleness", "trackTimestampsStaleness"),
        ("scrape_interval", "scrapeInterval"),
        ("scrape_timeout", "scrapeTimeout"),
        ("metrics_path", "metricsPath"),
        ("params", "params"),
        ("enable_compression", "enableCompression"),
    ] {
        copy(&mut job, name, &spec[field]);
    }
    for (name, field) in [("scheme", "scheme"), ("metric_name_validation_scheme", "nameValidationScheme")] {
        if let Some(text) = spec[field].as_str() {
            job.insert(name.to_owned(), text.to_lowercase().into());
        }
    }
    let escaping = match spec["nameEscapingScheme"].as_str() {
        Some("AllowUTF8") => Some("allow-utf-8"),
        Some("Underscores") => Some("underscores"),
        Some("Dots") => Some("dots"),
        Some("Values") => Some("values"),
        _ => None,
    };
    if let Some(escaping) = escaping {
        job.insert("metric_name_escaping_scheme".to_owned(), escaping.into());
    }
    context.http(&mut job, spec)?;
    limits(&mut job, spec);
    let each = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
    let mut put = |name: &str, found: Vec<Value>| {
        if !found.is_empty() {
            job.insert(name.to_owned(), found.into());
        }
    };
    put("static_configs", each("staticConfigs"));
    let mut found = Vec::new();
    for one in each("httpSDConfigs") {
        let mut made = Map::new();
        copy(&mut made, "url", &one["url"]);
        copy(&mut made, "refresh_interval", &one["refreshInterval"]);
        context.http(&mut made, &one)?;
        found.push(made.into());
    }
    put("http_sd_configs", found);
    let mut found = Vec::new();
    for one in each("dnsSDConfigs") {
        let mut made = Map::new();
        for (name, field) in
            [("names", "names"), ("refresh_interval", "refreshInterval"), ("type", "type"), ("port", "port")]
        {
            copy(&mut made, name, &one[field]);
        }
        found.push(made.into());
    }
    put("dns_sd_configs", found);
    let mut found = Vec::new();
    for one in each("dockerSDConfigs") {
        if one["host"].as_str().is_none_or(|host| host.starts_with("unix:")) {
            return Err("dockerSDConfigs: objects may not name sockets of the machine".to_owned());
        }
        let mut made = Map::new();
        for (name, field) in [
            ("host", "host"),
            ("port", "port"),
            ("filters", "filters"),
            ("host_networking_host", "hostNetworkingHost"),
            ("match_first_network", "matchFirstNetwork"),
            ("refresh_interval", "refreshInterval"),
        ] {
            copy(&mut made, name, &one[field]);
        }
        context.http(&mut made, &one)?;
        found.push(made.into());
    }
    put("docker_sd_configs", found);
    let mut found = Vec::new();
    for one in each("kubernetesSDConfigs") {
        let mut made = Map::new();
        let role = one["role"].as_str().unwrap_or_default().to_lowercase();
        made.insert("role".to_owned(), role.into());
        copy(&mut made, "api_server", &one["apiServer"]);
        let mut names: Vec<Value> = one["namespaces"]["names"].as_array().cloned().unwrap_or_default();
        if one["namespaces"]["ownNamespace"] == true {
            names.push(namespace.into());
        }
        if !names.is_empty() {
            made.insert("namespaces".to_owned(), json!({"names": names}));
        }
        let selectors = one["selectors"].as_array().into_iter().flatten();
        let selectors: Vec<Value> = selectors
            .map(|selector| {
                let role = selector["role"].as_str().unwrap_or_default().to_lowercase();
                json!({
                    "role": role,
                    "label": selector["label"].as_str().unwrap_or_default(),
                    "field": selector["field"].as_str().unwrap_or_default(),
                })
            })
            .collect();
        copy(&mut made, "selectors", &selectors.into());
        if one["attachMetadata"]["node"] == true {
            made.insert("attach_metadata".to_owned(), json!({"node": true}));
        }
        if made.contains_key("api_server") {
            context.http(&mut made, &one)?;
        }
        found.push(made.into());
    }
    put("kubernetes_sd_configs", found);
    let mut relabel = Vec::new();
    if let Some(label) = spec["jobName"].as_str().filter(|label| !label.is_empty()) {
        relabel.push(json!({"target_label": "job", "replacement": label.replace('$', "$$")}));
    }
    relabel.extend(rules(&spec["relabelings"]));
    put("relabel_configs", relabel);
    put("metric_relabel_configs", rules(&spec["metricRelabelings"]).collect());
    Ok(vec![job.into()])
}
