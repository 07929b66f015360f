//! ServiceMonitor, PodMonitor and Probe to jobs.

use serde_json::{Value, json};

use super::{
    Context,
    parts::{Job, copy, discovery, limits, replace, rules, select, sieve},
};
use crate::{
    discover::label_name,
    kinds::{Object, PodMonitor, Probe, ServiceMonitor},
};

/// What an endpoint of either kind of monitor says of the scrape itself.
fn scrape(job: &mut Job, endpoint: &Value) {
    copy(job, "honor_labels", &endpoint["honorLabels"]);
    copy(job, "honor_timestamps", &endpoint["honorTimestamps"]);
    copy(job, "track_timestamps_staleness", &endpoint["trackTimestampsStaleness"]);
    copy(job, "scrape_interval", &endpoint["interval"]);
    copy(job, "scrape_timeout", &endpoint["scrapeTimeout"]);
    copy(job, "metrics_path", &endpoint["path"]);
    copy(job, "params", &endpoint["params"]);
    if let Some(scheme) = endpoint["scheme"].as_str() {
        job.insert("scheme".to_owned(), scheme.to_lowercase().into());
    }
}

fn target_port(rules: &mut Vec<Value>, port: &Value) {
    let keep =
        |label: &str, regex: &str| sieve("keep", &[format!("__meta_kubernetes_pod_container_port_{label}")], regex);
    match port {
        Value::String(name) if !name.is_empty() => rules.push(keep("name", &regex::escape(name))),
        Value::Number(number) => rules.push(keep("number", &number.to_string())),
        _ => {}
    }
}

/// The name of a port, for the label `endpoint`.
fn port_name(endpoint: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    [&endpoint["port"], &endpoint["portNumber"], &endpoint["targetPort"]].into_iter().find_map(text)
}

fn common(endpoint: &Value) -> Vec<Value> {
    let mut rules = vec![replace(&["job"], None, "__tmp_prometheus_job_name", None)];
    if endpoint["filterRunning"] != false {
        rules.push(sieve("drop", &["__meta_kubernetes_pod_phase".to_owned()], "(Failed|Succeeded)"));
    }
    rules
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The jobs of a ServiceMonitor, one an endpoint.
pub fn service(object: &Object<ServiceMonitor>, context: &mut Context<'_>) -> Result<Vec<Value>, String> {
    let (namespace, name) = object.names();
    let spec = &object.spec;
    let sliced = spec["serviceDiscoveryRole"] == "EndpointSlice";
    let (role, port_label) = if sliced {
        ("endpointslice", "__meta_kubernetes_endpointslice_port_name")
    } else {
        ("endpoints", "__meta_kubernetes_endpoint_port_name")
    };
    let mut jobs = Vec::new();
    for (i, endpoint) in spec["endpoints"].as_array().into_iter().flatten().enumerate() {
        let mut job = Job::new();
        job.insert("job_name".to_owned(), format!("serviceMonitor/{namespace}/{name}/{i}").into());
        scrape(&mut job, endpoint);
        context.http(&mut job, endpoint)?;
        limits(&mut job, spec);
        let found = discovery(role, &spec["namespaceSelector"], namespace, &spec["attachMetadata"]);
        job.insert("kubernetes_sd_configs".to_owned(), found);
        let mut relabel = common(endpoint);
        relabel.extend(select(&spec["selector"], "service")?);
        match endpoint["port"].as_str() {
            Some(port) if !port.is_empty() => {
                relabel.push(sieve("keep", &[port_label.to_owned()], &regex::escape(port)))
            }
            _ => target_port(&mut relabel, &endpoint["targetPort"]),
        }
        let kind = if sliced { "endpointslice" } else { "endpoint" };
        let (of, named) = (
            format!("__meta_kubernetes_{kind}_address_target_kind"),
            format!("__meta_kubernetes_{kind}_address_target_name"),
        );
        relabel.push(replace(&[&of, &named], Some("Node;(.*)"), "node", Some("${1}")));
        relabel.push(replace(&[&of, &named], Some("Pod;(.*)"), "pod", Some("${1}")));
        for (source, target) in [
            ("__meta_kubernetes_namespace", "namespace"),
            ("__meta_kubernetes_service_name", "service"),
            ("__meta_kubernetes_pod_name", "pod"),
            ("__meta_kubernetes_pod_container_name", "container"),
        ] {
            relabel.push(replace(&[source], None, target, None));
        }
        relabel.extend(labels_of(&spec["targetLabels"], "service"));
        relabel.extend(labels_of(&spec["podTargetLabels"], "pod"));
        relabel.push(replace(&["__meta_kubernetes_service_name"], None, "job", Some("${1}")));
        relabel.extend(job_label(&spec["jobLabel"], "service"));
        finish(&mut job, relabel, endpoint);
        jobs.push(job.into());
    }
    Ok(jobs)
}

fn labels_of(names: &Value, role: &str) -> Vec<Value> {
    let one = |name: &str| {
        let source = format!("__meta_kubernetes_{role}_label_{}", label_name(name));
        replace(&[&source], Some("(.+)"), &label_name(name), Some("${1}"))
    };
    strings(names).map(one).collect()
}

fn job_label(label: &Value, role: &str) -> Option<Value> {
    let label = label.as_str().filter(|label| !label.is_empty())?;
    let source = format!("__meta_kubernetes_{role}_label_{}", label_name(label));
    Some(replace(&[&source], Some("(.+)"), "job", Some("${1}")))
}

fn finish(job: &mut Job, mut relabel: Vec<Value>, endpoint: &Value) {
    if let Some(port) = port_name(endpoint) {
        relabel.push(json!({"target_label": "endpoint", "replacement": port.replace('$', "$$")}));
    }
    relabel.extend(rules(&endpoint["relabelings"]));
    job.insert("relabel_configs".to_owned(), relabel.into());
    job.insert("metric_relabel_configs".to_owned(), rules(&endpoint["metricRelabelings"]).collect());
}

/// The jobs of a PodMonitor, one an endpoint.
pub fn pod(object: &Object<PodMonitor>, context: &mut Context<'_>) -> Result<Vec<Value>, String> {
    let (namespace, name) = object.names();
    let spec = &object.spec;
    let mut jobs = Vec::new();
    for (i, endpoint) in spec["podMetricsEndpoints"].as_array().into_iter().flatten().enumerate() {
        let mut job = Job::new();
        job.insert("job_name".to_owned(), format!("podMonitor/{namespace}/{name}/{i}").into());
        scrape(&mut job, endpoint);
        context.http(&mut job, endpoint)?;
        limits(&mut job, spec);
        let found = discovery("pod", &spec["namespaceSelector"], namespace, &spec["attachMetadata"]);
        job.insert("kubernetes_sd_configs".to_owned(), found);
        let mut relabel = common(endpoint);
        relabel.extend(select(&spec["selector"], "pod")?);
        match (endpoint["port"].as_str(), &endpoint["portNumber"]) {
            (Some(port), _) if !port.is_empty() => {
                relabel.push(sieve(
                    "keep",
                    &["__meta_kubernetes_pod_container_port_name".to_owned()],
                    &regex::escape(port),
                ));
            }
            (_, Value::Number(number)) => {
                let label = "__meta_kubernetes_pod_container_port_number".to_owned();
                relabel.push(sieve("keep", &[label], &number.to_string()));
            }
            _ => target_port(&mut relabel, &endpoint["targetPort"]),
        }
        for (source, target) in [
            ("__meta_kubernetes_namespace", "namespace"),
            ("__meta_kubernetes_pod_container_name", "container"),
            ("__meta_kubernetes_pod_name", "pod"),
        ] {
            relabel.push(replace(&[source], None, target, None));
        }
        relabel.extend(labels_of(&spec["podTargetLabels"], "pod"));
        relabel.push(json!({"target_label": "job", "replacement": format!("{namespace}/{name}")}));
        relabel.extend(job_label(&spec["jobLabel"], "pod"));
        finish(&mut job, relabel, endpoint);
        jobs.push(job.into());
    }
    Ok(jobs)
}

/// The job of a Probe.
pub fn probe(object: &Object<Probe>, context: &mut Context<'_>) -> Result<Vec<Value>, String> {
    let (namespace, name) = object.names();
    let spec = &object.spec;
    let prober = &spec["prober"];
    let url = prober["url"].as_str().filter(|url| !url.is_empty()).ok_or("prober.url is missing")?;
    let mut job = Job::new();
    job.insert("job_name".to_owned(), format!("probe/{namespace}/{name}").into());
    job.insert("honor_timestamps".to_owned(), true.into());
    copy(&mut job, "scrape_interval", &spec["interval"]);
    copy(&mut job, "scrape_timeout", &spec["scrapeTimeout"]);
    let path = prober["path"].as_str().filter(|path| !path.is_empty()).unwrap_or("/probe");
    job.insert("metrics_path".to_owned(), path.into());
    let scheme = prober["scheme"].as_str().unwrap_or("http").to_lowercase();
    job.insert("scheme".to_owned(), scheme.into());
    let mut parameters = Job::new();
    for parameter in spec["params"].as_array().into_iter().flatten() {
        if let Some(name) = parameter["name"].as_str() {
            parameters.insert(name.to_owned(), parameter["values"].clone());
        }
    }
    if let Some(module) = spec["module"].as_str().filter(|module| !module.is_empty()) {
        parameters.insert("module".to_owned(), json!([module]));
    }
    copy(&mut job, "params", &parameters.into());
    context.http(&mut job, spec)?;
    // The way to the prober is that of the prober.
    for (name, field) in
        [("proxy_url", "proxyUrl"), ("no_proxy", "noProxy"), ("proxy_from_environment", "proxyFromEnvironment")]
    {
        copy(&mut job, name, &prober[field]);
    }
    limits(&mut job, spec);
    let mut relabel = vec![replace(&["job"], None, "__tmp_prometheus_job_name", None)];
    if let Some(label) = spec["jobName"].as_str().filter(|label| !label.is_empty()) {
        relabel.push(json!({"target_label": "job", "replacement": label.replace('$', "$$")}));
    }
    let listed = &spec["targets"]["staticConfig"];
    let ingress = &spec["targets"]["ingress"];
    let instance = |relabel: &mut Vec<Value>| {
        relabel.push(replace(&["__param_target"], None, "instance", None));
        relabel.push(json!({"target_label": "__address__", "replacement": url.replace('$', "$$")}));
    };
    if !listed.is_null() {
        let mut labels = listed["labels"].as_object().cloned().unwrap_or_default();
        labels.insert("namespace".to_owned(), namespace.into());
        let targets: Vec<&str> = strings(&listed["static"]).collect();
        job.insert("static_configs".to_owned(), json!([{"targets": targets, "labels": labels}]));
        relabel.push(replace(&["__address__"], None, "__param_target", None));
        instance(&mut relabel);
        relabel.extend(rules(&listed["relabelingConfigs"]));
    } else if !ingress.is_null() {
        let found = discovery("ingress", &ingress["namespaceSelector"], namespace, &Value::Null);
        job.insert("kubernetes_sd_configs".to_owned(), found);
        relabel.extend(select(&ingress["selector"], "ingress")?);
        relabel.push(replace(
            &["__meta_kubernetes_ingress_scheme", "__address__", "__meta_kubernetes_ingress_path"],
            Some("(.+);(.+);(.+)"),
            "__param_target",
            Some("${1}://${2}${3}"),
        ));
        relabel.push(replace(&["__meta_kubernetes_namespace"], None, "namespace", None));
        relabel.push(replace(&["__meta_kubernetes_ingress_name"], None, "ingress", None));
        instance(&mut relabel);
        relabel.extend(rules(&ingress["relabelingConfigs"]));
    } else {
        return Err("targets are missing: staticConfig or ingress".to_owned());
    }
    job.insert("relabel_configs".to_owned(), relabel.into());
    job.insert("metric_relabel_configs".to_owned(), rules(&spec["metricRelabelings"]).collect());
    Ok(vec![job.into()])
}
