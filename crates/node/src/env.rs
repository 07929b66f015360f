//! The environment of a container: literal values with `$(VAR)` expansion, references, whole maps, Services.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/>

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Secret, Service};

use crate::field::Source;

/// ConfigMaps and Secrets of the pod's namespace.
pub trait Objects {
    /// A ConfigMap by name.
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>>;
    /// A Secret by name.
    fn secret(&self, name: &str) -> Option<Arc<Secret>>;
}

/// What an environment is, beside its variables: names that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// In the order of the container's list, then of maps and Services.
    pub variables: Vec<(String, String)>,
    /// Keys of maps that are no names of variables, by map.
    pub skipped: Vec<String>,
}

/// The environment of `container`. `services` are those of the pod's namespace and `kubernetes` of the default one, in
/// which only the latter counts without `enableServiceLinks`. The error is what the status shows.
pub fn build(
    source: Source<'_>,
    container: &Container,
    objects: &dyn Objects,
    services: &[Arc<Service>],
) -> Result<Environment> {
    let namespace = source.pod.metadata.namespace.as_deref().unwrap_or("");
    let links = service_variables(services);
    let mut out = Environment::default();
    let mut known: HashMap<String, String> = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |known: &mut HashMap<String, String>, name: &str, value: String| {
        if known.insert(name.to_owned(), value).is_none() {
            order.push(name.to_owned());
        }
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        let pairs: Vec<(String, String)> = if let Some(reference) = &from.config_map_ref {
            match objects.config_map(&reference.name) {
                Some(map) => map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
                None if reference.optional == Some(true) => continue,
                None => bail!("configmap {:?} not found", reference.name),
            }
        } else if let Some(reference) = &from.secret_ref {
            match objects.secret(&reference.name) {
                Some(secret) => secret
                    .data
                    .iter()
                    .flatten()
                    .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
                    .collect(),
                None if reference.optional == Some(true) => continue,
                None => bail!("secret {:?} not found", reference.name),
            }
        } else {
            continue;
        };
        for (key, value) in pairs {
            let name = format!("{prefix}{key}");
            if is_name(&name) {
                set(&mut known, &name, value);
            } else {
                out.skipped.push(name);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let text = variable.value.as_deref().unwrap_or("");
                expand(text, |name| known.get(name).or_else(|| links.get(name)).cloned())
            }
            Some(from) => match referenced(source, container, objects, namespace, from)? {
                Some(value) => value,
                None => continue,
            },
        };
        set(&mut known, &variable.name, value);
    }
    out.variables = order.into_iter().map(|name| (name.clone(), known.remove(&name).unwrap_or_default())).collect();
    let mut rest: Vec<_> =
        links.into_iter().filter(|(name, _)| !out.variables.iter().any(|(known, _)| known == name)).collect();
    rest.sort();
    out.variables.extend(rest);
    Ok(out)
}

fn referenced(
    source: Source<'_>,
    container: &Container,
    objects: &dyn Objects,
    namespace: &str,
    from: &EnvVarSource,
) -> Result<Option<String>> {
    if let Some(field) = &from.field_ref {
        return source.field(&field.field_path).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return source.resource(selector, Some(container)).map(Some);
    }
    if let Some(selector) = &from.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = objects.config_map(&selector.name) else {
            return if optional { Ok(None) } else { Err(anyhow!("configmap {:?} not found", selector.name)) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => bail!("couldn't find key {} in ConfigMap {namespace}/{}", selector.key, selector.name),
        };
    }
    if let Some(selector) = &from.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = objects.secret(&selector.name) else {
            return if optional { Ok(None) } else { Err(anyhow!("secret {:?} not found", selector.name)) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => bail!("couldn't find key {} in Secret {namespace}/{}", selector.key, selector.name),
        };
    }
    bail!("the source of an environment variable of container {} is not supported", container.name)
}

/// Any printable ASCII but `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

/// Replaces `$(NAME)` by its value where it is known; `$$` stands for one `$`.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        out.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => {
                    let _ = write!(out, "$({name})");
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The services whose variables a pod gets.
pub fn linked_services(
    all: impl IntoIterator<Item = Arc<Service>>,
    namespace: &str,
    enable_links: bool,
) -> Vec<Arc<Service>> {
    let mut chosen: HashMap<String, Arc<Service>> = HashMap::new();
    for service in all {
        let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("");
        if ip.is_empty() || ip == "None" {
            continue;
        }
        let (own, name) =
            (service.metadata.namespace.as_deref().unwrap_or(""), service.metadata.name.clone().unwrap_or_default());
        if own == namespace && enable_links {
            chosen.insert(name, service);
        } else if own == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    chosen.into_values().collect()
}

fn service_variables(services: &[Arc<Service>]) -> HashMap<String, String> {
    let mut out = HashMap::new();
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    for service in services {
        let (Some(name), Some(spec)) = (&service.metadata.name, &service.spec) else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or("");
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let plain = spec.cluster_ip.clone().unwrap_or_default();
        let name = upper(name);
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        out.insert(format!("{name}_SERVICE_HOST"), plain.clone());
        out.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                out.insert(format!("{name}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string());
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{ip}:{}", port.port);
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            if index == 0 {
                out.insert(format!("{name}_PORT"), url.clone());
            }
            out.insert(prefix.clone(), url);
            out.insert(format!("{prefix}_PROTO"), lower);
            out.insert(format!("{prefix}_PORT"), port.port.to_string());
            out.insert(format!("{prefix}_ADDR"), plain.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodStatus};
    use serde_json::{Value, json};

    use super::*;
    use crate::field::Allocatable;

    struct Fixed;

    impl Objects for Fixed {
        fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
            let map = json!({"data": {"colour": "red", "a=b": "bad", "x.y": "dotted"}});
            (name == "config").then(|| Arc::new(serde_json::from_value(map).unwrap()))
        }
        fn secret(&self, name: &str) -> Option<Arc<Secret>> {
            let secret = json!({"data": {"password": "c2VjcmV0"}});
            (name == "secret").then(|| Arc::new(serde_json::from_value(secret).unwrap()))
        }
    }

    fn built(container: Value, services: &[Arc<Service>]) -> Result<Environment> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}})).unwrap();
        let status = PodStatus { pod_ip: Some("10.42.0.5".into()), ..Default::default() };
        let source = Source { pod: &pod, status: &status, allocatable: &Allocatable::new() };
        build(source, &serde_json::from_value(container).unwrap(), &Fixed, services)
    }

    fn pairs(environment: &Environment) -> Vec<String> {
        environment.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn variables_are_expanded_as_upstream_documents() {
        let known = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "B" => Some("$(A)".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("a$", "a$"),
            ("$(EMPTY)", ""),
            ("$$$$", "$$"),
            ("$($(A))", "$($(A))"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(text, known), wanted, "{text}");
        }
    }

    #[test]
    fn values_references_and_maps_are_put_together() {
        let environment = built(
            json!({"name": "a",
                "envFrom": [{"prefix": "C_", "configMapRef": {"name": "config"}}, {"secretRef": {"name": "none", "optional": true}}],
                "env": [
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "URL", "value": "http://$(NAME)/$(C_colour)/$(LATER)"},
                    {"name": "LATER", "value": "x"},
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "password"}}},
                    {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "none", "optional": true}}},
                    {"name": "C_colour", "value": "blue"},
                ]}),
            &[],
        )
        .unwrap();
        let wanted =
            ["C_colour=blue", "C_x.y=dotted", "NAME=web", "URL=http://web/red/$(LATER)", "LATER=x", "PASSWORD=secret"];
        assert_eq!(pairs(&environment), wanted);
        assert_eq!(environment.skipped, ["C_a=b"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let from = |source: Value| built(json!({"name": "a", "env": [{"name": "X", "valueFrom": source}]}), &[]);
        let cases = [
            (json!({"configMapKeyRef": {"name": "none", "key": "k"}}), "configmap \"none\" not found"),
            (
                json!({"configMapKeyRef": {"name": "config", "key": "k"}}),
                "couldn't find key k in ConfigMap shop/config",
            ),
            (json!({"secretKeyRef": {"name": "none", "key": "k"}}), "secret \"none\" not found"),
            (json!({"secretKeyRef": {"name": "secret", "key": "k"}}), "couldn't find key k in Secret shop/secret"),
        ];
        for (source, message) in cases {
            assert_eq!(from(source).unwrap_err().to_string(), message);
        }
    }

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        let service = json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "ports": [
            {"name": "web-ui", "port": 80}, {"port": 53, "protocol": "UDP"},
        ]}});
        Arc::new(serde_json::from_value(service).unwrap())
    }

    #[test]
    fn services_are_linked_unless_the_pod_says_no() {
        let all = [
            service("shop", "my-db", "10.43.0.7"),
            service("shop", "headless", "None"),
            service("default", "kubernetes", "10.43.0.1"),
            service("default", "other", "10.43.0.2"),
        ];
        assert_eq!(linked_services(all.clone(), "shop", false).len(), 1);
        let linked = linked_services(all, "shop", true);
        assert_eq!(linked.len(), 2);
        let environment =
            built(json!({"name": "a", "env": [{"name": "URL", "value": "$(MY_DB_SERVICE_HOST)"}]}), &linked).unwrap();
        let pairs = pairs(&environment);
        for wanted in [
            "URL=10.43.0.7",
            "MY_DB_SERVICE_PORT=80",
            "MY_DB_SERVICE_PORT_WEB_UI=80",
            "MY_DB_PORT=tcp://10.43.0.7:80",
            "MY_DB_PORT_53_UDP=udp://10.43.0.7:53",
            "MY_DB_PORT_53_UDP_ADDR=10.43.0.7",
            "KUBERNETES_SERVICE_HOST=10.43.0.1",
        ] {
            assert!(pairs.iter().any(|pair| pair == wanted), "{wanted}: {pairs:?}");
        }
    }
}
